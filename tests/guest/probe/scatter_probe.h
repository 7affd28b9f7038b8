// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
// Copyright the ion authors
//
// File: tests/guest/probe/scatter_probe.h
//
// What /dev/scatter_probe answers, for the module and for the tests: the scatter list of a dma-buf,
// as a device sees it. Sizes and numbers are the same for 32 and 64 bits.

#ifndef ION_TESTS_GUEST_PROBE_SCATTER_PROBE_H_
#define ION_TESTS_GUEST_PROBE_SCATTER_PROBE_H_

#include <linux/ioctl.h>
#include <linux/types.h>

// One entry. Where no IOMMU stands between, as in the guest, the address is physical.
struct scatter_probe_segment {
  __u64 address;
  __u64 bytes;
};

// The first min(count, capacity) entries go to `segments`.
struct scatter_probe_list {
  __s32 fd;        // in: a dma-buf
  __u32 capacity;  // in: the entries that there is room for
  __u64 segments;  // in: the address of an array of struct scatter_probe_segment
  __u64 bytes;     // out: the size of the dma-buf
  __u32 count;     // out: the entries that its list has
  __u32 reserved;  // in: 0
};

// EBADF: no such descriptor. EINVAL: not a dma-buf, or `reserved` is not 0. EFAULT: an address of
// the caller's is bad. What else comes is the exporter's refusal.
#define SCATTER_PROBE_IOCTL_LIST _IOWR('S', 0xd0, struct scatter_probe_list)

#endif  // ION_TESTS_GUEST_PROBE_SCATTER_PROBE_H_
