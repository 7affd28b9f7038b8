// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/test_pattern.h"

#include <algorithm>
#include <vector>

namespace ion::demo {
namespace {

struct Colour {
  uint8_t red, green, blue;
};

constexpr Colour kBars[] = {{191, 191, 191}, {191, 191, 0}, {0, 191, 191}, {0, 191, 0},
                            {191, 0, 191},   {191, 0, 0},   {0, 0, 191},   {16, 16, 16}};
constexpr Colour kBlack{0, 0, 0};
constexpr Colour kWhite{255, 255, 255};

// Three by five cells, the top row in the highest bits.
constexpr uint16_t kDigits[] = {
    0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111, 0b101101111001001,
    0b111100111001111, 0b111100111101111, 0b111001001001001, 0b111101111101111, 0b111101111001111};
constexpr uint32_t kDigitCount = 6;
constexpr uint32_t kCellsAcross = kDigitCount * 4 + 1;  // a gap left of each digit, one at the end
constexpr uint32_t kCellsDown = 7;

void Paint(std::span<std::byte> row, uint32_t begin, uint32_t end, Colour colour) {
  for (uint32_t x = begin; x < end; ++x) {
    row[x * 3] = std::byte{colour.red};
    row[x * 3 + 1] = std::byte{colour.green};
    row[x * 3 + 2] = std::byte{colour.blue};
  }
}

// To and fro between 0 and `most`.
uint32_t Wander(uint64_t step, uint32_t most) {
  const uint64_t at = step % (2 * uint64_t{most});
  return static_cast<uint32_t>(at < most ? at : 2 * most - at);
}

// One cell of the number's sign: lit, or its ground.
bool Lit(uint32_t number, uint32_t column, uint32_t line) {
  if (column % 4 == 0 || line == 0 || line == kCellsDown - 1) return false;
  uint32_t power = 1;
  for (uint32_t digit = column / 4; digit + 1 < kDigitCount; ++digit) power *= 10;
  const uint16_t shape = kDigits[number / power % 10];
  const uint32_t cell = (line - 1) * 3 + (column % 4 - 1);
  return (shape >> (14 - cell) & 1) != 0;
}

void DrawRow(const FrameFormat& format, uint32_t number, uint32_t y, std::span<std::byte> row) {
  constexpr uint32_t kBarCount = std::size(kBars);
  for (uint32_t bar = 0; bar < kBarCount; ++bar) {
    Paint(row, format.width * bar / kBarCount, format.width * (bar + 1) / kBarCount, kBars[bar]);
  }
  const uint32_t shorter = std::min(format.width, format.height);

  const uint32_t side = shorter / 6;
  const uint32_t left = Wander(uint64_t{number} * 4, format.width - side);
  const uint32_t top = Wander(uint64_t{number} * 2, format.height - side);
  if (y >= top && y < top + side) {
    const uint32_t edge = side / 8;
    const bool inside = y >= top + edge && y < top + side - edge;
    Paint(row, left, left + side, kBlack);
    if (inside) Paint(row, left + edge, left + side - edge, kWhite);
  }

  const uint32_t cell = std::max(1u, shorter / 60);
  const uint32_t margin = cell * 2;
  if (y >= margin && y < margin + kCellsDown * cell) {
    for (uint32_t column = 0; column < kCellsAcross; ++column) {
      const bool lit = Lit(number, column, (y - margin) / cell);
      const uint32_t x = margin + column * cell;
      Paint(row, x, x + cell, lit ? kWhite : kBlack);
    }
  }
}

}  // namespace

void DrawPattern(const FrameFormat& format, uint32_t number, std::span<std::byte> frame) {
  for (uint32_t y = 0; y < format.height; ++y) DrawRow(format, number, y, Row(format, frame, y));
}

uint64_t PatternChecksum(const FrameFormat& format, uint32_t number) {
  std::vector<std::byte> row(format.row_bytes());
  Checksum sum;
  for (uint32_t y = 0; y < format.height; ++y) {
    DrawRow(format, number, y, row);
    sum.Add(row);
  }
  return sum.value();
}

}  // namespace ion::demo
