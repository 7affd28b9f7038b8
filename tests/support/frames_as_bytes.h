// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/frames_as_bytes.h
//
// FramesAsBytes: the backend v4l2_export of one device of the test driver vivid, with a heap that
// serves bytes: a frame of at least the format's bytes for each request. So the suite of backends,
// which asks for bytes, runs over the buffers of a queue.

#ifndef ION_TESTS_SUPPORT_FRAMES_AS_BYTES_H_
#define ION_TESTS_SUPPORT_FRAMES_AS_BYTES_H_

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/v4l2_export.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"

namespace ion::testing {

// The nodes of a driver's devices for video, by their numbers.
inline std::vector<std::string> VideoNodesOf(std::string_view driver) {
  std::vector<std::string> nodes;
  for (unsigned number = 0; number < 16; ++number) {
    std::string path = "/dev/video" + std::to_string(number);
    const UniqueFd node(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    v4l2_capability told{};
    if (!node.valid() || ::ioctl(node.get(), VIDIOC_QUERYCAP, &told) != 0) continue;
    if (reinterpret_cast<const char*>(told.driver) == driver) nodes.push_back(std::move(path));
  }
  return nodes;
}

// The format of a device's capture queue, as the kernel tells it.
inline std::optional<v4l2_pix_format> FormatOf(FdRef node) {
  v4l2_format format{};
  format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  if (::ioctl(node.get(), VIDIOC_G_FMT, &format) != 0) return std::nullopt;
  return format.fmt.pix;
}

template <unsigned kDevice, Syscalls Sys = LinuxSyscalls>
class FramesAsBytes : public V4l2ExportBackend<Sys> {
  using Base = V4l2ExportBackend<Sys>;

 public:
  static Result<FramesAsBytes> Open(const typename Base::Options& options) noexcept {
    const std::vector<std::string> nodes = VideoNodesOf("vivid");
    typename Base::Options of_device = options;
    of_device.node = kDevice < nodes.size() ? nodes[kDevice] : "no such device of vivid";
    Result<Base> opened = Base::Open(of_device);
    if (!opened.ok()) return opened.error();
    return FramesAsBytes(*std::move(opened));
  }

  std::span<const KernelHeap> heaps() const noexcept { return heaps_; }

  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{Base::kName, Operation::kAllocate, {}, bytes};
    const std::optional<uint64_t> rounded = RoundUpToPages(bytes);
    if (kernel_heap != 0) return Error(ENODEV, "no such heap", origin);
    if (HeapPrivateBits(flags) != 0 || bytes == 0 || !rounded.has_value() ||
        *rounded > UINT32_MAX) {
      return Error(EINVAL, "not bytes of a frame", origin);
    }
    const auto image_bytes = static_cast<uint32_t>(*rounded);
    return this->MakeBuffer(std::max(image_bytes, this->format().sizeimage), name, block);
  }

 private:
  explicit FramesAsBytes(Base&& opened) : Base(std::move(opened)) {
    heaps_.assign(Base::heaps().begin(), Base::heaps().end());
    heaps_[0].frames = MakesFrames::kAlso;
  }

  std::vector<KernelHeap> heaps_;
};
static_assert(BackendCheck<FramesAsBytes<0>>::kOk);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FRAMES_AS_BYTES_H_
