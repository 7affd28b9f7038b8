// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/include/BufferAllocator/dmabufheap-defs.h
//
// The names and numbers of libdmabufheap, for C and C++.
#ifndef ION_COMPAT_INCLUDE_BUFFERALLOCATOR_DMABUFHEAP_DEFS_H_
#define ION_COMPAT_INCLUDE_BUFFERALLOCATOR_DMABUFHEAP_DEFS_H_

#include <linux/dma-buf.h>

static const char kDmabufSystemHeapName[] = "system";
static const char kDmabufSystemUncachedHeapName[] = "system-uncached";

// The accesses between CpuSyncStart and CpuSyncEnd.
typedef enum {
  kSyncRead = DMA_BUF_SYNC_READ,
  kSyncWrite = DMA_BUF_SYNC_WRITE,
  kSyncReadWrite = DMA_BUF_SYNC_RW,
} SyncType;

#endif  // ION_COMPAT_INCLUDE_BUFFERALLOCATOR_DMABUFHEAP_DEFS_H_
