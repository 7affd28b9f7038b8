/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * File: compat/include/linux/ion_4.12.h
 *
 * ION's user interface without handles, Linux 4.12 to 5.10, under the names of AOSP's libion, so
 * that a program may include <linux/ion.h> as well. Our own definitions. C and C++.
 */
#ifndef ION_COMPAT_INCLUDE_LINUX_ION_4_12_H_
#define ION_COMPAT_INCLUDE_LINUX_ION_4_12_H_

#include <linux/types.h>
#include <stddef.h>
#include <sys/ioctl.h>

#ifndef ION_NUM_HEAP_IDS
#define ION_NUM_HEAP_IDS (sizeof(unsigned int) * 8)
#endif
#ifndef ION_FLAG_CACHED
#define ION_FLAG_CACHED 1
#endif

struct ion_new_allocation_data {
  __u64 len;
  __u32 heap_id_mask;
  __u32 flags;
  __u32 fd; /* out: a dma-buf */
  __u32 unused;
};

#define MAX_HEAP_NAME 32

struct ion_heap_data {
  char name[MAX_HEAP_NAME];
  __u32 type; /* enum ion_heap_type */
  __u32 heap_id;
  __u32 reserved0;
  __u32 reserved1;
  __u32 reserved2;
};

/* heaps == 0: the kernel tells the number of heaps in cnt. */
struct ion_heap_query {
  __u32 cnt;
  __u32 reserved0;
  __u64 heaps; /* the address of struct ion_heap_data[cnt] */
  __u32 reserved1;
  __u32 reserved2;
};

#ifndef ION_IOC_MAGIC
#define ION_IOC_MAGIC 'I'
#endif

#define ION_IOC_NEW_ALLOC _IOWR(ION_IOC_MAGIC, 0, struct ion_new_allocation_data)
#define ION_IOC_HEAP_QUERY _IOWR(ION_IOC_MAGIC, 8, struct ion_heap_query)
/* Android's kernels 4.19 and 5.4: 2 tells of heaps in modules. */
#define ION_IOC_ABI_VERSION _IOR(ION_IOC_MAGIC, 9, __u32)

#ifdef __cplusplus
#define ION_COMPAT_ASSERT(holds) static_assert(holds, #holds)
#else
#define ION_COMPAT_ASSERT(holds) _Static_assert(holds, #holds)
#endif
ION_COMPAT_ASSERT(sizeof(struct ion_new_allocation_data) == 24);
ION_COMPAT_ASSERT(offsetof(struct ion_new_allocation_data, fd) == 16);
ION_COMPAT_ASSERT(sizeof(struct ion_heap_data) == 52);
ION_COMPAT_ASSERT(offsetof(struct ion_heap_data, heap_id) == 36);
ION_COMPAT_ASSERT(sizeof(struct ion_heap_query) == 24);
ION_COMPAT_ASSERT(offsetof(struct ion_heap_query, heaps) == 8);
ION_COMPAT_ASSERT(ION_IOC_NEW_ALLOC == 0xc0184900u);
ION_COMPAT_ASSERT(ION_IOC_HEAP_QUERY == 0xc0184908u);
ION_COMPAT_ASSERT(ION_IOC_ABI_VERSION == 0x80044909u);
#undef ION_COMPAT_ASSERT

#endif /* ION_COMPAT_INCLUDE_LINUX_ION_4_12_H_ */
