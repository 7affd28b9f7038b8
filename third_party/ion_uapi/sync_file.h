// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/sync_file.h
//
// The part of <linux/sync_file.h> that we use. The headers of an old SDK lack it. Names of structs
// are the kernel's, in a namespace, so that a program may include that header as well.
//
// The layout is the same for 32-bit and 64-bit programs.
#ifndef ION_THIRD_PARTY_ION_UAPI_SYNC_FILE_H_
#define ION_THIRD_PARTY_ION_UAPI_SYNC_FILE_H_

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace ion_uapi {

// Linux 4.7.
struct sync_merge_data {
  char name[32];
  int32_t fd2;    // the other sync file
  int32_t fence;  // out
  uint32_t flags;
  uint32_t pad;
};
inline constexpr unsigned long kSyncIocMerge = _IOWR('>', 3, sync_merge_data);

static_assert(sizeof(sync_merge_data) == 48 && offsetof(sync_merge_data, fence) == 36);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_SYNC_FILE_H_
