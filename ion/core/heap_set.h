// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/heap_set.h
//
// HeapSet: the heaps of a Manager: those that have memory, the order of trial, names and
// properties. A heap that has no memory at first may be bound later; it is never moved or removed.
//
// Not for users.
//
// Cost: a walk is a fold over the heaps; a heap that is not bound costs a mutex. Thread-safe.
#ifndef ION_ION_CORE_HEAP_SET_H_
#define ION_ION_CORE_HEAP_SET_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/base/fork_mark.h"
#include "ion/block.h"
#include "ion/core/asker.h"
#include "ion/core/growing_mask.h"
#include "ion/core/heap_order.h"
#include "ion/core/region_domain.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/recycler.h"
#include "ion/request.h"

namespace ion::internal {

// Each of `Elements` is a heap, or one with a recycler over it (Recycled, ion/recycler.h).
template <class Order, Backend B, class... Elements>
class HeapSet {
 public:
  static constexpr std::array<HeapId, sizeof...(Elements)> kIds{HeapPart<Elements>::kId...};

  // The type of heap `kId`.
  template <HeapId kId>
  static consteval size_t PlaceOf() {
    const auto at = std::ranges::find(kIds, kId);
    static_assert(((HeapPart<Elements>::kId == kId) || ...),
                  "ion: no heap of this Manager has this id");
    return static_cast<size_t>(at - kIds.begin());
  }
  template <HeapId kId>
  using At = std::tuple_element_t<PlaceOf<kId>(), std::tuple<HeapPart<Elements>...>>;

  // `mark` is of the process that may take the locks. None has memory before Bind.
  HeapSet(B& backend, const ForkMark& mark) noexcept
      : mark_(mark), heaps_(HeapPart<Elements>::Bind(backend)...) {}

  // Takes into use each heap that has memory. `open` is called before with its place, an
  // integral_constant, and itself; its error is the reason why the heap is not used.
  template <class F>
  void Bind(F open) noexcept {
    std::lock_guard lock(mutex_);
    ForEachPlace([&](auto at) { BindAt(at, open); });
  }
  // Looks whether the kernel has heaps now for those of `wanted` that had none. True: for some.
  template <class F>
  bool BindMore(HeapMask wanted, B& backend, F open) noexcept {
    if constexpr (B::kCaps.relists) {
      const HeapMask had = wanted & bound_;
      if (had == wanted) return false;
      if (backend.LookAgain()) {
        std::lock_guard lock(mutex_);
        if (!closed_) ForEachPlace([&](auto at) { BindAgain(at, backend, open); });
      }
      return (wanted & bound_) != had;
    }
    return false;
  }
  // From here on none is bound.
  void Close() noexcept {
    std::lock_guard lock(mutex_);
    closed_ = true;
  }

  // The heaps that have memory.
  HeapMask bound() const noexcept { return bound_; }
  // Those of them that serve a request without a mask.
  HeapMask usual() const noexcept { return usual_; }
  // Returns true if one of the heaps that serve a request makes frames.
  bool MayMakeFrames(const Request& request, const Asker& asker) const noexcept {
    const HeapMask mask = request.heaps.value_or(usual()) & asker.heaps & bound();
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return ((mask.contains(kIds[kAt]) && MakesFrames(*std::get<kAt>(heaps_))) || ...);
    }(kPlaces);
  }
  // Returns true if a request's frame is the heap's driver's to make.
  template <class H>
  static bool MakesFrames(const H& heap) noexcept {
    if constexpr (H::kCaps.frames) return heap.MakesFrames();
    return false;
  }
  // The heaps that a request may mean.
  static HeapMask Meant(const Request& request, const Asker& asker) noexcept {
    constexpr HeapMask kAll = (HeapMask(HeapPart<Elements>::kId) | ...);
    constexpr HeapMask kScattered =
        ((HeapPart<Elements>::kType == HeapType::kSystem ? HeapMask(HeapPart<Elements>::kId)
                                                         : HeapMask()) |
         ...);
    return (request.heaps.has_value() ? *request.heaps & kAll : kScattered) & asker.heaps;
  }
  // Adds the heaps that were bound since to an asker's masks.
  void UpdateMasks(const Asker& asker) const noexcept {
    if ((bound_ & asker.heaps) == asker.bound) return;
    asker.bound.Add(bound_ & asker.heaps);
    asker.usual.Add(usual_ & asker.heaps);
  }

