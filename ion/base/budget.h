// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/budget.h
//
// Budget: a bound on each request and on the sum held, kept before the kernel sees a request. Linux
// 6.12's system heap kills the caller where ION answered ENOMEM, so a bound of our own must say no.
//
// Example:
//   auto budget = std::make_shared<ion::Budget>(512_MiB);
//   auto backend = ion::MemfdBackend<>::Open({.budget = budget});   // several may share it
//
// Cost: one atomic addition per allocation from the kernel. Thread-safe.
#ifndef ION_ION_BASE_BUDGET_H_
#define ION_ION_BASE_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <utility>

namespace ion {

class Budget {
 public:
  explicit Budget(uint64_t limit_bytes) noexcept : limit_(limit_bytes) {}
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // Takes `bytes`, or nothing at all where the sum would pass the limit.
  [[nodiscard]] bool Take(uint64_t bytes) noexcept {
    uint64_t held = held_.load(std::memory_order_relaxed);
    do {
      if (bytes > limit_ || held > limit_ - bytes) return false;
    } while (!held_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
    return true;
  }
  // Takes `bytes` that are held already, and about to be given back by others.
  void Hold(uint64_t bytes) noexcept { held_.fetch_add(bytes, std::memory_order_relaxed); }
  // Gives back what Take took.
  void Give(uint64_t bytes) noexcept { held_.fetch_sub(bytes, std::memory_order_relaxed); }

  uint64_t held() const noexcept { return held_.load(std::memory_order_relaxed); }
  uint64_t limit() const noexcept { return limit_; }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> held_{0};
};

// Bytes taken from a Budget on their way into a block: given back unless they were kept.
class [[nodiscard]] Charge {
 public:
  // Requires: `budget` gave `bytes`.
  Charge(Budget& budget, uint64_t bytes) noexcept : budget_(&budget), bytes_(bytes) {}
  Charge(Charge&& other) noexcept
      : budget_(std::exchange(other.budget_, nullptr)), bytes_(other.bytes_) {}
  Charge& operator=(Charge&&) = delete;
  ~Charge() {
    if (budget_ != nullptr) budget_->Give(bytes_);
  }

  uint64_t bytes() const noexcept { return bytes_; }
  // Takes from the Budget the bytes that are missing to `bytes`, or nothing where the sum would pass
  // the limit. Returns false then. Requires: Keep was not called.
  [[nodiscard]] bool GrowTo(uint64_t bytes) noexcept {
    if (bytes <= bytes_) return true;
    if (!budget_->Take(bytes - bytes_)) return false;
    bytes_ = bytes;
    return true;
  }
  // The block has them now; they are given back when it is released.
  void Keep() noexcept { budget_ = nullptr; }

 private:
  Budget* budget_;
  uint64_t bytes_;
};

}  // namespace ion

#endif  // ION_ION_BASE_BUDGET_H_
