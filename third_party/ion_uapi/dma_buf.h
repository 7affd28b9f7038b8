// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: third_party/ion_uapi/dma_buf.h
//
// What a program and the kernel say to each other of dma-bufs, of dma-heaps and of udmabuf: the
// part of <linux/dma-buf.h>, <linux/dma-heap.h> and <linux/udmabuf.h> that we use. The headers of
// an old SDK lack it, and the kernel that the program meets is another one. Names of structs are
// the kernel's, in a namespace, so that a program may include those headers as well.
//
// The layout is the same for 32-bit and 64-bit programs, but for the number of kDmaBufSetName.
#ifndef ION_THIRD_PARTY_ION_UAPI_DMA_BUF_H_
#define ION_THIRD_PARTY_ION_UAPI_DMA_BUF_H_

#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

namespace ion_uapi {

// Linux 4.6.
struct dma_buf_sync {
  uint64_t flags;
};
inline constexpr uint64_t kDmaBufSyncRead = 1;
inline constexpr uint64_t kDmaBufSyncWrite = 2;
inline constexpr uint64_t kDmaBufSyncStart = 0;
inline constexpr uint64_t kDmaBufSyncEnd = 4;
inline constexpr unsigned long kDmaBufIoctlSync = _IOW('b', 0, dma_buf_sync);

// Linux 5.3. The argument is a text of at most so many bytes, with its end.
inline constexpr size_t kDmaBufNameBytes = 32;
inline constexpr unsigned long kDmaBufSetName = _IOW('b', 1, const char*);

// Linux 6.0. The kernel has two structs of this layout: to export (fd is out), and to import.
struct dma_buf_sync_file {
  uint32_t flags;  // kDmaBufSyncRead, kDmaBufSyncWrite
  int32_t fd;
};
inline constexpr unsigned long kDmaBufIoctlExportSyncFile = _IOWR('b', 2, dma_buf_sync_file);
inline constexpr unsigned long kDmaBufIoctlImportSyncFile = _IOW('b', 3, dma_buf_sync_file);

// Linux 5.6.
struct dma_heap_allocation_data {
  uint64_t len;
  uint32_t fd;        // out
  uint32_t fd_flags;  // O_CLOEXEC and an access mode
  uint64_t heap_flags;
};
inline constexpr unsigned long kDmaHeapIoctlAlloc = _IOWR('H', 0, dma_heap_allocation_data);

// Linux 4.20.
struct udmabuf_create {
  uint32_t memfd;
  uint32_t flags;
  uint64_t offset;  // whole pages, as size
  uint64_t size;
};
struct udmabuf_create_item {
  uint32_t memfd;
  uint32_t unused;
  uint64_t offset;
  uint64_t size;
};
// Followed by udmabuf_create_item[count].
struct udmabuf_create_list {
  uint32_t flags;
  uint32_t count;
};
inline constexpr uint32_t kUdmabufCloexec = 1;
inline constexpr unsigned long kUdmabufCreate = _IOW('u', 0x42, udmabuf_create);
inline constexpr unsigned long kUdmabufCreateList = _IOW('u', 0x43, udmabuf_create_list);

static_assert(sizeof(dma_buf_sync) == 8 && sizeof(dma_buf_sync_file) == 8);
static_assert(sizeof(dma_heap_allocation_data) == 24);
static_assert(offsetof(dma_heap_allocation_data, heap_flags) == 16);
static_assert(sizeof(udmabuf_create) == 24 && offsetof(udmabuf_create, offset) == 8);
static_assert(sizeof(udmabuf_create_item) == 24 && sizeof(udmabuf_create_list) == 8);

}  // namespace ion_uapi

#endif  // ION_THIRD_PARTY_ION_UAPI_DMA_BUF_H_
