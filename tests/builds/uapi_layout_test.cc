// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What third_party/ion_uapi and two headers of ours define themselves is what this machine's kernel
// headers define.

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/membarrier.h>
#include <linux/sync_file.h>
#include <linux/udmabuf.h>
#include <linux/videodev2.h>
#include <sys/mman.h>

// Of libdrm-dev, or of the kernel itself.
#if __has_include(<libdrm/drm.h>)
#include <libdrm/drm.h>
#define ION_TEST_HAS_DRM 1
#elif __has_include(<drm/drm.h>)
#include <drm/drm.h>
#define ION_TEST_HAS_DRM 1
#else
#define ION_TEST_HAS_DRM 0
#endif

#include <cstddef>

#include "doctest/doctest.h"
#include "ion/base/wiped_pages.h"
#include "ion/policies/pool/membarrier.h"
#include "tests/support/skip.h"
#include "third_party/ion_uapi/dma_buf.h"
#include "third_party/ion_uapi/drm.h"
#include "third_party/ion_uapi/sync_file.h"
#include "third_party/ion_uapi/v4l2.h"

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

TEST_CASE("uapi: sync files") {
  using File = ion_uapi::dma_buf_sync_file;
  using Merge = ion_uapi::sync_merge_data;
  CHECK(ion_uapi::kDmaBufIoctlExportSyncFile == DMA_BUF_IOCTL_EXPORT_SYNC_FILE);
  CHECK(ion_uapi::kDmaBufIoctlImportSyncFile == DMA_BUF_IOCTL_IMPORT_SYNC_FILE);
  CHECK(offsetof(File, fd) == offsetof(dma_buf_export_sync_file, fd));
  CHECK(offsetof(File, fd) == offsetof(dma_buf_import_sync_file, fd));
  CHECK(ion_uapi::kSyncIocMerge == SYNC_IOC_MERGE);
  CHECK(sizeof(Merge) == sizeof(sync_merge_data));
  CHECK(offsetof(Merge, fd2) == offsetof(sync_merge_data, fd2));
  CHECK(offsetof(Merge, fence) == offsetof(sync_merge_data, fence));
  CHECK(offsetof(Merge, flags) == offsetof(sync_merge_data, flags));
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

#if ION_TEST_HAS_DRM
TEST_CASE("uapi: dumb buffers") {
  using Create = ion_uapi::drm_mode_create_dumb;
  CHECK(ion_uapi::kDrmIoctlGetCap == DRM_IOCTL_GET_CAP);
  CHECK(ion_uapi::kDrmCapDumbBuffer == DRM_CAP_DUMB_BUFFER);
  CHECK(ion_uapi::kDrmIoctlDropMaster == DRM_IOCTL_DROP_MASTER);
  CHECK(ion_uapi::kDrmIoctlPrimeHandleToFd == DRM_IOCTL_PRIME_HANDLE_TO_FD);
  CHECK(ion_uapi::kDrmCloexec == DRM_CLOEXEC);
  CHECK(ion_uapi::kDrmRdwr == DRM_RDWR);
  CHECK(ion_uapi::kDrmIoctlModeCreateDumb == DRM_IOCTL_MODE_CREATE_DUMB);
  CHECK(ion_uapi::kDrmIoctlModeDestroyDumb == DRM_IOCTL_MODE_DESTROY_DUMB);
  CHECK(offsetof(ion_uapi::drm_get_cap, value) == offsetof(drm_get_cap, value));
  CHECK(offsetof(ion_uapi::drm_prime_handle, flags) == offsetof(drm_prime_handle, flags));
  CHECK(offsetof(ion_uapi::drm_prime_handle, fd) == offsetof(drm_prime_handle, fd));
  CHECK(offsetof(Create, height) == offsetof(drm_mode_create_dumb, height));
  CHECK(offsetof(Create, width) == offsetof(drm_mode_create_dumb, width));
  CHECK(offsetof(Create, bpp) == offsetof(drm_mode_create_dumb, bpp));
  CHECK(offsetof(Create, flags) == offsetof(drm_mode_create_dumb, flags));
  CHECK(offsetof(Create, handle) == offsetof(drm_mode_create_dumb, handle));
  CHECK(offsetof(Create, pitch) == offsetof(drm_mode_create_dumb, pitch));
  CHECK(offsetof(Create, size) == offsetof(drm_mode_create_dumb, size));
}
#else
TEST_CASE("uapi: dumb buffers") {
  ion::testing::Skip("neither libdrm-dev nor <drm/drm.h> is here");
}
#endif

#ifdef VIDIOC_REMOVE_BUFS
TEST_CASE("uapi: buffers of a V4L2 queue") {
  CHECK(ion_uapi::kV4l2RemoveBufs == VIDIOC_REMOVE_BUFS);
  CHECK(offsetof(ion_uapi::v4l2_remove_buffers, count) == offsetof(v4l2_remove_buffers, count));
  CHECK(offsetof(ion_uapi::v4l2_remove_buffers, type) == offsetof(v4l2_remove_buffers, type));
}
#else
TEST_CASE("uapi: buffers of a V4L2 queue") { ion::testing::Skip("older than Linux 6.10"); }
#endif

TEST_CASE("uapi: membarrier and madvise") {
  CHECK(ion::internal::Membarrier::kExpedite == MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  CHECK(ion::internal::Membarrier::kRegister == MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  CHECK(ion::internal::kWipeOnFork == MADV_WIPEONFORK);
}

}  // namespace
