/* SPDX-License-Identifier: Apache-2.0
 * Copyright the ion authors
 *
 * File: compat/include/ion/ion.h
 *
 * libion: the C interface of AOSP's library of that name, source- and binary-compatible. Over the
 * kernel's ION where there is one; elsewhere over this library's Manager (docs/libion.md).
 *
 * Example:
 *   int fd = ion_open(), shared;
 *   if (ion_alloc_fd(fd, 1 << 20, 0, ION_HEAP_SYSTEM_MASK, ION_FLAG_CACHED, &shared) == 0) …
 *
 * Each function returns 0 or a value, or a negative errno. A null pointer is EINVAL and a wild one
 * EFAULT. Thread-safe.
 */
#ifndef ION_COMPAT_INCLUDE_ION_ION_H_
#define ION_COMPAT_INCLUDE_ION_ION_H_

#include <linux/ion.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Returns a descriptor of a new client, close-on-exec. */
int ion_open(void);

/* Closes it. With its last copy the client and its handles end; descriptors and mappings of its
 * memory stay valid. */
int ion_close(int fd);

/* Allocates len bytes, rounded up to pages, from the first heap of heap_mask that has room, highest
 * id first. ENODEV: the mask names no heap. EINVAL: len is 0, align is more than the heap has, or
 * the descriptor has no handles (ion_is_legacy). */
int ion_alloc(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
              ion_user_handle_t* handle);

/* The same, as a descriptor, which the caller closes. For either interface. */
int ion_alloc_fd(int fd, size_t len, size_t align, unsigned int heap_mask, unsigned int flags,
                 int* handle_fd);

/* Makes the CPU's writes to the memory visible to devices. EINVAL: handle_fd is no such memory, or
 * the descriptor has no handles (use DMA_BUF_IOCTL_SYNC). */
int ion_sync_fd(int fd, int handle_fd);

/* Drops one reference of a handle. */
int ion_free(int fd, ion_user_handle_t handle);

/* Maps length bytes from offset, and returns the mapping and its descriptor, which the caller ends
 * by munmap and close. */
int ion_map(int fd, ion_user_handle_t handle, size_t length, int prot, int flags, off_t offset,
            unsigned char** ptr, int* map_fd);

/* Returns a new descriptor of the handle's memory, close-on-exec. */
int ion_share(int fd, ion_user_handle_t handle, int* share_fd);

/* Returns a handle of memory that was shared; the same one, with one more reference, if the client
 * has one. */
int ion_import(int fd, int share_fd, ion_user_handle_t* handle);

/* The number of heaps. ENOTTY: the kernel's ION does not tell (Linux before 4.9). */
int ion_query_heap_cnt(int fd, int* cnt);

/* Fills buffers, a struct ion_heap_data[cnt] of <linux/ion_4.12.h>, highest id first. */
int ion_query_get_heaps(int fd, int cnt, void* buffers);

/* 1 if the descriptor has handles (Linux before 4.12), else 0. */
int ion_is_legacy(int fd);

/* 1 if the heaps are modules of an Android kernel, else 0. */
int ion_is_using_modular_heaps(int fd);

#ifdef __cplusplus
}
#endif

#endif /* ION_COMPAT_INCLUDE_ION_ION_H_ */
