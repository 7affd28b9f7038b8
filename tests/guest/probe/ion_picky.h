// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/ion_picky.h
//
// What /dev/ion_picky is asked and answers, for the module and for the tests: whether a device
// with these limits takes the memory of a dma-buf. Each open file is a device of its own. Sizes and
// numbers are the same for 32 and 64 bits.

#ifndef ION_TESTS_GUEST_PROBE_ION_PICKY_H_
#define ION_TESTS_GUEST_PROBE_ION_PICKY_H_

#include <linux/ioctl.h>
#include <linux/types.h>

// The kernel is told of the mask, as by a driver. Without this it maps memory as for a device that
// reaches all of it, and the module alone looks at the mask.
#define ION_PICKY_TELLS_KERNEL 1u

// A file that was just opened takes everything.
struct ion_picky_limits {
  __u64 segment_size_max;  // at least 4096
  __u64 segment_boundary;  // a power of two, at least 4096; 0: a segment may cross any address
  // A power of two, no larger than the two above: begin and length of a segment are multiples.
  __u64 segment_multiple;
  __u32 segments_max;  // at least 1
  __u32 mask_bits;     // 12 to 64: of its addresses
  __u32 flags;
  __u32 reserved;  // 0
};

// The first of these that the memory breaks.
#define ION_PICKY_ACCEPTS 0u
#define ION_PICKY_ADDRESS 1u  // value: the highest address for the device; limit: its mask
// value: an address for the device; limit: the memory's own, which is another. The device reads and
// writes a copy.
#define ION_PICKY_BOUNCED 2u
#define ION_PICKY_MULTIPLE 3u  // value: begin or length of a run; limit: segment_multiple
#define ION_PICKY_SEGMENTS 4u  // value: the segments that it takes; limit: segments_max

// A run is memory without a gap in the device's addresses. The device cuts it, from its begin on,
// into the longest segments that the limits leave.
struct ion_picky_answer {
  __s32 fd;  // in: a dma-buf
  __u32 rule;
  __u64 value;
  __u64 limit;
  __u64 bytes;             // the size of the dma-buf
  __u64 highest_physical;  // the last address of the memory
  __u64 highest_dma;       // the last address for the device
  __u32 runs;
  __u32 segments;
  __u32 bounced;   // entries of the scatter list that are at another address for the device
  __u32 reserved;  // in: 0
};

// EINVAL: a limit that no device has, an unknown flag, or `reserved` is not 0. EFAULT: an address
// of the caller's is bad.
#define ION_PICKY_IOCTL_SET _IOW('S', 0xd1, struct ion_picky_limits)

// EBADF: no such descriptor. EINVAL: not a dma-buf, or `reserved` is not 0. EFAULT: an address of
// the caller's is bad. What else comes is the refusal of the exporter, or of the kernel that is
// told of the mask.
#define ION_PICKY_IOCTL_TRY _IOWR('S', 0xd2, struct ion_picky_answer)

#endif  // ION_TESTS_GUEST_PROBE_ION_PICKY_H_
