// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/size_classes.h
//
// Size classes: the sizes in which a heap takes memory from the kernel. Few sizes let buffers be
// recycled for requests of similar sizes; the bytes of rounding up are wasted.
//
//   WholePages     every number of pages: at most a page wasted. For heaps without pools.
//   QuarterSteps   four sizes to each doubling: less than a fifth of a buffer wasted
//   SizeTable<…>   a list; above its last, multiples of that
//   IonOrders      ION's chunks as sizes: 4 KiB, 64 KiB, 1 MiB
//
// Example:
//   using Steps = ion::SystemHeap<B, ion::HeapSpec{}, ion::QuarterSteps>;
//
// Cost: arithmetic, without a loop but SizeTable's. Thread-safe.
#ifndef ION_POLICIES_SIZE_CLASSES_H_
#define ION_POLICIES_SIZE_CLASSES_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <type_traits>

namespace ion {

// Requires: the answer is the smallest class that has room for `bytes`, and 0 for 0; if no class is
// representable, `bytes` (a backend refuses so much).
template <class C>
concept SizeClasses = requires(uint64_t bytes) {
  { C::RoundUp(bytes) } noexcept -> std::same_as<uint64_t>;
  typename std::integral_constant<uint64_t, C::RoundUp(1)>;
};

namespace internal {

constexpr uint64_t RoundUpTo(uint64_t step, uint64_t bytes) noexcept {
  return bytes > UINT64_MAX - (step - 1) ? bytes : (bytes + step - 1) / step * step;
}

}  // namespace internal

// The backend rounds up to the machine's pages.
struct WholePages {
  static constexpr uint64_t RoundUp(uint64_t bytes) noexcept { return bytes; }
};

struct QuarterSteps {
  static constexpr uint64_t kSmallest = 4096;

  static constexpr uint64_t RoundUp(uint64_t bytes) noexcept {
    return internal::RoundUpTo(std::max(std::bit_floor(bytes) / 4, kSmallest), bytes);
  }
};

template <uint64_t... kBytes>
struct SizeTable {
  static constexpr std::array<uint64_t, sizeof...(kBytes)> kSizes{kBytes...};
  static_assert(sizeof...(kBytes) > 0, "ion: a SizeTable has at least one size");
  static_assert(std::ranges::is_sorted(kSizes, std::less_equal<>()) && kSizes[0] > 0,
                "ion: the sizes of a SizeTable ascend, each above the one before, from above 0");

  static constexpr uint64_t RoundUp(uint64_t bytes) noexcept {
    if (bytes == 0) return 0;
    const auto fits = std::ranges::lower_bound(kSizes, bytes);
    return fits != kSizes.end() ? *fits : internal::RoundUpTo(kSizes.back(), bytes);
  }
};
using IonOrders = SizeTable<4096, 65536, 1048576>;

static_assert(SizeClasses<WholePages> && SizeClasses<QuarterSteps> && SizeClasses<IonOrders>);

// The cost of rounding up: sums over all allocations so far.
struct Rounding {
  uint64_t asked_bytes = 0;
  uint64_t given_bytes = 0;

  constexpr uint64_t wasted_bytes() const noexcept { return given_bytes - asked_bytes; }
};

// The sums, counted by several threads. Moved only before the first of them comes.
class RoundingCounter {
 public:
  RoundingCounter() = default;
  RoundingCounter(RoundingCounter&& other) noexcept
      : asked_(other.get().asked_bytes), given_(other.get().given_bytes) {}

  void Add(uint64_t asked, uint64_t given) noexcept {
    asked_.fetch_add(asked, std::memory_order_relaxed);
    given_.fetch_add(given, std::memory_order_relaxed);
  }
  // Exact while nobody adds.
  Rounding get() const noexcept {
    return {asked_.load(std::memory_order_relaxed), given_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<uint64_t> asked_{0};
  std::atomic<uint64_t> given_{0};
};

}  // namespace ion

#endif  // ION_POLICIES_SIZE_CLASSES_H_
