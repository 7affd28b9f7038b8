// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/merge.h
//
// Merged: the demands of several parties as one set, which is never weaker than one party's. Before
// the merge, CheckAlone refuses a party that contradicts itself, and the values that a device's own
// IOMMU satisfies are left out (segments_max and address_limit of a party that is `translated`).
// The order of the parties does not matter.
//
// Two demands that nothing satisfies are a Conflict: the field, both parties, both values and their
// sources, as data. ion/choice_text.h makes sentences.
//
// To find memory for parties, call Choose (ion/choice.h), which does all of this.
//
// Example:
//   constexpr ion::Constraints kCamera{.held = 4, .stride_multiple = 48};
//   constexpr ion::Constraints kGpu{.held = 2, .stride_multiple = 64};
//   ion::Merged all;
//   all.Add(0, kCamera);
//   all.Add(1, kGpu);
//   if (!all.clashed()) return {all.buffers(), all.stride_multiple()};  // 6 and 192
//
// Cost: one step for each field that a party states; 1.5 KiB, no heap memory.
// Thread-compatible.
#ifndef ION_ION_MERGE_H_
#define ION_ION_MERGE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>

#include "ion/base/multiple.h"
#include "ion/constraints.h"
#include "ion/heap_id.h"
#include "ion/image_constraints.h"

