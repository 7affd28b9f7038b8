// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Demands, their check and their merge: the rules of each field, the properties of the merge over
// random sets, and a comparison with the rules of Fuchsia's sysmem2.

#include "ion/constraints.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/heap_id.h"
#include "ion/image_constraints.h"
#include "ion/merge.h"

namespace ion::testing {
namespace {

using enum Field;

constexpr Merged MergeOf(const Constraints& a, const Constraints& b) {
  Merged all;
  all.Add(0, a);
  all.Add(1, b);
  all.Check();
  return all;
}

TEST_CASE("Stated: a bare value is declared, and each value keeps its source") {
  static constexpr Constraints kSet{
      .held = FromKernel(4), .segments_max = Probed(1, 4096), .stride_min = 7};
  static_assert(kSet.stride_min.source() == Source{How::kDeclared, 0});
  static_assert(kSet.held.value() == 4 && kSet.held.source() == Source{How::kKernel, 0});
  static_assert(kSet.segments_max.source() == Source{How::kProbed, 4096});
  static_assert(!kSet.stride_max.stated());
  static_assert(kSet.stride_max.source().how == How::kUnstated);
  CHECK(kSet.At(kStrideMin) == StatedWord(7, {How::kDeclared, 0}));
  // A size that does not fit is cut, not wrapped.
  CHECK(Stated<uint64_t>(Probed(uint64_t{1}, UINT64_MAX)).source().bytes ==
        StatedWord::kMostProbed);
}

TEST_CASE("Constraints: At and Set reach each field") {
  Constraints set;
  for (size_t i = 0; i < kFieldCount - 1; ++i) {
    const auto field = static_cast<Field>(i);
    CHECK_FALSE(set.At(field).stated());
    set.Set(field, StatedWord(i + 1, {How::kKernel, 0}));
  }
  for (size_t i = 0; i < kFieldCount - 1; ++i) {
    CHECK(set.At(static_cast<Field>(i)) == StatedWord(i + 1, {How::kKernel, 0}));
  }
  CHECK(set.size_min.value() == 1);
  CHECK(set.translated.word == kFieldCount - 1);
}

TEST_CASE("FormatSet: it is sorted, has each format once and passes unknown ids on") {
  constexpr FormatSet kSet = {{7, 1}, {3, 0xffffffffffffffff}, {7, 1}, {3, 2}};
  static_assert(kSet.formats().size() == 3);
  static_assert(kSet.formats()[0] == FormatModifier{3, 2});
  static_assert(kSet.formats()[1] == FormatModifier{3, 0xffffffffffffffff});
  static_assert(kSet.Takes({7, 1}) && !kSet.Takes({7, 2}));
  CHECK(FormatSet().Takes({7, 2}));
  std::vector<FormatModifier> many;
  for (uint32_t i = 1; i <= FormatSet::kMost; ++i) many.push_back({i, 0});
  CHECK_FALSE(FormatSet(std::span<const FormatModifier>(many)).overflowed());
  many.push_back({1, 0});
  CHECK_FALSE(FormatSet(std::span<const FormatModifier>(many)).overflowed());
  many.push_back({1, 9});
  CHECK(FormatSet(std::span<const FormatModifier>(many)).overflowed());
}

TEST_CASE("CheckAlone: a refused value names its field, value and source") {
  struct Row {
    Field field;
    uint64_t word;
  };
  constexpr Row kRows[] = {{kSizeMultiple, 0},
                           {kBaseAlign, 0},
                           {kStrideMultiple, 0},
                           {kWidthMultiple, 0},
                           {kHeightMultiple, 0},
                           {kPlaneOffsetMultiple, 0},
                           {kSegmentMultiple, 0},
                           {kSegmentMultiple, 48},
                           {kSegmentBoundary, 0},
                           {kSegmentsMax, 0},
                           {kSegmentBoundary, 100},
                           {kSegmentSizeMax, 4095},
                           {kSizeMax, 0},
                           {kBuffersMax, 0},
                           {kStrideMax, 0},
                           {kStrideExact, 0},
                           {kAddressLimit, 4094},
                           {kHeapsAllowed, 0},
                           {kCpuRead, 3},
                           {kCpuWrite, 3},
                           {kKernelCpuWrites, 2},
                           {kCoherency, 0},
                           {kCoherency, 4},
                           {kCoherency, 1},
                           {kCoherency, 8},
                           {kProtection, 0},
                           {kProtection, 4},
                           {kExporterNeeds, 16},
                           {kCcShared, 2},
                           {kPlanes, 0},
                           {kPlanes, 4},
                           {kFences, 3},
                           {kFencesNeeded, 3},
                           {kTranslated, 2},
                           {kHeapsAllowed, 1ull << 32},
                           {kHeapsDenied, 1ull << 32}};
  for (const Row& row : kRows) {
    CAPTURE(FieldName(row.field));
    Constraints set;
    set.Set(row.field, StatedWord(row.word, {How::kKernel, 0}));
    const Problem problem = CheckAlone(set, "camera", 3);
    CHECK(problem.kind == Problem::Kind::kValue);
    CHECK(problem.party.view() == "camera");
    CHECK(problem.alternative == 3);
    CHECK(problem.field == row.field);
    CHECK(problem.value == row.word);
    CHECK(problem.source.how == How::kKernel);
    CHECK(std::string_view(problem.rule).size() > 5);
  }
  CHECK(CheckAlone({.formats = FormatSet(std::span<const FormatModifier>())}).field == kFormats);
  CHECK(CheckAlone({.formats = {{0, 1}}}).field == kFormats);
  CHECK(CheckAlone({.address_limit = Probed(AddressOfBits(32), 4096)}).field == kAddressLimit);
  CHECK(CheckAlone({}).kind == Problem::Kind::kNone);
}

// Each with a pair of fields that exclude each other, as one party and as two.
struct Excluding {
  Constraints a;
  Constraints b;
  Field field_a;
  Field field_b;
};
constexpr Excluding kExcluding[] = {
    {{.size_max = 4096}, {.size_min = 4097}, kSizeMax, kSizeMin},
    {{.size_max = 4096}, {.size_multiple = 8192}, kSizeMax, kSizeMultiple},
    {{.size_min = UINT64_MAX - 1}, {.size_multiple = 4096}, kSizeMin, kSizeMultiple},
    {{.buffers_max = 3}, {.held = 4}, kBuffersMax, kHeld},
    {{.buffers_max = 3}, {.slack = 4}, kBuffersMax, kSlack},
    {{.buffers_max = 3}, {.shared_slack = 4}, kBuffersMax, kSharedSlack},
    {{.held = UINT64_MAX}, {.slack = 1}, kHeld, kSlack},
    {{.shared_slack = UINT64_MAX}, {.held = 1}, kSharedSlack, kHeld},
    {{.segment_size_max = 4096}, {.segment_multiple = 8192}, kSegmentSizeMax, kSegmentMultiple},
    {{.segment_boundary = 4096}, {.segment_multiple = 8192}, kSegmentBoundary, kSegmentMultiple},
    {{.size_min = 1_MiB, .segment_size_max = 64_KiB},
     {.segments_max = 1},
     kSegmentSizeMax,
     kSegmentsMax},
    {{.size_min = 1_MiB, .segment_boundary = 64_KiB},
     {.segments_max = 15},
     kSegmentBoundary,
     kSegmentsMax},
    {{.heaps_allowed = HeapId{1} | HeapId{2}},
     {.heaps_denied = HeapId{1} | HeapId{2}},
     kHeapsAllowed,
     kHeapsDenied},
    {{.protection = Protection::kRequired}, {.cpu_read = CpuUse::kRare}, kProtection, kCpuRead},
    {{.protection = Protection::kRequired}, {.cpu_write = CpuUse::kOften}, kProtection, kCpuWrite},
    {{.protection = Protection::kRequired},
     {.kernel_cpu_writes = true},
     kProtection,
     kKernelCpuWrites},
    {{.protection = Protection::kRequired},
     {.exporter_needs = ExporterNeeds::kVmap},
     kProtection,
     kExporterNeeds},
    {{.stride_max = 4096}, {.stride_min = 4097}, kStrideMax, kStrideMin},
    {{.stride_max = 4095}, {.stride_multiple = 4096}, kStrideMax, kStrideMultiple},
    {{.stride_min = UINT64_MAX - 1}, {.stride_multiple = 64}, kStrideMin, kStrideMultiple},
    {{.stride_exact = 1920}, {.stride_multiple = 256}, kStrideExact, kStrideMultiple},
    {{.stride_exact = 1920}, {.stride_min = 1921}, kStrideExact, kStrideMin},
    {{.stride_exact = 1920}, {.stride_max = 1919}, kStrideExact, kStrideMax},
    {{.fences = Fences::kImplicit}, {.fences_needed = Fences::kSyncFile}, kFences, kFencesNeeded},
};

// The fields of both in one set. Requires: no field is in both.
Constraints Both(const Constraints& a, const Constraints& b) {
  Constraints both = a;
  for (size_t i = 0; i < kFieldCount - 1; ++i) {
    const auto field = static_cast<Field>(i);
    if (b.At(field).stated()) both.Set(field, b.At(field));
  }
  return both;
}

TEST_CASE("CheckAlone: a party that contradicts itself is told both of its fields") {
  for (const Excluding& row : kExcluding) {
    CAPTURE(FieldName(row.field_a));
    CAPTURE(FieldName(row.field_b));
    CHECK(CheckAlone(row.a).kind == Problem::Kind::kNone);
    CHECK(CheckAlone(row.b).kind == Problem::Kind::kNone);
    const Problem problem = CheckAlone(Both(row.a, row.b), "isp");
    CHECK(problem.kind == Problem::Kind::kContradiction);
    CHECK(problem.party.view() == "isp");
    CHECK(problem.field == row.field_a);
    CHECK(problem.other == row.field_b);
    CHECK(problem.value == row.a.At(row.field_a).word);
    CHECK(problem.other_value == row.b.At(row.field_b).word);
    CHECK(problem.other_source.how == How::kDeclared);
  }
  const Problem boundary = CheckAlone({.segment_size_max = 8192, .segment_boundary = 4096});
  CHECK(boundary.kind == Problem::Kind::kContradiction);
  CHECK(boundary.field == kSegmentBoundary);
  CHECK(boundary.other == kSegmentSizeMax);
}

Conflict ConflictOfTwo(const Constraints& a, const Constraints& b) {
  const Merged all = MergeOf(a, b);
  REQUIRE(all.clashed());
  const auto set_of = [&](unsigned party) -> const Constraints& { return party == 0 ? a : b; };
  const auto name_of = [](unsigned party) {
    return party == 0 ? PartyName("first") : PartyName("second");
  };
  return all.ConflictOf(all.ConflictPair(set_of), set_of, name_of);
}

TEST_CASE("Merged: a conflict names the fields, both parties, both values and their sources") {
  for (const Excluding& row : kExcluding) {
    CAPTURE(FieldName(row.field_a));
    CAPTURE(FieldName(row.field_b));
    const Conflict conflict = ConflictOfTwo(row.a, row.b);
    CHECK(conflict.a.party.view() == "first");
    CHECK(conflict.b.party.view() == "second");
    CHECK(conflict.a.field == row.field_a);
    CHECK(conflict.b.field == row.field_b);
    CHECK(conflict.a.value == row.a.At(row.field_a).word);
    CHECK(conflict.b.value == row.b.At(row.field_b).word);
    const Conflict turned = ConflictOfTwo(row.b, row.a);
    CHECK(turned.a.party.view() == "second");
    CHECK(turned.a.field == row.field_a);
  }
}

TEST_CASE("Merged: two values of one field that exclude each other are a conflict at that field") {
  const std::pair<Constraints, Constraints> rows[] = {
      {{.size_multiple = 1ull << 63}, {.size_multiple = 3}},
      {{.held = UINT64_MAX}, {.held = 1}},
      {{.slack = 1ull << 63}, {.slack = 1ull << 63}},
      {{.base_align = UINT64_MAX}, {.base_align = 1ull << 32}},
      {{.coherency = Coherency::kMustBeCached}, {.coherency = Coherency::kMustBeUncached}},
      {{.protection = Protection::kForbidden}, {.protection = Protection::kRequired}},
      {{.heaps_allowed = HeapId{1}}, {.heaps_allowed = HeapId{2}}},
      {{.stride_multiple = (1ull << 62) + 1}, {.stride_multiple = 1 << 20}},
      {{.stride_exact = 1920}, {.stride_exact = 2048}},
      {{.width_multiple = 1ull << 63}, {.width_multiple = 3}},
      {{.height_multiple = 1ull << 63}, {.height_multiple = 3}},
      {{.plane_offset_multiple = 1ull << 63}, {.plane_offset_multiple = 3}},
      {{.planes = PlaneFds::kOne}, {.planes = PlaneFds::kSeparate}},
      {{.formats = {{1, 0}, {2, 0}}}, {.formats = {{1, 1}, {3, 0}}}},
  };
  const Field fields[] = {kSizeMultiple, kHeld,          kSlack,          kBaseAlign,
                          kCoherency,    kProtection,    kHeapsAllowed,   kStrideMultiple,
                          kStrideExact,  kWidthMultiple, kHeightMultiple, kPlaneOffsetMultiple,
                          kPlanes,       kFormats};
  for (size_t i = 0; i < std::size(fields); ++i) {
    CAPTURE(FieldName(fields[i]));
    const Conflict conflict = ConflictOfTwo(rows[i].first, rows[i].second);
    CHECK(conflict.a.field == fields[i]);
    CHECK(conflict.b.field == fields[i]);
    CHECK(conflict.a.party.view() == "first");
    CHECK(conflict.b.party.view() == "second");
    CHECK(conflict.b.value == rows[i].second.At(fields[i]).word);
    CHECK(conflict.b.source.how == How::kDeclared);
  }
}

TEST_CASE("Merged: of three parties the conflict names the two that exclude each other") {
  const Constraints sets[] = {{.stride_max = 4096}, {.stride_multiple = 64}, {.stride_min = 8192}};
  Merged all;
  for (unsigned i = 0; i < 3; ++i) all.Add(i, sets[i]);
  all.Check();
  REQUIRE(all.clashed());
  const auto pair =
      all.ConflictPair([&](unsigned party) -> const Constraints& { return sets[party]; });
  CHECK(pair.a == 0);
  CHECK(pair.b == 2);
}

TEST_CASE("Merged: a conflict that needs three parties names two, and the values of all") {
  const Constraints sets[] = {
      {.stride_max = 128}, {.stride_multiple = 48}, {.stride_multiple = Probed(64, 4096)}};
  Merged all;
  for (unsigned i = 0; i < 3; ++i) all.Add(i, sets[i]);
  all.Check();
  REQUIRE(all.clashed());
  const auto set_of = [&](unsigned party) -> const Constraints& { return sets[party]; };
  const Conflict conflict =
      all.ConflictOf(all.ConflictPair(set_of), set_of, [](unsigned) { return PartyName("x"); });
  CHECK(conflict.a.value == 128);
  CHECK(conflict.b.value == 64);
  CHECK(conflict.b.source == Source{How::kProbed, 4096});
  CHECK(conflict.merged_b == 192);
}

TEST_CASE("Merged: an IOMMU satisfies the segments and the addresses of its own device alone") {
  const Constraints mine{.address_limit = AddressOfBits(32), .segments_max = 1, .translated = true};
  const Constraints other{.address_limit = AddressOfBits(40), .segments_max = 7};
  Merged all = MergeOf(mine, other);
  CHECK(all.address_limit() == AddressOfBits(40));
  CHECK(all.segments_max() == 7);
  CHECK(all.mask_of(kTranslated) == 1);
  CHECK(all.mask_of(kSegmentsMax) == 2);
  Constraints without = mine;
  without.translated = false;
  all = MergeOf(without, other);
  CHECK(all.address_limit() == AddressOfBits(32));
  CHECK(all.segments_max() == 1);
  CHECK(all.mask_of(kTranslated) == 0);
}

TEST_CASE("Merged: each value knows its parties") {
  Merged all;
  all.Add(0, {.size_min = 4096, .held = 2, .stride_multiple = 48, .stride_min = 5});
  all.Add(3, {.size_min = 8192, .held = 1, .stride_multiple = 64, .stride_min = 5});
  all.Add(5, {.size_min = 100, .stride_multiple = 1});
  CHECK(all.mask_of(kSizeMin) == 1u << 3);
  CHECK(all.mask_of(kHeld) == (1u | 1u << 3));
  CHECK(all.mask_of(kStrideMultiple) == (1u | 1u << 3));
  CHECK(all.mask_of(kStrideMin) == (1u | 1u << 3));
  CHECK(all.mask_of(kSizeMax) == 0);
  CHECK(all.parties() == (1u | 1u << 3 | 1u << 5));
  CHECK(all.buffers() == 3);
}

TEST_CASE("Merged: caching is what all devices take, and one that does not snoop needs syncs") {
  static constexpr Constraints kSnoops{.coherency = Coherency::kSnoops};
  static constexpr Constraints kSync{.coherency = Coherency::kNeedsSync};
  static constexpr Constraints kUncached{.coherency = Coherency::kMustBeUncached};
  static_assert(!MergeOf(kSnoops, {}).needs_sync() && MergeOf(kSnoops, {}).takes_cached());
  static_assert(MergeOf(kSnoops, kSync).needs_sync() && MergeOf(kSnoops, kSync).takes_uncached());
  static_assert(!MergeOf(kSync, kUncached).takes_cached());
  static_assert(MergeOf(kSync, kUncached).takes_uncached());
  CHECK_FALSE(MergeOf(kSnoops, kUncached).needs_sync());
}

TEST_CASE("Merged: the limits of an image are handed on as plain values") {
  constexpr Merged kAll = MergeOf({.size_multiple = 4096,
                                   .tail_bytes = 10,
                                   .tail_rows = 3,
                                   .base_align = 256,
                                   .stride_multiple = 48,
                                   .stride_min = 100,
                                   .stride_max = 9600,
                                   .width_multiple = 2,
                                   .height_multiple = 16,
                                   .plane_offset_multiple = 64},
                                  {.tail_bytes = 20,
                                   .tail_rows = 2,
                                   .stride_multiple = 64,
                                   .stride_exact = 1920,
                                   .width_multiple = 3,
                                   .height_multiple = 24,
                                   .plane_offset_multiple = 4096});
  static_assert(!kAll.clashed());
  CHECK(kAll.image() == ImageConstraints{.stride_multiple = 192,
                                         .stride_min = 100,
                                         .stride_max = 9600,
                                         .stride_exact = 1920,
                                         .width_multiple = 6,
                                         .height_multiple = 48,
                                         .plane_offset_multiple = 4096,
                                         .base_align = 256,
                                         .tail_bytes = 20,
                                         .tail_rows = 3,
                                         .size_multiple = 4096});
  CHECK(Merged().image() == ImageConstraints());
}

// The properties of the merge, by the compiler.
constexpr Constraints kOne{.size_min = 4096,
                           .held = 2,
                           .address_limit = AddressOfBits(32),
                           .coherency = Coherency::kNeedsSync,
                           .stride_multiple = 48,
                           .formats = {{1, 0}, {2, 0}, {3, 0}}};
constexpr Constraints kTwo{.size_min = 1,
                           .held = 3,
                           .address_limit = AddressOfBits(40),
                           .coherency = Coherency::kSnoops,
                           .stride_multiple = 64,
                           .formats = {{2, 0}, {3, 0}}};
constexpr Constraints kThree{.held = 1, .stride_multiple = 5, .formats = {{3, 0}, {9, 0}}};
constexpr Merged Single(unsigned party, const Constraints& set) {
  Merged all;
  all.Add(party, set);
  return all;
}
constexpr Merged Sum(Merged a, const Merged& b) {
  a.Add(b);
  return a;
}
static_assert(Sum(Single(0, kOne), Single(1, kTwo)) == Sum(Single(1, kTwo), Single(0, kOne)));
static_assert(Sum(Sum(Single(0, kOne), Single(1, kTwo)), Single(2, kThree)) ==
              Sum(Single(0, kOne), Sum(Single(1, kTwo), Single(2, kThree))));
static_assert(Sum(Merged(), Single(1, kTwo)) == Single(1, kTwo));
static_assert(MergeOf(kOne, kTwo).stride_multiple() == 192);
static_assert(MergeOf(kOne, kTwo).address_limit() == 0xffffffff);
static_assert(MergeOf(kOne, kTwo).buffers() == 5);
static_assert(MergeOf(kOne, kThree).formats().formats().size() == 1);
static_assert(MergeOf({.stride_multiple = 1ull << 63}, {.stride_multiple = 3}).clashed());

// A random set without a problem of its own: few values for each field, so that some meet, some
// clash, and some overflow.
class RandomSets {
 public:
  Constraints Next() {
    for (;;) {
      Constraints set;
      for (size_t i = 0; i < kFieldCount - 1; ++i) {
        if (random_() % 4 != 0) continue;
        const auto field = static_cast<Field>(i);
        set.Set(field, StatedWord(Word(field), {How::kDeclared, 0}));
      }
      if (random_() % 4 == 0) {
        std::array<FormatModifier, 4> formats;
        for (FormatModifier& format : formats) {
          format = {static_cast<uint32_t>(1 + random_() % 5), random_() % 2};
        }
        set.formats = FormatSet(std::span<const FormatModifier>(formats));
      }
      if (CheckAlone(set).kind == Problem::Kind::kNone) return set;
    }
  }

