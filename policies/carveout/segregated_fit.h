// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/segregated_fit.h
//
// SegregatedFit: two-level segregated fit (Masmano and others, "TLSF", 2004) with a look into the
// request's own bin. Holes lie in bins, 16 to each doubling of their size (below 32 granules, one
// for each size); two words of bits find the lowest bin that has one. TLSF rounds a request up to
// the next bin, and refuses it where only the request's own has a hole that is large enough; that
// look makes it pack better than first fit (bench/README.md).
//
// Example:
//   auto placement = ion::SegregatedFit::Create({.bytes = 64_MiB});
//   std::optional<uint64_t> offset = placement->Take(1_MiB, 4096);
//
// Cost: Take looks at 16 holes of each bin that may not have room (one bin, with alignments up to
// the granule), or one of those that must; at all holes of such a bin before it refuses. Give is of
// constant time. 2 KiB beside the memory of policies/carveout/run_placement.h. Thread-compatible.
#ifndef ION_POLICIES_CARVEOUT_SEGREGATED_FIT_H_
#define ION_POLICIES_CARVEOUT_SEGREGATED_FIT_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "ion/policies/carveout/placement.h"
#include "ion/policies/carveout/run_placement.h"

namespace ion {

// The holes, by size; in a bin the latest first.
class HolesBySize {
 public:
  HolesBySize() noexcept { heads_.fill(RunTag::kNone); }

  void Insert(RunTag* tags, uint32_t hole) noexcept {
    const uint32_t bin = BinOf(tags[hole].run);
    const uint32_t next = heads_[bin];
    tags[hole].previous = RunTag::kNone;
    tags[hole].next = next;
    if (next != RunTag::kNone) tags[next].previous = hole;
    heads_[bin] = hole;
    columns_[bin / kColumns] |= 1u << bin % kColumns;
    rows_ |= 1u << bin / kColumns;
  }

  void Remove(RunTag* tags, uint32_t hole) noexcept {
    const uint32_t previous = tags[hole].previous;
    const uint32_t next = tags[hole].next;
    if (next != RunTag::kNone) tags[next].previous = previous;
    if (previous != RunTag::kNone) {
      tags[previous].next = next;
      return;
    }
    const uint32_t bin = BinOf(tags[hole].run);
    heads_[bin] = next;
    if (next != RunTag::kNone) return;
    columns_[bin / kColumns] &= ~(1u << bin % kColumns);
    if (columns_[bin / kColumns] == 0) rows_ &= ~(1u << bin / kColumns);
  }

  RunFound Find(const RunTag* tags, const RunWanted& wanted) const noexcept {
    bool cut_short = false;
    const RunFound found = Search(tags, wanted, kLooks, cut_short);
    if (found.hole != RunTag::kNone || !cut_short) return found;
    return Search(tags, wanted, UINT32_MAX, cut_short);
  }

  uint32_t Largest(const RunTag* tags) const noexcept {
    uint32_t largest = 0;
    for (uint32_t hole = rows_ == 0 ? RunTag::kNone : heads_[Last()]; hole != RunTag::kNone;
         hole = tags[hole].next) {
      largest = std::max(largest, tags[hole].run);
    }
    return largest;
  }

 private:
  static constexpr uint32_t kColumnsLog2 = 4;  // 8 are as good; with 32 more requests are refused
  static constexpr uint32_t kColumns = 1u << kColumnsLog2;
  static constexpr uint32_t kRows = 31 - kColumnsLog2 + 1;  // runs are below 2^31 granules
  static constexpr uint32_t kNoBin = UINT32_MAX;
  static constexpr uint32_t kLooks = 16;  // arbitrary; in our traces 4 are enough

  // Row 0 has the sizes below 16; row r those from 16 << (r - 1), in 16 equal steps.
  static uint32_t BinOf(uint32_t granules) noexcept {
    if (granules < kColumns) return granules;
    const auto row = static_cast<uint32_t>(std::bit_width(granules)) - kColumnsLog2;
    return row * kColumns + ((granules >> (row - 1)) & (kColumns - 1));
  }

  // The lowest bin from `bin` on that has a hole.
  uint32_t NextFilled(uint32_t bin) const noexcept {
    uint32_t row = bin / kColumns;
    if (row >= kRows) return kNoBin;
    uint32_t columns = columns_[row] & (~0u << bin % kColumns);
    if (columns == 0) {
      const uint32_t rows = rows_ & (~0u << row << 1);
      if (rows == 0) return kNoBin;
      row = static_cast<uint32_t>(std::countr_zero(rows));
      columns = columns_[row];
    }
    return row * kColumns + static_cast<uint32_t>(std::countr_zero(columns));
  }
  uint32_t Last() const noexcept {
    const auto row = static_cast<uint32_t>(std::bit_width(rows_)) - 1;
    return row * kColumns + static_cast<uint32_t>(std::bit_width(columns_[row])) - 1;
  }

  // `looks` holes of each bin that can have room.
  RunFound Search(const RunTag* tags, const RunWanted& wanted, uint32_t looks,
                  bool& cut_short) const noexcept {
    for (uint32_t bin = NextFilled(BinOf(wanted.granules)); bin != kNoBin;
         bin = NextFilled(bin + 1)) {
      uint32_t left = looks;
      for (uint32_t hole = heads_[bin]; hole != RunTag::kNone; hole = tags[hole].next) {
        if (left-- == 0) {
          cut_short = true;
          break;
        }
        const uint32_t at = wanted.In(tags, hole);
        if (at != RunTag::kNone) return {hole, at};
      }
    }
    return {};
  }

  uint32_t rows_ = 0;                             // a bit for each row that has a hole
  std::array<uint32_t, kRows> columns_{};         // and for each bin of a row
  std::array<uint32_t, kRows * kColumns> heads_;  // of each bin
};

using SegregatedFit = RunPlacement<HolesBySize>;
static_assert(PlacementCheck<SegregatedFit>::kOk);

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_SEGREGATED_FIT_H_
