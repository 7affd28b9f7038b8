// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/stale_atomic.h
//
// StaleAtomic: an atomic that keeps every value it ever had. A load by a thread that has not
// synchronized with the writer answers the oldest value that the rules of C++ allow: what arm64 may
// do, and x86 never does. The threads are numbers, which the test switches between.
//
// Example:
//   stale::thread = 0;
//   data.store(7, relaxed); flag.store(1, release);
//   stale::thread = 1;
//   flag.fetch_or(0, relaxed);   // 1: a locked instruction reads the newest
//   data.load(relaxed);          // 0: nothing was acquired
//
// Not covered: fences, and the one order of all sequentially consistent accesses.

#ifndef ION_TESTS_SUPPORT_STALE_ATOMIC_H_
#define ION_TESTS_SUPPORT_STALE_ATOMIC_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "tests/support/hooked_atomic.h"

namespace ion::testing {

namespace stale {

// How far in the history of each atomic a thread cannot go back behind.
using View = std::map<const void*, size_t>;

inline uint32_t thread = 0;
inline std::array<View, 4> views;

inline void Merge(View& into, const View& from) {
  for (const auto& [place, at] : from) into[place] = std::max(into[place], at);
}
inline bool Acquires(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
inline bool Releases(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_acquire;
}

}  // namespace stale

// With kNewest, loads answer the newest value, too.
template <class V, bool kNewest = false>
class StaleAtomic {
 public:
  StaleAtomic() : StaleAtomic(V{}) {}
  explicit StaleAtomic(V value) { history_.push_back({value, {}}); }
  StaleAtomic(const StaleAtomic&) = delete;
  StaleAtomic& operator=(const StaleAtomic&) = delete;
  ~StaleAtomic() {
    for (stale::View& view : stale::views) view.erase(this);
  }

  V load(std::memory_order order) const {
    Interruption::Access();
    return Read(kNewest ? history_.size() - 1 : view()[this], order);
  }
  void store(V value, std::memory_order order) {
    Interruption::Access();
    Write(value, order, {});
  }
  bool compare_exchange_weak(V& expected, V desired, std::memory_order success,
                             std::memory_order failure) {
    Interruption::Access();
    const bool same = history_.back().value == expected;
    expected = Read(history_.size() - 1, same ? success : failure);
    if (same) Write(desired, success, history_.back().released);
    return same;
  }
  V fetch_or(V bits, std::memory_order order) {
    Interruption::Access();
    const V old = Read(history_.size() - 1, order);
    Write(old | bits, order, history_.back().released);
    return old;
  }

 private:
  struct Entry {
    V value;
    stale::View released;  // what a thread knows that acquires it
  };
  static stale::View& view() { return stale::views[stale::thread]; }
  V Read(size_t at, std::memory_order order) const {
    view()[this] = at;
    if (stale::Acquires(order)) stale::Merge(view(), history_[at].released);
    return history_[at].value;
  }
  // `before`: a locked instruction goes on with the release that it read.
  void Write(V value, std::memory_order order, stale::View before) {
    view()[this] = history_.size();
    if (stale::Releases(order)) stale::Merge(before, view());
    history_.push_back({value, std::move(before)});
  }

  std::vector<Entry> history_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_STALE_ATOMIC_H_
