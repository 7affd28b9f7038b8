// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/run_placement.h
//
// RunPlacement: a region as a row of runs, each a live range or a hole, no two holes side by side.
// Taking cuts a hole, giving joins holes; which hole is cut, the policy Holes decides: it keeps the
// holes in whatever order it finds them by. FirstFit and SegregatedFit are this.
//
// A run is told by the tag of its first granule (the tags of its others are 0), and knows the run
// before it, so that its neighbours are found without a search.
//
// Cost: 16 bytes for each granule, of which pages that no run ever started in are not resident;
// Take and Give are a few tags beside what Holes does. Thread-compatible.
#ifndef ION_POLICIES_CARVEOUT_RUN_PLACEMENT_H_
#define ION_POLICIES_CARVEOUT_RUN_PLACEMENT_H_

#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <utility>

#include "ion/base/error.h"
#include "ion/policies/carveout/placement.h"

namespace ion {

struct RunTag {
  static constexpr uint32_t kLive = uint32_t{1} << 31;
  static constexpr uint32_t kNone = UINT32_MAX;  // no hole

  uint32_t run = 0;     // granules of the run that starts here, and kLive; 0: none starts here
  uint32_t before = 0;  // where the run before starts
  // Of a hole: its place in the order of Holes. A live range has none, and keeps its rounding here.
  union {
    uint32_t previous = 0;
    uint32_t rounding;  // bytes that nobody asked for
  };
  uint32_t next = 0;

  bool live() const noexcept { return (run & kLive) != 0; }
  uint32_t granules() const noexcept { return run & ~kLive; }
};
static_assert(sizeof(RunTag) == 16);

// The wanted range, in granules.
struct RunWanted {
  uint32_t granules;
  uint64_t alignment;  // a power of two
  uint64_t start;      // address of granule 0

  // Returns the range's start in a hole; RunTag::kNone: the hole has no room.
  uint32_t In(const RunTag* tags, uint32_t hole) const noexcept {
    const uint64_t at = ((start + hole + alignment - 1) & ~(alignment - 1)) - start;
    const uint64_t end = uint64_t{hole} + tags[hole].run;
    return at + granules <= end ? static_cast<uint32_t>(at) : RunTag::kNone;
  }
};

// A hole, and the start of the wanted range in it.
struct RunFound {
  uint32_t hole = RunTag::kNone;
  uint32_t at = RunTag::kNone;
};

// Holes has:
//   void Insert(RunTag* tags, uint32_t hole) noexcept;
//   void Remove(RunTag* tags, uint32_t hole) noexcept;   // its tag is as it was at Insert
//   RunFound Find(const RunTag* tags, const RunWanted& wanted) const noexcept;
//   uint32_t Largest(const RunTag* tags) const noexcept;   // granules of the largest
template <class Holes>
class RunPlacement {
 public:
  // EINVAL: the region is empty, not whole granules, or of 2^31 granules and more.
  static Result<RunPlacement> Create(const PlacementRegion& region) noexcept {
    const Origin origin{"placement", Operation::kOpen, {}, region.bytes};
    const uint64_t granule = region.granule;
    if (!std::has_single_bit(granule) || granule > UINT32_MAX) {
      return Error(EINVAL, "the granule is not a power of two below 4 GiB", origin);
    }
    const uint64_t granules = region.bytes / granule;
    if (granules == 0 || granules >= RunTag::kLive || region.bytes % granule != 0) {
      return Error(EINVAL, "the region is not 1 to 2^31 - 1 whole granules", origin);
    }
    if (region.start % granule != 0 || region.start > UINT64_MAX - region.bytes) {
      return Error(EINVAL, "the region's start is not on a granule, or its end past 64 bits",
                   origin);
    }
    // Not by new: calloc does not touch the pages that it has from the kernel.
    Tags tags(static_cast<RunTag*>(std::calloc(static_cast<size_t>(granules + 1), sizeof(RunTag))));
    if (tags == nullptr) return Error(ENOMEM, "calloc: the tags of a region", origin);
    return RunPlacement(std::move(tags), static_cast<uint32_t>(granules), region);
  }

