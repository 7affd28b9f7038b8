// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/budget.h"

#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"

namespace {

using ion::Budget;
using ion::Charge;

TEST_CASE("Budget: gives up to its limit, and not a byte more") {
  Budget budget(100);
  CHECK(budget.limit() == 100);
  CHECK(budget.Take(60));
  CHECK(budget.Take(40));
  CHECK_FALSE(budget.Take(1));
  CHECK(budget.held() == 100);
}

TEST_CASE("Budget: what it refuses is not taken in part") {
  Budget budget(100);
  CHECK(budget.Take(60));
  CHECK_FALSE(budget.Take(41));
  CHECK(budget.held() == 60);
}

TEST_CASE("Budget: what was given back can be taken again") {
  Budget budget(100);
  CHECK(budget.Take(100));
  budget.Give(30);
  CHECK(budget.held() == 70);
  CHECK_FALSE(budget.Take(31));
  CHECK(budget.Take(30));
}

TEST_CASE("Budget: sums past the last address do not wrap") {
  Budget budget(UINT64_MAX);
  CHECK(budget.Take(UINT64_MAX - 1));
  CHECK_FALSE(budget.Take(2));
  CHECK_FALSE(budget.Take(UINT64_MAX));
  CHECK(budget.Take(1));
}

TEST_CASE("Budget: none of nothing") {
  Budget budget(0);
  CHECK_FALSE(budget.Take(1));
  CHECK(budget.Take(0));
}

TEST_CASE("Budget: threads never hold more than the limit, and all is there at the end") {
  constexpr uint64_t kLimit = 10;
  constexpr int kRounds = 20000;
  Budget budget(kLimit);
  std::atomic<uint64_t> held{0};
  std::atomic<int> over{0}, taken{0};
  std::vector<std::thread> threads;
  for (uint64_t bytes = 3; bytes <= 6; ++bytes) {  // any three of them are too many
    threads.emplace_back([&, bytes] {
      for (int i = 0; i < kRounds; ++i) {
        if (!budget.Take(bytes)) continue;
        ++taken;
        if (held.fetch_add(bytes) + bytes > kLimit) ++over;
        held.fetch_sub(bytes);
        budget.Give(bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(over == 0);
  CHECK(taken > 0);
  CHECK(budget.held() == 0);
}

TEST_CASE("Charge: gives its bytes back, but for what was kept") {
  Budget budget(100);
  {
    CHECK(budget.Take(30));
    const Charge charge(budget, 30);
    CHECK(charge.bytes() == 30);
  }
  CHECK(budget.held() == 0);
  {
    CHECK(budget.Take(30));
    Charge charge(budget, 30);
    charge.Keep();
  }
  CHECK(budget.held() == 30);
}

TEST_CASE("Charge: grows by the bytes that are missing, or not at all past the limit") {
  Budget budget(100);
  {
    CHECK(budget.Take(30));
    Charge charge(budget, 30);
    CHECK(charge.GrowTo(30));
    CHECK(charge.GrowTo(10));
    CHECK(charge.bytes() == 30);
    CHECK(charge.GrowTo(80));
    CHECK(charge.bytes() == 80);
    CHECK(budget.held() == 80);
    CHECK_FALSE(charge.GrowTo(101));
    CHECK(charge.bytes() == 80);
    CHECK(budget.held() == 80);
  }
  CHECK(budget.held() == 0);
}

TEST_CASE("Charge: gives its bytes back once, however often it was moved") {
  Budget budget(100);
  CHECK(budget.Take(30));
  {
    Charge first(budget, 30);
    const Charge second = std::move(first);
    CHECK(budget.held() == 30);
  }
  CHECK(budget.held() == 0);
}

}  // namespace
