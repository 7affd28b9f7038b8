// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/stated_frame.h
//
// StatedFrame: the layout of a frame as the driver that made its memory stated it. For layouts that
// nobody stated there is arithmetic, not this.
//
// Example:
//   ion::StatedFrame frame = {.width = 640, .height = 480, .pitch = 2560, .bytes = 1228800};
//   const uint64_t second_line = frame.pitch;
//
// Cost: plain data.
#ifndef ION_BACKENDS_STATED_FRAME_H_
#define ION_BACKENDS_STATED_FRAME_H_

#include <cstdint>

namespace ion {

struct StatedFrame {
  uint32_t width = 0;           // pixels
  uint32_t height = 0;          // lines
  uint32_t format = 0;          // V4L2's fourcc code; 0: the driver knows bits per pixel only
  uint32_t bits_per_pixel = 0;  // 0: the format tells
  uint32_t pitch = 0;           // bytes from a line's start to the next one's, of the first plane
  uint64_t bytes = 0;           // of the frame; the block, which is whole pages, may have more
};

}  // namespace ion

#endif  // ION_BACKENDS_STATED_FRAME_H_
