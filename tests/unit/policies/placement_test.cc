// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Placements: facts, and each policy against a plain map of its granules.

#include "ion/policies/carveout/placement.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/segregated_fit.h"

namespace ion {
namespace {

using namespace literals;  // NOLINT: sizes

constexpr uint64_t kGranule = 4_KiB;

template <class P>
P Make(const PlacementRegion& region) {
  Result<P> placement = P::Create(region);
  REQUIRE(placement.ok());
  return *std::move(placement);
}

TEST_CASE_TEMPLATE("Placement: a new region is one hole", P, FirstFit, SegregatedFit) {
  const P placement = Make<P>({.bytes = 1_MiB});
  CHECK(placement.figures() == PlacementFigures{.bytes = 1_MiB,
                                                .free_bytes = 1_MiB,
                                                .largest_hole = 1_MiB,
                                                .waste = 0,
                                                .holes = 1,
                                                .live = 0});
}

TEST_CASE_TEMPLATE("Placement: the whole region is one range", P, FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB});
  REQUIRE(placement.Take(1_MiB, 1) == std::optional<uint64_t>(0));
  CHECK(placement.figures().holes == 0);
  CHECK(placement.figures().largest_hole == 0);
  CHECK_FALSE(placement.Take(1, 1).has_value());
  CHECK(placement.Give(0) == 1_MiB);
  CHECK(placement.figures().largest_hole == 1_MiB);
}

TEST_CASE_TEMPLATE("Placement: ranges are whole granules, and the rounding is told as waste", P,
                   FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB});
  const std::optional<uint64_t> small = placement.Take(1, 1);
  const std::optional<uint64_t> odd = placement.Take(kGranule + 1, 1);
  REQUIRE((small.has_value() && odd.has_value()));
  CHECK(placement.figures().waste == 2 * (kGranule - 1));
  CHECK(placement.figures().free_bytes == 1_MiB - 3 * kGranule);
  CHECK(placement.Give(*odd) == 2 * kGranule);
  CHECK(placement.figures().waste == kGranule - 1);
  CHECK(placement.Give(*small) == kGranule);
  CHECK(placement.figures().waste == 0);
}

TEST_CASE_TEMPLATE("Placement: a hole joins those beside it, whichever is given last", P, FirstFit,
                   SegregatedFit) {
  for (const auto& order : {std::array{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 1, 0}}) {
    P placement = Make<P>({.bytes = 3 * kGranule});
    std::array<uint64_t, 3> offsets;
    for (uint64_t& offset : offsets) offset = placement.Take(kGranule, 1).value();
    for (const int i : order) CHECK(placement.Give(offsets[i]) == kGranule);
    CHECK(placement.figures().holes == 1);
    CHECK(placement.Take(3 * kGranule, 1).has_value());
  }
}

TEST_CASE_TEMPLATE("Placement: what lies before an alignment stays a hole", P, FirstFit,
                   SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB});
  REQUIRE(placement.Take(kGranule, 1) == std::optional<uint64_t>(0));
  REQUIRE(placement.Take(kGranule, 64_KiB) == std::optional<uint64_t>(64_KiB));
  CHECK(placement.figures().holes == 2);
  CHECK(placement.figures().waste == 0);
  CHECK(placement.Take(15 * kGranule, 1) == std::optional<uint64_t>(kGranule));
}

TEST_CASE_TEMPLATE("Placement: alignments count from address 0, offsets from the region's start", P,
                   FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB, .granule = kGranule, .start = 3_GiB + 60_KiB});
  CHECK(placement.Take(kGranule, 64_KiB) == std::optional<uint64_t>(kGranule));
  CHECK_FALSE(placement.Take(kGranule, 4_GiB).has_value());
}

TEST_CASE_TEMPLATE("Placement: an alignment that no offset has is refused, however large", P,
                   FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB, .granule = kGranule, .start = kGranule});
  for (unsigned bit = 21; bit < 64; ++bit) {
    CHECK_FALSE(placement.Take(kGranule, uint64_t{1} << bit).has_value());
  }
}

TEST_CASE_TEMPLATE("Placement: nothing, more than there is, and odd alignments are refused", P,
                   FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB});
  const PlacementFigures before = placement.figures();
  CHECK_FALSE(placement.Take(0, 1).has_value());
  CHECK_FALSE(placement.Take(1_MiB + 1, 1).has_value());
  CHECK_FALSE(placement.Take(UINT64_MAX, 1).has_value());
  CHECK_FALSE(placement.Take(1, 0).has_value());
  CHECK_FALSE(placement.Take(1, 3 * kGranule).has_value());
  CHECK(placement.figures() == before);
}