 private:
  uint64_t Word(Field field) {
    constexpr uint64_t kFew[] = {1, 2, 3, 16, 48, 64, 4096, 1 << 20};
    const bool huge = random_() % 64 == 0;
    switch (RuleOf(field)) {
      case MergeRule::kLcm:
        return huge ? (1ull << 63) - random_() % 3 : kFew[random_() % std::size(kFew)];
      case MergeRule::kSum:
        return huge ? UINT64_MAX - random_() % 8 : random_() % 8;
      case MergeRule::kEqual:
        return 64 * (1 + random_() % 2);
      case MergeRule::kPerDevice:
        return random_() % 2;
      default:
        break;
    }
    switch (field) {
      case kCpuRead:
      case kCpuWrite:
      case kFences:
      case kFencesNeeded:
        return random_() % 3;
      case kKernelCpuWrites:
      case kCcShared:
        return random_() % 2;
      case kCoherency:
        return (std::array{3, 5, 6, 7})[random_() % 4];
      case kProtection:
      case kPlanes:
        return 1 + random_() % 3;
      case kExporterNeeds:
        return random_() % 16;
      case kHeapsAllowed:
        return 1 + random_() % 15;
      case kHeapsDenied:
        return random_() % 4;
      case kSegmentBoundary:
      case kSegmentMultiple:
        return 1ull << random_() % 40;
      default:
        return kFew[random_() % std::size(kFew)] * (random_() % 2 == 0 ? 4096 : 1 << 20);
    }
  }

