// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/dmabufheap/dmabuf_heaps.h
//
// DmabufHeaps: the interfaces behind libdmabufheap, in the order in which they are asked for the
// memory of a heap's name: its dma-heap, /dev/ion, and, for `system` on a machine where no
// interface has it, the pages of udmabuf or a memfd. An interface that has the heap and fails is
// followed by ION only; the errno that is returned is the first's. No answer of an interface is
// remembered: the next call asks again.
//
// Cost: memory of a dma-heap other than `system`, and of ION, takes an open and a close beside the
// allocation; that of `system` and of pages is compat/dmabufheap/lent_memory.h. Thread-safe.
#ifndef ION_COMPAT_DMABUFHEAP_DMABUF_HEAPS_H_
#define ION_COMPAT_DMABUFHEAP_DMABUF_HEAPS_H_

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "compat/dmabufheap/lent_memory.h"
#include "ion/backends/any_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/backends/ion_node.h"
#include "ion/backends/memfd.h"
#include "ion/backends/scoped_fd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fork_mark.h"
#include "ion/base/memory_limit.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/uapi/dma_buf.h"
#include "ion/uapi/ion_legacy.h"

namespace ion::compat {

inline constexpr std::string_view kSystem = "system", kSystemUncached = "system-uncached";

// ION's flags.
inline constexpr unsigned kIonCached = 1, kIonCachedNeedsSync = 2, kIonPrivate = 0xffff0000;

// The heaps of ION, by id, and the flags of an allocation.
struct IonHeapConfig {
  unsigned mask = 0;
  unsigned flags = 0;
};

template <Syscalls Sys = LinuxSyscalls>
class DmabufHeaps {
  using Abi = ion_uapi::LegacyAbi<size_t>;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;

 public:
  explicit DmabufHeaps(const Sys& sys = {}) noexcept : sys_(sys) {}
  DmabufHeaps(const DmabufHeaps&) = delete;
  DmabufHeaps& operator=(const DmabufHeaps&) = delete;

  // True in a child of the process that made it: nothing else may be called then.
  bool InChild() const noexcept { return mark_.InChild(); }

  // /dev/ion, as it was found.
  struct Ion {
    ScopedFd<Sys> node;
    bool legacy;  // the ION of handles
  };
  // ENOENT: there is none.
  Result<Ion> OpenIon() {
    Result<ScopedFd<Sys>> modern = Node(IonAbi::kDescriptors);
    if (modern.ok()) return Ion{*std::move(modern), false};
    if (modern.error().code() != EINVAL) return modern.error();
    Result<ScopedFd<Sys>> legacy = Node(IonAbi::kHandles);
    if (!legacy.ok()) return legacy.error();
    return Ion{*std::move(legacy), true};
  }

  // 0, or -ENOENT if there is no dma-heap of this name, or the errno for which it cannot be told.
  int LookForDmaHeap(std::string_view name) {
    if (!IsName(name)) return -ENOENT;
    const long opened = OpenRetrying(sys_, PathOf(name).c_str(), O_PATH);
    if (Failed(opened)) return static_cast<int>(opened);
    const ScopedFd<Sys> closed = Own(opened);
    return 0;
  }

  // A descriptor, or a negative errno. `configured`: the heaps of ION that a program declared for
  // this name.
  int Alloc(std::string_view name, size_t bytes, unsigned flags, size_t legacy_align,
            const std::optional<IonHeapConfig>& configured) {
    if (HasUnknownFlags(flags)) return -EINVAL;
    const int of_dma_heap = FromDmaHeap(name, bytes, flags);
    if (of_dma_heap >= 0) return of_dma_heap;
    const int of_ion = FromIon(name, bytes, flags, legacy_align, configured);
    if (of_ion >= 0) return of_ion;
    if (of_dma_heap != -ENOENT) return of_dma_heap;
    if (of_ion != -ENOENT) return of_ion;
    return name == kSystem ? FromPages(bytes, flags) : -ENOENT;
  }

