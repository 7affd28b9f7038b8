// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/pattern_source.h
//
// Frames drawn by the CPU. Their checksums are computed from the frame's number, never read back:
// what is wrong with the buffer cannot be wrong in the same way in the sum.
#ifndef ION_EXAMPLES_PATTERN_SOURCE_H_
#define ION_EXAMPLES_PATTERN_SOURCE_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame_source.h"
#include "examples/test_pattern.h"
#include "ion/cpu_access.h"

namespace ion::demo {

class PatternSource final : public FrameSource {
 public:
  explicit PatternSource(const FrameFormat& format) : format_(format) {}

  std::string_view name() const override { return "test pattern"; }
  std::string_view act() const override { return "draw"; }
  const FrameFormat& format() const override { return format_; }

  absl::Status Start(std::span<const FrameBuffer> buffers) override {
    buffers_ = buffers;
    queued_.clear();
    for (uint32_t i = 0; i < buffers.size(); ++i) queued_.push_back(i);
    return absl::OkStatus();
  }
  absl::Status Queue(uint32_t buffer) override {
    queued_.push_back(buffer);
    return absl::OkStatus();
  }
  FdRef readable() const override { return FdRef(); }

  absl::StatusOr<std::optional<Frame>> Dequeue() override {
    const Frame frame{.buffer = queued_.front(), .checksum = PatternChecksum(format_, number_)};
    absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(buffers_[frame.buffer].mapping);
    if (!cpu.ok()) return cpu.status();
    DrawPattern(format_, number_, cpu->bytes());
    if (absl::Status status = std::move(*cpu).End(); !status.ok()) return status;
    queued_.pop_front();
    ++number_;
    return frame;
  }

 private:
  const FrameFormat format_;
  std::span<const FrameBuffer> buffers_;
  std::deque<uint32_t> queued_;
  uint32_t number_ = 0;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_PATTERN_SOURCE_H_
