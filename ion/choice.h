// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/choice.h
//
// Choose: the heaps that satisfy all parties, the best one first. The order of work: each party's
// demands are checked alone, those that its IOMMU satisfies are left out, the rest is merged, heaps
// are matched, and those that fit are ranked. If a party offers several sets, the first combination
// that can be satisfied wins, the first set of each party first, and the last party's set changes
// first. A party that may be dispensed with is left out if no combination with it can be satisfied.
//
// The answer is data: the ids of the heaps in order, for a caller that tries one after the other; a
// verdict on each heap; and, if there is none, the two parties, fields, values and sources that
// exclude each other. ion/choice_text.h makes sentences of it.
//
// Nothing is allocated, neither device memory nor heap memory: Supports asks only.
//
// Example:
//   constexpr ion::Constraints kCodec{.segments_max = 1};
//   constexpr ion::Constraints kCpu{.cpu_read = ion::CpuUse::kOften};
//   constexpr ion::Party kParties[] = {{"codec", kCodec}, {"cpu", kCpu}};
//   constexpr ion::HeapOffer kHeaps[] = {
//       {ion::HeapId{0}, "system", {.ram = true, .mappable = true}},
//       {ion::HeapId{4}, "linux,cma", {.segments = 1, .ram = true, .mappable = true}}};
//   constexpr ion::Choice kChoice = ion::Choose(kParties, kHeaps);
//   static_assert(kChoice.ok() && kChoice.best() == ion::HeapId{4});
//
// Cost: 1.3 us for 8 parties and 8 heaps with 18 fields and 16 formats each, 2.1 us with all fields
// and 64 formats (g++ 12, -O2, a slow core); at most 256 times that with alternatives. 5 KiB of
// stack. Thread-safe.
#ifndef ION_ION_CHOICE_H_
#define ION_ION_CHOICE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <span>
#include <utility>

#include "ion/base/known.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/merge.h"

namespace ion {

struct ChoiceOptions {
  // The highest address of the machine's memory (ReadMemoryTops, ion/base/memory_top.h): the top of
  // each heap of RAM of which no lower one is known.
  std::optional<uint64_t> memory_top = {};
  // Heaps that go first, in this order, if they fit. Borrowed.
  std::span<const HeapId> prefer = {};
};

// The answer for one heap.
struct HeapVerdict {
  HeapId id{0};
  bool fits = false;
  // If it does not fit: the demand, the party (its place) that has it, and the heap's value.
  Field field = Field::kSizeMin;
  uint8_t party = 0;
  uint64_t wanted = 0;
  std::optional<uint64_t> has = {};  // none: not known
  Source source = {};                // of the heap's value
  // If it fits: the policy's cost, and the heap's place in the order.
  uint64_t cost = 0;
  uint8_t place = 0;

  friend constexpr bool operator==(const HeapVerdict&, const HeapVerdict&) = default;
};

// A policy of ranking: the cost of a heap that fits; a lower one goes first, and the order of the
// offers decides between equal ones.
template <class P>
concept RankPolicy = requires(const P& policy, const Merged& all, const HeapOffer& heap,
                              const ChoiceOptions& options) {
  { policy.Cost(all, heap, options) } noexcept -> std::same_as<uint64_t>;
};

// The default policy: the least scarce memory goes first, so that protected memory, contiguous
// memory and memory below 4 GiB are spent only on those that need them. Among equals, cached memory
// goes first if a CPU reads or writes it. Unknown counts between no and yes.
struct LeastScarce {
  constexpr uint64_t Cost(const Merged& all, const HeapOffer& heap,
                          const ChoiceOptions& options) const noexcept {
    const Guarantees& is = heap.guarantees;
    const Known contiguous = is.segments.has_value() ? Known(*is.segments == 1) : Known();
    const Known cached_matters = Known(all.uses_cpu());
    uint64_t cost = Rank(is.protected_memory);
    cost = cost * 3 + Rank(contiguous);
    cost = cost * 3 + Rank(Low(is, options));
    cost = cost * 3 + Rank(is.cc_shared);
    return cost * 3 + (cached_matters ? 2 - Rank(is.cached) : 0);
  }