  // Requires: it is bound.
  template <class H>
  const H& Heap() const noexcept {
    return *std::get<Result<H>>(heaps_);
  }
  // Calls f(heap's Result, its place, an integral_constant) for each heap, in the order of trial,
  // until f says true. That of a heap without memory is a copy, as another thread may bind it
  // meanwhile.
  template <class F>
  bool Walk(F f) {
    return WalkOver(*this, f);
  }
  template <class F>
  bool Walk(F f) const {
    return WalkOver(*this, f);
  }
  // Calls f(the heap that a block came from). False: it came from none.
  template <class F>
  bool With(const Block& block, F f) {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return ((kAt == block.heap && (f(*std::get<kAt>(heaps_)), true)) || ...);
    }(kPlaces);
  }

  // Returns true if the block's descriptor leads to other memory as well.
  static bool SharesItsDescriptor(const Block& block) noexcept {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return ((kAt == block.heap && PartAt<kAt>::kCaps.shares) || ...);
    }(kPlaces);
  }
  // Whose memory lies in the region of a heap whose blocks are ranges.
  RegionDomain& region(size_t at) noexcept { return regions_[at]; }

  // The name of the kernel heap behind `id`, or empty.
  std::string_view NameOf(HeapId id) const noexcept {
    std::string_view name;
    Walk([&](const auto& heap, size_t at) {
      if (kIds[at] == id && heap.ok()) name = heap->name();
      return kIds[at] == id;
    });
    return name;
  }
  // The same of the heap that a block came from. It is bound, so no lock is needed.
  std::string_view NameOf(const Block& block) const noexcept {
    std::string_view name;
    ForEachPlace([&](auto at) {
      if (at == block.heap) name = std::get<at()>(heaps_)->name();
    });
    return name;
  }
  // The properties that all of them have.
  Properties Guarantees(HeapMask mask) const noexcept {
    std::optional<Properties> sure;
    Walk([&](const auto& heap, size_t at) {
      if (!heap.ok() || !mask.contains(kIds[at])) return false;
      sure = sure.has_value() ? Common(*sure, heap->properties()) : heap->properties();
      return false;
    });
    return sure.value_or(Properties{});
  }

 private:
  static constexpr std::array<size_t, sizeof...(Elements)> kOrder = Sorted<Order>(kIds);
  static constexpr std::index_sequence_for<Elements...> kPlaces{};
  template <size_t kAt>
  using PartAt = std::tuple_element_t<kAt, std::tuple<HeapPart<Elements>...>>;

  template <class F>
  static void ForEachPlace(F f) {
    [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      (f(std::integral_constant<size_t, kAt>()), ...);
    }(kPlaces);
  }
  template <class Self, class F>
  static bool WalkOver(Self& self, F& f) {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return (WalkAt<kOrder[kAt]>(self, f) || ...);
    }(kPlaces);
  }
  template <size_t kAt, class Self, class F>
  static bool WalkAt(Self& self, F& f) {
    constexpr std::integral_constant<size_t, kAt> kPlace{};
    auto& heap = std::get<kAt>(self.heaps_);
    if (self.bound_.contains(kIds[kAt])) return f(heap, kPlace);
    // In a child nobody might be there to unlock it.
    std::unique_lock lock(self.mutex_, std::defer_lock);
    if (!self.mark_.InChild()) lock.lock();
    // It may have been bound while we waited.
    const bool late = self.bound_.contains(kIds[kAt]);
    std::remove_reference_t<decltype(heap)> refused(self.unbound_[kAt]);
    if (lock.owns_lock()) lock.unlock();
    return late ? f(heap, kPlace) : f(refused, kPlace);
  }

  // Under the mutex, both.
  template <size_t kAt, class F>
  void BindAt(std::integral_constant<size_t, kAt> at, F& open) noexcept {
    auto& heap = std::get<kAt>(heaps_);
    Error error = heap.ok() ? open(at, *heap) : heap.error();
    unbound_[kAt] = error;
    if (!error.ok()) return Replace(heap, {error});
    // Last: an asker whose `bound` agrees does not look at `usual` again.
    if (!heap->properties().contiguous.yes() && !IsNamedOnly(*heap)) usual_.Add(kIds[kAt]);
    bound_.Add(kIds[kAt]);
  }
  template <size_t kAt, class F>
  void BindAgain(std::integral_constant<size_t, kAt> at, B& backend, F& open) noexcept {
    if (bound_.contains(kIds[kAt])) return;
    Replace(std::get<kAt>(heaps_), PartAt<kAt>::Bind(backend));
    BindAt(at, open);
  }
  template <class H>
  static bool IsNamedOnly(const H& heap) noexcept {
    if constexpr (H::kCaps.named_only) return heap.NamedOnly();
    return false;
  }
  template <class H>
  static void Replace(Result<H>& heap, Result<H> by) noexcept {
    std::destroy_at(&heap);
    std::construct_at(&heap, std::move(by));
  }

  const ForkMark& mark_;
  GrowingMask bound_;  // the others' Results are nobody's to read
  GrowingMask usual_;
  std::tuple<Result<HeapPart<Elements>>...> heaps_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  std::array<Error, sizeof...(Elements)> unbound_;  // why a heap has no memory
  std::array<RegionDomain, sizeof...(Elements)> regions_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_HEAP_SET_H_
