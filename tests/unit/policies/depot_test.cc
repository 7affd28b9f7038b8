// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/pool/depot.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "tests/support/hooked_atomic.h"

namespace {

using ion::testing::Interruption;

struct Hooked : ion::StackPolicy {
  template <class V>
  using Atomic = ion::testing::HookedAtomic<V>;
};

struct alignas(64) Line {
  std::byte bytes[64];
};

template <class P = ion::StackPolicy>
struct TestDepot {
  explicit TestDepot(uint32_t count)
      : memory(std::make_unique<Line[]>(ion::Depot<P>::Bytes(count) / 64 + 1)) {
    depot.Init(memory.get(), count);
  }
  void Put(const std::vector<uint32_t>& objects) {
    depot.Put(objects.data(), static_cast<uint32_t>(objects.size()));
  }
  std::vector<uint32_t> Get(uint32_t max = 15) {
    std::vector<uint32_t> objects(15);
    objects.resize(depot.Get(objects.data(), max));
    return objects;
  }
  // What is in it, each once; empty afterwards.
  std::set<uint32_t> TakeAll() {
    std::set<uint32_t> all;
    for (std::vector<uint32_t> some = Get(); !some.empty(); some = Get()) {
      for (uint32_t object : some) {
        const bool first = all.insert(object).second;
        REQUIRE(first);
      }
    }
    return all;
  }

