// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/growing_mask.h
//
// GrowingMask: a HeapMask to which one thread adds heaps while others read it. A reader that sees
// an id also sees all that was written before the id was added.
//
// Not for users.
//
// Cost: a load; on x86 the same as a HeapMask's. Thread-safe.
#ifndef ION_ION_CORE_GROWING_MASK_H_
#define ION_ION_CORE_GROWING_MASK_H_

#include <atomic>
#include <cstdint>

#include "ion/heap_id.h"

namespace ion::internal {

class GrowingMask {
 public:
  GrowingMask() = default;
  GrowingMask(HeapMask mask) noexcept : bits_(mask.bits()) {}  // NOLINT: it is a mask
  GrowingMask(const GrowingMask& other) noexcept : GrowingMask(other.get()) {}
  GrowingMask& operator=(const GrowingMask& other) noexcept {
    bits_.store(other.get().bits(), std::memory_order_release);
    return *this;
  }

  HeapMask get() const noexcept {
    return HeapMask::FromBits(bits_.load(std::memory_order_acquire));
  }
  operator HeapMask() const noexcept { return get(); }  // NOLINT: it is a mask
  void Add(HeapMask more) noexcept { bits_.fetch_or(more.bits(), std::memory_order_acq_rel); }

  bool empty() const noexcept { return get().empty(); }
  bool contains(HeapId id) const noexcept { return get().contains(id); }

 private:
  std::atomic<uint32_t> bits_{0};
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_GROWING_MASK_H_
