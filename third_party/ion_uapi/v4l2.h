// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/v4l2.h
//
// The part of <linux/videodev2.h> that is newer than most machines' copy of that header, which has
// all else that we use. Names of structs are the kernel's, in a namespace, so that a program may
// include a newer header as well.
//
// The layout is the same for 32-bit and 64-bit programs.
#ifndef ION_THIRD_PARTY_ION_UAPI_V4L2_H_
#define ION_THIRD_PARTY_ION_UAPI_V4L2_H_

#include <sys/ioctl.h>

#include <cstdint>

namespace ion_uapi {

// The major number of V4L2's nodes.
inline constexpr unsigned kV4l2Major = 81;

// Linux 6.10.
struct v4l2_remove_buffers {
  uint32_t index;
  uint32_t count;
  uint32_t type;
  uint32_t reserved[13];
};
inline constexpr unsigned long kV4l2RemoveBufs = _IOWR('V', 104, v4l2_remove_buffers);

static_assert(sizeof(v4l2_remove_buffers) == 64);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_V4L2_H_
