// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/heap_order.h
//
// The heaps of a Manager, by their ids: that these differ, and in which order they are tried.
//
// Not for users.
#ifndef ION_ION_CORE_HEAP_ORDER_H_
#define ION_ION_CORE_HEAP_ORDER_H_

#include <algorithm>
#include <array>
#include <cstddef>

#include "ion/heap_id.h"

namespace ion::internal {

template <size_t kCount>
consteval bool AllDiffer(const std::array<HeapId, kCount>& ids) {
  for (size_t i = 0; i < kCount; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (ids[i] == ids[j]) return false;
    }
  }
  return true;
}

// The places of `ids`, in the order of trial.
template <class Order, size_t kCount>
consteval std::array<size_t, kCount> Sorted(const std::array<HeapId, kCount>& ids) {
  std::array<size_t, kCount> order{};
  for (size_t i = 0; i < kCount; ++i) order[i] = i;
  std::ranges::sort(order, [&](size_t a, size_t b) { return Order::Before(ids[a], ids[b]); });
  return order;
}

}  // namespace ion::internal

#endif  // ION_ION_CORE_HEAP_ORDER_H_
