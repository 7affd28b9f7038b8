// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/dma_buf_exporters.h
//
// Memory that is not this library's: dma-bufs straight from drivers, and memfds. Each call gives a
// descriptor, or one that is not valid with errno saying why.

#ifndef ION_TESTS_SUPPORT_DMA_BUF_EXPORTERS_H_
#define ION_TESTS_SUPPORT_DMA_BUF_EXPORTERS_H_

#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "examples/vgem.h"
#include "ion/base/fd.h"

namespace ion::testing {

inline UniqueFd OpenNode(const char* path, int flags = O_RDWR) {
  return UniqueFd(::open(path, flags | O_CLOEXEC));
}

// Whole pages of 4 KiB from vgem; `mode` is O_RDWR or O_RDONLY.
inline UniqueFd VgemDmaBuf(uint64_t bytes, int mode = O_RDWR) {
  const UniqueFd node = drm::OpenVgem();
  drm::CreateDumb dumb{};
  dumb.height = static_cast<uint32_t>(bytes / 4096);
  dumb.width = 1024;
  dumb.bits_per_pixel = 32;
  if (!node.valid() || ::ioctl(node.get(), drm::kCreateDumb, &dumb) != 0) return {};
  // Its flags are those of open.
  drm::PrimeHandle prime{dumb.handle, static_cast<uint32_t>(O_CLOEXEC | mode), -1};
  if (::ioctl(node.get(), drm::kPrimeHandleToFd, &prime) != 0) return {};
  return UniqueFd(prime.fd);
}

// One frame of vivid's first capture device.
inline UniqueFd VividDmaBuf() {
  const UniqueFd node = OpenNode("/dev/video0");
  v4l2_requestbuffers request{};
  request.count = 1;
  request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  request.memory = V4L2_MEMORY_MMAP;
  if (!node.valid() || ::ioctl(node.get(), VIDIOC_REQBUFS, &request) != 0) return {};
  v4l2_exportbuffer exported{};
  exported.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  exported.flags = O_CLOEXEC | O_RDWR;
  if (::ioctl(node.get(), VIDIOC_EXPBUF, &exported) != 0) return {};
  return UniqueFd(exported.fd);
}

// From the node of a dma-heap.
inline UniqueFd HeapDmaBuf(uint64_t bytes, int mode = O_RDWR,
                           const char* heap = "/dev/dma_heap/system") {
  const UniqueFd node = OpenNode(heap, O_RDONLY);
  dma_heap_allocation_data data{
      .len = bytes, .fd = 0, .fd_flags = static_cast<uint32_t>(O_CLOEXEC | mode), .heap_flags = 0};
  if (!node.valid() || ::ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, &data) != 0) return {};
  return UniqueFd(static_cast<int>(data.fd));
}

// A memfd with these seals.
inline UniqueFd Memfd(uint64_t bytes, int seals = F_SEAL_SHRINK) {
  UniqueFd memfd(::memfd_create("foreign", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memfd.valid() || ::ftruncate(memfd.get(), static_cast<off_t>(bytes)) != 0) return {};
  if (seals != 0 && ::fcntl(memfd.get(), F_ADD_SEALS, seals) != 0) return {};
  return memfd;
}

// The same memfd, through a descriptor that cannot write.
inline UniqueFd ReadOnly(const UniqueFd& memfd) {
  return OpenNode(("/proc/self/fd/" + std::to_string(memfd.get())).c_str(), O_RDONLY);
}

// A udmabuf of the first pages of a memfd.
inline UniqueFd UdmabufOf(FdRef memfd, uint64_t bytes) {
  const UniqueFd node = OpenNode("/dev/udmabuf");
  udmabuf_create create{.memfd = static_cast<uint32_t>(memfd.get()),
                        .flags = UDMABUF_FLAGS_CLOEXEC,
                        .offset = 0,
                        .size = bytes};
  return UniqueFd(node.valid() ? ::ioctl(node.get(), UDMABUF_CREATE, &create) : -1);
}

// A udmabuf of these pages of a memfd, in this order.
inline UniqueFd UdmabufOfPages(FdRef memfd, const std::vector<uint64_t>& pages) {
  const UniqueFd node = OpenNode("/dev/udmabuf");
  std::vector<uint64_t> list(1 + 3 * pages.size());
  auto* header = reinterpret_cast<udmabuf_create_list*>(list.data());
  header->flags = UDMABUF_FLAGS_CLOEXEC;
  header->count = static_cast<uint32_t>(pages.size());
  auto* item = reinterpret_cast<udmabuf_create_item*>(list.data() + 1);
  for (const uint64_t page : pages) {
    *item++ = {.memfd = static_cast<uint32_t>(memfd.get()),
               .__pad = 0,
               .offset = page * 4096,
               .size = 4096};
  }
  return UniqueFd(node.valid() ? ::ioctl(node.get(), UDMABUF_CREATE_LIST, list.data()) : -1);
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_DMA_BUF_EXPORTERS_H_
