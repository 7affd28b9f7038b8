// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/test_pattern.h
//
// A picture that can be recognised and that no two neighbouring frames share: colour bars, a box
// that wanders, and the frame's number. Drawn a row at a time from the number alone, so that its
// checksum is known without a look at any buffer.
#ifndef ION_EXAMPLES_TEST_PATTERN_H_
#define ION_EXAMPLES_TEST_PATTERN_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "examples/frame.h"

namespace ion::demo {

// Width and height from which on all parts of the picture have room.
inline constexpr uint32_t kSmallestPattern = 64;

// The format of a pattern without gaps between its rows.
inline FrameFormat PatternFormat(uint32_t width, uint32_t height) {
  const uint32_t stride = width * 3;
  return {.width = width, .height = height, .stride = stride, .bytes = uint64_t{stride} * height};
}

void DrawPattern(const FrameFormat& format, uint32_t number, std::span<std::byte> frame);

// What ChecksumOf says of a frame drawn so.
uint64_t PatternChecksum(const FrameFormat& format, uint32_t number);

}  // namespace ion::demo

#endif  // ION_EXAMPLES_TEST_PATTERN_H_