namespace ion {

// A set of parties, by their places in a list: bit N for place N.
using PartyMask = uint16_t;
static_assert(kMostParties == 16);

// Bad input: a value that no field takes, a party that contradicts itself, or too many of
// something.
struct Problem {
  enum class Kind : uint8_t {
    kNone,
    kValue,                // the value of `field` is refused: `rule`
    kContradiction,        // the party's own `field` and `other` exclude each other
    kNoParty,              // the list is empty
    kTooManyParties,       // `value` of them, more than kMostParties
    kNoAlternative,        // the party offers no set
    kTooManyAlternatives,  // `value` of them, more than kMostAlternatives
    kTooManyCombinations,  // more than kMostCombinations ways to pick a set of each party
    kTooManyHeaps,         // `value` of them, more than HeapId::kCount
    kNoHeaps,              // no heap is offered
    kOneHeapTwice,         // `value` is the id of two heaps
    kBadHeap,              // heap `value` has an alignment or a granule that is no power of two, or
                           // 0 pieces
  };
  Kind kind = Kind::kNone;
  PartyName party;
  uint8_t alternative = 0;
  Field field = Field::kSizeMin;
  Field other = Field::kSizeMin;
  uint64_t value = 0;
  uint64_t other_value = 0;
  Source source;
  Source other_source;
  const char* rule = "";  // static text
};

// One side of a conflict. Of formats, the value is their number.
struct ConflictSide {
  PartyName party;
  Field field = Field::kSizeMin;
  uint64_t value = 0;
  Source source;
  friend constexpr bool operator==(const ConflictSide&, const ConflictSide&) = default;
};

// Two demands that nothing satisfies. `merged_a` and `merged_b` are the values of the two fields
// for all parties: two parties alone may get along, and a third one not with both.
struct Conflict {
  ConflictSide a;
  ConflictSide b;
  uint64_t merged_a = 0;
  uint64_t merged_b = 0;
  friend constexpr bool operator==(const Conflict&, const Conflict&) = default;
};

namespace internal {

constexpr std::optional<uint64_t> CommonMultiple(uint64_t a, uint64_t b) noexcept {
  if (a % b == 0) return a;
  uint64_t product = 0;
  if (__builtin_mul_overflow(a / std::gcd(a, b), b, &product)) return std::nullopt;
  return product;
}
constexpr uint64_t SaturatedProduct(uint64_t a, uint64_t b) noexcept {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

// The bits of which one has to be left.
constexpr uint64_t UsefulBits(Field field) noexcept {
  return field == Field::kCoherency ? 3 : NeutralOf(field);
}

// Merges `word` into `into` by a rule. Returns false on a conflict, without a change.
constexpr bool Combine(MergeRule rule, uint64_t useful, uint64_t neutral, uint64_t& into,
                       uint64_t word) noexcept {
  switch (rule) {
    case MergeRule::kMax:
      into = std::max(into, word);
      return true;
    case MergeRule::kMin:
      into = std::min(into, word);
      return true;
    case MergeRule::kLcm: {
      const std::optional<uint64_t> lcm = CommonMultiple(into, word);
      if (!lcm.has_value()) return false;
      into = *lcm;
      return true;
    }
    case MergeRule::kOr:
    case MergeRule::kPerDevice:
      into |= word;
      return true;
    case MergeRule::kAnd:
      if ((into & word & useful) == 0) return false;
      into &= word;
      return true;
    case MergeRule::kSum: {
      uint64_t sum = 0;
      if (__builtin_add_overflow(into, word, &sum)) return false;
      into = sum;
      return true;
    }
    case MergeRule::kEqual:
      if (into != neutral && into != word) return false;
      into = word;
      return true;
  }
  return true;
}

// The rule that a stated value of a field breaks, as a text; nullptr: none.
constexpr const char* BrokenRule(Field field, uint64_t word) noexcept {
  constexpr const char* kNoValue = "is none of the field's values";
  if (RuleOf(field) == MergeRule::kLcm) {
    return word == 0 ? "is 0, and 1 asks for no multiple" : nullptr;
  }
  switch (field) {
    case Field::kSegmentMultiple:
    case Field::kSegmentBoundary:
      return word != 0 && (word & (word - 1)) == 0 ? nullptr : "is no power of two";
    case Field::kSegmentSizeMax:
      return word >= 4096 ? nullptr : "is below a page of 4096 bytes";
    case Field::kAddressLimit:
      return word >= 4095 ? nullptr : "ends within the first page";
    case Field::kSegmentsMax:
    case Field::kSizeMax:
    case Field::kBuffersMax:
    case Field::kStrideMax:
    case Field::kStrideExact:
      return word != 0 ? nullptr : "is 0, which nothing satisfies";
    case Field::kHeapsAllowed:
      return word == 0 ? "names no heap" : word > UINT32_MAX ? kNoValue : nullptr;
    case Field::kHeapsDenied:
      return word > UINT32_MAX ? kNoValue : nullptr;
    case Field::kKernelCpuWrites:
    case Field::kCcShared:
    case Field::kTranslated:
      return word > 1 ? kNoValue : nullptr;
    case Field::kCpuRead:
    case Field::kCpuWrite:
    case Field::kFences:
    case Field::kFencesNeeded:
      return word > 2 ? kNoValue : nullptr;
    case Field::kCoherency:
      return word != 7 && word != 3 && word != 6 && word != 5 ? kNoValue : nullptr;
    case Field::kProtection:
    case Field::kPlanes:
      return word == 0 || word > 3 ? kNoValue : nullptr;
    case Field::kExporterNeeds:
      return word > 15 ? kNoValue : nullptr;
    default:
      return nullptr;
  }
}

// Two fields that exclude each other.
struct Clash {
  Field a;
  Field b;
};

// The first pair of fields, of one party or of all, that exclude each other. `get(field)` is the
// field's value, the neutral one if it is not stated.
template <class Get>
constexpr std::optional<Clash> CrossCheck(const Get& get) noexcept {
  using enum Field;
  // The buffer's size.
  uint64_t size = std::max<uint64_t>(get(kSizeMin), 1);
  if (!RoundUpInPlace(size, get(kSizeMultiple))) return Clash{kSizeMin, kSizeMultiple};
  if (size > get(kSizeMax)) {
    return Clash{kSizeMax, get(kSizeMin) > get(kSizeMax) ? kSizeMin : kSizeMultiple};
  }
  // The number of buffers.
  uint64_t buffers = 0;
  if (__builtin_add_overflow(get(kHeld), get(kSlack), &buffers)) return Clash{kHeld, kSlack};
  if (__builtin_add_overflow(buffers, get(kSharedSlack), &buffers)) {
    return Clash{kSharedSlack, get(kHeld) >= get(kSlack) ? kHeld : kSlack};
  }
  if (buffers > get(kBuffersMax)) {
    const uint64_t most = std::max({get(kHeld), get(kSlack), get(kSharedSlack)});
    return Clash{kBuffersMax, most == get(kHeld)    ? kHeld
                              : most == get(kSlack) ? kSlack
                                                    : kSharedSlack};
  }
  // Pieces.
  const uint64_t piece = std::min(get(kSegmentSizeMax), get(kSegmentBoundary));
  const Field shortest = piece == get(kSegmentSizeMax) ? kSegmentSizeMax : kSegmentBoundary;
  if (get(kSegmentMultiple) > piece) return Clash{shortest, kSegmentMultiple};
  if (SaturatedProduct(piece, get(kSegmentsMax)) < size) {
    return Clash{shortest, kSegmentsMax};
  }
  // Heaps.
  if ((get(kHeapsAllowed) & ~get(kHeapsDenied) & UINT32_MAX) == 0) {
    const bool all_allowed = get(kHeapsAllowed) == NeutralOf(kHeapsAllowed);
    return Clash{all_allowed ? kHeapsDenied : kHeapsAllowed, kHeapsDenied};
  }
  // No CPU reaches protected memory.
  if (get(kProtection) == static_cast<uint64_t>(Protection::kRequired)) {
    if (get(kCpuRead) != 0) return Clash{kProtection, kCpuRead};
    if (get(kCpuWrite) != 0) return Clash{kProtection, kCpuWrite};
    if (get(kKernelCpuWrites) != 0) return Clash{kProtection, kKernelCpuWrites};
    constexpr auto kCpus = static_cast<uint64_t>(ExporterNeeds::kVmap | ExporterNeeds::kMmap);
    if ((get(kExporterNeeds) & kCpus) != 0) return Clash{kProtection, kExporterNeeds};
  }
  // Strides.
  uint64_t stride = std::max<uint64_t>(get(kStrideMin), 1);
  if (!RoundUpInPlace(stride, get(kStrideMultiple))) return Clash{kStrideMin, kStrideMultiple};
  if (stride > get(kStrideMax)) {
    return Clash{kStrideMax, get(kStrideMin) > get(kStrideMax) ? kStrideMin : kStrideMultiple};
  }
  if (const uint64_t exact = get(kStrideExact); exact != 0) {
    if (exact % get(kStrideMultiple) != 0) return Clash{kStrideExact, kStrideMultiple};
    if (exact < get(kStrideMin)) return Clash{kStrideExact, kStrideMin};
    if (exact > get(kStrideMax)) return Clash{kStrideExact, kStrideMax};
  }
  if (get(kFences) < get(kFencesNeeded)) return Clash{kFences, kFencesNeeded};
  return std::nullopt;
}

}  // namespace internal

// Checks one set of a party's demands alone: each value, and the values with each other. The party
// and the place of its set are copied into a Problem.
constexpr Problem CheckAlone(const Constraints& set, const PartyName& party = {},
                             uint8_t alternative = 0) noexcept {
  const auto refused = [&](Field field, const char* rule) {
    const StatedWord is = set.At(field);
    return Problem{.kind = Problem::Kind::kValue,
                   .party = party,
                   .alternative = alternative,
                   .field = field,
                   .value = is.word,
                   .source = is.source(),
                   .other_source = {},
                   .rule = rule};
  };
  uint64_t words[kFieldCount] = {};
#define ION_CONSTRAINT_FIELD(name, enumerator, type, merge_rule, neutral, sentence) \
  if (set.name.stated()) {                                                          \
    words[static_cast<size_t>(Field::enumerator)] = set.name.word;                  \
    if (const char* rule = internal::BrokenRule(Field::enumerator, set.name.word);  \
        rule != nullptr) {                                                          \
      return refused(Field::enumerator, rule);                                      \
    }                                                                               \
  } else {                                                                          \
    words[static_cast<size_t>(Field::enumerator)] = neutral;                        \
  }
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  // One success proves nothing of the next buffer, which may lie higher.
  if (set.address_limit.stated() && set.address_limit.source().how == How::kProbed) {
    return refused(Field::kAddressLimit, "is known by no probe: declare it, or read it");
  }
  if (set.formats.stated()) {
    const std::span<const FormatModifier> formats = set.formats.formats();
    if (set.formats.overflowed()) return refused(Field::kFormats, "has more than 64 formats");
    if (formats.empty()) return refused(Field::kFormats, "has no format");
    if (formats.front().id == 0) return refused(Field::kFormats, "has the format 0, which is none");
  }
  const auto get = [&](Field field) { return words[static_cast<size_t>(field)]; };
  std::optional<internal::Clash> clash = internal::CrossCheck(get);
  // A boundary below the size of a piece leaves no piece of that size.
  if (!clash.has_value() && set.segment_size_max.stated() &&
      get(Field::kSegmentBoundary) < get(Field::kSegmentSizeMax)) {
    clash = internal::Clash{Field::kSegmentBoundary, Field::kSegmentSizeMax};
  }
  if (!clash.has_value()) return {};
  Problem problem = refused(clash->a, ConflictSentence(clash->a));
  problem.kind = Problem::Kind::kContradiction;
  problem.other = clash->b;
  problem.other_value = set.At(clash->b).word;
  problem.other_source = set.At(clash->b).source();
  return problem;
}

// The demands of several parties as one set.
class Merged {
 public:
  constexpr Merged() noexcept {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  words_[static_cast<size_t>(Field::enumerator)] = neutral;
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  }