  // True if memory of `system-uncached` is to be had, from a dma-heap or, as declared or by its
  // own word, from ION.
  bool HasUncached(const std::optional<IonHeapConfig>& configured) {
    if (LookForDmaHeap(kSystemUncached) == 0) return true;
    const Result<Ion> ion = OpenIon();
    return ion.ok() && ConfigOf(*ion, kSystemUncached, configured).ok();
  }

  // The mask of ION's heap of this name. EINVAL: there is none.
  Result<unsigned> MaskOf(const Ion& ion, std::string_view ion_name) {
    const Result<std::vector<IonHeap>> heaps = Query(ion);
    if (!heaps.ok()) return heaps.error();
    const auto at = std::ranges::find_if(
        *heaps, [&](const IonHeap& each) { return each.heap.name == ion_name; });
    if (at == heaps->end() || !at->heap.unusable.ok()) {
      return Error(EINVAL, "ION has no heap of this name", {kName, Operation::kOpen, ion_name});
    }
    return 1u << at->id;
  }

  // Begins or ends CPU access of a dma-buf or a memfd. `type`: 1 for reading, 2 for writing, 3.
  int Sync(int fd, bool start, unsigned type) {
    if (type < 1 || type > 3) return -EINVAL;
    struct stat status {};
    if (const long answer = sys_.Fstat(fd, &status); Failed(answer)) {
      return static_cast<int>(answer);
    }
    // The node of a dma-heap takes any ioctl number 0 for an allocation.
    if (S_ISCHR(status.st_mode)) return -ENOTTY;
    // A memfd is coherent with itself; all else has no seals (EINVAL).
    const long seals = sys_.Fcntl(fd, F_GET_SEALS, 0);
    if (!Failed(seals)) return 0;
    if (seals != -EINVAL) return static_cast<int>(seals);
    ion_uapi::dma_buf_sync sync{
        .flags = type | (start ? ion_uapi::kDmaBufSyncStart : ion_uapi::kDmaBufSyncEnd)};
    long answer;
    do answer = IoctlRetrying(sys_, fd, ion_uapi::kDmaBufIoctlSync, &sync);
    while (answer == -EAGAIN);
    return Failed(answer) ? static_cast<int>(answer) : 0;
  }
  // ION_IOC_SYNC. Requires: the ION of handles.
  int SyncOfIon(const Ion& ion, int fd) {
    typename Abi::ion_fd_data data{.handle = {}, .fd = fd};
    const long answer = IoctlRetrying(sys_, ion.node.get(), Ioctls::kSync, &data);
    return Failed(answer) ? static_cast<int>(answer) : 0;
  }

  // The names in /dev/dma_heap, or `system` if there are neither heaps nor ION.
  std::unordered_set<std::string> List() {
    std::unordered_set<std::string> names;
    const long opened = OpenRetrying(sys_, kDirectory, O_RDONLY | O_DIRECTORY);
    if (!Failed(opened)) {
      const ScopedFd<Sys> folder = Own(opened);
      alignas(dirent64) char entries[4096];
      for (;;) {
        const long got = sys_.Getdents(folder.get(), entries, sizeof(entries));
        if (Failed(got) || got == 0) break;
        for (long at = 0; at < got;) {
          const auto* entry = reinterpret_cast<const dirent64*>(entries + at);
          if (entry->d_name[0] != '.') names.emplace(entry->d_name);
          at += entry->d_reclen;
        }
      }
    }
    if (names.empty() && !HasIon()) names.emplace(kSystem);
    return names;
  }
  // True if /dev/ion can be opened for reading.
  bool HasIon() noexcept {
    const long opened = OpenRetrying(sys_, kIonNode, O_RDONLY);
    if (Failed(opened)) return false;
    const ScopedFd<Sys> closed = Own(opened);
    return true;
  }

  static bool HasUnknownFlags(unsigned flags) noexcept {
    return (flags & ~(kIonCached | kIonCachedNeedsSync | kIonPrivate)) != 0;
  }

