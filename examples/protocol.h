// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/protocol.h
//
// What producer and consumer say to each other. Producer: one Hello, one BufferMessage with a
// descriptor for each buffer, then a FrameMessage for each frame: only the buffer's index travels.
// Consumer: one Answer for each frame, and with it the buffer goes back.
#ifndef ION_EXAMPLES_PROTOCOL_H_
#define ION_EXAMPLES_PROTOCOL_H_

#include <cstdint>

#include "examples/frame.h"

namespace ion::demo {

inline constexpr uint32_t kMostBuffers = 32;  // V4L2's VIDEO_MAX_FRAME

struct Hello {
  char backend[16] = {};  // the composition that made the buffers
  FrameFormat format;
  uint32_t buffers = 0;
  uint32_t frames = 0;
};

struct BufferMessage {
  uint32_t index = 0;
};

struct FrameMessage {
  uint32_t buffer = 0;
  uint64_t checksum = 0;
};

enum class Verdict : uint32_t {
  kMatch,
  kWrong,  // not the frame that the producer meant
  kStill,  // the same as the frame before: nobody wrote, or an old frame came twice
};

struct Answer {
  uint32_t buffer = 0;
  Verdict verdict = Verdict::kWrong;
  int64_t received_ns = 0;  // CLOCK_MONOTONIC
  int64_t checked_ns = 0;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_PROTOCOL_H_
