// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_heap.h
//
// DmaHeapBackend: dma-bufs from the heaps of /dev/dma_heap (Linux 5.6). Every node is found by
// listing; a node that cannot be opened stays in the list with its reason, so that a request that
// needed it can say why.
//
// The kernel does not tell the nature of a node's memory; it follows from the name that the kernel
// gives the node's device number (backends/dma_heap_names.h lists the names in use). A heap with an
// unknown name is HeapType::kCustom, with no promise. A link is another name of the heap that it
// leads to, and promises nothing of its own (backends/dma_heap_node.h).
//
// A node never receives a foreign ioctl: it takes any ioctl number 0 for an allocation.
//
// Example:
//   ion::Result<ion::DmaHeapBackend<>> backend = ion::DmaHeapBackend<>::Open({});
//
// Cost: one ioctl an allocation, one more for a name; one descriptor per heap. Thread-safe but for
// Open.
#ifndef ION_BACKENDS_DMA_HEAP_H_
#define ION_BACKENDS_DMA_HEAP_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/cma_region.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/backends/dma_heap_node.h"
#include "ion/base/known.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/uapi/dma_buf.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class DmaHeapBackend : public DmaBufBackend<Sys> {
 public:
  static constexpr const char* kName = "dma_heap";
  static constexpr BackendCaps kCaps = {
      .proves_unshared = true, .fences = true, .compares = true, .relists = true, .inspects = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string directory = "/dev/dma_heap";
  };

  // Opens the heaps of Options::directory. ENOENT: the kernel has no such interface. ENODEV: it has
  // no heap. If no node could be opened: the first one's error.
  static Result<DmaHeapBackend> Open(const Options& options) noexcept {
    return DmaHeapBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<DmaHeapBackend> OpenOrThrow(const Options& options) {
    auto shared = DmaBufBackend<Sys>::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    DmaHeapBackend backend(options.sys, std::move(*shared), options.directory);
    if (Error error = backend.List(); !error.ok()) return error;
    backend.KeepHeapsInPlace();
    return backend;
  }

  // Appends the nodes that have come since, and those that can be opened since: four system calls
  // where there are none, and some more for each node that cannot be opened.
  bool LookAgain() noexcept {
    std::lock_guard lock(this->list_mutex());
    const size_t before = this->heaps().size();
    // Without memory for it the list stays as it is.
    (void)internal::TryWithMemory([&] { AppendNew(); });
    return this->heaps().size() != before;
  }

  Result<bool> IsUnshared(const Block& block) noexcept { return this->ProveUnshared(block); }
  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }
  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }

  // EINVAL: 0 bytes, or a heap-private flag (no kernel has any). ENOMEM: past the bound, or the
  // kernel's. A node that could not be opened answers with its reason.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const KernelHeap& heap = this->heaps()[kernel_heap];
    const Origin origin{kName, Operation::kAllocate, heap.name, bytes};
    if (HeapPrivateBits(flags) != 0) {
      return Error(EINVAL, "dma-heaps have no private flags", origin);
    }
    ion_uapi::dma_heap_allocation_data data{
        .len = charge->bytes(), .fd = 0, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 0};
    const long answer =
        IoctlRetrying(this->sys(), nodes_[kernel_heap].get(), ion_uapi::kDmaHeapIoctlAlloc, &data);
    if (answer == -ENOMEM && heap.type != HeapType::kSystem) return NoRoom(heap, origin);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "DMA_HEAP_IOCTL_ALLOC", origin);
    this->Fill(block, this->Own(static_cast<int>(data.fd)), charge->bytes(), kernel_heap,
               heap.properties);
    charge->Keep();
    this->NameOrReport(block, name);
    return {};
  }

 private:
  DmaHeapBackend(const Sys& sys, std::unique_ptr<typename DmaBufBackend<Sys>::Shared> shared,
                 std::string directory) noexcept
      : DmaBufBackend<Sys>(kName, sys, std::move(shared)), directory_(std::move(directory)) {}

  // Not constexpr, as std::ranges::sort is: compilers instantiate that for every file that includes
  // this header, and a function like this one only where a backend is opened.
  template <class List>
  static void Sort(List& list) {
    std::ranges::sort(list);
  }

  // Its entries, sorted.
  Error ReadDirectory(std::vector<std::string>& names) {
    const Origin origin{kName, Operation::kOpen, directory_};
    const long opened = OpenRetrying(this->sys(), directory_.c_str(), O_RDONLY | O_DIRECTORY);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", origin,
                   NodeHint(this->sys(), directory_.c_str(), opened, O_RDONLY, kAdvice));
    }
    const ScopedFd<Sys> folder = this->Own(opened);
    alignas(dirent64) char entries[4096];
    for (;;) {
      const long got = this->sys().Getdents(folder.get(), entries, sizeof(entries));
      if (Failed(got)) return Error(ErrnoFrom(got), "getdents64", origin);
      if (got == 0) break;
      for (long at = 0; at < got;) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
        if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
        at += entry->d_reclen;
      }
    }
    Sort(names);
    return {};
  }

  void AppendNew() {
    std::vector<std::string> entries;
    if (!ReadDirectory(entries).ok()) return;
    std::vector<Node> nodes;
    for (const std::string& entry : entries) {
      if (!IsSeen(entry, /*usable=*/true) && !AddNode(entry, nodes).ok()) break;
    }
    std::vector<Node> fresh;
    for (Node& node : nodes) {
      const auto is_node = [&](const Seen& seen) {
        return seen.usable && AreOneHeap(seen.device, seen.name, node.device, node.name);
      };
      if (node.unusable.ok() && std::ranges::any_of(seen_, is_node)) {
        seen_.push_back(SeenAs(node));  // another name of a heap that is listed
      } else if (node.unusable.ok() || !IsSeen(node.entry, /*usable=*/false)) {
        fresh.push_back(std::move(node));
      }
    }
    MergeHeaps(fresh);
  }

  Error List() {
    std::vector<std::string> entries;
    if (Error error = ReadDirectory(entries); !error.ok()) return error;
    std::vector<Node> nodes;
    for (const std::string& entry : entries) {
      if (Error error = AddNode(entry, nodes); !error.ok()) return error;
    }
    MergeHeaps(nodes);
    return this->CheckHeaps(
        Error(ENODEV, "no heap in the directory", {kName, Operation::kOpen, directory_},
              "the kernel needs CONFIG_DMABUF_HEAPS_SYSTEM=y or CONFIG_DMABUF_HEAPS_CMA=y"));
  }

  // An entry of the directory.
  struct Node {
    std::string entry;
    std::string name;  // the kernel's; empty: no dma-heap, or not known
    dev_t device;      // 0: none
    Error unusable;
    ScopedFd<Sys> fd;
  };

  // An entry of the directory that was looked at.
  struct Seen {
    std::string entry;
    std::string name;  // as Node's
    dev_t device;
    bool usable;
  };

  // A node that cannot be used is listed with its reason; only what is wrong with this process or
  // this machine (no descriptor left) is an error of the whole.
  Error AddNode(const std::string& entry, std::vector<Node>& nodes) {
    const std::string path = directory_ + "/" + entry;
    const Origin origin{kName, Operation::kOpen, path};
    Error unusable;
    // Opened for reading, a node gives writable buffers all the same. Without O_NONBLOCK a fifo
    // that lies there would have us wait for its writer.
    long opened = OpenRetrying(this->sys(), path.c_str(), O_RDONLY | O_NONBLOCK);
    if (Failed(opened)) {
      unusable =
          Error(ErrnoFrom(opened), "open", origin,
                opened == -ENOENT ? "it is a link to a node that is not here"
                                  : NodeHint(this->sys(), path.c_str(), opened, O_RDONLY, kAdvice));
      if (opened == -EMFILE || opened == -ENFILE || opened == -ENOMEM) return unusable;
      // Which device it is can be asked all the same.
      opened = OpenRetrying(this->sys(), path.c_str(), O_PATH);
    }
    ScopedFd<Sys> fd = this->Own(Failed(opened) ? -1 : opened);
    dev_t device = 0;
    if (!Failed(opened)) {
      struct stat status {};
      const long answer = this->sys().Fstat(fd.get(), &status);
      if (Failed(answer)) return Error(ErrnoFrom(answer), "fstat", origin);
      if (S_ISCHR(status.st_mode)) {
        device = status.st_rdev;
      } else if (unusable.ok()) {
        unusable = Error(ENODEV, "fstat: not a character device", origin);
      }
    }
    Result<std::string> name = DmaHeapNameOf(this->sys(), this->errors(), kName, path, device);
    if (!name.ok()) return name.error();
    nodes.push_back(
        {entry, *std::move(name), device, unusable, unusable.ok() ? std::move(fd) : this->Own(-1)});
    return {};
  }

  // True where both lead to the same memory: one device, or the twins of one region.
  static bool AreOneHeap(const Node& a, const Node& b) noexcept {
    return AreOneHeap(a.device, a.name, b.device, b.name);
  }
  static bool AreOneHeap(dev_t a, std::string_view a_name, dev_t b,
                         std::string_view b_name) noexcept {
    return a != 0 && b != 0 && (a == b || AreTwinDmaHeaps(a_name, b_name));
  }
  bool IsSeen(std::string_view entry, bool usable) const noexcept {
    return std::ranges::any_of(
        seen_, [&](const Seen& seen) { return seen.entry == entry && seen.usable == usable; });
  }
  static Seen SeenAs(const Node& node) {
    return {node.entry, node.name, node.device, node.unusable.ok()};
  }
  // True where `a` stands for the heap rather than `b`: a node that can be used, then the name that
  // is documented, then the kernel's own.
  static bool Represents(const Node& a, const Node& b) noexcept {
    const auto rank = [](const Node& node) {
      return (node.unusable.ok() ? 4 : 0) + (node.name == kDefaultCmaNames[0] ? 2 : 0) +
             (node.entry == node.name ? 1 : 0);
    };
    return rank(a) > rank(b);
  }

  // Entries that lead to the same memory are one heap, under its best name, with the others' as
  // aliases. The order of a directory says nothing: heaps are in the order of their names, so that
  // a heap's number is the same in every run.
  void MergeHeaps(std::vector<Node>& nodes) {
    // First all that may lack memory, so that nodes and heaps stay in step without it.
    std::vector<Seen> seen;
    std::vector<std::vector<Node*>> groups;
    for (Node& node : nodes) {
      seen.push_back(SeenAs(node));
      const auto same = [&](const auto& group) { return AreOneHeap(*group.front(), node); };
      const auto at = std::ranges::find_if(groups, same);
      if (at == groups.end()) {
        groups.push_back({&node});
      } else {
        at->push_back(&node);
        if (Represents(node, *at->front())) std::swap(at->front(), at->back());
      }
    }
    std::ranges::sort(groups, {}, [](const auto& group) { return group.front()->entry; });
    std::vector<KernelHeap> heaps;
    for (const std::vector<Node*>& group : groups) {
      const Node& node = *group.front();
      // The heap has the reason of the node that stands for it.
      for (const Node* other : std::span(group).subspan(1)) {
        this->errors().Report(other->unusable);
      }
      const DmaHeapTraits traits = DmaHeapNameTraits(node.name);
      const bool known = traits.type != HeapType::kCustom;
      heaps.push_back(
          {.name = node.entry,
           .type = traits.type,
           .properties = {.cpu_mappable = Known::YesIf(known),
                          .cached = traits.cached,
                          .contiguous = known ? Known(traits.type == HeapType::kDma) : Known(),
                          .zeroed = Known::YesIf(known),
                          .alignment = PageBytes()},
           .unusable = node.unusable,
           .aliases = AliasesOf(group, traits)});
    }
    seen_.reserve(seen_.size() + seen.size());
    nodes_.reserve(this->kMaxHeaps);
    std::ranges::move(seen, std::back_inserter(seen_));
    for (size_t i = 0; i < heaps.size() && nodes_.size() < this->kMaxHeaps; ++i) {
      // First: once the heap is listed, others may ask for it.
      nodes_.push_back(std::move(groups[i].front()->fd));
      this->AddHeap(std::move(heaps[i]));
    }
  }

  // The documented names of the memory, the kernel's, and those of the entries.
  std::span<const std::string_view> AliasesOf(const std::vector<Node*>& group,
                                              const DmaHeapTraits& traits) {
    const Node& first = *group.front();
    if (group.size() == 1 && (first.name == first.entry || first.name.empty())) {
      return traits.aliases;
    }
    Names* const names = names_.emplace_back(std::make_unique<Names>()).get();
    for (const Node* node : group) {
      names->texts.push_back(node->entry);
      if (!node->name.empty()) names->texts.push_back(node->name);
    }
    names->views.assign(names->texts.begin(), names->texts.end());
    names->views.insert(names->views.end(), traits.aliases.begin(), traits.aliases.end());
    Sort(names->views);
    names->views.erase(std::unique(names->views.begin(), names->views.end()), names->views.end());
    return names->views;
  }

  // Makes the ENOMEM of a region of contiguous memory, with its free space and advice.
  Error NoRoom(const KernelHeap& heap, const Origin& origin) noexcept {
    const std::string_view own[] = {heap.name};
    const bool is_region = heap.type == HeapType::kDma;
    std::optional<Room> room =
        CmaRoomOf(this->sys(), heap.aliases.empty() ? std::span(own) : heap.aliases);
    if (!room.has_value() && is_region) room = CmaRoomOfAll(this->sys());
    if (!room.has_value()) {
      return Error(ENOMEM, "DMA_HEAP_IOCTL_ALLOC", origin,
                   is_region ? "release some buffers, or enlarge the region: cma= on the kernel's "
                               "command line, or its size in the device tree"
                             : nullptr);
    }
    room->enough = EnoughFor(*room, origin.bytes);
    if (origin.bytes > room->total) {
      return Error(ENOMEM, "DMA_HEAP_IOCTL_ALLOC: more than the region has", origin, "ask for less")
          .With(*room);
    }
    return Error(ENOMEM,
                 origin.bytes > room->free
                     ? "DMA_HEAP_IOCTL_ALLOC: the region is full"
                     : "DMA_HEAP_IOCTL_ALLOC: no piece of the region is as long",
                 origin, "release some buffers")
        .With(*room);
  }

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease& running) -> const char* {
        return running.IsBefore(5, 6)
                   ? "this kernel is older than Linux 5.6, which has CONFIG_DMABUF_HEAPS: take the "
                     "ion, ion_legacy, udmabuf or memfd backend"
                   : "the kernel has no dma-heaps: it needs CONFIG_DMABUF_HEAPS=y (Linux 5.6), or "
                     "take another backend";
      },
      .rule =
          "join the node's group, or add a udev rule: SUBSYSTEM==\"dma_heap\", "
          "GROUP=\"video\", MODE=\"0660\"",
      .sysfs = "/sys/class/dma_heap"};

  struct Names {
    std::vector<std::string> texts;
    std::vector<std::string_view> views;
  };

  std::string directory_;
  std::vector<Seen> seen_;                     // under list_mutex
  std::vector<ScopedFd<Sys>> nodes_;           // of heaps(), in the same order
  std::vector<std::unique_ptr<Names>> names_;  // that heaps() point at
};
static_assert(BackendCheck<DmaHeapBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_DMA_HEAP_H_