  std::unique_ptr<Line[]> memory;
  // Not on the stack: g++'s address sanitizer does not keep the alignment of what is there.
  std::unique_ptr<ion::Depot<P>> made = std::make_unique<ion::Depot<P>>();
  ion::Depot<P>& depot = *made;
};

std::vector<uint32_t> Range(uint32_t from, uint32_t to) {
  std::vector<uint32_t> range(to - from);
  std::iota(range.begin(), range.end(), from);
  return range;
}

TEST_CASE("Depot: a new depot is empty") {
  TestDepot d(100);
  CHECK(d.Get().empty());
  CHECK(d.depot.depth() == 0);
}

TEST_CASE("Depot: what was put together is got together") {
  TestDepot d(100);
  d.Put(Range(0, 15));
  d.Put(Range(15, 20));
  CHECK(d.depot.depth() == 20);
  CHECK(d.Get() == Range(15, 20));
  CHECK(d.Get() == Range(0, 15));
  CHECK(d.Get().empty());
}

TEST_CASE("Depot: more than a block holds is put into several") {
  TestDepot d(100);
  d.Put(Range(0, 32));
  CHECK(d.Get().size() == 2);
  CHECK(d.Get().size() == 15);
  CHECK(d.Get().size() == 15);
}

TEST_CASE("Depot: no more is got than fits, and the rest stays") {
  TestDepot d(100);
  d.Put(Range(0, 15));
  CHECK(d.Get(4) == Range(11, 15));
  CHECK(d.depot.depth() == 11);
  CHECK(d.Get(15) == Range(0, 11));
}

TEST_CASE("Depot: one object goes and comes alone") {
  TestDepot d(200);
  d.depot.PutOne(0);
  d.depot.PutOne(199);
  d.depot.PutOne(64);
  CHECK(d.depot.depth() == 3);
  std::set<uint32_t> got;
  uint32_t object = 0;
  while (d.depot.Get(&object, 1) != 0) CHECK(got.insert(object).second);
  CHECK(got == std::set<uint32_t>{0, 64, 199});
  CHECK(d.depot.depth() == 0);
}

TEST_CASE("Depot: one object is got from a block, too") {
  TestDepot d(100);
  d.Put(Range(0, 3));
  uint32_t object = 0;
  CHECK(d.depot.Get(&object, 1) != 0);
  CHECK(object == 2);
  CHECK(d.depot.depth() == 2);
}

TEST_CASE("Depot: strays are got together") {
  TestDepot d(100);
  for (uint32_t object : Range(0, 20)) d.depot.PutOne(object);
  CHECK(d.Get(7).size() == 7);
  CHECK(d.Get(15).size() == 13);
}

TEST_CASE("Depot: there is room for every object, however small the blocks are") {
  for (uint32_t count : {1u, 2u, 15u, 16u, 63u, 64u, 65u, 1000u}) {
    TestDepot d(count);
    for (uint32_t object = 0; object < count; ++object) d.Put({object});
    CHECK(d.depot.depth() == count);
    CHECK(d.TakeAll().size() == count);
    CHECK(d.depot.depth() == 0);
    d.Put(Range(0, count));
    CHECK(d.TakeAll().size() == count);
  }
}

TEST_CASE("Depot: at most 7.4 bytes for an object, and 0.8 KiB") {
  for (uint32_t count : {1u, 100u, 512u, 65'536u, ion::Depot<>::kMaxObjects}) {
    CHECK(sizeof(ion::Depot<>) + ion::Depot<>::Bytes(count) <= 7.4 * count + 820);
  }
}

TEST_CASE("Depot: the most objects that it is made for have room") {
  constexpr uint32_t kMost = ion::Depot<>::kMaxObjects;
  TestDepot d(kMost);
  d.Put(Range(kMost - 15, kMost));
  d.depot.PutOne(0);
  CHECK(d.depot.depth() == 16);
  CHECK(d.Get() == Range(kMost - 15, kMost));
  CHECK(d.Get() == Range(0, 1));
}

TEST_CASE("Depot: the lowest depth of an epoch is what was not needed") {
  TestDepot d(100);
  d.Put(Range(0, 45));
  d.depot.NewEpoch();
  CHECK(d.depot.lowest() == 45);
  d.Put(d.Get());
  CHECK(d.depot.lowest() == 30);
  d.Put(d.Get(4));
  CHECK(d.depot.lowest() == 30);
  d.depot.NewEpoch();
  CHECK(d.depot.lowest() == 45);
}

TEST_CASE("Depot: strays count for the depth and for the lowest depth") {
  TestDepot d(100);
  for (uint32_t object : Range(0, 10)) d.depot.PutOne(object);
  d.Put(Range(20, 35));
  d.depot.NewEpoch();
  CHECK(d.depot.lowest() == 25);
  CHECK(d.Get().size() == 15);
  CHECK(d.depot.lowest() == 10);
  CHECK(d.Get(4).size() == 4);
  CHECK(d.depot.lowest() == 6);
}

TEST_CASE("Depot: random puts and gets keep every object once") {
  constexpr uint32_t kCount = 300;
  TestDepot d(kCount);
  std::mt19937 random(42);
  std::vector<uint32_t> mine = Range(0, kCount);
  for (int step = 0; step < 100'000; ++step) {
    const uint32_t n = 1 + random() % 15;
    if (random() % 2 == 0) {
      std::vector<uint32_t> got = d.Get(n);
      mine.insert(mine.end(), got.begin(), got.end());
    } else if (mine.size() >= n) {
      std::vector<uint32_t> some(mine.end() - n, mine.end());
      mine.resize(mine.size() - n);
      if (n == 1 && random() % 2 == 0) {
        d.depot.PutOne(some[0]);
      } else {
        d.Put(some);
      }
    }
    REQUIRE(d.depot.depth() + mine.size() == kCount);
  }
  std::set<uint32_t> all = d.TakeAll();
  for (uint32_t object : mine) CHECK(all.insert(object).second);
  CHECK(all.size() == kCount);
}

// Every operation, stopped at every access, while another is done in between.
TEST_CASE("Depot: no operation between the steps of another loses or doubles an object") {
  constexpr uint32_t kCount = 60;
  using D = TestDepot<Hooked>;
  using Act = void (*)(D&, std::vector<uint32_t>&);
  static constexpr auto put = [](D& d, std::vector<uint32_t>& mine, uint32_t n) {
    n = std::min(n, static_cast<uint32_t>(mine.size()));
    std::vector<uint32_t> some(mine.end() - n, mine.end());
    mine.resize(mine.size() - n);
    d.Put(some);
  };
  static constexpr auto get = [](D& d, std::vector<uint32_t>& mine, uint32_t n) {
    for (uint32_t object : d.Get(n)) mine.push_back(object);
  };
  const Act acts[] = {
      [](D& d, std::vector<uint32_t>& mine) { put(d, mine, 15); },
      [](D& d, std::vector<uint32_t>& mine) { put(d, mine, 3); },
      [](D& d, std::vector<uint32_t>& mine) { get(d, mine, 15); },
      [](D& d, std::vector<uint32_t>& mine) { get(d, mine, 2); },
      [](D& d, std::vector<uint32_t>& mine) {
        if (mine.empty()) return;
        d.depot.PutOne(mine.back());
        mine.pop_back();
      },
      [](D& d, std::vector<uint32_t>& mine) {
        uint32_t object;
        if (d.depot.Get(&object, 1) != 0) mine.push_back(object);
      },
      [](D& d, std::vector<uint32_t>& mine) {
        get(d, mine, 15);
        put(d, mine, 15);
        get(d, mine, 15);
      },
  };
  for (Act outer : acts) {
    for (Act inner : acts) {
      bool happened = true;
      for (int n = 0; happened; ++n) {
        D d(kCount);
        d.Put(Range(0, 15));
        d.Put(Range(15, 20));
        for (uint32_t object : Range(20, 25)) d.depot.PutOne(object);
        std::vector<uint32_t> outers = Range(30, 45), inners = Range(45, 60);
        {
          Interruption between(n, [&] { inner(d, inners); });
          outer(d, outers);
          happened = between.happened();
        }
        CHECK(d.depot.depth() + outers.size() + inners.size() == 55);
        std::set<uint32_t> all = d.TakeAll();
        for (uint32_t object : outers) CHECK(all.insert(object).second);
        for (uint32_t object : inners) CHECK(all.insert(object).second);
        CHECK(all.size() == 55);
      }
    }
  }
}

TEST_CASE("Depot: between threads, each object has one owner, who sees what the last one wrote") {
  constexpr uint32_t kCount = 70;
  TestDepot d(kCount);
  d.Put(Range(0, kCount));
  std::vector<std::atomic<int>> owners(kCount);
  std::vector<uint64_t> written(kCount);  // plain: a race here is the depot's fault
  std::atomic<int> twice{0};
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (unsigned t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        std::minstd_rand random(t + 1);
        std::vector<uint32_t> mine;
        for (int round = 0; round < 20'000; ++round) {
          for (uint32_t object : d.Get(1 + random() % 15)) {
            if (owners[object].exchange(1, std::memory_order_relaxed) != 0) ++twice;
            ++written[object];
            mine.push_back(object);
          }
          if (random() % 4 == 0) continue;
          for (uint32_t object : mine) owners[object].store(0, std::memory_order_relaxed);
          if (mine.size() == 1) {
            d.depot.PutOne(mine[0]);
          } else {
            d.Put(mine);
          }
          mine.clear();
        }
        for (uint32_t object : mine) owners[object].store(0, std::memory_order_relaxed);
        d.Put(mine);
      });
    }
  }
  CHECK(twice == 0);
  CHECK(d.depot.depth() == kCount);
  CHECK(d.TakeAll().size() == kCount);
}

}  // namespace
