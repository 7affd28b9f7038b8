// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/near_budget.h
//
// NearBudget: bounds the large objects that may lie in the magazines of threads, of several pools
// together. A magazine takes room here for each object before it holds one, and gives the room back
// when somebody empties it. Room that is not used counts, too: so the sum is a bound at every
// moment. In a forked child the room of the parent's threads stays taken: make another budget.
//
// Example:
//   ion::NearBudget near(/*bytes=*/128 << 20, /*objects=*/256);
//   ion::Result<ion::Pool<ion::Block>> pool =
//       ion::Pool<ion::Block>::Create(blocks, {.object_bytes = 8 << 20, .near = &near});
//
// Cost: an operation of the processor or two, off the hot path. Thread-safe; lock-free.
#ifndef ION_POLICIES_POOL_NEAR_BUDGET_H_
#define ION_POLICIES_POOL_NEAR_BUDGET_H_

#include <atomic>
#include <cstdint>

namespace ion {

class NearBudget {
 public:
  constexpr NearBudget() noexcept = default;  // no room
  constexpr NearBudget(uint64_t bytes, uint64_t objects) noexcept
      : most_bytes_(bytes), most_objects_(objects) {}

  // Sets the bounds. Requires: no pool uses it yet.
  void Set(uint64_t bytes, uint64_t objects) noexcept {
    most_bytes_ = bytes;
    most_objects_ = objects;
  }

  // Takes room for one object. False: there is none.
  bool Take(uint64_t object_bytes) noexcept {
    if (!Add(bytes_, object_bytes, most_bytes_)) return false;
    if (Add(objects_, 1, most_objects_)) return true;
    bytes_.fetch_sub(object_bytes, std::memory_order_relaxed);
    return false;
  }
  // Gives back room for `objects`. Requires: it was taken.
  void Give(uint64_t object_bytes, uint64_t objects) noexcept {
    bytes_.fetch_sub(object_bytes * objects, std::memory_order_relaxed);
    objects_.fetch_sub(objects, std::memory_order_relaxed);
  }

  // The room that is taken.
  uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
  uint64_t objects() const noexcept { return objects_.load(std::memory_order_relaxed); }

 private:
  static bool Add(std::atomic<uint64_t>& taken, uint64_t more, uint64_t most) noexcept {
    uint64_t now = taken.load(std::memory_order_relaxed);
    do {
      if (now > most || more > most - now) return false;
    } while (!taken.compare_exchange_weak(now, now + more, std::memory_order_relaxed));
    return true;
  }

  uint64_t most_bytes_ = 0;
  uint64_t most_objects_ = 0;
  std::atomic<uint64_t> bytes_{0};
  std::atomic<uint64_t> objects_{0};
};

}  // namespace ion

#endif  // ION_POLICIES_POOL_NEAR_BUDGET_H_