  // Adds a party's demands. After a conflict it does nothing. Requires: CheckAlone finds no problem
  // in `set`; party < kMostParties.
  constexpr void Add(unsigned party, const Constraints& set) noexcept {
    const auto mask = static_cast<PartyMask>(1u << party);
    parties_ = static_cast<PartyMask>(parties_ | mask);
    const bool translated = set.translated.stated() && set.translated.value();
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence)  \
  if (set.name.stated() && !clashed_ &&                                        \
      !(translated && (Field::enumerator == Field::kSegmentsMax ||             \
                       Field::enumerator == Field::kAddressLimit))) {          \
    Include(Field::enumerator, MergeRule::rule, neutral, set.name.word, mask); \
  }
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
    if (!clashed_ && set.formats.stated()) IncludeFormats(set.formats, mask);
  }

  // Adds the demands of the parties of another merge. Requires: they are not in this one.
  constexpr void Add(const Merged& other) noexcept {
    parties_ = static_cast<PartyMask>(parties_ | other.parties_);
    if (clashed_) return;
    if (other.clashed_) {
      clashed_ = true;
      clash_ = other.clash_;
      clash_a_ = other.clash_a_;
      clash_b_ = other.clash_b_;
      return;
    }
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence)              \
  if (other.mask_of(Field::enumerator) != 0 && !clashed_) {                                \
    Include(Field::enumerator, MergeRule::rule, neutral, other.word_of(Field::enumerator), \
            other.mask_of(Field::enumerator));                                             \
  }
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
    if (!clashed_ && other.formats_.stated()) {
      IncludeFormats(other.formats_, other.mask_of(Field::kFormats));
    }
  }

