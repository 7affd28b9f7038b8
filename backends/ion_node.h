// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/ion_node.h
//
// The common part of ION's two ABIs: the node /dev/ion, the question for its ABI, the list of
// heaps, and the properties that a heap's type promises.
//
// The ABI is asked of each descriptor, never of the process: a node can be another one after a
// module was loaded. Nothing that is no device of ION's major number gets an ioctl.
//
// Cost: Open only. Thread-safe.
#ifndef ION_BACKENDS_ION_NODE_H_
#define ION_BACKENDS_ION_NODE_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/scoped_fd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/syscalls.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/uapi/ion.h"

namespace ion {

enum class IonAbi : uint8_t {
  kHandles,      // Linux 3.10 to 4.11
  kDescriptors,  // Linux 4.12 to 5.10
};

// A heap of the kernel's, with the id that stands for it in a mask.
struct IonHeap {
  unsigned id = 0;
  KernelHeap heap;
};

namespace internal {

inline constexpr NodeAdvice kIonNodeAdvice = {
    .absent = [](const LinuxRelease& running) -> const char* {
      if (running.IsBefore(5, 6)) return "the kernel has no ION: it needs CONFIG_ION=y";
      if (running.IsSince(5, 11)) {
        return "ION (CONFIG_ION=y) has gone since Linux 5.11: take the dma_heap backend";
      }
      return "the kernel has no ION: it needs CONFIG_ION=y (Linux 3.10 to 5.10); since 5.6 there "
             "is "
             "/dev/dma_heap, so take the dma_heap backend";
    },
    .rule =
        "join the node's group, or add a udev rule: KERNEL==\"ion\", GROUP=\"video\", "
        "MODE=\"0660\"",
    .sysfs = "/sys/class/misc/ion"};

}  // namespace internal

// Opens the node. ENODEV: it is no device of the misc major, as /dev/ion is, or speaks neither ABI.
// Else what open, fstat or the question for the ABI answered: EINVAL and ENOTTY are the other ABI.
template <class HandleData = ion_uapi::ion_handle_data, Syscalls Sys>
Result<ScopedFd<Sys>> OpenIonNode(const char* backend, const Sys& sys, ErrorSink& errors,
                                  const std::string& path, IonAbi wanted) noexcept {
  constexpr unsigned kMiscMajor = 10;
  const Origin origin{backend, Operation::kOpen, path};
  const long opened = OpenRetrying(sys, path.c_str(), O_RDONLY);
  if (Failed(opened)) {
    return Error(ErrnoFrom(opened), "open", origin,
                 NodeHint(sys, path.c_str(), opened, O_RDONLY, internal::kIonNodeAdvice));
  }
  ScopedFd<Sys> node(static_cast<int>(opened), sys, errors, backend);
  struct stat status {};
  if (const long answer = sys.Fstat(node.get(), &status); Failed(answer)) {
    return Error(ErrnoFrom(answer), "fstat", origin);
  }
  if (!S_ISCHR(status.st_mode)) return Error(ENODEV, "fstat: not a character device", origin);
  if (major(status.st_rdev) != kMiscMajor) {
    return Error(ENODEV, "fstat: not a device of major 10 (misc), as /dev/ion is", origin);
  }
  // No handle is 0, so the ABI that has handles refuses it, and the other does not know the ioctl.
  HandleData none{};
  const long answer = IoctlRetrying(sys, node.get(), ion_uapi::FreeOf<HandleData>(), &none);
  if (!Failed(answer)) return Error(ENODEV, "ION_IOC_FREE of no handle succeeded: not ION", origin);
  if (answer != -EINVAL && answer != -ENOTTY) {
    return Error(ErrnoFrom(answer), "ION_IOC_FREE of no handle: neither of ION's ABIs", origin);
  }
  const IonAbi found = answer == -EINVAL ? IonAbi::kHandles : IonAbi::kDescriptors;
  if (found == wanted) return node;
  return found == IonAbi::kHandles
             ? Error(EINVAL,
                     "ION_IOC_FREE of no handle: it speaks the handle ABI (before Linux 4.12)",
                     origin, "take the ion_legacy backend")
             : Error(ENOTTY,
                     "ION_IOC_FREE of no handle: it speaks the descriptor ABI (Linux 4.12), or is "
                     "not ION",
                     origin, "take the ion backend");
}

// Makes a kernel heap with the properties that its type promises; a vendor's type promises none.
// Each request selects cached or uncached memory; without a flag it is uncached.
inline KernelHeap MakeIonHeap(std::string name, uint32_t type, bool cacheable) {
  const bool known = type <= ion_uapi::kHeapTypeDma;
  const HeapType heap_type = known ? static_cast<HeapType>(type) : HeapType::kCustom;
  const bool contiguous = heap_type == HeapType::kSystemContig ||
                          heap_type == HeapType::kCarveout || heap_type == HeapType::kDma;
  return {.name = std::move(name),
          .type = heap_type,
          .properties = {.cpu_mappable = Known::YesIf(known),
                         .cached = known ? Known(false) : Known(),
                         .contiguous = known ? Known(contiguous) : Known(),
                         .zeroed = Known::YesIf(known),
                         .alignment = PageBytes()},
          .unusable = {},
          .either_caching = known && cacheable};
}
static_assert(static_cast<uint32_t>(HeapType::kSystem) == ion_uapi::kHeapTypeSystem &&
              static_cast<uint32_t>(HeapType::kDma) == ion_uapi::kHeapTypeDma);

// The heaps of a node by ION_IOC_HEAP_QUERY, in its order. One that has an id which no mask can
// hold, or which another heap has, cannot be used, and says so. `cached_cma`: the kernel's heaps of
// CMA take ION_FLAG_CACHED. EPROTO: an answer that cannot be.
template <Syscalls Sys>
Result<std::vector<IonHeap>> QueryIonHeaps(const char* backend, const Sys& sys, int node,
                                           const std::string& path, bool cached_cma) {
  constexpr uint32_t kMost = UINT8_MAX + 1;  // Block::kernel_heap
  const Origin origin{backend, Operation::kOpen, path};
  ion_uapi::ion_heap_query query{};
  if (const long answer = IoctlRetrying(sys, node, ion_uapi::kIocHeapQuery, &query);
      Failed(answer)) {
    return Error(ErrnoFrom(answer), "ION_IOC_HEAP_QUERY", origin);
  }
  const uint32_t count = query.cnt;
  if (count > kMost) return Error(EPROTO, "ION_IOC_HEAP_QUERY: more heaps than can be", origin);
  std::vector<IonHeap> heaps;
  if (count == 0) return heaps;
  // Fewer may be left by now: the second answer counts. Those that came since are not seen.
  constexpr uint32_t kUntold = UINT32_MAX;  // no id of a heap
  std::vector<ion_uapi::ion_heap_data> listed(count);
  for (ion_uapi::ion_heap_data& data : listed) data.heap_id = kUntold;
  query = {.cnt = count,
           .reserved0 = 0,
           .heaps = reinterpret_cast<uintptr_t>(listed.data()),
           .reserved1 = 0,
           .reserved2 = 0};
  const long answer = IoctlRetrying(sys, node, ion_uapi::kIocHeapQuery, &query);
  const bool in_bounds = query.cnt <= count;
  // Linux 4.9 fills the list and the count, and then answers EINVAL all the same.
  const auto told = std::ranges::count_if(
      listed, [](const ion_uapi::ion_heap_data& data) { return data.heap_id != kUntold; });
  const bool filled =
      answer == -EINVAL && in_bounds && query.cnt != 0 && static_cast<uint64_t>(told) == query.cnt;
  if (Failed(answer) && !filled) return Error(ErrnoFrom(answer), "ION_IOC_HEAP_QUERY", origin);
  if (!in_bounds) {
    return Error(EPROTO, "ION_IOC_HEAP_QUERY: more heaps than there was room for", origin);
  }
  listed.resize(query.cnt);
  for (const ion_uapi::ion_heap_data& data : listed) {
    std::string name(data.name, strnlen(data.name, sizeof(data.name)));
    if (name.empty()) name = "heap " + std::to_string(data.heap_id);
    const Origin at{backend, Operation::kOpen, name};
    Error unusable;
    if (data.heap_id >= ion_uapi::kHeapIds) {
      unusable = Error(ERANGE, "its id is past 31, which no mask can hold", at);
    } else if (std::ranges::find(heaps, data.heap_id, &IonHeap::id) != heaps.end()) {
      unusable = Error(EEXIST, "its id is another heap's", at);
    }
    const bool cacheable = cached_cma || data.type != ion_uapi::kHeapTypeDma;
    heaps.push_back({data.heap_id, MakeIonHeap(std::move(name), data.type, cacheable)});
    heaps.back().heap.unusable = unusable;
  }
  return heaps;
}

// Returns advice for a heap that has no memory for a request; nullptr: nothing special.
inline const char* IonAllocationHint(long answer, HeapType type, uint64_t bytes) noexcept {
  constexpr unsigned kLargestOrder = 10;  // of the page allocator
  if (answer == -EPERM) {
    return "a heap of CMA answers -1, which reads EPERM, if it has no room in one piece: "
           "release some buffers";
  }
  if (answer == -ENOMEM && type == HeapType::kSystemContig &&
      bytes > PageBytes() << kLargestOrder) {
    return "the page allocator has at most 1024 pages in one piece: name a heap of CMA, or a "
           "carveout";
  }
  return nullptr;
}

// The flags of a request as ION has them. EINVAL: both kinds of caching, one that the heap cannot
// give, or a bit that its heaps do not know (ION itself drops those).
inline Error CheckIonFlags(const KernelHeap& heap, Flags flags, uint16_t private_flags,
                           const Origin& origin) noexcept {
  const bool cached = Has(flags, Flags::kCached), uncached = Has(flags, Flags::kUncached);
  if (heap.properties.cached.unknown() && (cached || uncached)) {
    return Error(EINVAL, "the caching of its memory is not known", origin);
  }
  if (cached && (uncached || !heap.either_caching)) {
    return Error(EINVAL, "kCached, but its memory is uncached, or kUncached as well", origin);
  }
  if ((HeapPrivateBits(flags) & ~uint32_t{private_flags}) != 0) {
    return Error(EINVAL, "a heap-private flag that was not declared", origin,
                 "declare what this board's heaps know: Options::private_flags");
  }
  return {};
}
// Returns the caching of memory of these flags, which the heap can honour.
inline Known IonCaching(const KernelHeap& heap, Flags flags) noexcept {
  return heap.either_caching ? Known(Has(flags, Flags::kCached)) : heap.properties.cached;
}
inline uint32_t IonFlags(Flags flags) noexcept {
  return HeapPrivateBits(flags) << 16 |
         (Has(flags, Flags::kCached) ? uint32_t{ion_uapi::kFlagCached} : 0);
}

}  // namespace ion

#endif  // ION_BACKENDS_ION_NODE_H_
