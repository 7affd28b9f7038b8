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
//   const ion::HeapOffers offers = ion::OffersOf(manager);
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
#include "ion/base/known.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/recycler.h"

namespace ion {

// The heaps among which a choice is made.
class HeapOffers {
 public:
  // Adds one. Requires: fewer than HeapId::kCount are there.
  constexpr void Add(const HeapOffer& offer) noexcept { all_[count_++] = offer; }
  constexpr std::span<const HeapOffer> span() const noexcept { return {all_.data(), count_}; }

 private:
  std::array<HeapOffer, HeapId::kCount> all_{};
  size_t count_ = 0;
};

namespace internal {

// The memory of a kernel interface, as its exporter in the kernel hands it out (Linux 6.12; ION of
// 5.10 has no vmap). `pages` and `vmap` are those of the kernel's own heaps: a vendor's heap, or one
// of protected memory, may lack both.
struct InterfaceTraits {
  std::string_view interface;
  Known exportable;
  Known pages;
  Known vmap;
};
inline constexpr InterfaceTraits kInterfaceTraits[] = {
    {"dma_heap", true, true, true}, {"udmabuf", true, true, Known()},
    {"ion", true, true, false},     {"ion_legacy", true, true, Known()},
    {"memfd", false, false, false},
};

// Nothing of an interface that is not known. `own`: the heap is one of the kernel's own.
constexpr Guarantees GuaranteesOfInterface(std::string_view interface, bool own) noexcept {
  for (const InterfaceTraits& traits : kInterfaceTraits) {
    if (traits.interface != interface) continue;
    if (!own) return {.exportable = traits.exportable};
    return {.vmap = traits.vmap, .pages = traits.pages, .exportable = traits.exportable};
  }
  return {};
}
// The guarantees of the kernel heap of this name; none if two interfaces have one.
inline Guarantees GuaranteesOfKernelHeap(std::span<const KernelHeap> heaps, std::string_view name,
                                         std::string_view backend) noexcept {
  std::optional<Guarantees> only;
  for (const KernelHeap& heap : heaps) {
    if (heap.name != name) continue;
    if (only.has_value()) return {};
    only = GuaranteesOfInterface(heap.interface.empty() ? backend : heap.interface,
                                 heap.type != HeapType::kCustom);
  }
  return only.value_or(Guarantees());
}

// The guarantees of a heap's type. A range of a region is exported only by some regions.
template <class H>
constexpr Guarantees GuaranteesOfType() noexcept {
  Guarantees guarantees;
  if constexpr (requires { HeapSpec(H::kSpec); }) {
    guarantees = GuaranteesOf(H::kSpec);
  } else {
    guarantees = GuaranteesOf(HeapSpec{.type = H::kType});
  }
  if (H::kContiguous) guarantees.segments = 1;
  return guarantees;
}

template <class H, class M>
void AddOffer(M& manager, std::optional<uint64_t> cma_top, std::span<const HeapOffer> known,
              HeapOffers& offers) noexcept {
  if (!manager.heaps().contains(H::kId)) return;
  const std::string_view name = manager.HeapName(H::kId);
  HeapOffer offer{H::kId, HeapName::From(name).value_or(HeapName()),
                  GuaranteesOf(manager.Guarantees(H::kId))};
  if (!H::kCaps.shares) {
    offer.guarantees = offer.guarantees.Or(
        GuaranteesOfKernelHeap(manager.backend().heaps(), name, manager.backend().name()));
  }
  // Memory of this type is of CMA regions, which lie in zones of the kernel.
  if (H::kType == HeapType::kDma) offer.guarantees.top = cma_top;
  offer.guarantees = offer.guarantees.Or(GuaranteesOfType<H>());
  const auto vouched = std::ranges::find(known, H::kId, &HeapOffer::id);
  if (vouched != known.end()) offer.guarantees = offer.guarantees.Or(vouched->guarantees);
  offers.Add(offer);
}

}  // namespace internal

// The heaps of the Manager that have memory, in the order of its list. `cma_top`: the highest
// address of contiguous memory (ReadMemoryTops, ion/base/memory_top.h). `known`: guarantees that
// the caller vouches for, by heap; they count where the kernel and the heap's type tell nothing.
template <class Order, Backend B, class... Elements>
HeapOffers OffersOf(ManagerWith<Order, B, Elements...>& manager,
                    std::optional<uint64_t> cma_top = std::nullopt,
                    std::span<const HeapOffer> known = {}) noexcept {
  HeapOffers offers;
  (internal::AddOffer<internal::HeapPart<internal::BoundTo<Elements, B>>>(manager, cma_top, known,
                                                                          offers),
   ...);
  return offers;
}

}  // namespace ion

#endif  // ION_ION_HEAP_OFFERS_H_