  // Looks for fields of different names that exclude each other: a stride of one party that is
  // larger than another one takes. To be called when all parties are there.
  constexpr void Check() noexcept {
    if (clashed_) return;
    const auto clash = internal::CrossCheck([&](Field field) { return word_of(field); });
    if (!clash.has_value()) return;
    clashed_ = true;
    clash_ = *clash;
    clash_a_ = mask_of(clash->a);
    clash_b_ = mask_of(clash->b);
  }

  // True if two demands exclude each other. The merged values are then of no use.
  constexpr bool clashed() const noexcept { return clashed_; }
  // The parties of the merge.
  constexpr PartyMask parties() const noexcept { return parties_; }
  // A field's value as a word: the neutral one if no party states it.
  constexpr uint64_t word_of(Field field) const noexcept {
    return words_[static_cast<size_t>(field)];
  }
  // The parties from which the value comes: of a minimum, a maximum or an equal value those that
  // state exactly it, of the other rules all that contribute. Of `translated`: the parties for
  // which an IOMMU satisfies segments_max and address_limit.
  constexpr PartyMask mask_of(Field field) const noexcept {
    return masks_[static_cast<size_t>(field)];
  }

  // A field's value: `size_min()`, `cpu_read()` and so on.
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  constexpr type name() const noexcept {                                      \
    return internal::FromWord<type>(word_of(Field::enumerator));              \
  }
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD

  // The formats that all parties take; not stated if no party names any.
  constexpr const FormatSet& formats() const noexcept { return formats_; }
  // The number of buffers that the parties need together; 0 if no party states one.
  constexpr uint64_t buffers() const noexcept { return held() + slack() + shared_slack(); }
  // The least size of a buffer in bytes, a multiple of size_multiple; 0 if no party states one.
  constexpr uint64_t bytes() const noexcept {
    uint64_t bytes = size_min();
    return internal::RoundUpInPlace(bytes, size_multiple()) ? bytes : UINT64_MAX;
  }
  // True if one party's CPU, or driver's CPU, reads or writes.
  constexpr bool uses_cpu() const noexcept {
    return cpu_read() != CpuUse::kNone || cpu_write() != CpuUse::kNone || kernel_cpu_writes();
  }
  // True if a device does not see the CPU's caches: each access needs begin and end.
  constexpr bool needs_sync() const noexcept { return (word_of(Field::kCoherency) & 4) == 0; }
  // True if cached memory suits all devices; the same of uncached memory.
  constexpr bool takes_cached() const noexcept { return (word_of(Field::kCoherency) & 1) != 0; }
  constexpr bool takes_uncached() const noexcept { return (word_of(Field::kCoherency) & 2) != 0; }

  // The limits of an image's layout, as plain values.
  constexpr ImageConstraints image() const noexcept {
    return {.stride_multiple = stride_multiple(),
            .stride_min = stride_min(),
            .stride_max = stride_max(),
            .stride_exact = stride_exact(),
            .width_multiple = width_multiple(),
            .height_multiple = height_multiple(),
            .plane_offset_multiple = plane_offset_multiple(),
            .base_align = base_align(),
            .tail_bytes = tail_bytes(),
            .tail_rows = tail_rows(),
            .size_multiple = size_multiple()};
  }

