// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/check_pipeline.h
//
// CheckPipeline: compares the assumptions of a Pipeline (ion/pipeline.h) with the heaps of an open
// Manager. The compiler chose by a description; this tells if the machine is as described. A value
// that the kernel does not tell is the description's to vouch for.
//
// Example:
//   const absl::Status as_described = ion::CheckPipeline<Preview::Over<kBoard>>(manager);
//   if (!as_described.ok()) return as_described;
//
// Cost: a walk over the heaps; no system call. Heap memory for an error alone. Thread-safe.
#ifndef ION_ION_CHECK_PIPELINE_H_
#define ION_ION_CHECK_PIPELINE_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ion/backend.h"
#include "ion/base/known.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_offers.h"
#include "ion/manager.h"

namespace ion {

namespace internal {

// The first value of a heap that is not as it was assumed, in words; empty: there is none.
class Difference {
 public:
  void Compare(const char* field, Known assumed, Known is) {
    const auto word = [](Known value) { return value.yes() ? "yes" : "no"; };
    if (assumed.Contradicts(is)) Note(field, word(is), word(assumed));
  }
  // It has, or may have, more than was assumed.
  void CompareMost(const char* field, std::optional<uint64_t> assumed, std::optional<uint64_t> is) {
    if (assumed.has_value() && is.has_value() && *is > *assumed) Note(field, *is, *assumed);
  }
  // It has less than was assumed.
  void CompareLeast(const char* field, uint64_t assumed, uint64_t is) {
    if (is < assumed) Note(field, is, assumed);
  }
  void Note(const char* field, const absl::AlphaNum& is, const absl::AlphaNum& assumed) {
    if (text_.empty()) text_ = absl::StrCat(field, " is ", is, ", and was assumed to be ", assumed);
  }
  const std::string& text() const noexcept { return text_; }

 private:
  std::string text_;
};

inline std::string DifferenceOf(const Guarantees& assumed, const Guarantees& is) {
  Difference all;
  all.CompareMost("segments", assumed.segments, is.segments);
  all.CompareMost("top", assumed.top, is.top);
  // A heap of which no largest buffer is known was taken to have none.
  if (is.bytes_max.has_value()) {
    all.CompareLeast("bytes_max", assumed.bytes_max.value_or(UINT64_MAX), *is.bytes_max);
  }
  all.Compare("ram", assumed.ram, is.ram);
  all.Compare("cached", assumed.cached, is.cached);
  all.Compare("protected_memory", assumed.protected_memory, is.protected_memory);
  all.Compare("cc_shared", assumed.cc_shared, is.cc_shared);
  all.Compare("mappable", assumed.mappable, is.mappable);
  all.Compare("vmap", assumed.vmap, is.vmap);
  all.Compare("pages", assumed.pages, is.pages);
  all.Compare("exportable", assumed.exportable, is.exportable);
  all.CompareLeast("alignment", assumed.alignment, is.alignment);
  all.CompareLeast("granule", assumed.granule, is.granule);
  return all.text();
}

struct TypedHeap {
  HeapId id{0};
  HeapType type = HeapType::kCustom;
};

// The same of a heap, with its type, if the description tells one. Memory that is certainly not
// contiguous has no bound of its pieces in `is`.
inline std::string DifferenceOf(const HeapOffer& assumed, std::optional<HeapType> assumed_type,
                                const HeapOffer& is, HeapType type, Known contiguous) {
  Difference all;
  if (assumed_type.has_value() && *assumed_type != type) {
    all.Note("type", View(HeapTypeName(type)), View(HeapTypeName(*assumed_type)));
  }
  if (assumed.guarantees.segments == 1 && contiguous.no()) all.Note("segments", "more than 1", 1);
  return all.text().empty() ? DifferenceOf(assumed.guarantees, is.guarantees) : all.text();
}

inline absl::Status PipelineStatus(int code, HeapId heap, std::string_view name,
                                   const std::string& what) {
  return MakeStatus(code,
                    absl::StrCat("pipeline, heap ", heap.value(), name.empty() ? "" : " (",
                                 ::ion::Printable(name), name.empty() ? "" : ")", ": ", what));
}

}  // namespace internal

// `Chosen` is a Pipeline over heaps: Over<kBoard>, or On<Heaps...>. Heaps are compared by their
// ids, those of the description that the Manager has. EINVAL: a heap's memory is not what the
// description tells; the sentence names the heap, the field and both values. ENODEV: the Manager
// has memory of none of the heaps that suit all devices.
template <class Chosen, class Order, Backend B, class... Elements>
absl::Status CheckPipeline(ManagerWith<Order, B, Elements...>& manager) noexcept {
  using internal::BoundTo;
  using internal::HeapPart;
  static constexpr internal::TypedHeap kHeaps[] = {
      {HeapPart<BoundTo<Elements, B>>::kId, HeapPart<BoundTo<Elements, B>>::kType}...};
  const auto check = [&]() -> absl::Status {
    const HeapOffers offers = OffersOf(manager);
    for (size_t i = 0; i < Chosen::kOffers.size(); ++i) {
      const HeapOffer& assumed = Chosen::kOffers[i];
      const auto is = std::ranges::find(offers.span(), assumed.id, &HeapOffer::id);
      if (is == offers.span().end()) continue;
      const HeapType type = std::ranges::find(kHeaps, assumed.id, &internal::TypedHeap::id)->type;
      const std::string difference = internal::DifferenceOf(
          assumed, Chosen::kTypes[i], *is, type, manager.Guarantees(assumed.id).contiguous);
      if (difference.empty()) continue;
      return internal::PipelineStatus(
          EINVAL, assumed.id, is->name.view(),
          absl::StrCat(difference, ": EINVAL: correct the description that it was chosen by"));
    }
    if ((Chosen::kHeaps & manager.heaps()).empty()) {
      const auto best = std::ranges::find(Chosen::kOffers, Chosen::kHeap, &HeapOffer::id);
      return internal::PipelineStatus(
          ENODEV, Chosen::kHeap, best->name.view(),
          "the machine has memory of no heap that suits all devices: ENODEV: the Manager's report "
          "tells why it has no such heap");
    }
    return absl::OkStatus();
  };
  return internal::WithMemory(check, [] { return internal::CodeAlone(ENOMEM); });
}

}  // namespace ion

#endif  // ION_ION_CHECK_PIPELINE_H_