  // Not for users, but for tests: the pools of memory of the dma-heap `system`, if there are any.
  auto* system_pools() noexcept { return system_.get(); }

 private:
  static constexpr const char* kName = "libdmabufheap";
  static constexpr const char* kDirectory = "/dev/dma_heap";
  static constexpr const char* kIonNode = "/dev/ion";
  using SystemMemory = LentMemory<DmaHeapBackend<Sys>, HeapName("system")>;
  using Pages = AnyOf<UdmabufBackend<Sys>, MemfdBackend<Sys>>;
  using PageMemory = LentMemory<Pages>;

  ScopedFd<Sys> Own(long fd) noexcept {
    return ScopedFd<Sys>(static_cast<int>(fd), sys_, errors_, kName);
  }
  Result<ScopedFd<Sys>> Node(IonAbi abi) {
    return OpenIonNode(kName, sys_, errors_, kIonNode, abi);
  }
  static bool IsName(std::string_view name) noexcept {
    return !name.empty() && name.front() != '.' && name.find('/') == name.npos &&
           name.find('\0') == name.npos;
  }
  static std::string PathOf(std::string_view name) {
    return std::string(kDirectory) + "/" + std::string(name);
  }
  // Past it Linux 6.12 ends the caller where there is no memory.
  bool IsPastBound(size_t bytes) {
    if (bytes < size_t{16} << 20) return false;  // arbitrary: less is left to the kernel
    const Result<MemoryLimit> limit = MemoryLimit::Read(kName, sys_);
    return limit.ok() && bytes > limit->bytes / 2;
  }
  // A memory pool of `system`, or one of pages, made when it is first needed.
  template <class Memory, class Options>
  Result<Memory*> PoolOf(std::unique_ptr<Memory>& memory, const Options& options) {
    const std::lock_guard lock(mutex_);
    if (memory == nullptr) {
      absl::StatusOr<std::unique_ptr<Memory>> opened = Memory::Open(options);
      if (!opened.ok()) {
        const int code = ErrnoOf(opened.status());
        return Error(code != 0 ? code : EIO, "open", {kName, Operation::kOpen});
      }
      memory = *std::move(opened);
    }
    return memory.get();
  }

  // -ENOENT: there is no dma-heap of this name.
  int FromDmaHeap(std::string_view name, size_t bytes, unsigned flags) {
    if (const int found = LookForDmaHeap(name); found != 0) return found;
    const bool uncached = !DmaHeapNameTraits(name).cached.yes();
    if ((flags & kIonPrivate) != 0 || ((flags & kIonCached) != 0 && uncached)) return -EINVAL;
    if (name == kSystem) {
      typename DmaHeapBackend<Sys>::Options options;
      options.sys = sys_;
      const Result<SystemMemory*> memory = PoolOf(system_, options);
      return memory.ok() ? (*memory)->Take(bytes, sys_) : -memory.error().code();
    }
    if (IsPastBound(bytes)) return -ENOMEM;
    const long opened = OpenRetrying(sys_, PathOf(name).c_str(), O_RDONLY | O_NONBLOCK);
    if (Failed(opened)) return static_cast<int>(opened);
    const ScopedFd<Sys> node = Own(opened);
    struct stat status {};
    if (const long answer = sys_.Fstat(node.get(), &status); Failed(answer)) {
      return static_cast<int>(answer);
    }
    if (!S_ISCHR(status.st_mode)) return -ENODEV;
    ion_uapi::dma_heap_allocation_data data{
        .len = bytes, .fd = 0, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 0};
    const long answer = IoctlRetrying(sys_, node.get(), ion_uapi::kDmaHeapIoctlAlloc, &data);
    return Failed(answer) ? static_cast<int>(answer) : static_cast<int>(data.fd);
  }

