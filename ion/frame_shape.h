// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/frame_shape.h
//
// FrameShape: the image that a request's bytes are for. StatedFrame: the pitch and the size that the
// driver that made the memory stated. Other memory is bytes, and its layout is arithmetic
// (ion/layout.h).
//
// Example:
//   const ion::FrameShape shape{.width = 640, .height = 480, .stride = 2560};
//   const absl::StatusOr<ion::Buffer> frame =
//       client.Allocate({.bytes = 1228800, .heaps = kDisplay, .frame = shape});
//   const ion::StatedFrame stated = frame.ok() ? frame->stated() : ion::StatedFrame();
//
// Cost: plain data.
#ifndef ION_ION_FRAME_SHAPE_H_
#define ION_ION_FRAME_SHAPE_H_

#include <cstdint>

namespace ion {

enum class PixelFormat : uint8_t;  // ion/pixel_format.h

// Without a width there is no image.
struct FrameShape {
  PixelFormat format = {};  // kNone: as the driver has it
  uint32_t width = 0;       // pixels
  uint32_t height = 0;      // rows
  uint64_t stride = 0;      // bytes from a row to the next one, of the first plane; at least

  constexpr bool empty() const noexcept { return width == 0; }
  friend constexpr bool operator==(const FrameShape&, const FrameShape&) = default;
};

// Of memory for which no driver stated anything it is empty.
struct StatedFrame {
  // Bytes from a row's start to the next one's, of the first plane; 0: a compressed format has none.
  uint32_t pitch = 0;
  uint64_t bytes = 0;  // of the frame; the memory, which is whole pages, may have more

  friend constexpr bool operator==(const StatedFrame&, const StatedFrame&) = default;
};

}  // namespace ion

#endif  // ION_ION_FRAME_SHAPE_H_
