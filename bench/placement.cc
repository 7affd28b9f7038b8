// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/placement.cc
//
// Placements, and first fit over a std::map of holes, which they are measured by. An iteration is
// an operation of a trace: of 1,024 slots over a region of 65,536 pages one is chosen; if it is
// empty a range is taken, else given back. `small` takes 1 to 96 pages and uses 43 % of the region
// at most; `camera` takes buffers of a camera stack's sizes and overloads the region, so that
// `refused` shows what a placement wastes.
#include "ion/policies/carveout/placement.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "bench/pinned.h"
#include "bench/program.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/segregated_fit.h"

namespace ion::bench {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kPages = 65'536;
constexpr uint32_t kOperations = 400'000;
constexpr uint32_t kSlots = 1024;

struct Step {
  uint32_t pages;  // taken if the slot is empty
  uint32_t slot;
};
using Trace = std::vector<Step>;

// The size is drawn first, also where the slot turns out to be taken. mt19937 and % are the same
// everywhere, which the library's distributions are not.
template <class SizeOf>
Trace MakeTrace(SizeOf size_of) {
  std::mt19937 random(42);
  Trace trace(kOperations);
  for (Step& step : trace) {
    step.pages = size_of(static_cast<uint32_t>(random()));
    step.slot = static_cast<uint32_t>(random() % kSlots);
  }
  return trace;
}

const Trace& Small() {
  static const Trace trace = MakeTrace([](uint32_t random) { return 1 + random % 96; });
  return trace;
}

const Trace& Camera() {
  static const Trace trace = MakeTrace([](uint32_t random) {
    constexpr std::array<uint32_t, 8> kSizes{1, 4, 16, 32, 97, 169, 253, 506};
    return kSizes[random % kSizes.size()];
  });
  return trace;
}

// What a program writes that has no placement at hand.
class MapFirstFit {
 public:
  static Result<MapFirstFit> Create(const PlacementRegion& region) noexcept {
    return MapFirstFit(region.bytes);
  }

  std::optional<uint64_t> Take(uint64_t bytes, uint64_t) noexcept {
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      const auto [offset, room] = *hole;
      if (room < bytes) continue;
      holes_.erase(hole);
      if (room > bytes) holes_.emplace(offset + bytes, room - bytes);
      return offset;
    }
    return std::nullopt;
  }

  // It keeps no live ranges, and has to be told the bytes.
  void Give(uint64_t offset, uint64_t bytes) noexcept {
    auto after = holes_.lower_bound(offset);
    if (after != holes_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == offset) {
        offset = before->first;
        bytes += before->second;
        holes_.erase(before);
      }
    }
    if (after != holes_.end() && offset + bytes == after->first) {
      bytes += after->second;
      holes_.erase(after);
    }
    holes_.emplace(offset, bytes);
  }

 private:
  explicit MapFirstFit(uint64_t bytes) : holes_{{0, bytes}} {}

  std::map<uint64_t, uint64_t> holes_;  // bytes by offset
};

void GiveTo(MapFirstFit& placement, uint64_t offset, uint64_t bytes) {
  placement.Give(offset, bytes);
}
template <Placement P>
void GiveTo(P& placement, uint64_t offset, uint64_t) {
  placement.Give(offset);
}

struct Slot {
  std::optional<uint64_t> offset;
  uint64_t bytes = 0;
};

template <class P>
void Run(benchmark::State& state, const Trace& trace) {
  const Pinned pinned(state);
  Result<P> placement = P::Create({.bytes = kPages * kPage});
  ION_CHECK(placement.ok(), "no memory for a region's tags");
  std::vector<Slot> slots(kSlots);
  uint64_t refused = 0, used = 0, peak = 0;
  auto step = trace.begin();
  for (auto _ : state) {
    Slot& slot = slots[step->slot];
    if (!slot.offset.has_value()) {
      slot.bytes = step->pages * kPage;
      slot.offset = placement->Take(slot.bytes, kPage);
      refused += slot.offset.has_value() ? 0 : 1;
      used += slot.offset.has_value() ? slot.bytes : 0;
      peak = std::max(peak, used);
    } else {
      GiveTo(*placement, *slot.offset, slot.bytes);
      used -= slot.bytes;
      slot.offset.reset();
    }
    ++step;
  }
  // Of a counter that is always 0 the deviation is written as NaN, which is no JSON.
  if (refused != 0) state.counters["refused"] = static_cast<double>(refused);
  state.counters["peak_percent"] = 100.0 * static_cast<double>(peak) / (kPages * kPage);
}

template <class P>
void Register(const std::string& name) {
  for (const auto& [trace_name, trace] : {std::pair("/small", &Small()), {"/camera", &Camera()}}) {
    benchmark::RegisterBenchmark(("BM_" + name + trace_name).c_str(), [trace = trace](
                                                                          benchmark::State& s) {
      Run<P>(s, *trace);
    })->Iterations(kOperations);
  }
}

void RegisterAll() {
  Register<MapFirstFit>("MapFirstFit");
  Register<FirstFit>("FirstFit");
  Register<SegregatedFit>("SegregatedFit");
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv, {"--benchmark_repetitions=9"}, ion::bench::RegisterAll);
}
