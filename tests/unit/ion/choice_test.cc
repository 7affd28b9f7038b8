// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The choice of a heap: the match with the guarantees, the ranking, alternatives and parties that
// may be left out, bad input, and the guarantees themselves.

#include "ion/choice.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/merge.h"
#include "ion/request.h"
#include "tests/support/fault_new.h"
#include "tests/support/segment_model.h"

namespace ion::testing {
namespace {

using enum Field;
using Outcome = Choice::Outcome;

constexpr HeapId kSystemId{0};
constexpr HeapId kCmaId{4};
constexpr HeapId kSecureId{7};

// A board's heaps, fully known: scattered cached memory, contiguous low memory, protected memory.
constexpr HeapOffer kBoard[] = {
    {kSecureId,
     "secure",
     {.segments = 1,
      .top = 0xffffffff,
      .protected_memory = true,
      .cc_shared = false,
      .mappable = false,
      .vmap = false,
      .pages = false,
      .exportable = true}},
    {kCmaId,
     "linux,cma",
     {.segments = 1,
      .top = 0x7fffffff,
      .ram = true,
      .cached = true,
      .protected_memory = false,
      .cc_shared = false,
      .mappable = true,
      .vmap = true,
      .pages = true,
      .exportable = true}},
    {kSystemId,
     "system",
     {.ram = true,
      .cached = true,
      .protected_memory = false,
      .cc_shared = false,
      .mappable = true,
      .vmap = true,
      .pages = true,
      .exportable = true}},
};

// The choice for one party, over the board.
constexpr Choice For(const Constraints& set, const ChoiceOptions& options = {}) {
  const Party parties[] = {{"one", set}};
  return Choose(parties, kBoard, options);
}

TEST_CASE("Choose: the least scarce memory is spent, and the scarce one on those that need it") {
  CHECK(For({}).best() == kSystemId);
  CHECK(For({}).heaps().size() == 3);
  CHECK(For({}).heaps()[1] == kCmaId);
  CHECK(For({}).heaps()[2] == kSecureId);
  CHECK(For({.segments_max = 1}).best() == kCmaId);
  CHECK(For({.protection = Protection::kRequired}).best() == kSecureId);
  CHECK(For({.protection = Protection::kRequired}).heaps().size() == 1);
  static_assert(For({.segments_max = 1, .cpu_read = CpuUse::kRare}).mask() == HeapMask(kCmaId));
}

TEST_CASE("Choose: low memory is spared on a machine that has other memory, by its top") {
  static constexpr HeapOffer kHeaps[] = {
      {HeapId{1}, "system-dma32", {.top = 0xffffffff, .ram = true}},
      {HeapId{0}, "system", {.ram = true}}};
  static constexpr Constraints kAny;
  static constexpr Constraints k32{.address_limit = AddressOfBits(32)};
  const auto best = [&](const Constraints& set, std::optional<uint64_t> top) {
    const Party parties[] = {{"one", set}};
    return Choose(parties, kHeaps, {.memory_top = top}).best();
  };
  CHECK(best(kAny, std::nullopt) == HeapId{0});
  CHECK(best(kAny, 8_GiB) == HeapId{0});
  CHECK(best(k32, std::nullopt) == HeapId{1});
  CHECK(best(k32, 8_GiB) == HeapId{1});
  // All memory is low: the order of the offers decides.
  CHECK(best(kAny, 2_GiB) == HeapId{1});
}

TEST_CASE("Choose: contiguous memory above a device's addresses is not for it") {
  // As with a CMA region that the kernel places from 4 GiB on.
  static constexpr HeapOffer kHeaps[] = {
      {kCmaId, "linux,cma", {.segments = 1, .top = 6_GiB - 1, .ram = true}}};
  static constexpr Constraints kContiguous{.segments_max = 1};
  static constexpr Constraints kLow{.address_limit = AddressOfBits(32), .segments_max = 1};
  static constexpr Party kAny[] = {{"capture card", kContiguous}};
  static constexpr Party k32[] = {{"capture card", kLow}};
  static_assert(Supports(kAny, kHeaps));
  static_assert(!Supports(k32, kHeaps));
  const Choice choice = Choose(k32, kHeaps);
  CHECK(choice.outcome == Outcome::kNoHeap);
  CHECK(choice.verdicts()[0].field == kAddressLimit);
  CHECK(choice.verdicts()[0].wanted == 0xffffffff);
  CHECK(choice.verdicts()[0].has == 6_GiB - 1);
}

TEST_CASE("Choose: the top of the machine's memory is a fact of each heap of RAM") {
  static constexpr HeapOffer kHeaps[] = {{HeapId{0}, "system", {.ram = true}},
                                         {HeapId{1}, "other", {}}};
  static constexpr Constraints k32{.address_limit = AddressOfBits(32)};
  static constexpr Party kParties[] = {{"device", k32}};
  CHECK_FALSE(Supports(kParties, kHeaps));
  CHECK_FALSE(Supports(kParties, kHeaps, {.memory_top = 4_GiB}));
  const Choice choice = Choose(kParties, kHeaps, {.memory_top = 4_GiB - 1});
  REQUIRE(choice.ok());
  CHECK(choice.mask() == HeapMask(HeapId{0}));
  CHECK_FALSE(choice.verdicts()[1].has.has_value());
}

// A demand, and heaps that have it, lack it, and do not tell.
struct Demand {
  Constraints set;
  Field field;
  Guarantees has;
  Guarantees lacks;
};
constexpr Demand kDemands[] = {
    {{.segments_max = 1}, kSegmentsMax, {.segments = 1}, {.segments = 2}},
    {{.segments_max = 8}, kSegmentsMax, {.segments = 8}, {.segments = 9}},
    {{.address_limit = 0xffffffff}, kAddressLimit, {.top = 0xffffffff}, {.top = 0x100000000}},
    {{.cpu_read = CpuUse::kRare}, kCpuRead, {.mappable = true}, {.mappable = false}},
    {{.cpu_write = CpuUse::kOften}, kCpuWrite, {.mappable = true}, {.mappable = false}},
    {{.kernel_cpu_writes = true}, kKernelCpuWrites, {.vmap = true}, {.vmap = false}},
    {{.coherency = Coherency::kMustBeCached}, kCoherency, {.cached = true}, {.cached = false}},
    {{.coherency = Coherency::kMustBeUncached}, kCoherency, {.cached = false}, {.cached = true}},
    {{.protection = Protection::kRequired},
     kProtection,
     {.protected_memory = true},
     {.protected_memory = false}},
    {{.protection = Protection::kForbidden},
     kProtection,
     {.protected_memory = false},
     {.protected_memory = true}},
    {{.exporter_needs = ExporterNeeds::kPages}, kExporterNeeds, {.pages = true}, {.pages = false}},
    {{.exporter_needs = ExporterNeeds::kVmap}, kExporterNeeds, {.vmap = true}, {.vmap = false}},
    {{.exporter_needs = ExporterNeeds::kMmap},
     kExporterNeeds,
     {.mappable = true},
     {.mappable = false}},
    {{.exporter_needs = ExporterNeeds::kExportByUs},
     kExporterNeeds,
     {.exportable = true},
     {.exportable = false}},
    {{.cc_shared = true}, kCcShared, {.cc_shared = true}, {.cc_shared = false}},
    {{.base_align = 256}, kBaseAlign, {.alignment = 4096}, {.alignment = 128}},
    {{.segment_multiple = 8192}, kSegmentMultiple, {.granule = 8192}, {.granule = 4096}},
    {{.size_multiple = 8192, .segment_multiple = 8192},
     kSegmentMultiple,
     {.segments = 1, .alignment = 8192},
     {.segments = 2, .alignment = 8192}},
    {{.segment_size_max = 8192}, kSegmentSizeMax, {.granule = 8192}, {.granule = 16384}},
    {{.segment_boundary = 8192}, kSegmentBoundary, {.granule = 8192}, {.granule = 16384}},
    {{.size_min = 4097, .size_multiple = 4096}, kSizeMin, {.bytes_max = 8192}, {.bytes_max = 8191}},
};

TEST_CASE("Choose: a property that nobody vouches for is no promise") {
  for (const Demand& row : kDemands) {
    CAPTURE(FieldName(row.field));
    const HeapOffer heaps[] = {
        {HeapId{0}, "has", row.has}, {HeapId{1}, "lacks", row.lacks}, {HeapId{2}, "untold", {}}};
    const Party parties[] = {{"device", row.set}};
    const Choice choice = Choose(parties, heaps);
    CHECK(choice.verdicts()[0].fits);
    CHECK_FALSE(choice.verdicts()[1].fits);
    CHECK(choice.verdicts()[1].field == row.field);
    CHECK(choice.verdicts()[1].party == 0);
    CHECK(choice.verdicts()[1].wanted == row.set.At(row.field).word);
    // The size of a region is only a reason to refuse, and a granule is a page if none is told.
    if (row.field == kSizeMin || row.field == kSegmentSizeMax || row.field == kSegmentBoundary) {
      continue;
    }
    CHECK_FALSE(choice.verdicts()[2].fits);
    CHECK(choice.verdicts()[2].field == row.field);
  }
}

TEST_CASE("Choose: no heap begins at multiples of a number that is no power of two") {
  constexpr HeapOffer kHeaps[] = {{HeapId{0}, "heap", {.alignment = 1ull << 63}}};
  static constexpr Constraints kSet{.base_align = 192};
  static constexpr Party kParties[] = {{"device", kSet}};
  CHECK(Choose(kParties, kHeaps).verdicts()[0].field == kBaseAlign);
}

TEST_CASE("Choose: a buffer of at most one page is in one piece") {
  static constexpr HeapOffer kHeaps[] = {{HeapId{0}, "system", {}}};
  const auto supports = [&](const Constraints& set) {
    const Party parties[] = {{"device", set}};
    return Supports(parties, kHeaps);
  };
  CHECK(supports({.size_max = 4096, .segments_max = 1}));
  CHECK_FALSE(supports({.size_max = 4097, .segments_max = 1}));
  CHECK(supports({.size_max = 4097, .segments_max = 2}));
  // The least size is not the largest.
  CHECK_FALSE(supports({.size_min = 4096, .segments_max = 1}));
}

// The most segments, by the number of pages, wherever the memory begins and in however many pieces,
// up to `pieces`, it is.
std::vector<uint64_t> WorstOf(size_t pages, uint64_t pieces, uint64_t alignment,
                              const SegmentLimits& limits) {
  std::vector<uint64_t> one(pages + 1);
  for (size_t n = 1; n <= pages; ++n) one[n] = WorstSegments(n * 4096, alignment, limits);
  std::vector<uint64_t> worst = one;
  for (uint64_t more = 1; more < pieces; ++more) {
    std::vector<uint64_t> next = worst;
    for (size_t n = 1; n <= pages; ++n) {
      for (size_t last = 1; last < n; ++last) {
        next[n] = std::max(next[n], worst[n - last] + one[last]);
      }
    }
    worst = std::move(next);
  }
  return worst;
}

TEST_CASE("Choose: a heap fits if the worst memory that it may give has few enough segments") {
  constexpr size_t kPages = 20;
  constexpr uint64_t kSizes[] = {4096, 6000, 8192, 12'288, 20'480, 28'672, 65'535, 1_MiB};
  size_t cases = 0, loose = 0;
  for (const uint64_t size : kSizes) {
    for (const uint64_t boundary : {4_KiB, 8_KiB, 16_KiB, 32_KiB, 64_KiB, 1_MiB}) {
      if (boundary < size) continue;
      for (const uint64_t multiple : {uint64_t{1}, uint64_t{2048}, 4_KiB}) {
        for (const uint64_t pieces : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}}) {
          for (const uint64_t alignment : {4_KiB, 16_KiB}) {
            Constraints set{.segment_size_max = size,
                            .segment_boundary = boundary,
                            .segment_multiple = multiple};
            HeapOffer heap{HeapId{0}, "heap", {.alignment = alignment}};
            if (pieces != 0) heap.guarantees.segments = pieces;
            const std::vector<uint64_t> worst =
                WorstOf(kPages, pieces == 0 ? kPages : pieces, pieces == 1 ? alignment : 4096,
                        {size, boundary, multiple});
            for (size_t pages = 1; pages <= kPages; ++pages) {
              CAPTURE(size);
              CAPTURE(boundary);
              CAPTURE(multiple);
              CAPTURE(pieces);
              CAPTURE(alignment);
              CAPTURE(pages);
              const auto fits = [&](uint64_t segments) {
                set.size_min = set.size_max = pages * 4096;
                set.segments_max = segments;
                const Party parties[] = {{"device", set}};
                return Supports(parties, std::span(&heap, 1));
              };
              ++cases;
              if (worst[pages] > 1) CHECK_FALSE(fits(worst[pages] - 1));
              // Of several pieces, or of segments that end within a page, a bound is enough.
              if (pieces < 2 && size % 4096 == 0 && alignment == 4096) {
                CHECK(fits(worst[pages]));
              } else if (!fits(worst[pages])) {
                ++loose;
              }
            }
          }
        }
      }
    }
  }
  CAPTURE(cases);
  CAPTURE(loose);
  CHECK(loose < cases / 20);
}

