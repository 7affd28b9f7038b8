// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/choice_text.h
//
// A choice in sentences: the origin of each value, the reason for each heap's verdict, and the
// conflict, if there is no heap. They are made from the choice and from the parties and heaps that
// it was made of, when somebody asks.
//
// Example:
//   const ion::Constraints gpu{.stride_multiple = 64};
//   const ion::Constraints encoder{.stride_multiple = ion::FromKernel(48)};
//   const ion::Party parties[] = {{"gpu", gpu}, {"encoder", encoder}};
//   const ion::HeapOffer heaps[] = {{ion::HeapId{0}, "system", {.ram = true}}};
//   const ion::Choice choice = ion::Choose(parties, heaps);
//   // stride_multiple is 192, from 64 of gpu (declared) and 48 of encoder (read from the kernel)
//   const std::string why = ion::DescribeOrigin(choice, ion::Field::kStrideMultiple, parties);
//   const absl::Status status = ion::ToStatus(choice, parties, heaps);  // OK
//
// Cost: cold; allocates the texts. Thread-safe.
#ifndef ION_ION_CHOICE_TEXT_H_
#define ION_ION_CHOICE_TEXT_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/choice.h"
#include "ion/constraint_text.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/merge.h"

namespace ion {

// "declared", "read from the kernel", "probed with 1048576 bytes".
[[nodiscard]] inline std::string Describe(Source source) {
  if (source.how == How::kKernel) return "read from the kernel";
  if (source.how == How::kProbed) return "probed with " + std::to_string(source.bytes) + " bytes";
  return std::string(HowName(source.how));
}

namespace internal {

inline std::string NameText(const PartyName& name) {
  return name.view().empty() ? "a party without a name" : Printable(name.view());
}
// "64 of gpu (declared)".
inline std::string ShareText(const PartyName& name, Field field, const StatedWord& is) {
  const std::string value =
      field == Field::kFormats ? std::to_string(is.word) + " formats" : ValueText(field, is.word);
  return value + " of " + NameText(name) + " (" + Describe(is.source()) + ")";
}
// "stride_max 32 of gpu (declared)".
inline std::string SideText(const ConflictSide& side) {
  return std::string(FieldName(side.field)) + " " +
         ShareText(side.party, side.field, StatedWord(side.value, side.source));
}

// The property of a heap that a field asks for.
constexpr std::string_view PropertyName(Field field) noexcept {
  switch (field) {
    case Field::kProtection:
      return "its protection";
    case Field::kCcShared:
      return "memory shared in the clear";
    case Field::kCpuRead:
    case Field::kCpuWrite:
      return "a mapping for the CPU";
    case Field::kKernelCpuWrites:
      return "a mapping for the kernel's CPU";
    case Field::kExporterNeeds:
      return "that service of its exporter";
    case Field::kCoherency:
      return "its caching";
    case Field::kSegmentsMax:
      return "the number of its pieces";
    case Field::kAddressLimit:
      return "its highest address";
    case Field::kBaseAlign:
      return "its alignment";
    case Field::kSizeMin:
    case Field::kSizeMultiple:
      return "its largest buffer";
    case Field::kSizeMax:
      return "its smallest buffer";
    case Field::kHeld:
    case Field::kSlack:
    case Field::kSharedSlack:
      return "the number of its buffers";
    default:
      return "its piece";
  }
}

inline std::string OfferText(const HeapOffer& heap) {
  std::string text = "heap " + std::to_string(heap.id.value());
  if (!heap.name.empty()) text += " (" + Printable(heap.name.view()) + ")";
  return text;
}

}  // namespace internal

// "stride_max 32 of npu (declared) and stride_multiple 64 of gpu (declared) exclude each other:
// stride_max: ...". If two parties alone get along, the values of all parties are told as well.
[[nodiscard]] inline std::string Describe(const Conflict& conflict) {
  std::string text = internal::SideText(conflict.a) + " and " + internal::SideText(conflict.b) +
                     " exclude each other";
  const auto merged = [&](const ConflictSide& side, uint64_t all) {
    if (side.field == Field::kFormats || side.value == all) return;
    text += ", with " + std::string(FieldName(side.field)) + " " + ValueText(side.field, all) +
            " of all parties";
  };
  if (conflict.a.field != conflict.b.field) {
    merged(conflict.a, conflict.merged_a);
    merged(conflict.b, conflict.merged_b);
  }
  return text + ": " + std::string(ConflictSentence(conflict.a.field));
}

// A problem of the input: the party, its set, the field, the value, its source and the rule.
[[nodiscard]] inline std::string Describe(const Problem& problem) {
  using enum Problem::Kind;
  const std::string value = std::to_string(problem.value);
  const std::string party = internal::NameText(problem.party);
  const auto own = [&](Field field, uint64_t word, Source source) {
    return std::string(FieldName(field)) + " " +
           (field == Field::kFormats ? value : ValueText(field, word)) + " (" + Describe(source) +
           ")";
  };
  const std::string set = party + ", set " + std::to_string(problem.alternative) + ": ";
  switch (problem.kind) {
    case kNone:
      return "no problem";
    case kValue:
      return set + own(problem.field, problem.value, problem.source) + " " + problem.rule;
    case kContradiction:
      return set + own(problem.field, problem.value, problem.source) +
             " excludes the party's own " +
             own(problem.other, problem.other_value, problem.other_source);
    case kNoParty:
      return "there is no party: name at least one";
    case kTooManyParties:
      return value + " parties are more than " + std::to_string(kMostParties);
    case kNoAlternative:
      return party + ": it offers no set of demands: an empty Constraints demands nothing";
    case kTooManyAlternatives:
      return party + ": " + value + " sets are more than " + std::to_string(kMostAlternatives);
    case kTooManyCombinations:
      return party + ": with its sets there are more than " + std::to_string(kMostCombinations) +
             " combinations: offer fewer";
    case kTooManyHeaps:
      return value + " heaps are more than " + std::to_string(HeapId::kCount);
    case kNoHeaps:
      return "no heap is offered";
    case kOneHeapTwice:
      return "two heaps have the id " + value;
    case kBadHeap:
      return "heap " + value +
             ": its alignment and its granule are powers of two, and it has at least one piece";
  }
  return "";
}

// The origin of a merged value, or after a conflict the values of the parties: "stride_multiple is
// 192, from 64 of gpu (declared) and 48 of encoder (read from the kernel)". Requires: `parties` are
// those of the choice, which found no bad input.
[[nodiscard]] inline std::string DescribeOrigin(const Choice& choice, Field field,
                                                std::span<const Party> parties) {
  std::string text(FieldName(field));
  const Merged& all = choice.merged;
  // A conflict ends a merge: then each party's own value is told.
  const bool clashed = all.clashed();
  text += clashed ? " has no value for all parties"
          : field == Field::kFormats
              ? " is " + std::to_string(all.formats().formats().size()) + " formats"
              : " is " + ValueText(field, all.word_of(field));
  std::string from;
  for (size_t party = 0; party < parties.size(); ++party) {
    if (choice.picks[party] == Choice::kLeftOut) continue;
    const StatedWord own =
        internal::Picked(parties, choice.picks, static_cast<unsigned>(party)).At(field);
    if (clashed ? !own.stated() : (all.mask_of(field) >> party & 1) == 0) continue;
    from += from.empty() ? ", from " : " and ";
    from += internal::ShareText(parties[party].name, field, own);
  }
  text += from.empty() ? ", because no party limits it" : from;
  if (field == Field::kSegmentsMax || field == Field::kAddressLimit) {
    for (size_t party = 0; party < parties.size(); ++party) {
      if ((all.mask_of(Field::kTranslated) >> party & 1) == 0) continue;
      text += "; the IOMMU of " + internal::NameText(parties[party].name) + " satisfies its own";
    }
  }
  return text;
}

// The verdict on a heap: "heap 4 (linux,cma): fits, place 0" or "heap 0 (system): segments_max 1 of
// codec (declared), and the number of its pieces is not known". Requires: as DescribeOrigin;
// `heaps` are those of the choice.
[[nodiscard]] inline std::string Describe(const HeapVerdict& verdict, const Choice& choice,
                                          std::span<const Party> parties,
                                          std::span<const HeapOffer> heaps) {
  std::string text;
  for (const HeapOffer& heap : heaps) {
    if (heap.id == verdict.id) text = internal::OfferText(heap);
  }
  if (verdict.fits) {
    return text + ": fits, place " + std::to_string(verdict.place) + ", cost " +
           std::to_string(verdict.cost);
  }
  const Party& party = parties[verdict.party];
  const StatedWord own = internal::Picked(parties, choice.picks, verdict.party).At(verdict.field);
  text += ": " + std::string(FieldName(verdict.field)) + " " +
          internal::ShareText(party.name, verdict.field, own);
  if (own.word != verdict.wanted) {
    text += ", " + ValueText(verdict.field, verdict.wanted) + " of all parties";
  }
  if (verdict.field == Field::kHeapsAllowed || verdict.field == Field::kHeapsDenied) {
    return text + ", which leaves it out";
  }
  const std::string property(internal::PropertyName(verdict.field));
  if (!verdict.has.has_value()) return text + ", and " + property + " is not known";
  const std::string source = " (" + Describe(verdict.source) + ")";
  switch (verdict.field) {
    case Field::kProtection:
      return text + ", and the memory is " + (*verdict.has != 0 ? "protected" : "not protected") +
             source;
    case Field::kCoherency:
      return text + ", and the memory is " + (*verdict.has != 0 ? "cached" : "uncached") + source;
    case Field::kCcShared:
    case Field::kCpuRead:
    case Field::kCpuWrite:
    case Field::kKernelCpuWrites:
    case Field::kExporterNeeds:
      return text + ", and it does not have " + property + source;
    default:
      return text + ", and " + property + " is " + ValueText(verdict.field, *verdict.has) + source;
  }
}

// The whole choice: a line for each heap, and for each combination of sets that cannot be satisfied
// its conflict. Requires: the parties, heaps and options of the choice.
[[nodiscard]] inline std::string Describe(const Choice& choice, std::span<const Party> parties,
                                          std::span<const HeapOffer> heaps,
                                          const ChoiceOptions& options = {}) {
  if (choice.outcome == Choice::Outcome::kBadInput) return Describe(choice.problem);
  std::string text;
  const auto add_verdicts = [&](const Choice& of) {
    for (const HeapVerdict& verdict : of.verdicts()) {
      text += (text.empty() ? "" : "\n") + Describe(verdict, of, parties, heaps);
    }
  };
  constexpr unsigned kMostTold = 8;  // arbitrary; there may be hundreds
  unsigned refusals = 0;
  ForEachRefusal(parties, heaps, options, [&](const Choice& refused) {
    if (++refusals > kMostTold) return;
    if (choice.combinations > 1) {
      if (!text.empty()) text += '\n';
      for (size_t party = 0; party < parties.size(); ++party) {
        text += (party == 0 ? "" : ", ") + internal::NameText(parties[party].name) + " ";
        text += refused.picks[party] == Choice::kLeftOut
                    ? std::string("left out")
                    : "with set " + std::to_string(refused.picks[party]);
      }
      text += ": no heap fits";
    }
    if (refused.outcome == Choice::Outcome::kConflict) {
      text += (text.empty() ? "" : "\n") + Describe(refused.conflict);
    } else {
      add_verdicts(refused);
    }
  });
  if (refusals > kMostTold) {
    text += "\nand " + std::to_string(refusals - kMostTold) + " combinations more";
  }
  if (choice.ok()) {
    for (size_t party = 0; party < parties.size(); ++party) {
      if (choice.picks[party] != Choice::kLeftOut) continue;
      text += (text.empty() ? "" : "\n") + internal::NameText(parties[party].name) + " is left out";
    }
    add_verdicts(choice);
  }
  return text;
}

// OK if there is a heap. INVALID_ARGUMENT (EINVAL): bad input. UNIMPLEMENTED (ENOTSUP): two demands
// exclude each other. NOT_FOUND (ENODEV): no heap satisfies all. The message is Describe's.
// Requires: as Describe.
[[nodiscard]] inline absl::Status ToStatus(const Choice& choice, std::span<const Party> parties,
                                           std::span<const HeapOffer> heaps,
                                           const ChoiceOptions& options = {}) {
  if (choice.ok()) return absl::OkStatus();
  const int code = choice.outcome == Choice::Outcome::kBadInput   ? EINVAL
                   : choice.outcome == Choice::Outcome::kConflict ? ENOTSUP
                                                                  : ENODEV;
  return MakeStatus(code, "choice of memory: " + Describe(choice, parties, heaps, options));
}

}  // namespace ion

#endif  // ION_ION_CHOICE_TEXT_H_
