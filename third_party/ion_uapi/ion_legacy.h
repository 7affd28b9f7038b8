// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/ion_legacy.h
//
// What a program and the kernel's ION said to each other before Linux 4.12, where an allocation
// answers with a handle. Its structs have words in them, so their size, and with it the ioctl's
// number, is another for a 32-bit program: they are templates over the word, and both layouts are
// checked on any machine. (alignas: i386 would put 64 bits at a multiple of 4.)
//
// Boards differ; what a board has is declared (an Abi), it cannot be asked: two layouts may share
// one ioctl number.
#ifndef ION_THIRD_PARTY_ION_UAPI_ION_LEGACY_H_
#define ION_THIRD_PARTY_ION_UAPI_ION_LEGACY_H_

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

#include "ion/uapi/ion.h"

namespace ion_uapi {

// Linux 3.10 to 4.11. Word: size_t and unsigned long of the program.
template <class Word>
struct LegacyAbi {
  using Handle = int32_t;  // of one client, from 1

  struct ion_allocation_data {
    alignas(sizeof(Word)) Word len;
    Word align;
    uint32_t heap_id_mask;
    uint32_t flags;
    Handle handle;  // out
  };
  struct ion_fd_data {
    Handle handle;
    int32_t fd;
  };
  struct ion_handle_data {
    Handle handle;
  };
  struct ion_custom_data {
    uint32_t cmd;
    alignas(sizeof(Word)) Word arg;
  };
};

// Linux 3.0 to 3.4: a handle is a pointer.
template <class Word>
struct PointerHandleAbi {
  using Handle = Word;

  struct ion_allocation_data {
    alignas(sizeof(Word)) Word len;
    Word align;
    uint32_t heap_id_mask;
    uint32_t flags;
    Handle handle;
  };
  struct ion_fd_data {
    Handle handle;
    int32_t fd;
  };
  struct ion_handle_data {
    Handle handle;
  };
  using ion_custom_data = typename LegacyAbi<Word>::ion_custom_data;
};

// Qualcomm's 3.4: the handle stands before the flags. To a 32-bit program the ioctl's number is
// that of the other layouts.
template <class Word>
struct Qualcomm34Abi : PointerHandleAbi<Word> {
  struct ion_allocation_data {
    alignas(sizeof(Word)) Word len;
    Word align;
    uint32_t heap_id_mask;
    typename PointerHandleAbi<Word>::Handle handle;
    uint32_t flags;
  };
};

// The ioctls of an Abi. MAP (2) does what SHARE does.
template <class Abi>
struct LegacyIoctls {
  static constexpr unsigned kBoth = _IOC_READ | _IOC_WRITE;
  static constexpr unsigned long kAlloc =
      Request(kBoth, 0, sizeof(typename Abi::ion_allocation_data));
  static constexpr unsigned long kFree = FreeOf<typename Abi::ion_handle_data>();
  static constexpr unsigned long kMap = Request(kBoth, 2, sizeof(typename Abi::ion_fd_data));
  static constexpr unsigned long kShare = Request(kBoth, 4, sizeof(typename Abi::ion_fd_data));
  static constexpr unsigned long kImport = Request(kBoth, 5, sizeof(typename Abi::ion_fd_data));
  static constexpr unsigned long kCustom = Request(kBoth, 6, sizeof(typename Abi::ion_custom_data));
  static constexpr unsigned long kSync = Request(kBoth, 7, sizeof(typename Abi::ion_fd_data));
};

using Legacy64 = LegacyAbi<uint64_t>;
using Legacy32 = LegacyAbi<uint32_t>;
static_assert(sizeof(Legacy64::ion_allocation_data) == 32);
static_assert(sizeof(Legacy32::ion_allocation_data) == 20);
static_assert(offsetof(Legacy64::ion_allocation_data, heap_id_mask) == 16);
static_assert(offsetof(Legacy64::ion_allocation_data, handle) == 24);
static_assert(offsetof(Legacy32::ion_allocation_data, heap_id_mask) == 8);
static_assert(offsetof(Legacy32::ion_allocation_data, handle) == 16);
static_assert(offsetof(Legacy64::ion_custom_data, arg) == 8);
static_assert(offsetof(Legacy32::ion_custom_data, arg) == 4);
static_assert(LegacyIoctls<Legacy64>::kAlloc == 0xc0204900);
static_assert(LegacyIoctls<Legacy32>::kAlloc == 0xc0144900);
static_assert(LegacyIoctls<Legacy64>::kCustom == 0xc0104906);
static_assert(LegacyIoctls<Legacy32>::kCustom == 0xc0084906);
static_assert(LegacyIoctls<Legacy64>::kFree == kIocFree);
static_assert(LegacyIoctls<Legacy64>::kMap == 0xc0084902);
static_assert(LegacyIoctls<Legacy64>::kShare == 0xc0084904);
static_assert(LegacyIoctls<Legacy64>::kImport == 0xc0084905);
static_assert(LegacyIoctls<Legacy64>::kSync == 0xc0084907);
static_assert(LegacyIoctls<Legacy32>::kShare == LegacyIoctls<Legacy64>::kShare);
static_assert(LegacyIoctls<PointerHandleAbi<uint32_t>>::kAlloc == 0xc0144900);
static_assert(sizeof(PointerHandleAbi<uint64_t>::ion_allocation_data) == 32);
static_assert(sizeof(Qualcomm34Abi<uint32_t>::ion_allocation_data) == 20);
static_assert(offsetof(Qualcomm34Abi<uint32_t>::ion_allocation_data, handle) == 12);
static_assert(offsetof(Qualcomm34Abi<uint32_t>::ion_allocation_data, flags) == 16);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_ION_LEGACY_H_