  Result<std::vector<IonHeap>> Query(const Ion& ion) {
    return QueryIonHeaps(kName, sys_, ion.node.get(), kIonNode, /*cached_cma=*/true);
  }
  // ENOENT: ION has no such heap, and none was declared.
  Result<IonHeapConfig> ConfigOf(const Ion& ion, std::string_view name,
                                 const std::optional<IonHeapConfig>& configured) {
    if (configured.has_value()) return *configured;
    const bool is_system = name == kSystem || name == kSystemUncached;
    const Error none(ENOENT, "ION has no such heap", {kName, Operation::kAllocate, name});
    if (ion.legacy) {
      // Cached alone would be mapped page by page, which two threads at once cannot bear there.
      const unsigned cached = name == kSystem ? kIonCached | kIonCachedNeedsSync : 0;
      if (!is_system) return none;
      return IonHeapConfig{1u << ion_uapi::kHeapTypeSystem, cached};
    }
    const Result<std::vector<IonHeap>> heaps = Query(ion);
    if (!heaps.ok()) return heaps.error();
    const auto at = std::ranges::find_if(*heaps, [&](const IonHeap& each) {
      return is_system ? each.heap.type == HeapType::kSystem : each.heap.name == name;
    });
    if (at == heaps->end() || !at->heap.unusable.ok()) return none;
    return IonHeapConfig{1u << at->id, name == kSystem ? kIonCached : 0};
  }

  // -ENOENT: there is no ION, or it has no such heap.
  int FromIon(std::string_view name, size_t bytes, unsigned flags, size_t legacy_align,
              const std::optional<IonHeapConfig>& configured) {
    const Result<Ion> ion = OpenIon();
    if (!ion.ok()) return -ion.error().code();
    const Result<IonHeapConfig> config = ConfigOf(*ion, name, configured);
    if (!config.ok()) return -config.error().code();
    if (IsPastBound(bytes)) return -ENOMEM;
    if (ion->legacy) {
      return FromHandles(*ion, bytes, legacy_align, {config->mask, config->flags | flags});
    }
    ion_uapi::ion_allocation_data data{.len = bytes,
                                       .heap_id_mask = config->mask,
                                       .flags = config->flags | flags,
                                       .fd = 0,
                                       .unused = 0};
    const long answer = IoctlRetrying(sys_, ion->node.get(), ion_uapi::kIocAlloc, &data);
    return Failed(answer) ? static_cast<int>(answer) : static_cast<int>(data.fd);
  }
  int FromHandles(const Ion& ion, size_t bytes, size_t align, const IonHeapConfig& config) {
    typename Abi::ion_allocation_data data{.len = bytes,
                                           .align = align,
                                           .heap_id_mask = config.mask,
                                           .flags = config.flags,
                                           .handle = {}};
    const int node = ion.node.get();
    if (const long answer = IoctlRetrying(sys_, node, Ioctls::kAlloc, &data); Failed(answer)) {
      return static_cast<int>(answer);
    }
    typename Abi::ion_fd_data shared{.handle = data.handle, .fd = -1};
    const long answer = IoctlRetrying(sys_, node, Ioctls::kShare, &shared);
    // The handle ends with its node; the memory lives by the descriptor.
    return Failed(answer) ? static_cast<int>(answer) : shared.fd;
  }

  int FromPages(size_t bytes, unsigned flags) {
    if ((flags & kIonPrivate) != 0) return -EINVAL;
    typename Pages::Options options;
    options.sys = sys_;
    const Result<PageMemory*> memory = PoolOf(pages_, options);
    return memory.ok() ? (*memory)->Take(bytes, sys_) : -memory.error().code();
  }

  const Sys sys_;
  const internal::ForkMark mark_;
  ErrorSink errors_;
  std::mutex mutex_;  // for making the next two
  std::unique_ptr<SystemMemory> system_;
  std::unique_ptr<PageMemory> pages_;
};

}  // namespace ion::compat

#endif  // ION_COMPAT_DMABUFHEAP_DMABUF_HEAPS_H_
