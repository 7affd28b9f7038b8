// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/pool_bounds.h
//
// LowerBounds: the bounds of idle memory of each heap's pools, from the ceilings of the heaps'
// recyclers and from the smaller bounds that a program asks for (ManagerOptions::pools).
//
// Not for users.
#ifndef ION_ION_CORE_POOL_BOUNDS_H_
#define ION_ION_CORE_POOL_BOUNDS_H_

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/heap_id.h"
#include "ion/recycler.h"
#include "ion/recycling.h"

namespace ion::internal {

// The bounds of the pools of each heap, by its place in the Manager's list; zeros for one without.
template <class... Elements>
using PoolBoundsOf = std::array<PoolBounds, sizeof...(Elements)>;

// A heap, and the bounds that its recycler has at most; none: it has no recycler.
struct PoolCeiling {
  HeapId heap;
  std::optional<PoolBounds> bounds;
};
template <class Element>
PoolCeiling CeilingOf() noexcept {
  if constexpr (kRecycled<Element>) {
    return {HeapPart<Element>::kId, RecyclerPart<Element>::Ceiling()};
  } else {
    return {HeapPart<Element>::kId, std::nullopt};
  }
}

inline absl::Status PoolsRefused(const char* backend, HeapId heap, const char* what, uint64_t asked,
                                 const char* hint) noexcept {
  return WithMemory(
      [&] {
        const Error error(EINVAL, what, {backend, Operation::kOpen, {}, asked}, hint);
        return MakeStatus(EINVAL, absl::StrCat(Describe(error), "; this is ManagerOptions::pools",
                                               " for heap ", heap.value()));
      },
      [] { return CodeAlone(EINVAL); });
}
// `what`: the bound that is above its ceiling, and its unit.
inline absl::Status PastCeiling(const char* backend, HeapId heap, const char* what, uint64_t asked,
                                uint64_t ceiling) noexcept {
  return WithMemory(
      [&] {
        const Error error(EINVAL, "a bound of ManagerOptions::pools is above its ceiling",
                          {backend, Operation::kOpen},
                          "ask for no more, or give the heap's Pooled a PoolSpec with more");
        return MakeStatus(
            EINVAL, absl::StrCat(Describe(error), "; ", what, " of heap ", heap.value(), " is ",
                                 asked, ", and its ceiling is ", ceiling));
      },
      [] { return CodeAlone(EINVAL); });
}

// Lowers the bounds of one heap, which are at first those of its recycler.
inline absl::Status LowerOne(const char* backend, const HeapPools& asked,
                             PoolBounds& bounds) noexcept {
  const PoolBounds ceiling = bounds;
  const auto past = [&](const char* what, uint64_t wanted, uint64_t most) {
    return PastCeiling(backend, asked.heap, what, wanted, most);
  };
  bounds.capacity_bytes = asked.capacity_bytes.value_or(ceiling.capacity_bytes);
  bounds.capacity_blocks = asked.capacity_blocks.value_or(ceiling.capacity_blocks);
  // A tick leaves some room below a smaller capacity, so that releases until the next one give
  // nothing to the kernel.
  const bool less = bounds.capacity_bytes < ceiling.capacity_bytes;
  const uint64_t high = less ? bounds.capacity_bytes / 2 : ceiling.high_bytes;
  bounds.high_bytes = asked.high_bytes.value_or(std::min(ceiling.high_bytes, high));
  const uint64_t low =
      bounds.high_bytes < ceiling.high_bytes ? bounds.high_bytes / 2 : ceiling.low_bytes;
  bounds.low_bytes = asked.low_bytes.value_or(std::min(ceiling.low_bytes, low));
  if (bounds.capacity_bytes > ceiling.capacity_bytes) {
    return past("capacity_bytes", bounds.capacity_bytes, ceiling.capacity_bytes);
  }
  if (bounds.capacity_blocks > ceiling.capacity_blocks) {
    return past("capacity_blocks", bounds.capacity_blocks, ceiling.capacity_blocks);
  }
  if (bounds.high_bytes > ceiling.high_bytes) {
    return past("high_bytes", bounds.high_bytes, ceiling.high_bytes);
  }
  if (bounds.low_bytes > ceiling.low_bytes) {
    return past("low_bytes", bounds.low_bytes, ceiling.low_bytes);
  }
  const bool above = bounds.high_bytes > bounds.capacity_bytes && bounds.capacity_bytes != 0;
  if (above || bounds.low_bytes > bounds.high_bytes) {
    return PoolsRefused(backend, asked.heap, "the watermarks are the wrong way round",
                        above ? bounds.high_bytes : bounds.low_bytes,
                        "keep low_bytes <= high_bytes <= capacity_bytes, or leave them out");
  }
  return absl::OkStatus();
}

// Lowers `bounds`, which has a place for each of `ceilings`.
inline absl::Status LowerAll(const char* backend, std::span<const HeapPools> asked,
                             std::span<const PoolCeiling> ceilings,
                             std::span<PoolBounds> bounds) noexcept {
  for (size_t i = 0; i < ceilings.size(); ++i)
    bounds[i] = ceilings[i].bounds.value_or(PoolBounds());
  for (size_t i = 0; i < asked.size(); ++i) {
    const HeapPools& one = asked[i];
    const auto of_heap = [&](const auto& other) { return other.heap == one.heap; };
    const auto at = std::ranges::find_if(ceilings, of_heap);
    const uint64_t bytes = one.capacity_bytes.value_or(0);
    if (at == ceilings.end()) {
      return PoolsRefused(backend, one.heap, "no heap of this Manager has this id", bytes,
                          "name a heap of the Manager's list");
    }
    if (!at->bounds.has_value()) {
      return PoolsRefused(backend, one.heap, "this heap has no pools", bytes,
                          "put Pooled around it, or leave it out");
    }
    if (at->bounds->capacity_bytes == 0 && at->bounds->capacity_blocks == 0) {
      return PoolsRefused(backend, one.heap, "this heap's recycler has no bounds that can be set",
                          bytes, "leave it out");
    }
    if (std::ranges::any_of(asked.first(i), of_heap)) {
      return PoolsRefused(backend, one.heap, "this heap is named twice", bytes,
                          "set its bounds in one element");
    }
    const auto place = static_cast<size_t>(at - ceilings.begin());
    if (absl::Status status = LowerOne(backend, one, bounds[place]); !status.ok()) return status;
  }
  return absl::OkStatus();
}

// The bounds of each element's pools. EINVAL, as Manager::Open says.
template <class... Elements>
absl::StatusOr<PoolBoundsOf<Elements...>> LowerBounds(const char* backend,
                                                      std::span<const HeapPools> asked) noexcept {
  const std::array<PoolCeiling, sizeof...(Elements)> ceilings{CeilingOf<Elements>()...};
  PoolBoundsOf<Elements...> bounds;
  if (absl::Status status = LowerAll(backend, asked, ceilings, bounds); !status.ok()) return status;
  return bounds;
}

}  // namespace ion::internal

#endif  // ION_ION_CORE_POOL_BOUNDS_H_
