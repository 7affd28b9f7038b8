// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/atomic_ref.h
//
// AtomicRef: atomic access to an integer that is a plain member elsewhere. std::atomic_ref, but for
// C++ libraries that lack it: libc++ before 19 (Android's NDK to r27).
//
// Cost: the compiler's own instructions. g++ before 14 calls libatomic for integers of less than
// 32 bits on riscv64: link with -latomic there. Thread-safe, async-signal-safe.
#ifndef ION_ION_BASE_ATOMIC_REF_H_
#define ION_ION_BASE_ATOMIC_REF_H_

#include <atomic>
#include <concepts>

namespace ion::internal {

template <std::integral T>
class AtomicRef {
 public:
  explicit AtomicRef(T& at) noexcept : at_(&at) {}

  // Each returns the value that was there before.
  T fetch_add(T value, std::memory_order order) const noexcept {
    return __atomic_fetch_add(at_, value, Order(order));
  }
  T fetch_sub(T value, std::memory_order order) const noexcept {
    return __atomic_fetch_sub(at_, value, Order(order));
  }
  T fetch_or(T value, std::memory_order order) const noexcept {
    return __atomic_fetch_or(at_, value, Order(order));
  }
  T load(std::memory_order order) const noexcept { return __atomic_load_n(at_, Order(order)); }
  void store(T value, std::memory_order order) const noexcept {
    __atomic_store_n(at_, value, Order(order));
  }

 private:
  // Both number the orders alike.
  static constexpr int Order(std::memory_order order) noexcept { return static_cast<int>(order); }
  static_assert(Order(std::memory_order_relaxed) == __ATOMIC_RELAXED &&
                Order(std::memory_order_acquire) == __ATOMIC_ACQUIRE &&
                Order(std::memory_order_release) == __ATOMIC_RELEASE &&
                Order(std::memory_order_acq_rel) == __ATOMIC_ACQ_REL &&
                Order(std::memory_order_seq_cst) == __ATOMIC_SEQ_CST);

  T* at_;
};

}  // namespace ion::internal

#endif  // ION_ION_BASE_ATOMIC_REF_H_
