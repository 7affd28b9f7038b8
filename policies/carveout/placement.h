// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/placement.h
//
// The contract of a placement: the algorithm that chooses a block's offset in one region. It sees
// offsets only: no descriptor, no system call, no lock. FirstFit (policies/carveout/first_fit.h)
// packs by address, SegregatedFit (policies/carveout/segregated_fit.h) takes a time that does not
// grow with the blocks.
//
// Example:
//   static_assert(ion::PlacementCheck<MyPlacement>::kOk);
//
// Rules that a compiler cannot see (each has a case in tests/unit/policies/placement_test.cc):
//   Ensures: a range from Take lies in the region, on its alignment, and overlaps no living range;
//     it is refused only if no hole has room for it. Give joins a hole with those beside it. A
//     Give that names no live range changes nothing. Memory is taken by Create alone.
//   Requires: one caller at a time.
#ifndef ION_POLICIES_CARVEOUT_PLACEMENT_H_
#define ION_POLICIES_CARVEOUT_PLACEMENT_H_

#include <cerrno>
#include <concepts>
#include <cstdint>
#include <optional>
#include <type_traits>

#include "ion/base/error.h"

namespace ion {

// The region of a placement. Offsets count from the region's start, alignments from address 0.
struct PlacementRegion {
  uint64_t bytes = 0;       // whole granules
  uint64_t granule = 4096;  // a power of two; every range is whole granules
  uint64_t start = 0;       // address of offset 0, whole granules
};

struct PlacementFigures {
  uint64_t bytes = 0;         // of the region
  uint64_t free_bytes = 0;    // in holes
  uint64_t largest_hole = 0;  // bytes
  uint64_t waste = 0;         // bytes that live ranges have beyond what was asked for
  uint32_t holes = 0;
  uint32_t live = 0;  // ranges taken and not given back

  friend constexpr bool operator==(const PlacementFigures&, const PlacementFigures&) = default;
};

// It takes all of its memory here, or says why not. EINVAL: the region is empty, not whole
// granules, or of more granules than it can count.
template <class P>
concept PlacementCreate =
    std::is_nothrow_move_constructible_v<P> && requires(const PlacementRegion& region) {
      { P::Create(region) } noexcept -> std::same_as<Result<P>>;
    };

// The offset of a free range of at least `bytes`, on `alignment`, which is taken from now on. None:
// no hole has room, 0 bytes, or an alignment that is no power of two.
template <class P>
concept PlacementTake = requires(P& p, uint64_t bytes, uint64_t alignment) {
  { p.Take(bytes, alignment) } noexcept -> std::same_as<std::optional<uint64_t>>;
};

// Frees the range that Take gave at `offset`, and says how many bytes that were; 0: no live range
// starts there (it was given back before, or was never taken).
template <class P>
concept PlacementGive = requires(P& p, uint64_t offset) {
  { p.Give(offset) } noexcept -> std::same_as<uint64_t>;
};

template <class P>
concept PlacementReport = requires(const P& p) {
  { p.figures() } noexcept -> std::same_as<PlacementFigures>;
};

template <class P>
concept Placement =
    PlacementCreate<P> && PlacementTake<P> && PlacementGive<P> && PlacementReport<P>;

// One sentence per rule.
template <class P>
struct PlacementCheck {
  static_assert(PlacementCreate<P>,
                "ion: a placement needs `static Result<P> Create(const PlacementRegion&) noexcept` "
                "and a noexcept move constructor");
  static_assert(PlacementTake<P>,
                "ion: a placement needs `std::optional<uint64_t> Take(uint64_t bytes, uint64_t "
                "alignment) noexcept`");
  static_assert(PlacementGive<P>,
                "ion: a placement needs `uint64_t Give(uint64_t offset) noexcept`");
  static_assert(PlacementReport<P>,
                "ion: a placement needs `PlacementFigures figures() const noexcept`");
  static constexpr bool kOk = Placement<P>;
};

// The smallest placement: exactly what is required. It has room for nothing.
class PlacementArchetype {
 public:
  PlacementArchetype(PlacementArchetype&&) noexcept = default;

  static Result<PlacementArchetype> Create(const PlacementRegion&) noexcept {
    return Error(ENOSYS, "an archetype does nothing", {"archetype", Operation::kOpen});
  }
  std::optional<uint64_t> Take(uint64_t, uint64_t) noexcept { return std::nullopt; }
  uint64_t Give(uint64_t) noexcept { return 0; }
  PlacementFigures figures() const noexcept { return {}; }
};
static_assert(PlacementCheck<PlacementArchetype>::kOk);

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_PLACEMENT_H_
