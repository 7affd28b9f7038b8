// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/hooked_atomic.h
//
// HookedAtomic: a std::atomic before whose n-th access on this thread a function is called once. By
// counting n up, a test stops an operation at every point where another thread, or a signal
// handler, could come between.
//
// Example:
//   for (int n = 0;; ++n) {
//     Interruption stop(n, [] { other_operation(); });
//     operation();
//     if (!stop.happened()) break;   // n is past the last access
//   }
//
// It may outlive its thread, to stop what the thread does in its exit.

#ifndef ION_TESTS_SUPPORT_HOOKED_ATOMIC_H_
#define ION_TESTS_SUPPORT_HOOKED_ATOMIC_H_

#include <atomic>
#include <functional>
#include <utility>

namespace ion::testing {

class Interruption {
 public:
  Interruption(int before_access, std::function<void()> action)
      : left_(before_access), action_(std::move(action)) {
    current_ = this;
  }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption() {
    if (current_ == this) current_ = nullptr;
  }

  bool happened() const { return happened_; }

  static void Access() {
    Interruption* const now = current_;
    if (now == nullptr || now->left_-- != 0) return;
    current_ = nullptr;
    now->happened_ = true;
    now->action_();
  }

 private:
  static inline thread_local Interruption* current_ = nullptr;

  int left_;
  std::function<void()> action_;
  bool happened_ = false;
};

// As std::atomic, but for conversions and operators; all bytes zero is its zero.
template <class V>
class HookedAtomic {
 public:
  constexpr HookedAtomic() = default;
  explicit constexpr HookedAtomic(V value) : value_(value) {}

  V load(std::memory_order order = std::memory_order_seq_cst) const {
    Interruption::Access();
    return value_.load(order);
  }
  void store(V value, std::memory_order order = std::memory_order_seq_cst) {
    Interruption::Access();
    value_.store(value, order);
  }
  V fetch_add(V value, std::memory_order order) {
    Interruption::Access();
    return value_.fetch_add(value, order);
  }
  V fetch_sub(V value, std::memory_order order) {
    Interruption::Access();
    return value_.fetch_sub(value, order);
  }
  V fetch_or(V value, std::memory_order order) {
    Interruption::Access();
    return value_.fetch_or(value, order);
  }
  V fetch_and(V value, std::memory_order order) {
    Interruption::Access();
    return value_.fetch_and(value, order);
  }
  bool compare_exchange_weak(V& expected, V desired, std::memory_order success,
                             std::memory_order failure) {
    Interruption::Access();
    return value_.compare_exchange_weak(expected, desired, success, failure);
  }
  bool compare_exchange_weak(V& expected, V desired, std::memory_order order) {
    Interruption::Access();
    return value_.compare_exchange_weak(expected, desired, order);
  }
  bool compare_exchange_strong(V& expected, V desired, std::memory_order success,
                               std::memory_order failure) {
    Interruption::Access();
    return value_.compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_strong(V& expected, V desired, std::memory_order order) {
    Interruption::Access();
    return value_.compare_exchange_strong(expected, desired, order);
  }

 private:
  std::atomic<V> value_{};
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_HOOKED_ATOMIC_H_
