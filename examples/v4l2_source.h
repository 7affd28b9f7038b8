// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/v4l2_source.h
//
// Frames from a V4L2 capture device that writes them straight into our buffers
// (V4L2_MEMORY_DMABUF). The checksum is the producer's own view of the frame, read in a CpuRead
// scope before anybody else gets it.
#ifndef ION_EXAMPLES_V4L2_SOURCE_H_
#define ION_EXAMPLES_V4L2_SOURCE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame_source.h"

namespace ion::demo {

// The capture devices of the kernel's virtual video driver, in the order of their numbers. Asked of
// the driver: the numbers say nothing.
std::vector<std::string> FindVividNodes();

class V4l2Source final : public FrameSource {
 public:
  // Opens a device and agrees on a format: RGB24, as near to width and height as it goes.
  static absl::StatusOr<std::unique_ptr<V4l2Source>> Open(const std::string& path, uint32_t width,
                                                          uint32_t height);
  ~V4l2Source() override { Stop(); }

  std::string_view name() const override { return name_; }
  std::string_view act() const override { return "capture"; }
  const FrameFormat& format() const override { return format_; }
  absl::Status Start(std::span<const FrameBuffer> buffers) override;
  absl::Status Queue(uint32_t buffer) override;
  FdRef readable() const override { return fd_.borrow(); }
  absl::StatusOr<std::optional<Frame>> Dequeue() override;

 private:
  V4l2Source(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  absl::Status Negotiate(uint32_t width, uint32_t height);
  absl::Status RequestBuffers(uint32_t count);
  absl::Status QueueAllAndStream();
  // The device lets go of every buffer.
  void Stop();
  absl::Status Ioctl(unsigned long request, void* argument, std::string_view what) const;
  absl::Status Refusal(int code, std::string_view what, const char* hint = "") const;

  UniqueFd fd_;
  std::string name_;
  FrameFormat format_;
  std::span<const FrameBuffer> buffers_;
  std::optional<uint32_t> sequence_;  // the device's number of the last frame
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_V4L2_SOURCE_H_