TEST_CASE("Choose: memory that is larger than its request has more pieces") {
  const auto fits = [](uint32_t percent, uint64_t bytes, uint64_t segments) {
    const Constraints set{.size_max = bytes, .segments_max = segments};
    const HeapOffer heaps[] = {{HeapId{0}, "pooled", {.most_percent = percent}}};
    const Party parties[] = {{"device", set}};
    return Supports(parties, heaps);
  };
  CHECK(fits(100, 65'537, 17));
  CHECK_FALSE(fits(125, 65'537, 20));
  CHECK(fits(125, 65'537, 21));
  // Memory is whole pages.
  CHECK(fits(188, 4096, 1));
  CHECK_FALSE(fits(Guarantees::kAnySize, 4096, 1'000'000));
  const Constraints multiple{.size_multiple = 8192, .segment_multiple = 8192};
  const HeapOffer heaps[] = {
      {HeapId{0}, "cma", {.segments = 1, .alignment = 8192, .most_percent = 125}}};
  const Party parties[] = {{"device", multiple}};
  CHECK(Choose(parties, heaps).verdicts()[0].field == kSegmentMultiple);
}

TEST_CASE("Choose: segments of whole multiples larger than a granule need a size that is one too") {
  const HeapOffer heaps[] = {{HeapId{0}, "cma", {.segments = 1, .alignment = 8192}}};
  const auto of = [&](const Constraints& set) {
    const Party parties[] = {{"device", set}};
    return Choose(parties, heaps);
  };
  CHECK(of({.size_multiple = 8192, .segment_multiple = 8192}).ok());
  const Choice odd = of({.size_multiple = 12'288, .segment_multiple = 8192});
  CHECK(odd.verdicts()[0].field == kSegmentMultiple);
  CHECK(odd.verdicts()[0].has == 4096);
  CHECK(of({.size_multiple = 8192, .segment_multiple = 16'384}).verdicts()[0].has == 8192);
}

TEST_CASE("Choose: allowed and denied heaps") {
  CHECK(For({.heaps_allowed = HeapMask(kCmaId)}).mask() == HeapMask(kCmaId));
  CHECK(For({.heaps_denied = HeapMask(kSystemId)}).best() == kCmaId);
  const Choice none = For({.heaps_allowed = HeapMask(HeapId{9})});
  CHECK(none.outcome == Outcome::kNoHeap);
  CHECK(none.verdicts()[0].field == kHeapsAllowed);
  CHECK(For({.heaps_denied = ~HeapId{9}}).verdicts()[2].field == kHeapsDenied);
}

TEST_CASE("Choose: the caller's preference goes first, among those that fit") {
  constexpr HeapId kPrefer[] = {HeapId{9}, kCmaId, kSecureId};
  const Choice choice = For({}, {.prefer = kPrefer});
  REQUIRE(choice.heaps().size() == 3);
  CHECK(choice.heaps()[0] == kCmaId);
  CHECK(choice.heaps()[1] == kSecureId);
  CHECK(choice.heaps()[2] == kSystemId);
  CHECK(choice.verdicts()[1].place == 0);
  CHECK(choice.verdicts()[2].place == 2);
  CHECK(For({.cpu_read = CpuUse::kRare, .heaps_denied = HeapMask(kCmaId)}, {.prefer = kPrefer})
            .best() == kSystemId);
}

TEST_CASE("Choose: another policy ranks in another way") {
  struct ProtectedFirst {
    constexpr uint64_t Cost(const Merged&, const HeapOffer& heap,
                            const ChoiceOptions&) const noexcept {
      return heap.guarantees.protected_memory ? 0 : 1;
    }
  };
  static constexpr Constraints kAny;
  static constexpr Party kParties[] = {{"one", kAny}};
  static_assert(Choose(kParties, kBoard, {}, ProtectedFirst()).best() == kSecureId);
  // Equal ones keep the order of the offers.
  CHECK(Choose(kParties, kBoard, {}, ProtectedFirst()).heaps()[1] == kCmaId);
}

TEST_CASE("Choose: cached memory goes first if a CPU uses it") {
  static constexpr HeapOffer kHeaps[] = {
      {HeapId{0}, "uncached", {.cached = false, .mappable = true}},
      {HeapId{1}, "untold", {.mappable = true}},
      {HeapId{2}, "cached", {.cached = true, .mappable = true}}};
  static constexpr Constraints kReads{.cpu_read = CpuUse::kOften};
  static constexpr Constraints kNone;
  static constexpr Party kCpu[] = {{"cpu", kReads}};
  static constexpr Party kDevice[] = {{"device", kNone}};
  CHECK(Choose(kCpu, kHeaps).heaps()[0] == HeapId{2});
  CHECK(Choose(kCpu, kHeaps).heaps()[1] == HeapId{1});
  CHECK(Choose(kDevice, kHeaps).best() == HeapId{0});
}

TEST_CASE("Choose: no heap satisfies two parties, and both are named") {
  static constexpr HeapOffer kHeaps[] = {
      {kSystemId, "system", {.mappable = true}},
      {kCmaId, "linux,cma", {.segments = 1, .top = 6_GiB, .mappable = true}}};
  static constexpr Constraints kCodec{.segments_max = Probed(1, 1_MiB)};
  static constexpr Constraints kRga{.address_limit = AddressOfBits(32)};
  static constexpr Constraints kCpu{.cpu_read = CpuUse::kRare};
  static constexpr Party kParties[] = {{"cpu", kCpu}, {"codec", kCodec}, {"rga", kRga}};
  constexpr Choice kChoice = Choose(kParties, kHeaps);
  static_assert(kChoice.outcome == Outcome::kNoHeap);
  CHECK(kChoice.conflict.a == ConflictSide{"codec", kSegmentsMax, 1, {How::kProbed, 1_MiB}});
  CHECK(kChoice.conflict.b == ConflictSide{"rga", kAddressLimit, 0xffffffff, {How::kDeclared, 0}});
  CHECK(kChoice.party_a == 1);
  CHECK(kChoice.party_b == 2);
  CHECK(kChoice.heaps().empty());
}

TEST_CASE("Choose: a conflict of two parties is found before any heap is looked at") {
  static constexpr Constraints kA{.stride_exact = FromKernel(1920)};
  static constexpr Constraints kB{.stride_multiple = 256};
  static constexpr Party kParties[] = {{"camera", kA}, {"gpu", kB}};
  const Choice choice = Choose(kParties, kBoard);
  CHECK(choice.outcome == Outcome::kConflict);
  CHECK(choice.verdicts().empty());
  CHECK(choice.conflict.a == ConflictSide{"camera", kStrideExact, 1920, {How::kKernel, 0}});
  CHECK(choice.conflict.b == ConflictSide{"gpu", kStrideMultiple, 256, {How::kDeclared, 0}});
}

TEST_CASE("Choose: the CPU and a driver whose CPU writes are parties as any") {
  static constexpr Constraints kUvc{.kernel_cpu_writes = true};
  static constexpr Constraints kSecureDisplay{.protection = Protection::kRequired};
  static constexpr Party kParties[] = {{"uvc", kUvc}, {"display", kSecureDisplay}};
  const Choice choice = Choose(kParties, kBoard);
  CHECK(choice.outcome == Outcome::kConflict);
  CHECK(choice.conflict.a.field == kProtection);
  CHECK(choice.conflict.b == ConflictSide{"uvc", kKernelCpuWrites, 1, {How::kDeclared, 0}});
  CHECK(Choose(std::span(kParties).first(1), kBoard).best() == kSystemId);
}

TEST_CASE("Choose: the first combination that can be satisfied wins, the last party's set first") {
  const Constraints first[] = {{.stride_multiple = 64, .stride_max = 64}, {.stride_multiple = 128}};
  const Constraints second[] = {{.stride_min = 100}, {.stride_min = 50}, {.stride_min = 1}};
  const Party parties[] = {{"first", first}, {"second", second}};
  const Choice choice = Choose(parties, kBoard);
  REQUIRE(choice.ok());
  CHECK(choice.picks[0] == 0);
  CHECK(choice.picks[1] == 1);
  CHECK(choice.combinations == 2);
  // Another order of the parties prefers another one's first set.
  const Party turned[] = {parties[1], parties[0]};
  CHECK(Choose(turned, kBoard).picks[0] == 0);
  CHECK(Choose(turned, kBoard).picks[1] == 1);
}

TEST_CASE("Choose: a set that no heap satisfies is passed over as one in conflict") {
  const Constraints sets[] = {{.segments_max = 1, .cc_shared = true}, {.segments_max = 1}};
  const Party parties[] = {{"codec", sets}};
  const Choice choice = Choose(parties, kBoard);
  REQUIRE(choice.ok());
  CHECK(choice.picks[0] == 1);
  CHECK(choice.best() == kCmaId);
  size_t refused = 0;
  ForEachRefusal(parties, kBoard, {}, [&](const Choice& why) {
    ++refused;
    CHECK(why.outcome == Outcome::kNoHeap);
    CHECK(why.picks[0] == 0);
    CHECK(why.verdicts()[0].field == kCcShared);
  });
  CHECK(refused == 1);
}

TEST_CASE("Choose: if all combinations fail, the most preferred one is told, and each on demand") {
  const Constraints sets[] = {{.stride_exact = 64}, {.stride_exact = 96}, {.stride_max = 100}};
  const Constraints other{.stride_multiple = 128};
  const Party parties[] = {{"a", sets}, {"b", other}};
  const Choice choice = Choose(parties, kBoard);
  CHECK(choice.outcome == Outcome::kConflict);
  CHECK(choice.combinations == 3);
  CHECK(choice.picks[0] == 0);
  CHECK(choice.conflict.a.value == 64);
  std::vector<uint64_t> values;
  ForEachRefusal(parties, kBoard, {},
                 [&](const Choice& why) { values.push_back(why.conflict.a.value); });
  CHECK(values == std::vector<uint64_t>{64, 96, 100});
}

TEST_CASE("Choose: a party that may be dispensed with is left out only if there is no other way") {
  const Constraints encoder[] = {{.stride_multiple = 64}, {.stride_multiple = 32}};
  const Constraints preview{.stride_exact = 96};
  const Constraints recorder{.segments_max = 1};
  SUBCASE("another party's set goes before it") {
    const Party parties[] = {{"preview", preview, Party::Kind::kDispensable}, {"encoder", encoder}};
    const Choice choice = Choose(parties, kBoard);
    REQUIRE(choice.ok());
    CHECK(choice.picks[0] == 0);
    CHECK(choice.picks[1] == 1);
  }
  SUBCASE("it is left out") {
    const Party parties[] = {{"preview", preview, Party::Kind::kDispensable},
                             {"encoder", encoder[0]},
                             {"recorder", recorder, Party::Kind::kDispensable}};
    const Choice choice = Choose(parties, kBoard);
    REQUIRE(choice.ok());
    CHECK(choice.picks[0] == Choice::kLeftOut);
    CHECK(choice.picks[2] == 0);
    CHECK(choice.best() == kCmaId);
    CHECK(choice.merged.parties() == 6);
  }
  SUBCASE("of two equal ways the later party goes") {
    const Constraints other{.stride_exact = 128};
    const Party parties[] = {{"preview", preview, Party::Kind::kDispensable},
                             {"other", other, Party::Kind::kDispensable}};
    const Choice choice = Choose(parties, kBoard);
    REQUIRE(choice.ok());
    CHECK(choice.picks[0] == 0);
    CHECK(choice.picks[1] == Choice::kLeftOut);
  }
  SUBCASE("never all of them") {
    const Constraints impossible{.cc_shared = true};
    const Party parties[] = {{"only", impossible, Party::Kind::kDispensable}};
    CHECK(Choose(parties, kBoard).outcome == Outcome::kNoHeap);
  }
}

TEST_CASE("Choose: bad input names the party and the field, and nothing is chosen") {
  using Kind = Problem::Kind;
  const Constraints good;
  const std::vector<Constraints> many(kMostAlternatives + 1);
  const auto kind = [](std::span<const Party> parties, std::span<const HeapOffer> heaps) {
    const Choice choice = Choose(parties, heaps);
    CHECK(choice.outcome == Outcome::kBadInput);
    CHECK(choice.heaps().empty());
    CHECK(choice.verdicts().empty());
    return choice.problem.kind;
  };
  const Party one[] = {{"one", good}};
  CHECK(kind({}, kBoard) == Kind::kNoParty);
  CHECK(kind(std::vector<Party>(17, one[0]), kBoard) == Kind::kTooManyParties);
  CHECK(Choose(std::vector<Party>(16, one[0]), kBoard).ok());
  CHECK(kind(one, {}) == Kind::kNoHeaps);
  CHECK(kind(one, std::vector<HeapOffer>(33, kBoard[0])) == Kind::kTooManyHeaps);
  CHECK(kind(one, std::vector<HeapOffer>(2, kBoard[0])) == Kind::kOneHeapTwice);
  CHECK(kind(one, std::vector<HeapOffer>{{HeapId{1}, "a", {.alignment = 0}}}) == Kind::kBadHeap);
  CHECK(kind(one, std::vector<HeapOffer>{{HeapId{1}, "a", {.granule = 3}}}) == Kind::kBadHeap);
  CHECK(kind(one, std::vector<HeapOffer>{{HeapId{1}, "a", {.segments = 0}}}) == Kind::kBadHeap);

  const Party none[] = {{"none", std::span<const Constraints>()}};
  CHECK(kind(none, kBoard) == Kind::kNoAlternative);
  const Party nine[] = {{"nine", std::span(many)}};
  CHECK(kind(nine, kBoard) == Kind::kTooManyAlternatives);
  CHECK(Choose(nine, kBoard).problem.party.view() == "nine");
  const Party eight("eight", std::span(many).first(8));
  const Party four("four", std::span(many).first(4));
  CHECK(Choose(std::vector<Party>{eight, eight, four}, kBoard).ok());
  CHECK(kind(std::vector<Party>{eight, eight, four, Party("two", std::span(many).first(2))},
             kBoard) == Kind::kTooManyCombinations);
  CHECK(kind(std::vector<Party>(16, eight), kBoard) == Kind::kTooManyCombinations);
  // To leave a party out is a way as well.
  CHECK(
      kind(std::vector<Party>{eight, eight,
                              Party("maybe", std::span(many).first(4), Party::Kind::kDispensable)},
           kBoard) == Kind::kTooManyCombinations);

  // Also a set that would not have been needed is checked.
  const Constraints sets[] = {{}, {.segment_boundary = 3000}};
  const Party bad[] = {one[0], {"isp", sets}};
  const Choice choice = Choose(bad, kBoard);
  CHECK(choice.problem.kind == Kind::kValue);
  CHECK(choice.problem.party.view() == "isp");
  CHECK(choice.problem.alternative == 1);
  CHECK(choice.problem.field == kSegmentBoundary);
  CHECK(choice.party_a == 1);
}

TEST_CASE("Choose: 8 parties with sets of their own and 8 heaps take no heap memory") {
  std::array<Constraints, 16> sets;
  for (size_t i = 0; i < sets.size(); ++i) {
    sets[i] = {.size_min = 4096 * i,
               .held = 1,
               .stride_multiple = 16 << i % 4,
               .formats = {{1, 0}, {static_cast<uint32_t>(i + 2), 0}}};
  }
  sets[0].stride_exact = 96;  // only the second set of party 0 will do
  std::array<Party, 8> parties;
  for (size_t i = 0; i < 8; ++i) parties[i] = {"party", std::span(sets).subspan(2 * i, 2)};
  std::array<HeapOffer, 8> heaps;
  for (unsigned i = 0; i < 8; ++i) heaps[i] = {*HeapId::From(i), "heap", {}};
  FaultNew::Begin();
  const Choice choice = Choose(parties, heaps);
  const bool supported = Supports(parties, heaps);
  const size_t news = FaultNew::calls();
  ::operator delete(::operator new(1));
  const size_t counted = FaultNew::calls();
  FaultNew::End();
  CHECK(news == 0);
  CHECK(counted == 1);
  CHECK(choice.ok());
  CHECK(supported);
  CHECK(choice.picks[0] == 1);
}

TEST_CASE("Supports: the answer of Choose") {
  for (const Demand& row : kDemands) {
    const Party parties[] = {{"device", row.set}};
    for (const HeapOffer& heap : kBoard) {
      const HeapOffer heaps[] = {heap};
      CHECK(Supports(parties, heaps) == Choose(parties, heaps).ok());
    }
  }
}

TEST_CASE("Guarantees: those of a HeapSpec are what its type and its region promise") {
  constexpr HeapSpec kSystem{.cached = true, .cpu_mappable = true};
  static_assert(GuaranteesOf(kSystem).ram.yes() && GuaranteesOf(kSystem).cached.yes());
  static_assert(GuaranteesOf(kSystem).protected_memory.no());
  static_assert(!GuaranteesOf(kSystem).segments.has_value());
  constexpr HeapSpec kDma{.type = HeapType::kDma, .id = 4};
  static_assert(GuaranteesOf(kDma).segments == 1);
  static_assert(!GuaranteesOf(kDma).top.has_value() && GuaranteesOf(kDma).mappable.unknown());
  static_assert(GuaranteesOf(kDma).protected_memory.unknown());
  constexpr HeapSpec kCarveout{
      .type = HeapType::kCarveout, .base = 0x80000000, .bytes = 32_MiB, .alignment = 1_MiB};
  CHECK(GuaranteesOf(kCarveout).top == 0x81ffffff);
  CHECK(GuaranteesOf(kCarveout).segments == 1);
  CHECK(GuaranteesOf(kCarveout).bytes_max == 32_MiB);
  CHECK(GuaranteesOf(kCarveout).alignment == 1_MiB);
  CHECK(GuaranteesOf(kCarveout).ram.unknown());
  // Without a base it is a part of any memory.
  CHECK_FALSE(GuaranteesOf(HeapSpec{.type = HeapType::kCarveout, .bytes = 4096}).top.has_value());
  CHECK_FALSE(
      GuaranteesOf(HeapSpec{.type = HeapType::kCarveout, .bytes = 4096}).segments.has_value());
  // One that ends past 64 bits promises nothing.
  CHECK_FALSE(
      GuaranteesOf(HeapSpec{.type = HeapType::kCarveout, .base = UINT64_MAX - 4095, .bytes = 8192})
          .top.has_value());
  CHECK(GuaranteesOf(HeapSpec{.type = HeapType::kCustom}) == Guarantees());
}

TEST_CASE("Guarantees: those of properties, and of two sources together") {
  constexpr Guarantees kOf = GuaranteesOf(
      Properties{.cpu_mappable = true, .cached = false, .contiguous = true, .alignment = 4096});
  static_assert(kOf.segments == 1 && kOf.mappable.yes() && kOf.cached.no());
  static_assert(kOf.protected_memory.no() && kOf.source.how == How::kKernel);
  static_assert(!GuaranteesOf(Properties{.contiguous = false}).segments.has_value());
  static_assert(!GuaranteesOf(Properties{}).segments.has_value());
  const Guarantees both = Guarantees{.top = 5, .cached = true, .granule = 8192}.Or(kOf);
  CHECK(both.top == 5);
  CHECK(both.cached.yes());
  CHECK(both.segments == 1);
  CHECK(both.alignment == 4096);
  CHECK(both.granule == 8192);
}

}  // namespace
}  // namespace ion::testing