 private:
  static constexpr uint64_t Rank(Known scarce) noexcept {
    return scarce.no() ? 0 : scarce.unknown() ? 1 : 2;
  }
  // Memory below 4 GiB on a machine that has memory above.
  static constexpr Known Low(const Guarantees& is, const ChoiceOptions& options) noexcept {
    constexpr uint64_t kLow = 0xffffffff;
    if (options.memory_top.has_value() && *options.memory_top <= kLow) return false;
    if (is.top.has_value()) return *is.top <= kLow;
    return is.ram ? Known(false) : Known();
  }
};
static_assert(RankPolicy<LeastScarce>);

// The result of Choose.
struct Choice {
  enum class Outcome : uint8_t {
    kChosen,
    kBadInput,  // `problem`
    kConflict,  // two demands exclude each other: `conflict`
    kNoHeap,    // their demands get along, but no heap satisfies all: `verdicts`, and the first two
                // demands that heaps do not satisfy in `conflict`
  };
  static constexpr uint8_t kLeftOut = 0xff;

  Outcome outcome = Outcome::kBadInput;
  uint8_t heap_count = 0;     // in `order`
  uint8_t verdict_count = 0;  // in `verdict_list`
  uint8_t party_a = 0;        // the places of the conflict's parties, or of the problem's
  uint8_t party_b = 0;
  uint16_t combinations = 0;  // that were tried
  // For each party the set that was picked; kLeftOut. If there is no choice: of the combination
  // that `merged`, `conflict` and the verdicts tell of, which is the most preferred one.
  std::array<uint8_t, kMostParties> picks{};
  std::array<HeapId, HeapId::kCount> order = NoOrder();
  std::array<HeapVerdict, HeapId::kCount> verdict_list{};
  Conflict conflict;
  Problem problem;
  Merged merged;

  constexpr bool ok() const noexcept { return outcome == Outcome::kChosen; }
  // The heaps that fit, the best first.
  constexpr std::span<const HeapId> heaps() const noexcept { return {order.data(), heap_count}; }
  // The best heap. Requires: ok().
  constexpr HeapId best() const noexcept { return order[0]; }
  // The heaps that fit, as a mask.
  constexpr HeapMask mask() const noexcept {
    HeapMask mask;
    for (const HeapId id : heaps()) mask = mask | id;
    return mask;
  }
  // One for each heap, in the order of the offers; none after bad input and after a conflict.
  constexpr std::span<const HeapVerdict> verdicts() const noexcept {
    return {verdict_list.data(), verdict_count};
  }