  std::minstd_rand random_{42};
};

// True if `word` of all is at least as strict as a party's own.
bool AsStrict(Field field, uint64_t all, uint64_t own) {
  switch (RuleOf(field)) {
    case MergeRule::kMax:
    case MergeRule::kSum:
      return all >= own;
    case MergeRule::kMin:
      return all <= own;
    case MergeRule::kLcm:
      return all % own == 0;
    case MergeRule::kOr:
    case MergeRule::kPerDevice:
      return (all & own) == own;
    case MergeRule::kAnd:
      return (all & ~own) == 0;
    case MergeRule::kEqual:
      return all == own;
  }
  return false;
}

// The fields of `all` that are weaker than those of `set`.
size_t WeakerThan(const Merged& all, const Constraints& set) {
  size_t weaker = 0;
  const bool translated = set.translated.stated() && set.translated.value();
  for (size_t i = 0; i < kFieldCount - 1; ++i) {
    const auto field = static_cast<Field>(i);
    const StatedWord own = set.At(field);
    if (!own.stated() || (translated && (field == kSegmentsMax || field == kAddressLimit)))
      continue;
    weaker += AsStrict(field, all.word_of(field), own.word) ? 0 : 1;
  }
  if (set.formats.stated()) {
    for (const FormatModifier& format : all.formats().formats())
      weaker += set.formats.Takes(format) ? 0 : 1;
  }
  return weaker;
}

// True if a minimum or maximum of all is one that a party states, or the neutral one.
bool IsOnes(const Merged& all, const std::array<Constraints, 3>& sets) {
  for (size_t i = 0; i < kFieldCount - 1; ++i) {
    const auto field = static_cast<Field>(i);
    const MergeRule rule = RuleOf(field);
    if (rule != MergeRule::kMax && rule != MergeRule::kMin) continue;
    const uint64_t word = all.word_of(field);
    if (word == NeutralOf(field)) continue;
    if (std::ranges::none_of(sets, [&](const Constraints& set) {
          return set.At(field).stated() && set.At(field).word == word;
        })) {
      return false;
    }
  }
  return true;
}

TEST_CASE(
    "Merged: over random sets it is commutative, associative, and never weaker than a party") {
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  constexpr size_t kRounds = 340'000;  // of three sets each
#else
  constexpr size_t kRounds = 60'000;
#endif
  RandomSets random;
  size_t clashed = 0;
  size_t turned = 0;
  size_t regrouped = 0;
  size_t weaker = 0;
  size_t stricter = 0;
  for (size_t round = 0; round < kRounds; ++round) {
    const std::array<Constraints, 3> sets = {random.Next(), random.Next(), random.Next()};
    const Merged a = Single(0, sets[0]);
    const Merged b = Single(1, sets[1]);
    const Merged c = Single(2, sets[2]);
    const Merged ab_c = Sum(Sum(a, b), c);
    turned += Sum(a, b) == Sum(b, a) ? 0 : 1;
    regrouped += ab_c == Sum(a, Sum(b, c)) ? 0 : 1;
    Merged one_by_one;
    for (unsigned party : {2u, 0u, 1u}) one_by_one.Add(party, sets[party]);
    turned += one_by_one == ab_c ? 0 : 1;
    if (ab_c.clashed()) {
      ++clashed;
      continue;
    }
    for (const Constraints& set : sets) weaker += WeakerThan(ab_c, set);
    stricter += IsOnes(ab_c, sets) ? 0 : 1;
  }
  CHECK(turned == 0);
  CHECK(regrouped == 0);
  CHECK(weaker == 0);
  CHECK(stricter == 0);
  // Both kinds were there.
  CHECK(clashed > kRounds / 100);
  CHECK(clashed < kRounds / 100 * 99);
}

// Fuchsia's sysmem2, by the documentation of its interface: one row for each rule that both have.
struct SysmemRow {
  const char* field;  // of sysmem2
  Constraints a;
  Constraints b;
  Field ours;
  std::optional<uint64_t> sysmem;  // none: it refuses them
  std::optional<uint64_t> merged;  // none: so do we
  const char* why = "";            // if they differ
};
constexpr SysmemRow kSysmemRows[] = {
    {"min_buffer_count_for_camping", {.held = 2}, {.held = 3}, kHeld, 5, 5},
    {"min_buffer_count_for_dedicated_slack", {.slack = 1}, {.slack = 2}, kSlack, 3, 3},
    {"min_buffer_count_for_shared_slack",
     {.shared_slack = 1},
     {.shared_slack = 2},
     kSharedSlack,
     2,
     2},
    {"max_buffer_count", {.buffers_max = 8}, {.buffers_max = 6}, kBuffersMax, 6, 6},
    {"more camping than max_buffer_count", {.held = 7}, {.buffers_max = 6}, kHeld, {}, {}},
    {"no count at all",
     {.size_min = 1},
     {},
     kHeld,
     {},
     0,
     "a choice of memory needs no count: 0 tells that no party states one"},
    {"min_size_bytes", {.size_min = 4096}, {.size_min = 8192}, kSizeMin, 8192, 8192},
    {"max_size_bytes", {.size_max = 4096}, {.size_max = 8192}, kSizeMax, 4096, 4096},
    {"min_size_bytes above max_size_bytes", {.size_min = 2}, {.size_max = 1}, kSizeMin, {}, {}},
    {"physically_contiguous_required", {.segments_max = 1}, {}, kSegmentsMax, 1, 1},
    {"base alignment, powers of two",
     {.base_align = 64},
     {.base_align = 256},
     kBaseAlign,
     256,
     256},
    {"base alignment, others",
     {.base_align = 48},
     {.base_align = 64},
     kBaseAlign,
     {},
     192,
     "any multiple is taken, and the least common one satisfies both"},
    {"secure_required", {.protection = Protection::kRequired}, {}, kProtection, 2, 2},
    {"secure_required with CPU usage",
     {.protection = Protection::kRequired},
     {.cpu_read = CpuUse::kOften},
     kProtection,
     {},
     {}},
    {"cpu_domain_supported and ram_domain_supported",
     {.coherency = Coherency::kMustBeCached},
     {.coherency = Coherency::kMustBeUncached},
     kCoherency,
     {},
     {}},
    {"permitted_heaps",
     {.heaps_allowed = HeapId{1} | HeapId{2}},
     {.heaps_allowed = HeapId{2} | HeapId{3}},
     kHeapsAllowed,
     4,
     4},
    {"permitted_heaps without a common one",
     {.heaps_allowed = HeapId{1}},
     {.heaps_allowed = HeapId{3}},
     kHeapsAllowed,
     {},
     {}},
    {"pixel_format_and_modifiers",
     {.formats = {{1, 0}, {2, 7}}},
     {.formats = {{2, 7}, {3, 0}}},
     kFormats,
     1,
     1},
    {"pixel_format_and_modifiers, other modifiers",
     {.formats = {{1, 0}}},
     {.formats = {{1, 1}}},
     kFormats,
     {},
     {}},
    {"min_bytes_per_row", {.stride_min = 64}, {.stride_min = 65}, kStrideMin, 65, 65},
    {"max_bytes_per_row", {.stride_max = 64}, {.stride_max = 65}, kStrideMax, 64, 64},
    {"bytes_per_row_divisor",
     {.stride_multiple = 48},
     {.stride_multiple = 64},
     kStrideMultiple,
     192,
     192},
    {"size_alignment",
     {.height_multiple = 16},
     {.height_multiple = 24},
     kHeightMultiple,
     24,
     48,
     "24 rows are no multiple of 16: the larger one of two does not satisfy both"},
    {"start_offset_divisor",
     {.plane_offset_multiple = 48},
     {.plane_offset_multiple = 64},
     kPlaneOffsetMultiple,
     64,
     192,
     "64 is no multiple of 48: the larger one of two does not satisfy both"},
    {"pad_beyond_image_size_bytes", {.tail_bytes = 10}, {.tail_bytes = 20}, kTailBytes, 20, 20},
};

TEST_CASE("Merged: as sysmem2 documents its rules, but for the rows that say why not") {
  for (const SysmemRow& row : kSysmemRows) {
    CAPTURE(row.field);
    const Merged all = MergeOf(row.a, row.b);
    CHECK(all.clashed() == !row.merged.has_value());
    if (row.merged.has_value() && !all.clashed()) {
      const uint64_t word =
          row.ours == kFormats ? all.formats().formats().size() : all.word_of(row.ours);
      CHECK(word == *row.merged);
    }
    CHECK((row.sysmem == row.merged) == std::string_view(row.why).empty());
  }
  // Refused of one participant alone.
  CHECK(CheckAlone({.size_min = 2, .size_max = 1}).kind != Problem::Kind::kNone);
  CHECK(CheckAlone({.base_align = 0}).kind != Problem::Kind::kNone);
  CHECK(CheckAlone({.cpu_read = CpuUse::kRare, .protection = Protection::kRequired}).kind !=
        Problem::Kind::kNone);
  CHECK(CheckAlone({.heaps_allowed = HeapMask()}).kind != Problem::Kind::kNone);
}

}  // namespace
}  // namespace ion::testing
