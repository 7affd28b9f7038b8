// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What third_party/ion_uapi and two headers of ours define themselves is what this machine's kernel
// headers define.

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/membarrier.h>
#include <linux/udmabuf.h>
#include <sys/mman.h>

#include <cstddef>

#include "doctest/doctest.h"
#include "ion/base/wiped_pages.h"
#include "ion/policies/pool/membarrier.h"
#include "third_party/ion_uapi/dma_buf.h"

namespace {

TEST_CASE("uapi: dma-bufs") {
  CHECK(ion_uapi::kDmaBufIoctlSync == DMA_BUF_IOCTL_SYNC);
  CHECK(ion_uapi::kDmaBufSyncRead == DMA_BUF_SYNC_READ);
  CHECK(ion_uapi::kDmaBufSyncWrite == DMA_BUF_SYNC_WRITE);
  CHECK(ion_uapi::kDmaBufSyncStart == DMA_BUF_SYNC_START);
  CHECK(ion_uapi::kDmaBufSyncEnd == DMA_BUF_SYNC_END);
  CHECK(sizeof(ion_uapi::dma_buf_sync) == sizeof(dma_buf_sync));
  CHECK(ion_uapi::kDmaBufSetName == DMA_BUF_SET_NAME);
  CHECK(ion_uapi::kDmaBufNameBytes == DMA_BUF_NAME_LEN);
}

TEST_CASE("uapi: dma-heaps") {
  using Ours = ion_uapi::dma_heap_allocation_data;
  CHECK(ion_uapi::kDmaHeapIoctlAlloc == DMA_HEAP_IOCTL_ALLOC);
  CHECK(sizeof(Ours) == sizeof(dma_heap_allocation_data));
  CHECK(offsetof(Ours, fd) == offsetof(dma_heap_allocation_data, fd));
  CHECK(offsetof(Ours, fd_flags) == offsetof(dma_heap_allocation_data, fd_flags));
  CHECK(offsetof(Ours, heap_flags) == offsetof(dma_heap_allocation_data, heap_flags));
}

TEST_CASE("uapi: udmabuf") {
  using One = ion_uapi::udmabuf_create;
  using Item = ion_uapi::udmabuf_create_item;
  CHECK(ion_uapi::kUdmabufCreate == UDMABUF_CREATE);
  CHECK(ion_uapi::kUdmabufCreateList == UDMABUF_CREATE_LIST);
  CHECK(ion_uapi::kUdmabufCloexec == UDMABUF_FLAGS_CLOEXEC);
  CHECK(offsetof(One, flags) == offsetof(udmabuf_create, flags));
  CHECK(offsetof(One, offset) == offsetof(udmabuf_create, offset));
  CHECK(offsetof(One, size) == offsetof(udmabuf_create, size));
  CHECK(offsetof(Item, offset) == offsetof(udmabuf_create_item, offset));
  CHECK(offsetof(Item, size) == offsetof(udmabuf_create_item, size));
  CHECK(offsetof(ion_uapi::udmabuf_create_list, count) == offsetof(udmabuf_create_list, count));
}

TEST_CASE("uapi: membarrier and madvise") {
  CHECK(ion::internal::Membarrier::kExpedite == MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  CHECK(ion::internal::Membarrier::kRegister == MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  CHECK(ion::internal::kWipeOnFork == MADV_WIPEONFORK);
}

}  // namespace
