// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/segment_model.h
//
// The segments that a device makes of memory, counted one by one: what a choice of memory has to
// agree with.
//
// Example:
//   CHECK(WorstSegments(64_KiB, 4096, {.size_max = 16_KiB}) == 4);

#ifndef ION_TESTS_SUPPORT_SEGMENT_MODEL_H_
#define ION_TESTS_SUPPORT_SEGMENT_MODEL_H_

#include <algorithm>
#include <cstdint>

namespace ion::testing {

// As the fields of Constraints: nothing is limited.
struct SegmentLimits {
  uint64_t size_max = UINT64_MAX;
  uint64_t boundary = UINT64_MAX;
  uint64_t multiple = 1;
};

// Of contiguous memory, from its begin on.
inline uint64_t SegmentsOf(uint64_t begin, uint64_t bytes, const SegmentLimits& limits) {
  const uint64_t longest = limits.size_max - limits.size_max % limits.multiple;
  uint64_t segments = 0;
  for (; bytes > 0; ++segments) {
    const uint64_t cut = std::min({bytes, longest, limits.boundary - begin % limits.boundary});
    begin += cut;
    bytes -= cut;
  }
  return segments;
}

// The most of them, of contiguous memory that begins at some multiple of `alignment`.
inline uint64_t WorstSegments(uint64_t bytes, uint64_t alignment, const SegmentLimits& limits) {
  // Memory that ends before the first boundary is as any other that does.
  const uint64_t most = std::min(limits.boundary, bytes + alignment);
  uint64_t worst = SegmentsOf(0, bytes, limits);
  for (uint64_t to_boundary = alignment; to_boundary < most; to_boundary += alignment) {
    worst = std::max(worst, SegmentsOf(limits.boundary - to_boundary, bytes, limits));
  }
  return worst;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SEGMENT_MODEL_H_
