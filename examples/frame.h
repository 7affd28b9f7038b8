// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/frame.h
//
// A picture in memory: RGB, three bytes a pixel, rows `stride` bytes apart; and the checksum of
// what can be seen of it. The bytes between a row's end and the next row belong to nobody.
#ifndef ION_EXAMPLES_FRAME_H_
#define ION_EXAMPLES_FRAME_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ion::demo {

struct FrameFormat {
  uint32_t width = 0;   // pixels
  uint32_t height = 0;  // rows
  uint32_t stride = 0;  // bytes
  uint64_t bytes = 0;   // of a whole frame, as its source wants it

  uint64_t row_bytes() const { return uint64_t{width} * 3; }
  uint64_t visible_bytes() const { return row_bytes() * height; }
  // Whether the rows lie inside `bytes`. Asked of whatever another process or a driver says.
  bool Valid() const {
    return width != 0 && height != 0 && stride >= row_bytes() && bytes / height >= stride;
  }
};

// Row after row, eight bytes a step. Each step is one-to-one in the word and in the sum so far, so
// frames that differ in one word never have the same sum.
class Checksum {
 public:
  void Add(std::span<const std::byte> row) {
    for (size_t at = 0; at < row.size(); at += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, row.data() + at, std::min(sizeof(word), row.size() - at));
      sum_ = (sum_ ^ word) * 0x9e3779b97f4a7c15u;  // odd: 2^64 over the golden ratio
      sum_ ^= sum_ >> 32;
    }
  }
  uint64_t value() const { return sum_; }

 private:
  uint64_t sum_ = 0xcbf29ce484222325u;  // FNV's start; arbitrary
};

// Row `y` of a frame, what can be seen of it.
template <class Byte>
std::span<Byte> Row(const FrameFormat& format, std::span<Byte> frame, uint32_t y) {
  return frame.subspan(size_t{y} * format.stride, format.row_bytes());
}

// Requires: format.Valid() and the frame has that many bytes.
inline uint64_t ChecksumOf(const FrameFormat& format, std::span<const std::byte> frame) {
  Checksum sum;
  for (uint32_t y = 0; y < format.height; ++y) sum.Add(Row(format, frame, y));
  return sum.value();
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_FRAME_H_
