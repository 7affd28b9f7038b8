// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/frame_checker.h
//
// Says of each frame whether it is the one that its producer meant, and whether it is a new one.
#ifndef ION_EXAMPLES_FRAME_CHECKER_H_
#define ION_EXAMPLES_FRAME_CHECKER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "examples/frame.h"
#include "examples/protocol.h"

namespace ion::demo {

class FrameChecker {
 public:
  Verdict Check(const FrameFormat& format, std::span<const std::byte> frame, uint64_t expected) {
    const uint64_t seen = ChecksumOf(format, frame);
    const bool still = previous_ == seen;
    previous_ = seen;
    if (seen != expected) return Verdict::kWrong;
    return still ? Verdict::kStill : Verdict::kMatch;
  }

 private:
  std::optional<uint64_t> previous_;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_FRAME_CHECKER_H_