TEST_CASE_TEMPLATE("Placement: an offset that is no live range's start changes nothing", P,
                   FirstFit, SegregatedFit) {
  P placement = Make<P>({.bytes = 1_MiB});
  const uint64_t taken = placement.Take(4 * kGranule, 1).value();
  const uint64_t freed = placement.Take(4 * kGranule, 1).value();
  REQUIRE(placement.Give(freed) == 4 * kGranule);
  const PlacementFigures before = placement.figures();
  for (const uint64_t offset :
       {freed, taken + 1, taken + kGranule, 1_MiB - kGranule, uint64_t{1_MiB}, UINT64_MAX}) {
    CAPTURE(offset);
    CHECK(placement.Give(offset) == 0);
  }
  CHECK(placement.figures() == before);
  CHECK(placement.Give(taken) == 4 * kGranule);
}

TEST_CASE_TEMPLATE("Placement: a region that cannot be counted is refused", P, FirstFit,
                   SegregatedFit) {
  for (const PlacementRegion& region : {
           PlacementRegion{.bytes = 0},
           PlacementRegion{.bytes = kGranule + 1},
           PlacementRegion{.bytes = kGranule << 31},
           PlacementRegion{.bytes = kGranule, .granule = 0},
           PlacementRegion{.bytes = 3 * kGranule, .granule = 3},
           PlacementRegion{.bytes = 4_GiB, .granule = 4_GiB},
           PlacementRegion{.bytes = kGranule, .granule = kGranule, .start = 1},
           PlacementRegion{
               .bytes = 2 * kGranule, .granule = kGranule, .start = UINT64_MAX - kGranule + 1},
       }) {
    CAPTURE(region.bytes);
    CAPTURE(region.granule);
    CHECK(P::Create(region).error().code() == EINVAL);
  }
}

TEST_CASE("FirstFit: the hole of the lowest address that has room is taken") {
  FirstFit placement = Make<FirstFit>({.bytes = 16 * kGranule});
  for (int i = 0; i < 16; ++i) REQUIRE(placement.Take(kGranule, 1).has_value());
  for (const uint64_t i : {2, 5, 6, 9, 10}) REQUIRE(placement.Give(i * kGranule) == kGranule);
  CHECK(placement.Take(2 * kGranule, 1) == std::optional<uint64_t>(5 * kGranule));
  CHECK(placement.Take(kGranule, 1) == std::optional<uint64_t>(2 * kGranule));
}

TEST_CASE("SegregatedFit: a hole of the request's size is taken before a larger one") {
  SegregatedFit placement = Make<SegregatedFit>({.bytes = 16 * kGranule});
  for (int i = 0; i < 16; ++i) REQUIRE(placement.Take(kGranule, 1).has_value());
  for (const uint64_t i : {2, 3, 4, 9, 10}) REQUIRE(placement.Give(i * kGranule) == kGranule);
  CHECK(placement.Take(2 * kGranule, 1) == std::optional<uint64_t>(9 * kGranule));
}

TEST_CASE(
    "SegregatedFit: room in the request's own bin is found behind many holes that have none") {
  // Holes of 64 to 67 granules are in one bin; the one with room is given first, so it lies last.
  constexpr uint64_t kHoles = 100;
  SegregatedFit placement = Make<SegregatedFit>({.bytes = (kHoles * 65 + 66) * kGranule});
  std::vector<uint64_t> holes;
  for (uint64_t i = 0; i < kHoles; ++i) {
    holes.push_back(placement.Take((i == 0 ? 66 : 64) * kGranule, 1).value());
    REQUIRE(placement.Take(kGranule, 1).has_value());
  }
  while (placement.Take(kGranule, 1).has_value()) {
  }
  for (const uint64_t hole : holes) REQUIRE(placement.Give(hole) != 0);
  CHECK(placement.Take(66 * kGranule, 1) == std::optional<uint64_t>(holes[0]));
  CHECK_FALSE(placement.Take(65 * kGranule, 1).has_value());
}

// A region as plain as can be: who has each granule.
class Model {
 public:
  static constexpr uint32_t kGranules = 192;
  static constexpr uint64_t kStart = 5 * kGranule;  // so that alignments are not of offsets

  static PlacementRegion Region() {
    return {.bytes = kGranules * kGranule, .granule = kGranule, .start = kStart};
  }

  // Takes down what a placement said; whether that was right.
  bool Took(uint64_t bytes, uint64_t alignment, std::optional<uint64_t> offset, bool first_fit) {
    const uint64_t granules = (bytes + kGranule - 1) / kGranule;
    const std::optional<uint32_t> lowest = Lowest(granules, alignment);
    if (!offset.has_value()) return !lowest.has_value();
    if (*offset % kGranule != 0 || (*offset + kStart) % alignment != 0) return false;
    const uint64_t at = *offset / kGranule;
    if (first_fit && at != lowest) return false;
    if (!Free(at, granules)) return false;
    ranges_.push_back({*offset, granules * kGranule - bytes});
    for (uint64_t i = at; i < at + granules; ++i) owners_[i] = next_owner_;
    ++next_owner_;
    return true;
  }

