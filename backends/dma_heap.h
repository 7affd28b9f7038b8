// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_heap.h
//
// DmaHeapBackend: dma-bufs from the heaps of /dev/dma_heap (Linux 5.6). Every node is found by
// listing; a node that cannot be opened stays in the list with its reason, so that a request that
// needed it can say why.
//
// What a node's memory is, the kernel does not tell: its name does (backends/dma_heap_names.h knows
// the names in use). A name that is not known is HeapType::kCustom, and nothing is promised of it.
//
// A node never receives a foreign ioctl: it takes any ioctl number 0 for an allocation.
//
// Example:
//   ion::Result<ion::DmaHeapBackend<>> backend = ion::DmaHeapBackend<>::Open({});
//
// Cost: one ioctl an allocation, one more for a name; one descriptor per node. Thread-safe but for
// Open.
#ifndef ION_BACKENDS_DMA_HEAP_H_
#define ION_BACKENDS_DMA_HEAP_H_

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "backends/dma_buf_backend.h"
#include "backends/dma_heap_names.h"
#include "ion/backend.h"
#include "ion/syscalls.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class DmaHeapBackend : public DmaBufBackend<Sys> {
 public:
  static constexpr const char* kName = "dma_heap";
  static constexpr BackendCaps kCaps = {.proves_unshared = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of RAM where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string directory = "/dev/dma_heap";
  };

  // ENOENT: no such kernel interface. ENODEV: no heap in it. Otherwise, where no node could be
  // opened: the first one's reason.
  static Result<DmaHeapBackend> Open(const Options& options) noexcept {
    auto shared = DmaBufBackend<Sys>::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    DmaHeapBackend backend(options.sys, std::move(*shared));
    if (Error error = backend.List(options.directory); !error.ok()) return error;
    return backend;
  }

  Result<bool> IsUnshared(const Block& block) noexcept { return this->ProveUnshared(block); }

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
    dma_heap_allocation_data data{
        .len = charge->bytes(), .fd = 0, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 0};
    const long answer =
        IoctlRetrying(this->sys(), nodes_[kernel_heap].get(), DMA_HEAP_IOCTL_ALLOC, &data);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "DMA_HEAP_IOCTL_ALLOC", origin);
    this->Fill(block, this->Own(data.fd), charge->bytes(), kernel_heap, heap.properties);
    charge->Keep();
    this->NameOrReport(block, name);
    return {};
  }

 private:
  DmaHeapBackend(const Sys& sys,
                 std::unique_ptr<typename DmaBufBackend<Sys>::Shared> shared) noexcept
      : DmaBufBackend<Sys>(kName, sys, std::move(shared)) {}

  Error List(const std::string& directory) noexcept {
    const Origin origin{kName, Operation::kOpen, directory};
    const long opened = OpenRetrying(this->sys(), directory.c_str(), O_RDONLY | O_DIRECTORY);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", origin,
                   opened == -ENOENT
                       ? "the kernel has no dma-heaps: it needs CONFIG_DMABUF_HEAPS=y "
                         "(Linux 5.6), or take another backend"
                       : NodeHint(opened));
    }
    const ScopedFd<Sys> folder = this->Own(opened);
    std::vector<std::string> names;
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
    // The order of a directory says nothing; a heap's number should be the same in every run.
    std::ranges::sort(names);
    for (const std::string& name : names) {
      if (Error error = AddNode(directory, name); !error.ok()) return error;
    }
    return this->CheckHeaps(
        Error(ENODEV, "no heap in the directory", origin,
              "the kernel needs CONFIG_DMABUF_HEAPS_SYSTEM=y or CONFIG_DMABUF_HEAPS_CMA=y"));
  }

  // A node that cannot be used is listed with its reason; only what is wrong with this process or
  // this machine (no descriptor left) is an error of the whole.
  Error AddNode(const std::string& directory, const std::string& name) noexcept {
    if (nodes_.size() > UINT8_MAX) return {};
    const std::string path = directory + "/" + name;
    const Origin origin{kName, Operation::kOpen, path};
    const DmaHeapTraits traits = DmaHeapNameTraits(name);
    KernelHeap heap{.name = name,
                    .type = traits.type,
                    .properties = {.cpu_mappable = traits.type != HeapType::kCustom,
                                   .cached = traits.cached && traits.type != HeapType::kCustom,
                                   .contiguous = traits.type == HeapType::kDma,
                                   .zeroed = traits.type != HeapType::kCustom,
                                   .alignment = PageBytes()},
                    .unusable = {},
                    .aliases = traits.aliases};
    // Opened for reading, a node gives writable buffers all the same.
    const long opened = OpenRetrying(this->sys(), path.c_str(), O_RDONLY);
    ScopedFd<Sys> node = this->Own(Failed(opened) ? -1 : opened);
    if (Failed(opened)) {
      heap.unusable = Error(ErrnoFrom(opened), "open", origin, NodeHint(opened));
      if (opened == -EMFILE || opened == -ENFILE || opened == -ENOMEM) return heap.unusable;
    } else {
      struct stat status {};
      const long answer = this->sys().Fstat(node.get(), &status);
      if (Failed(answer)) return Error(ErrnoFrom(answer), "fstat", origin);
      if (!S_ISCHR(status.st_mode)) {
        heap.unusable = Error(ENODEV, "fstat: not a character device", origin);
      }
    }
    this->AddHeap(std::move(heap));
    nodes_.push_back(std::move(node));
    return {};
  }

  static const char* NodeHint(long answer) noexcept {
    if (answer != -EACCES && answer != -EPERM) return nullptr;
    return "join the node's group, or add a udev rule: SUBSYSTEM==\"dma_heap\", GROUP=\"video\", "
           "MODE=\"0660\"";
  }

  std::vector<ScopedFd<Sys>> nodes_;  // of heaps(), in the same order
};
static_assert(BackendCheck<DmaHeapBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_DMA_HEAP_H_