  // True if the values, the formats and their parties are the same. Two merges that clashed are
  // equal.
  friend constexpr bool operator==(const Merged& a, const Merged& b) noexcept {
    if (a.parties_ != b.parties_) return false;
    if (a.clashed_ || b.clashed_) return a.clashed_ && b.clashed_;
    return a.words_ == b.words_ && a.masks_ == b.masks_ &&
           std::ranges::equal(a.formats_.formats(), b.formats_.formats());
  }

  // The places of the two parties of a conflict.
  struct Pair {
    unsigned a;
    unsigned b;
  };
  // The parties of the conflict of a merge that clashed. `set_of(party)` is the set that was added
  // for the party at that place.
  template <class SetOf>
  constexpr Pair ConflictPair(const SetOf& set_of) const noexcept {
    // Two parties that exclude each other without a third one, if there are such.
    for (unsigned a = 0; a < kMostParties; ++a) {
      for (unsigned b = 0; b < kMostParties; ++b) {
        if (a == b || (clash_a_ >> a & 1) == 0 || (clash_b_ >> b & 1) == 0) continue;
        Merged two;
        two.Add(0, set_of(a));
        two.Add(1, set_of(b));
        two.Check();
        if (two.clashed_ && two.clash_.a == clash_.a && two.clash_.b == clash_.b) return {a, b};
      }
    }
    // Else those with the largest shares.
    const unsigned a = Largest(set_of, clash_.a, clash_a_, kMostParties);
    return {a, Largest(set_of, clash_.b, clash_b_, a)};
  }
  // The same conflict with the values and sources of the two. `name_of(party)` is a party's name.
  template <class SetOf, class NameOf>
  constexpr Conflict ConflictOf(const Pair& pair, const SetOf& set_of,
                                const NameOf& name_of) const noexcept {
    const auto side = [&](unsigned party, Field field) {
      const StatedWord is = set_of(party).At(field);
      return ConflictSide{name_of(party), field, is.word, is.source()};
    };
    return {side(pair.a, clash_.a), side(pair.b, clash_.b), word_of(clash_.a), word_of(clash_.b)};
  }

 private:
  constexpr void Include(Field field, MergeRule rule, uint64_t neutral, uint64_t word,
                         PartyMask mask) noexcept {
    uint64_t& into = words_[static_cast<size_t>(field)];
    PartyMask& from = masks_[static_cast<size_t>(field)];
    const uint64_t before = into;
    if (!internal::Combine(rule, internal::UsefulBits(field), neutral, into, word)) {
      Conflicted(field, from, mask);
      return;
    }
    // A minimum or maximum comes from those that state it.
    const bool extreme = rule == MergeRule::kMax || rule == MergeRule::kMin;
    const bool counts = extreme ? into == word : word != neutral;
    if (extreme && into != before) from = 0;
    if (counts) from = static_cast<PartyMask>(from | mask);
  }
  constexpr void IncludeFormats(const FormatSet& formats, PartyMask mask) noexcept {
    PartyMask& from = masks_[static_cast<size_t>(Field::kFormats)];
    formats_.Intersect(formats);
    if (formats_.formats().empty()) Conflicted(Field::kFormats, from, mask);
    from = static_cast<PartyMask>(from | mask);
  }
  constexpr void Conflicted(Field field, PartyMask before, PartyMask added) noexcept {
    clashed_ = true;
    clash_ = {field, field};
    clash_a_ = before;
    clash_b_ = added;
  }
  // The party of `mask`, if possible not `other`, whose own value is the largest.
  template <class SetOf>
  static constexpr unsigned Largest(const SetOf& set_of, Field field, PartyMask mask,
                                    unsigned other) noexcept {
    unsigned found = kMostParties;
    for (unsigned party = 0; party < kMostParties; ++party) {
      if ((mask >> party & 1) == 0 || party == other) continue;
      if (found == kMostParties || set_of(party).At(field).word > set_of(found).At(field).word) {
        found = party;
      }
    }
    return found < kMostParties ? found : other < kMostParties ? other : 0;
  }

  std::array<uint64_t, kFieldCount> words_{};
  std::array<PartyMask, kFieldCount> masks_{};
  PartyMask parties_ = 0;
  bool clashed_ = false;
  internal::Clash clash_{};
  PartyMask clash_a_ = 0;
  PartyMask clash_b_ = 0;
  FormatSet formats_;
};

}  // namespace ion

#endif  // ION_ION_MERGE_H_
