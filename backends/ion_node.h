// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/ion_node.h
//
// What both of ION's ABIs have in common: the node /dev/ion, which of the two it speaks, the list
// of heaps, and what a heap's type says of its memory.
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

#include "backends/scoped_fd.h"
#include "ion/backend.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/error_sink.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/syscalls.h"
#include "third_party/ion_uapi/ion.h"

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

inline const char* IonNodeHint(long answer) noexcept {
  switch (-answer) {
    case ENOENT:
      return "the kernel has no ION: it needs CONFIG_ION=y (Linux 3.10 to 5.10); since 5.6 "
             "there is /dev/dma_heap, so take the dma_heap backend";
    case EACCES:
    case EPERM:
      return "join the node's group, or add a udev rule: KERNEL==\"ion\", GROUP=\"video\", "
             "MODE=\"0660\"";
    default:
      return nullptr;
  }
}

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
    return Error(ErrnoFrom(opened), "open", origin, internal::IonNodeHint(opened));
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

// A kernel heap of a type, with what that type says of its memory; of a vendor's types nothing is
// promised. Whether memory is cached is said with each request, and without a word it is not.
inline KernelHeap MakeIonHeap(std::string name, uint32_t type, bool cacheable) noexcept {
  const bool known = type <= ion_uapi::kHeapTypeDma;
  const HeapType heap_type = known ? static_cast<HeapType>(type) : HeapType::kCustom;
  const bool contiguous = heap_type == HeapType::kSystemContig ||
                          heap_type == HeapType::kCarveout || heap_type == HeapType::kDma;
  return {.name = std::move(name),
          .type = heap_type,
          .properties = {.cpu_mappable = known,
                         .cached = false,
                         .contiguous = contiguous,
                         .zeroed = known,
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
                                           const std::string& path, bool cached_cma) noexcept {
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
  std::vector<ion_uapi::ion_heap_data> listed(count);
  query = {.cnt = count,
           .reserved0 = 0,
           .heaps = reinterpret_cast<uintptr_t>(listed.data()),
           .reserved1 = 0,
           .reserved2 = 0};
  if (const long answer = IoctlRetrying(sys, node, ion_uapi::kIocHeapQuery, &query);
      Failed(answer)) {
    return Error(ErrnoFrom(answer), "ION_IOC_HEAP_QUERY", origin);
  }
  if (query.cnt > count) {
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

// The flags of a request as ION has them. EINVAL: both kinds of caching, one that the heap cannot
// give, or a bit that its heaps do not know (ION itself drops those).
inline Error CheckIonFlags(const KernelHeap& heap, Flags flags, uint16_t private_flags,
                           const Origin& origin) noexcept {
  if (Has(flags, Flags::kCached) && (Has(flags, Flags::kUncached) || !heap.either_caching)) {
    return Error(EINVAL, "kCached, but its memory is uncached, or kUncached as well", origin);
  }
  if ((HeapPrivateBits(flags) & ~uint32_t{private_flags}) != 0) {
    return Error(EINVAL, "a heap-private flag that was not declared", origin,
                 "declare what this board's heaps know: Options::private_flags");
  }
  return {};
}
inline uint32_t IonFlags(Flags flags) noexcept {
  return HeapPrivateBits(flags) << 16 |
         (Has(flags, Flags::kCached) ? uint32_t{ion_uapi::kFlagCached} : 0);
}

}  // namespace ion

#endif  // ION_BACKENDS_ION_NODE_H_
