// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap_offers.h
//
// OffersOf: the heaps of an open Manager as ion/choice.h compares them. The values come from the
// kernel heaps that were bound and from the types of the Manager's heaps; for the rest the caller
// may vouch, heap by heap. A value that nobody tells stays unknown, and satisfies nobody who asks
// for it.
//
// Example:
//   const ion::HeapOffers offers = ion::OffersOf(manager, ion::ReadMemoryTops());
//   const ion::Choice choice = ion::Choose(parties, offers.span());
//
// Cost: a walk over the heaps; no heap memory, no system call. Thread-safe.
#ifndef ION_ION_HEAP_OFFERS_H_
#define ION_ION_HEAP_OFFERS_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/base/memory_top.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/recycler.h"
#include "ion/request.h"

namespace ion {

// The heaps among which a choice is made.
class HeapOffers {
 public:
  // Adds one. Requires: fewer than HeapId::kCount are there (checked).
  constexpr void Add(const HeapOffer& offer) noexcept {
    ION_CHECK(count_ < all_.size(), "more heaps are offered than there are ids");
    all_[count_++] = offer;
  }
  constexpr std::span<const HeapOffer> span() const noexcept { return {all_.data(), count_}; }

 private:
  std::array<HeapOffer, HeapId::kCount> all_{};
  size_t count_ = 0;
};

namespace internal {

// The memory of a kernel interface, as its exporter in the kernel hands it out (Linux 6.12). `pages`
// and `vmap` are those of the kernel's own heaps: a vendor's heap, or one of protected memory, may
// lack both.
struct InterfaceTraits {
  std::string_view interface;
  Known exportable;
  Known pages;
  Known vmap;
};
inline constexpr InterfaceTraits kInterfaceTraits[] = {
    {"dma_heap", true, true, true}, {"udmabuf", true, true, Known()},
    {"ion", true, true, Known()},   {"ion_legacy", true, true, Known()},
    {"memfd", false, false, false},
};

// The kernel heap behind a heap, as far as the backend knows it.
struct KernelHeapFacts {
  Guarantees guarantees;
  bool own = false;  // one of the kernel's own heaps, whose memory lies in its zones
};

inline KernelHeapFacts FactsOf(const KernelHeap& heap, std::string_view backend) noexcept {
  // A driver that makes frames may take memory of its device.
  KernelHeapFacts facts{.guarantees = {},
                        .own = heap.type != HeapType::kCustom && heap.frames == MakesFrames::kNo};
  if (heap.smallest > 1) facts.guarantees.bytes_min = heap.smallest;
  if (heap.largest != UINT64_MAX) facts.guarantees.bytes_max = heap.largest;
  if (heap.most_buffers != UINT64_MAX) facts.guarantees.buffers = heap.most_buffers;
  const std::string_view interface = heap.interface.empty() ? backend : heap.interface;
  for (const InterfaceTraits& traits : kInterfaceTraits) {
    if (traits.interface != interface) continue;
    facts.guarantees.exportable = traits.exportable;
    if (facts.own) facts.guarantees.pages = traits.pages;
    if (facts.own) facts.guarantees.vmap = traits.vmap;
  }
  return facts;
}
// Of the kernel heaps of this name the values that all have: two interfaces may use one name.
inline KernelHeapFacts FactsOf(std::span<const KernelHeap> heaps, std::string_view name,
                               std::string_view backend) noexcept {
  const auto common = [](Known a, Known b) { return a == b ? a : Known(); };
  const auto lesser = [](const std::optional<uint64_t>& a, const std::optional<uint64_t>& b) {
    return a.has_value() && b.has_value() ? std::min(a, b) : std::max(a, b);
  };
  std::optional<KernelHeapFacts> all;
  for (const KernelHeap& heap : heaps) {
    if (heap.name != name) continue;
    const KernelHeapFacts facts = FactsOf(heap, backend);
    if (!all.has_value()) {
      all = facts;
      continue;
    }
    Guarantees& is = all->guarantees;
    is.exportable = common(is.exportable, facts.guarantees.exportable);
    is.pages = common(is.pages, facts.guarantees.pages);
    is.vmap = common(is.vmap, facts.guarantees.vmap);
    // Of a bound that is not there any number is the stricter one: for a minimum it compares as less.
    is.bytes_min = std::max(is.bytes_min, facts.guarantees.bytes_min);
    is.bytes_max = lesser(is.bytes_max, facts.guarantees.bytes_max);
    is.buffers = lesser(is.buffers, facts.guarantees.buffers);
    all->own = all->own && facts.own;
  }
  return all.value_or(KernelHeapFacts());
}

// The guarantees of a heap's type. A range of a region lies where its spec says only if the heap
// knows physical addresses.
template <class H>
constexpr Guarantees GuaranteesOfType() noexcept {
  Guarantees guarantees;
  if constexpr (requires { HeapSpec(H::kSpec); }) {
    guarantees = GuaranteesOf(H::kSpec);
  } else {
    guarantees = GuaranteesOf(HeapSpec{.type = H::kType});
  }
  if constexpr (requires { H::kContiguous; }) {
    if (H::kContiguous) guarantees.segments = 1;
  }
  if constexpr (requires { H::kRoundsUp; }) {
    if (H::kRoundsUp) guarantees.most_percent = Guarantees::kAnySize;
  }
  if (H::kCaps.shares && !H::kCaps.knows_phys) guarantees.segments = guarantees.top = std::nullopt;
  return guarantees;
}

template <class Element, class M>
void AddOffer(M& manager, const MemoryTops* tops, std::span<const HeapOffer> known,
              HeapOffers& offers) noexcept {
  using H = HeapPart<Element>;
  if (!manager.heaps().contains(H::kId)) return;
  const std::string_view name = manager.HeapName(H::kId);
  const Properties properties = manager.Guarantees(H::kId);
  Guarantees is = GuaranteesOf(properties);
  Guarantees typed = GuaranteesOfType<H>();
  if constexpr (kRecycled<Element>) {
    typed.most_percent = std::max(typed.most_percent, RecyclerPart<Element>::MostPercent());
  }
  if (properties.contiguous.no()) typed.segments = std::nullopt;
  if (!H::kCaps.shares) {
    const KernelHeapFacts facts =
        FactsOf(manager.backend().heaps(), name, manager.backend().name());
    is = is.Or(facts.guarantees);
    if (!facts.own) typed.ram = Known();
  }
  is = is.Or(typed);
  const auto vouched = std::ranges::find(known, H::kId, &HeapOffer::id);
  if (vouched != known.end()) is = is.Or(vouched->guarantees);
  // Each of them bounds the memory.
  const auto bound = [&](const std::optional<uint64_t>& top) {
    if (top.has_value()) is.top = std::min(is.top.value_or(UINT64_MAX), *top);
  };
  if (vouched != known.end()) bound(vouched->guarantees.top);
  if (tops != nullptr && is.ram.yes()) {
    bound(tops->memory);
    if (H::kType == HeapType::kDma) bound(tops->cma);
  }
  is.granule = std::max(is.granule, PageBytes());
  offers.Add({H::kId, HeapName::From(name).value_or(HeapName()), is});
}

template <class Order, Backend B, class... Elements>
HeapOffers OffersOf(ManagerWith<Order, B, Elements...>& manager, const MemoryTops* tops,
                    std::span<const HeapOffer> known) noexcept {
  HeapOffers offers;
  (AddOffer<BoundTo<Elements, B>>(manager, tops, known, offers), ...);
  return offers;
}

}  // namespace internal

// The heaps of the Manager that have memory, in the order of its list. `tops`: the highest addresses
// of the machine's memory and of its CMA regions; an error: they are not known. `known`: guarantees
// that the caller vouches for, by heap; they count where the kernel and the heap's type tell
// nothing, and a lower top always.
template <class Order, Backend B, class... Elements>
HeapOffers OffersOf(ManagerWith<Order, B, Elements...>& manager, const Result<MemoryTops>& tops,
                    std::span<const HeapOffer> known = {}) noexcept {
  return internal::OffersOf(manager, tops.ok() ? &*tops : nullptr, known);
}
// The same without addresses.
template <class Order, Backend B, class... Elements>
HeapOffers OffersOf(ManagerWith<Order, B, Elements...>& manager,
                    std::span<const HeapOffer> known = {}) noexcept {
  return internal::OffersOf(manager, nullptr, known);
}

}  // namespace ion

#endif  // ION_ION_HEAP_OFFERS_H_
