/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * File: compat/include/linux/ion.h
 *
 * ION's user interface with handles, Linux 3.10 to 4.11. Our own definitions, for programs that
 * include <linux/ion.h> and whose kernel headers have none. C and C++.
 */
#ifndef ION_COMPAT_INCLUDE_LINUX_ION_H_
#define ION_COMPAT_INCLUDE_LINUX_ION_H_

#include <stddef.h>
#include <sys/ioctl.h>

/* A number of one client, from 1. */
typedef int ion_user_handle_t;

enum ion_heap_type {
  ION_HEAP_TYPE_SYSTEM,
  ION_HEAP_TYPE_SYSTEM_CONTIG,
  ION_HEAP_TYPE_CARVEOUT,
  ION_HEAP_TYPE_CHUNK,
  ION_HEAP_TYPE_DMA,
  ION_HEAP_TYPE_CUSTOM, /* must be last */
  ION_NUM_HEAPS = 16
};

/* Masks of the heaps whose id is their type. */
#define ION_HEAP_SYSTEM_MASK (1 << ION_HEAP_TYPE_SYSTEM)
#define ION_HEAP_SYSTEM_CONTIG_MASK (1 << ION_HEAP_TYPE_SYSTEM_CONTIG)
#define ION_HEAP_CARVEOUT_MASK (1 << ION_HEAP_TYPE_CARVEOUT)
#define ION_HEAP_TYPE_DMA_MASK (1 << ION_HEAP_TYPE_DMA)

#define ION_NUM_HEAP_IDS (sizeof(unsigned int) * 8)

#define ION_FLAG_CACHED 1
#define ION_FLAG_CACHED_NEEDS_SYNC 2

struct ion_allocation_data {
  size_t len;
  size_t align;
  unsigned int heap_id_mask;
  unsigned int flags;
  ion_user_handle_t handle; /* out */
};

struct ion_fd_data {
  ion_user_handle_t handle;
  int fd;
};

struct ion_handle_data {
  ion_user_handle_t handle;
};

struct ion_custom_data {
  unsigned int cmd;
  unsigned long arg;
};

#define ION_IOC_MAGIC 'I'

#define ION_IOC_ALLOC _IOWR(ION_IOC_MAGIC, 0, struct ion_allocation_data)
#define ION_IOC_FREE _IOWR(ION_IOC_MAGIC, 1, struct ion_handle_data)
#define ION_IOC_MAP _IOWR(ION_IOC_MAGIC, 2, struct ion_fd_data)
#define ION_IOC_SHARE _IOWR(ION_IOC_MAGIC, 4, struct ion_fd_data)
#define ION_IOC_IMPORT _IOWR(ION_IOC_MAGIC, 5, struct ion_fd_data)
#define ION_IOC_SYNC _IOWR(ION_IOC_MAGIC, 7, struct ion_fd_data)
#define ION_IOC_CUSTOM _IOWR(ION_IOC_MAGIC, 6, struct ion_custom_data)

#ifdef __cplusplus
#define ION_COMPAT_ASSERT(holds) static_assert(holds, #holds)
#else
#define ION_COMPAT_ASSERT(holds) _Static_assert(holds, #holds)
#endif
ION_COMPAT_ASSERT(sizeof(struct ion_allocation_data) == (sizeof(size_t) == 8 ? 32 : 20));
ION_COMPAT_ASSERT(offsetof(struct ion_allocation_data, heap_id_mask) == 2 * sizeof(size_t));
ION_COMPAT_ASSERT(offsetof(struct ion_allocation_data, handle) == 2 * sizeof(size_t) + 8);
ION_COMPAT_ASSERT(sizeof(struct ion_fd_data) == 8);
ION_COMPAT_ASSERT(sizeof(struct ion_handle_data) == 4);
ION_COMPAT_ASSERT(sizeof(struct ion_custom_data) == (sizeof(long) == 8 ? 16 : 8));
ION_COMPAT_ASSERT(ION_IOC_ALLOC == (sizeof(size_t) == 8 ? 0xc0204900u : 0xc0144900u));
ION_COMPAT_ASSERT(ION_IOC_FREE == 0xc0044901u);
ION_COMPAT_ASSERT(ION_IOC_MAP == 0xc0084902u);
ION_COMPAT_ASSERT(ION_IOC_SHARE == 0xc0084904u);
ION_COMPAT_ASSERT(ION_IOC_IMPORT == 0xc0084905u);
ION_COMPAT_ASSERT(ION_IOC_CUSTOM == (sizeof(long) == 8 ? 0xc0104906u : 0xc0084906u));
ION_COMPAT_ASSERT(ION_IOC_SYNC == 0xc0084907u);
#undef ION_COMPAT_ASSERT

#endif /* ION_COMPAT_INCLUDE_LINUX_ION_H_ */
