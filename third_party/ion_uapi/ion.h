// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/ion.h
//
// What a program and the kernel's ION say to each other since Linux 4.12 (to 5.10), where an
// allocation answers with a descriptor; and what both ABIs have in common. Distributions no longer
// ship the kernel's header. Names are the kernel's, in a namespace, so that a program may include
// that header as well.
//
// The layout is the same for 32-bit and 64-bit programs.
#ifndef ION_THIRD_PARTY_ION_UAPI_ION_H_
#define ION_THIRD_PARTY_ION_UAPI_ION_H_

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace ion_uapi {

constexpr unsigned long Request(unsigned direction, unsigned number, size_t bytes) noexcept {
  return _IOC(direction, 'I', number, bytes);
}

// enum ion_heap_type; what is larger is a vendor's.
enum : uint32_t {
  kHeapTypeSystem = 0,
  kHeapTypeSystemContig = 1,
  kHeapTypeCarveout = 2,
  kHeapTypeChunk = 3,
  kHeapTypeDma = 4,
};

// ion_allocation_data.flags; the high 16 bits are private to a heap.
enum : uint32_t {
  kFlagCached = 1,
  kFlagCachedNeedsSync = 2,  // of the handle ABI alone
};

constexpr unsigned kHeapIds = 32;  // an id is a bit of heap_id_mask

// libion calls it ion_new_allocation_data.
struct ion_allocation_data {
  uint64_t len;
  uint32_t heap_id_mask;
  uint32_t flags;
  uint32_t fd;  // out
  uint32_t unused;
};
static_assert(sizeof(ion_allocation_data) == 24 && offsetof(ion_allocation_data, fd) == 16);

struct ion_heap_data {
  char name[32];
  uint32_t type;
  uint32_t heap_id;
  uint32_t reserved0;
  uint32_t reserved1;
  uint32_t reserved2;
};
static_assert(sizeof(ion_heap_data) == 52 && offsetof(ion_heap_data, heap_id) == 36);

// With no place for them it asks how many there are. What is reserved has to be 0.
struct ion_heap_query {
  uint32_t cnt;
  uint32_t reserved0;
  uint64_t heaps;  // where ion_heap_data[cnt] lies
  uint32_t reserved1;
  uint32_t reserved2;
};
static_assert(sizeof(ion_heap_query) == 24 && offsetof(ion_heap_query, heaps) == 8);

// The handle ABI's; the descriptor ABI does not have it, by which they are told apart.
struct ion_handle_data {
  int32_t handle;
};
static_assert(sizeof(ion_handle_data) == 4);

inline constexpr unsigned long kIocAlloc =
    Request(_IOC_READ | _IOC_WRITE, 0, sizeof(ion_allocation_data));
inline constexpr unsigned long kIocFree =
    Request(_IOC_READ | _IOC_WRITE, 1, sizeof(ion_handle_data));
inline constexpr unsigned long kIocHeapQuery =
    Request(_IOC_READ | _IOC_WRITE, 8, sizeof(ion_heap_query));
inline constexpr unsigned long kIocAbiVersion = Request(_IOC_READ, 9, sizeof(uint32_t));
static_assert(kIocAlloc == 0xc0184900 && kIocFree == 0xc0044901);
static_assert(kIocHeapQuery == 0xc0184908 && kIocAbiVersion == 0x80044909);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_ION_H_
