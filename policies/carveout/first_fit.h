// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/first_fit.h
//
// FirstFit: a block comes to lie in the hole of the lowest address that has room. Predictable, and
// it keeps the end of a region free. For regions of few blocks, and as the plain reference for
// others; SegregatedFit (policies/carveout/segregated_fit.h) is faster where there are hundreds.
//
// Example:
//   auto placement = ion::FirstFit::Create({.bytes = 64_MiB});
//   std::optional<uint64_t> offset = placement->Take(1_MiB, 4096);
//
// Cost: Take walks the holes, Give the live ranges up to the hole before. Memory as
// policies/carveout/run_placement.h. Thread-compatible.
#ifndef ION_POLICIES_CARVEOUT_FIRST_FIT_H_
#define ION_POLICIES_CARVEOUT_FIRST_FIT_H_

#include <algorithm>
#include <cstdint>
#include <utility>

#include "ion/policies/carveout/placement.h"
#include "ion/policies/carveout/run_placement.h"

namespace ion {

// The holes, by address.
class HolesByAddress {
 public:
  void Insert(RunTag* tags, uint32_t hole) noexcept {
    uint32_t previous = RunTag::kNone;
    for (uint32_t at = hole; at != 0 && previous == RunTag::kNone;) {
      at = tags[at].before;
      if (!tags[at].live()) previous = at;
    }
    uint32_t& link = previous == RunTag::kNone ? first_ : tags[previous].next;
    tags[hole].previous = previous;
    tags[hole].next = link;
    if (link != RunTag::kNone) tags[link].previous = hole;
    link = hole;
  }

  void Remove(RunTag* tags, uint32_t hole) noexcept {
    const auto [previous, next] = std::pair(tags[hole].previous, tags[hole].next);
    (previous == RunTag::kNone ? first_ : tags[previous].next) = next;
    if (next != RunTag::kNone) tags[next].previous = previous;
  }

  RunFound Find(const RunTag* tags, const RunWanted& wanted) const noexcept {
    for (uint32_t hole = first_; hole != RunTag::kNone; hole = tags[hole].next) {
      const uint32_t at = wanted.In(tags, hole);
      if (at != RunTag::kNone) return {hole, at};
    }
    return {};
  }

  uint32_t Largest(const RunTag* tags) const noexcept {
    uint32_t largest = 0;
    for (uint32_t hole = first_; hole != RunTag::kNone; hole = tags[hole].next) {
      largest = std::max(largest, tags[hole].run);
    }
    return largest;
  }

 private:
  uint32_t first_ = RunTag::kNone;
};

using FirstFit = RunPlacement<HolesByAddress>;
static_assert(PlacementCheck<FirstFit>::kOk);

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_FIRST_FIT_H_