  std::optional<uint64_t> Take(uint64_t bytes, uint64_t alignment) noexcept {
    if (bytes == 0 || bytes > free_ * granule() || !std::has_single_bit(alignment)) {
      return std::nullopt;
    }
    const auto granules = static_cast<uint32_t>((bytes + granule() - 1) >> granule_log2_);
    const uint64_t aligned = alignment >> granule_log2_;
    const RunWanted wanted{granules, aligned == 0 ? 1 : aligned, start_};
    const RunFound found = holes_.Find(tags_.get(), wanted);
    if (found.hole == RunTag::kNone) return std::nullopt;
    Cut(found, granules);
    const auto rounding = static_cast<uint32_t>(granules * granule() - bytes);
    tags_[found.at].rounding = rounding;
    waste_ += rounding;
    free_ -= granules;
    ++live_;
    return found.at * granule();
  }

  uint64_t Give(uint64_t offset) noexcept {
    const uint64_t index = offset >> granule_log2_;
    if (offset % granule() != 0 || index >= granules_) return 0;
    auto at = static_cast<uint32_t>(index);
    if (!tags_[at].live()) return 0;
    const uint32_t granules = tags_[at].granules();
    waste_ -= tags_[at].rounding;
    free_ += granules;
    --live_;
    uint32_t joined = granules;
    const uint32_t after = at + granules;
    if (!tags_[after].live()) {
      joined += tags_[after].run;
      TakeHole(after);
      tags_[after].run = 0;
    }
    const uint32_t before = tags_[at].before;
    if (at != 0 && !tags_[before].live()) {
      joined += tags_[before].run;
      TakeHole(before);
      tags_[at].run = 0;
      at = before;
    }
    PutHole(at, joined, tags_[at].before);
    return granules * granule();
  }

  PlacementFigures figures() const noexcept {
    return {.bytes = granules_ * granule(),
            .free_bytes = free_ * granule(),
            .largest_hole = holes_.Largest(tags_.get()) * granule(),
            .waste = waste_,
            .holes = hole_count_,
            .live = live_};
  }

 private:
  struct Freed {
    void operator()(RunTag* tags) const noexcept { std::free(tags); }
  };
  using Tags = std::unique_ptr<RunTag[], Freed>;

  RunPlacement(Tags tags, uint32_t granules, const PlacementRegion& region) noexcept
      : tags_(std::move(tags)),
        granules_(granules),
        granule_log2_(static_cast<uint8_t>(std::countr_zero(region.granule))),
        start_(region.start / region.granule),
        free_(granules) {
    tags_[granules].run = RunTag::kLive;  // so that the last run has a neighbour, which never goes
    PutHole(0, granules, 0);
  }

  uint64_t granule() const noexcept { return uint64_t{1} << granule_log2_; }

  void PutHole(uint32_t at, uint32_t granules, uint32_t before) noexcept {
    tags_[at].run = granules;
    tags_[at].before = before;
    tags_[at + granules].before = at;
    holes_.Insert(tags_.get(), at);
    ++hole_count_;
  }
  void TakeHole(uint32_t at) noexcept {
    holes_.Remove(tags_.get(), at);
    --hole_count_;
  }

  // The rest of the hole on either side of the range stays a hole.
  void Cut(const RunFound& found, uint32_t granules) noexcept {
    const auto [hole, at] = found;
    uint32_t before = tags_[hole].before;
    const uint32_t end = hole + tags_[hole].run;
    TakeHole(hole);
    if (at != hole) {
      PutHole(hole, at - hole, before);
      before = hole;
    }
    tags_[at].run = granules | RunTag::kLive;
    tags_[at].before = before;
    if (at + granules != end) {
      PutHole(at + granules, end - at - granules, at);
    } else {
      tags_[end].before = at;
    }
  }

  Tags tags_;
  uint32_t granules_;
  uint8_t granule_log2_;
  uint64_t start_;  // granules
  uint64_t free_;   // granules
  uint64_t waste_ = 0;
  uint32_t hole_count_ = 0;
  uint32_t live_ = 0;
  Holes holes_;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_RUN_PLACEMENT_H_