  // The bytes of the live range that starts at `offset`, which is freed; or 0.
  uint64_t Give(uint64_t offset) {
    for (Range& range : ranges_) {
      if (range.offset != offset) continue;
      const uint32_t owner = owners_[offset / kGranule];
      uint64_t granules = 0;
      for (uint32_t& granule : owners_) {
        if (granule != owner) continue;
        granule = 0;
        ++granules;
      }
      range = ranges_.back();
      ranges_.pop_back();
      return granules * kGranule;
    }
    return 0;
  }

  PlacementFigures figures() const {
    PlacementFigures figures{.bytes = kGranules * kGranule,
                             .live = static_cast<uint32_t>(ranges_.size())};
    for (const Range& range : ranges_) figures.waste += range.waste;
    uint64_t hole = 0;
    for (const uint32_t owner : owners_) {
      hole = owner == 0 ? hole + kGranule : 0;
      figures.free_bytes += owner == 0 ? kGranule : 0;
      figures.holes += hole == kGranule ? 1 : 0;
      figures.largest_hole = std::max(figures.largest_hole, hole);
    }
    return figures;
  }

  size_t live() const { return ranges_.size(); }
  uint64_t OffsetOf(size_t range) const { return ranges_[range].offset; }

 private:
  struct Range {
    uint64_t offset;
    uint64_t waste;
  };

  bool Free(uint64_t at, uint64_t granules) const {
    if (at + granules > kGranules) return false;
    for (uint64_t i = at; i < at + granules; ++i) {
      if (owners_[i] != 0) return false;
    }
    return true;
  }
  std::optional<uint32_t> Lowest(uint64_t granules, uint64_t alignment) const {
    for (uint32_t at = 0; at < kGranules; ++at) {
      if ((at * kGranule + kStart) % alignment == 0 && Free(at, granules)) return at;
    }
    return std::nullopt;
  }

  std::array<uint32_t, kGranules> owners_{};
  std::vector<Range> ranges_;
  uint32_t next_owner_ = 1;
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kOperations = 100'000;
#elif defined(__has_feature)
constexpr int kOperations = __has_feature(thread_sanitizer) ? 100'000 : 1'000'000;
#else
constexpr int kOperations = 1'000'000;
#endif

// Every operation's answer and, after it, every figure against the model's.
TEST_CASE_TEMPLATE("Placement: a million operations are as the map of granules has it", P, FirstFit,
                   SegregatedFit) {
  constexpr bool kFirstFit = std::is_same_v<P, FirstFit>;
  P placement = Make<P>(Model::Region());
  Model model;
  std::mt19937 random(42);
  const auto below = [&](uint64_t n) { return random() % n; };
  uint64_t refused = 0, aligned = 0, wrong_gives = 0, emptied = 0;
  bool right = true;
  for (int i = 0; i < kOperations && right; ++i) {
    CAPTURE(i);
    // It fills for a while and empties for a while, so that it is full, and empty, many times.
    const bool filling = i / 500 % 2 == 0;
    if (below(10) < (filling ? 7u : 3u)) {
      const uint64_t most = below(8) == 0 ? 64 : 8;
      const uint64_t bytes = 1 + below(most * kGranule);
      const uint64_t alignment = below(4) == 0 ? kGranule << below(7) : uint64_t{1} << below(13);
      const std::optional<uint64_t> offset = placement.Take(bytes, alignment);
      right = model.Took(bytes, alignment, offset, kFirstFit);
      refused += offset.has_value() ? 0 : 1;
      aligned += offset.has_value() && alignment > kGranule ? 1 : 0;
    } else {
      uint64_t offset = below(Model::kGranules + 2) * kGranule + (below(8) == 0 ? below(64) : 0);
      if (model.live() != 0 && below(8) != 0) offset = model.OffsetOf(below(model.live()));
      const uint64_t bytes = model.Give(offset);
      right = placement.Give(offset) == bytes;
      wrong_gives += bytes == 0 ? 1 : 0;
      emptied += bytes != 0 && model.live() == 0 ? 1 : 0;
    }
    right = right && placement.figures() == model.figures();
    if (!right) CHECK(right);
  }
  while (model.live() != 0) {
    const uint64_t offset = model.OffsetOf(0);
    CHECK(placement.Give(offset) == model.Give(offset));
  }
  CHECK(placement.figures().largest_hole == Model::kGranules * kGranule);
  // It has been where it is meant to go.
  CHECK(refused > kOperations / 100);
  CHECK(aligned > kOperations / 100);
  CHECK(wrong_gives > kOperations / 100);
  CHECK(emptied > kOperations / 10'000);
}

}  // namespace
}  // namespace ion
