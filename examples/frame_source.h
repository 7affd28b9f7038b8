// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/frame_source.h
//
// Where frames come from: a device that writes into our buffers, or a function that draws. Buffers
// go round: queued, filled, dequeued, checked elsewhere, queued again.
#ifndef ION_EXAMPLES_FRAME_SOURCE_H_
#define ION_EXAMPLES_FRAME_SOURCE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame.h"
#include "ion/base/fd.h"
#include "ion/cpu_mapping.h"
#include "ion/shared_buffer.h"

namespace ion::demo {

struct FrameBuffer {
  SharedBuffer memory;  // a device keeps its descriptor while it fills it
  WritableMapping mapping;
};

struct Frame {
  uint32_t buffer = 0;    // its index
  uint64_t checksum = 0;  // of what the source wrote
};

class FrameSource {
 public:
  virtual ~FrameSource() = default;

  virtual std::string_view name() const = 0;
  // What a frame costs here, in a word: "draw", "capture".
  virtual std::string_view act() const = 0;
  virtual const FrameFormat& format() const = 0;

  // Takes the buffers and queues all of them. They stay where they are, and outlive the source.
  // After an error the source holds none of them, and may be started with others.
  virtual absl::Status Start(std::span<const FrameBuffer> buffers) = 0;
  virtual absl::Status Queue(uint32_t buffer) = 0;
  // Readable when a frame is there; none (-1): Dequeue makes one at once.
  virtual FdRef readable() const = 0;
  // A new frame, or none where the source made the last one again and keeps the buffer. Requires: a
  // buffer is queued.
  virtual absl::StatusOr<std::optional<Frame>> Dequeue() = 0;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_FRAME_SOURCE_H_
