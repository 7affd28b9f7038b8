// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/pool_fixture.h
//
// A pool over an array of its own, and policies that tests run it with.

#ifndef ION_TESTS_SUPPORT_POOL_FIXTURE_H_
#define ION_TESTS_SUPPORT_POOL_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/pool/pool.h"

namespace ion::testing {

// As where the kernel has no membarrier.
struct LockedPolicy : PoolPolicy {
  static bool RegisterFence() noexcept { return false; }
  static bool Fence() noexcept { return false; }
};
// As where a filter came after the pool was made.
struct RefusedPolicy : PoolPolicy {
  static bool Fence() noexcept { return false; }
};
// As under TSan.
struct FencedPolicy : PoolPolicy {
  static constexpr bool kOwnerFences = true;
  static bool RegisterFence() noexcept { return true; }
  static bool Fence() noexcept { return true; }
};

template <class P = PoolPolicy, class T = Block>
struct PoolFixture {
  explicit PoolFixture(size_t count, const PoolOptions& options = {})
      : descriptors(count), pool(Make(descriptors, options)) {}

  static Pool<T, P> Make(std::vector<T>& descriptors, const PoolOptions& options) {
    Result<Pool<T, P>> pool = Pool<T, P>::Create(descriptors, options);
    REQUIRE(pool.ok());
    return *std::move(pool);
  }
  // All of the array into the pool.
  void Fill() {
    for (T& descriptor : descriptors) {
      const bool taken = pool.Release(&descriptor);
      REQUIRE(taken);
    }
  }
  // All that the pool gives, each once; the caller's afterwards.
  std::set<T*> TakeAll() {
    std::set<T*> all;
    while (T* descriptor = pool.Acquire()) {
      const bool first = all.insert(descriptor).second;
      REQUIRE(first);
    }
    return all;
  }

  std::vector<T> descriptors;
  Pool<T, P> pool;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_POOL_FIXTURE_H_