 private:
  static constexpr std::array<HeapId, HeapId::kCount> NoOrder() noexcept {
    return []<size_t... kPlaces>(std::index_sequence<kPlaces...>) {
      return std::array<HeapId, HeapId::kCount>{((void)kPlaces, HeapId{0})...};
    }(std::make_index_sequence<HeapId::kCount>());
  }
};

namespace internal {

// The power of two of which the begin of each contiguous piece of the heap's memory is a multiple.
constexpr uint64_t BeginOf(const Guarantees& is) noexcept {
  return is.segments == 1 ? std::max(is.alignment, is.granule) : is.granule;
}

// The most granules of a heap's memory for a request of at most size_max bytes; none: not known.
constexpr std::optional<uint64_t> MostGranules(const Merged& all, const Guarantees& is) noexcept {
  if (all.size_max() == UINT64_MAX || is.most_percent == Guarantees::kAnySize) return std::nullopt;
  const uint64_t granules = (all.size_max() - 1) / is.granule + 1;
  return SaturatedProduct(granules, is.most_percent) / 100;
}

// The most segments that the devices can find in that memory, if each cuts a contiguous piece into
// the longest segments that its limits leave; none: not known. Requires: the limits leave a segment
// of a granule.
constexpr std::optional<uint64_t> MostPieces(const Merged& all, const Guarantees& is) noexcept {
  const uint64_t boundary = all.segment_boundary();
  // Each segment begins at a multiple, so the next one does too.
  const uint64_t whole = all.segment_size_max() & ~(all.segment_multiple() - 1);
  const uint64_t longest =
      std::min(all.segment_size_max() == UINT64_MAX ? UINT64_MAX : whole, boundary);
  const std::optional<uint64_t> most = MostGranules(all, is);
  if (!most.has_value()) return longest == UINT64_MAX ? is.segments : std::nullopt;
  // No more than granules, none of which is cut.
  const uint64_t granules = *most;
  if (!is.segments.has_value()) return granules;
  if (longest == UINT64_MAX) return std::min(*is.segments, granules);
  // Memory that crosses a boundary may do so anywhere: it has two ends, other memory has one. All
  // lengths are multiples of `step`, so an end has one at least; the rest is cut as if it began at
  // a boundary.
  const uint64_t total = SaturatedProduct(granules, is.granule);
  const bool crosses = boundary != UINT64_MAX && BeginOf(is) % boundary != 0 &&
                       (*is.segments > 1 || BeginOf(is) < total);
  const uint64_t step = std::gcd(is.granule, longest);
  const uint64_t ends = SaturatedProduct(*is.segments, crosses ? 2 : 1);
  const uint64_t in_ends = SaturatedProduct(ends, step);
  if (in_ends > total) return granules;
  const uint64_t between = total - in_ends;
  const uint64_t cuts =
      boundary == UINT64_MAX
          ? between / longest
          : between / boundary * ((boundary - 1) / longest + 1) + between % boundary / longest;
  return std::min(ends + cuts, granules);
}

// The verdict on one heap. Requires: `all` has no clash.
constexpr HeapVerdict Match(const Merged& all, const HeapOffer& heap,
                            const ChoiceOptions& options) noexcept {
  using enum Field;
  const Guarantees& is = heap.guarantees;
  const auto refuse = [&](Field field, std::optional<uint64_t> has) {
    return HeapVerdict{.id = heap.id,
                       .field = field,
                       .party = static_cast<uint8_t>(std::countr_zero(all.mask_of(field))),
                       .wanted = all.word_of(field),
                       .has = has,
                       .source = is.source};
  };
  const auto known = [](Known value) {
    return value.unknown() ? std::optional<uint64_t>() : std::optional<uint64_t>(value.yes());
  };

  if (!all.heaps_allowed().contains(heap.id)) {
    return refuse(kHeapsAllowed, HeapMask(heap.id).bits());
  }
  if (all.heaps_denied().contains(heap.id)) return refuse(kHeapsDenied, HeapMask(heap.id).bits());
  if (all.protection() == Protection::kRequired && !is.protected_memory.yes()) {
    return refuse(kProtection, known(is.protected_memory));
  }
  if (all.protection() == Protection::kForbidden && !is.protected_memory.no()) {
    return refuse(kProtection, known(is.protected_memory));
  }
  if (all.cc_shared() && !is.cc_shared.yes()) return refuse(kCcShared, known(is.cc_shared));

  if (!is.mappable.yes()) {
    if (all.cpu_read() != CpuUse::kNone) return refuse(kCpuRead, known(is.mappable));
    if (all.cpu_write() != CpuUse::kNone) return refuse(kCpuWrite, known(is.mappable));
  }
  if (all.kernel_cpu_writes() && !is.vmap.yes()) return refuse(kKernelCpuWrites, known(is.vmap));
  const auto lacks = [&](ExporterNeeds need, Known has) {
    return (all.exporter_needs() & need) != ExporterNeeds::kNone && !has.yes();
  };
  if (lacks(ExporterNeeds::kPages, is.pages)) return refuse(kExporterNeeds, known(is.pages));
  if (lacks(ExporterNeeds::kVmap, is.vmap)) return refuse(kExporterNeeds, known(is.vmap));
  if (lacks(ExporterNeeds::kMmap, is.mappable)) return refuse(kExporterNeeds, known(is.mappable));
  if (lacks(ExporterNeeds::kExportByUs, is.exportable)) {
    return refuse(kExporterNeeds, known(is.exportable));
  }
  if ((!all.takes_uncached() && !is.cached.yes()) || (!all.takes_cached() && !is.cached.no())) {
    return refuse(kCoherency, known(is.cached));
  }

  if (all.segment_size_max() < is.granule) return refuse(kSegmentSizeMax, is.granule);
  if (all.segment_boundary() < is.granule) return refuse(kSegmentBoundary, is.granule);
  if (all.segments_max() != UINT64_MAX) {
    const std::optional<uint64_t> pieces = MostPieces(all, is);
    if (!pieces.has_value() || *pieces > all.segments_max()) return refuse(kSegmentsMax, pieces);
  }
  if (all.address_limit() != UINT64_MAX) {
    std::optional<uint64_t> top = is.top;
    const bool machine =
        is.ram && options.memory_top.has_value() && *options.memory_top <= top.value_or(UINT64_MAX);
    if (machine) top = options.memory_top;
    if (!top.has_value() || *top > all.address_limit()) {
      HeapVerdict verdict = refuse(kAddressLimit, top);
      if (machine) verdict.source = {How::kKernel, 0};
      return verdict;
    }
  }
  if (is.alignment % all.base_align() != 0) return refuse(kBaseAlign, is.alignment);
  // A contiguous buffer is one piece, which begins at its alignment. Its length is the size that
  // the parties ask for, in whole granules.
  const uint64_t multiple = all.segment_multiple();
  const uint64_t begins = BeginOf(is);
  if (begins < multiple) return refuse(kSegmentMultiple, begins);
  if (is.granule < multiple && (all.size_multiple() % multiple != 0 || is.most_percent != 100)) {
    return refuse(kSegmentMultiple, is.granule);
  }
  if (is.bytes_max.has_value() && all.bytes() > *is.bytes_max) {
    return refuse(all.mask_of(kSizeMin) != 0 ? kSizeMin : kSizeMultiple, *is.bytes_max);
  }
  if (is.bytes_min.has_value() && all.size_max() < *is.bytes_min) {
    return refuse(kSizeMax, *is.bytes_min);
  }
  if (is.buffers.has_value() && all.buffers() > *is.buffers) {
    return refuse(all.mask_of(kHeld) != 0    ? kHeld
                  : all.mask_of(kSlack) != 0 ? kSlack
                                             : kSharedSlack,
                  *is.buffers);
  }
  return {.id = heap.id, .fits = true};
}

constexpr size_t PreferredPlace(std::span<const HeapId> prefer, HeapId id) noexcept {
  return static_cast<size_t>(std::ranges::find(prefer, id) - prefer.begin());
}

// The set that a combination picks of a party. Requires: the party is not left out.
constexpr const Constraints& Picked(std::span<const Party> parties,
                                    const std::array<uint8_t, kMostParties>& picks,
                                    unsigned party) noexcept {
  return parties[party].alternatives[picks[party]];
}

// Tries the combination of choice.picks. Fills everything but `combinations`.
template <RankPolicy Policy>
constexpr void TryCombination(std::span<const Party> parties, std::span<const HeapOffer> heaps,
                              const ChoiceOptions& options, const Policy& policy,
                              Choice& choice) noexcept {
  choice.heap_count = choice.verdict_count = 0;
  Merged& all = choice.merged;
  all = Merged();
  for (unsigned party = 0; party < parties.size(); ++party) {
    if (choice.picks[party] == Choice::kLeftOut) continue;
    all.Add(party, Picked(parties, choice.picks, party));
  }
  all.Check();
  const auto set_of = [&](unsigned party) -> const Constraints& {
    return Picked(parties, choice.picks, party);
  };
  if (all.clashed()) {
    choice.outcome = Choice::Outcome::kConflict;
    const Merged::Pair pair = all.ConflictPair(set_of);
    choice.party_a = static_cast<uint8_t>(pair.a);
    choice.party_b = static_cast<uint8_t>(pair.b);
    choice.conflict =
        all.ConflictOf(pair, set_of, [&](unsigned party) { return parties[party].name; });
    return;
  }

  std::array<size_t, HeapId::kCount> places{};  // of the heaps that fit, in the list of offers
  for (const HeapOffer& heap : heaps) {
    HeapVerdict verdict = Match(all, heap, options);
    if (verdict.fits) {
      verdict.cost = policy.Cost(all, heap, options);
      places[choice.heap_count++] = choice.verdict_count;
    }
    choice.verdict_list[choice.verdict_count++] = verdict;
  }
  if (choice.heap_count == 0) {
    choice.outcome = Choice::Outcome::kNoHeap;
    const HeapVerdict& a = choice.verdict_list[0];
    const HeapVerdict* b = &a;
    for (const HeapVerdict& other : choice.verdicts()) {
      if (b == &a && (other.party != a.party || other.field != a.field)) b = &other;
    }
    choice.party_a = a.party;
    choice.party_b = b->party;
    const auto side = [&](const HeapVerdict& verdict) {
      const StatedWord own = set_of(verdict.party).At(verdict.field);
      return ConflictSide{parties[verdict.party].name, verdict.field, own.word, own.source()};
    };
    choice.conflict = {side(a), side(*b), a.wanted, b->wanted};
    return;
  }
  choice.outcome = Choice::Outcome::kChosen;
  // Few: sorted by insertion, which keeps the order of equal ones.
  const auto before = [&](size_t a, size_t b) {
    const HeapVerdict& one = choice.verdict_list[a];
    const HeapVerdict& other = choice.verdict_list[b];
    const size_t preferred = PreferredPlace(options.prefer, one.id);
    const size_t than = PreferredPlace(options.prefer, other.id);
    return preferred != than ? preferred < than : one.cost < other.cost;
  };
  for (size_t i = 1; i < choice.heap_count; ++i) {
    for (size_t j = i; j > 0 && before(places[j], places[j - 1]); --j) {
      std::swap(places[j], places[j - 1]);
    }
  }
  for (uint8_t i = 0; i < choice.heap_count; ++i) {
    HeapVerdict& verdict = choice.verdict_list[places[i]];
    verdict.place = i;
    choice.order[i] = verdict.id;
  }
}

// The number of ways to pick a set of the party, or to leave it out.
constexpr size_t PicksOf(const Party& party) noexcept {
  return party.alternatives.size() + (party.kind == Party::Kind::kDispensable ? 1 : 0);
}

// Checks the input; `place` is the party at fault.
constexpr Problem CheckInput(std::span<const Party> parties, std::span<const HeapOffer> heaps,
                             uint8_t& place) noexcept {
  using enum Problem::Kind;
  const auto problem = [](Problem::Kind kind, uint64_t value, const PartyName& party = {}) {
    Problem made;
    made.kind = kind;
    made.value = value;
    made.party = party;
    return made;
  };
  if (parties.empty()) return problem(kNoParty, 0);
  if (parties.size() > kMostParties) return problem(kTooManyParties, parties.size());
  if (heaps.size() > HeapId::kCount) return problem(kTooManyHeaps, heaps.size());
  if (heaps.empty()) return problem(kNoHeaps, 0);
  HeapMask seen;
  for (const HeapOffer& heap : heaps) {
    if (seen.contains(heap.id)) return problem(kOneHeapTwice, heap.id.value());
    seen = seen | heap.id;
    const Guarantees& is = heap.guarantees;
    if (!std::has_single_bit(is.alignment) || !std::has_single_bit(is.granule) ||
        is.segments == uint64_t{0}) {
      return problem(kBadHeap, heap.id.value());
    }
  }
  size_t combinations = 1;
  for (size_t party = 0; party < parties.size(); ++party) {
    place = static_cast<uint8_t>(party);
    const Party& of = parties[party];
    if (of.alternatives.empty()) return problem(kNoAlternative, 0, of.name);
    if (of.alternatives.size() > kMostAlternatives) {
      return problem(kTooManyAlternatives, of.alternatives.size(), of.name);
    }
    combinations = std::min(combinations * PicksOf(of), kMostCombinations + 1);
    if (combinations > kMostCombinations) return problem(kTooManyCombinations, 0, of.name);
    for (size_t i = 0; i < of.alternatives.size(); ++i) {
      const Problem found = CheckAlone(of.alternatives[i], of.name, static_cast<uint8_t>(i));
      if (found.kind != kNone) return found;
    }
  }
  return {};
}

// Calls f(picks) for each combination, in the order of preference: those that leave out no party
// first, then those that leave out one, and so on. f returns true to end it. Requires: the input
// has no problem.
template <class F>
constexpr void ForEachCombination(std::span<const Party> parties, F f) noexcept {
  size_t most_left_out = 0;
  for (const Party& party : parties) {
    most_left_out += party.kind == Party::Kind::kDispensable ? 1 : 0;
  }
  for (size_t left_out = 0; left_out <= most_left_out && left_out < parties.size(); ++left_out) {
    std::array<uint8_t, kMostParties> digits{};
    for (bool more = true; more;) {
      std::array<uint8_t, kMostParties> picks = digits;
      size_t missing = 0;
      for (size_t party = 0; party < parties.size(); ++party) {
        if (digits[party] < parties[party].alternatives.size()) continue;
        picks[party] = Choice::kLeftOut;
        ++missing;
      }
      if (missing == left_out && f(picks)) return;
      // Counts up, the last party's digit first.
      more = false;
      for (size_t party = parties.size(); party-- > 0 && !more;) {
        more = ++digits[party] < PicksOf(parties[party]);
        if (!more) digits[party] = 0;
      }
    }
  }
}

}  // namespace internal

// Finds the heaps for these parties, at most kMostParties of them, among at most HeapId::kCount
// heaps. The names and sets are read during the call only.
template <RankPolicy Policy = LeastScarce>
constexpr Choice Choose(std::span<const Party> parties, std::span<const HeapOffer> heaps,
                        const ChoiceOptions& options = {}, const Policy& policy = {}) noexcept {
  Choice choice;
  choice.problem = internal::CheckInput(parties, heaps, choice.party_a);
  if (choice.problem.kind != Problem::Kind::kNone) return choice;
  std::array<uint8_t, kMostParties> first{};
  internal::ForEachCombination(parties, [&](const std::array<uint8_t, kMostParties>& picks) {
    if (choice.combinations++ == 0) first = picks;
    choice.picks = picks;
    internal::TryCombination(parties, heaps, options, policy, choice);
    return choice.ok();
  });
  if (!choice.ok() && choice.combinations > 1) {
    choice.picks = first;
    internal::TryCombination(parties, heaps, options, policy, choice);
  }
  return choice;
}

// True if a heap satisfies all parties: Choose would find one.
template <RankPolicy Policy = LeastScarce>
constexpr bool Supports(std::span<const Party> parties, std::span<const HeapOffer> heaps,
                        const ChoiceOptions& options = {}, const Policy& policy = {}) noexcept {
  return Choose(parties, heaps, options, policy).ok();
}

// Calls f(choice) for each combination that cannot be satisfied, in the order of preference, up to
// the first that can: the reasons why a less preferred set was taken, or none. Nothing is called
// after bad input.
template <class F>
constexpr void ForEachRefusal(std::span<const Party> parties, std::span<const HeapOffer> heaps,
                              const ChoiceOptions& options, F f) noexcept {
  Choice choice;
  choice.problem = internal::CheckInput(parties, heaps, choice.party_a);
  if (choice.problem.kind != Problem::Kind::kNone) return;
  internal::ForEachCombination(parties, [&](const std::array<uint8_t, kMostParties>& picks) {
    ++choice.combinations;
    choice.picks = picks;
    internal::TryCombination(parties, heaps, options, LeastScarce(), choice);
    if (!choice.ok()) f(static_cast<const Choice&>(choice));
    return choice.ok();
  });
}

}  // namespace ion

#endif  // ION_ION_CHOICE_H_
