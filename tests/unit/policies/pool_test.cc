// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool: what one thread sees.

#include "ion/policies/pool/pool.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/pool/near_budget.h"
#include "tests/support/child.h"
#include "tests/support/pool_fixture.h"

namespace {

using ion::Block;
using ion::Pool;
using ion::PoolCounters;
using ion::testing::LockedPolicy;
using ion::testing::PoolFixture;

constexpr uint64_t kMiB = 1 << 20;

TEST_CASE("Pool: a new pool is empty") {
  PoolFixture f(8);
  CHECK(f.pool.Acquire() == nullptr);
}

TEST_CASE("Pool: every descriptor that was released is found again, once") {
  for (size_t count : {1u, 2u, 31u, 32u, 33u, 512u, 5000u}) {
    PoolFixture f(count);
    f.Fill();
    CHECK(f.pool.counters().held == count);
    CHECK(f.TakeAll().size() == count);
    CHECK(f.pool.counters().held == 0);
    CHECK(f.pool.Acquire() == nullptr);
  }
}

TEST_CASE("Pool: what was released last comes first") {
  PoolFixture f(64);
  f.Fill();
  Block* block = f.pool.Acquire();
  CHECK(f.pool.Release(block));
  CHECK(f.pool.Acquire() == block);
}

struct Odd {
  char bytes[24];
};

TEST_CASE("Pool: descriptors of any size are told apart") {
  PoolFixture<ion::PoolPolicy, Odd> odd(500);
  odd.Fill();
  odd.pool.Drain();
  CHECK(odd.TakeAll().size() == 500);
  PoolFixture<ion::PoolPolicy, char> small(500);
  small.Fill();
  small.pool.Drain();
  CHECK(small.TakeAll().size() == 500);
}

TEST_CASE("Pool: a descriptor's bytes are as they were") {
  PoolFixture f(100);
  for (size_t i = 0; i < f.descriptors.size(); ++i) f.descriptors[i].cookie = i;
  f.Fill();
  f.pool.Drain();
  for (Block* block : f.TakeAll()) {
    CHECK(block->cookie == static_cast<uint64_t>(block - f.descriptors.data()));
  }
}

TEST_CASE("Pool: where nothing lies in it, refill is asked") {
  PoolFixture f(2);
  CHECK(f.pool.Acquire([&] { return &f.descriptors[1]; }) == &f.descriptors[1]);
  CHECK(f.pool.Release(&f.descriptors[0]));
  CHECK(f.pool.Acquire([&] { return &f.descriptors[1]; }) == &f.descriptors[0]);
  CHECK(f.pool.Acquire([]() -> Block* { return nullptr; }) == nullptr);
}

TEST_CASE("Pool: what it cannot be made of is refused, with what to do") {
  std::vector<Block> none;
  ion::Result<Pool<Block>> pool = Pool<Block>::Create(none, {});
  REQUIRE_FALSE(pool.ok());
  CHECK(pool.error().code() == EINVAL);
  CHECK(pool.error().hint() != nullptr);
  std::vector<Block> some(1);
  pool = Pool<Block>::Create(some, {.object_bytes = 0});
  REQUIRE_FALSE(pool.ok());
  CHECK(pool.error().code() == EINVAL);
  pool = Pool<Block>::Create(std::span(some.data(), ion::Depot<>::kMaxObjects + 1), {});
  REQUIRE_FALSE(pool.ok());
  CHECK(pool.error().code() == EINVAL);
}

struct Worn : ion::PoolPolicy {};

TEST_CASE("Pool: when all generations were given out, no pool is taken for an earlier one") {
  std::vector<Block> blocks(1);
  ion::internal::Statics<Worn>::last_generation =
      ion::internal::PoolTable<Worn>::kMaxGeneration - 1;
  {
    const auto last = Pool<Block, Worn>::Create(blocks, {});
    CHECK(last.ok());
  }
  for (int i = 0; i < 3; ++i) {
    const auto none = Pool<Block, Worn>::Create(blocks, {});
    REQUIRE_FALSE(none.ok());
    CHECK(none.error().code() == EOVERFLOW);
    CHECK(none.error().hint() != nullptr);
  }
}

TEST_CASE("Pool: 1024 live at a time, and each destroyed one makes room") {
  std::vector<Block> blocks(1);
  std::vector<Pool<Block>> pools;
  for (;;) {
    ion::Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {});
    if (!pool.ok()) {
      CHECK(pool.error().code() == ENOSPC);
      CHECK(pool.error().hint() != nullptr);
      break;
    }
    pools.push_back(*std::move(pool));
  }
  CHECK(pools.size() == 1024);
  for (Pool<Block>& pool : pools) CHECK(pool.Release(&blocks[0]));
  pools.pop_back();
  CHECK(Pool<Block>::Create(blocks, {}).ok());
  for (Pool<Block>& pool : pools) CHECK(pool.Acquire() == &blocks[0]);
}

TEST_CASE("Pool: a moved pool holds what it held") {
  PoolFixture f(100);
  f.Fill();
  Pool<Block> moved(std::move(f.pool));
  f.pool = std::move(moved);
  CHECK(f.TakeAll().size() == 100);
}

TEST_CASE("Pool: two pools keep apart what they hold") {
  PoolFixture a(100), b(50);
  a.Fill();
  b.Fill();
  CHECK(b.TakeAll().size() == 50);
  for (Block* block : a.TakeAll()) {
    CHECK(block >= a.descriptors.data());
    CHECK(block < a.descriptors.data() + 100);
  }
}

TEST_CASE("Pool: a magazine is bounded in slots and in bytes") {
  const std::pair<uint64_t, uint32_t> kinds[] = {{4096, 32},    {kMiB / 32, 32}, {kMiB / 31, 31},
                                                 {kMiB / 4, 4}, {kMiB, 1},       {kMiB + 1, 0}};
  for (auto [object_bytes, slots] : kinds) {
    PoolFixture f(100, {.object_bytes = object_bytes});
    CHECK(f.pool.magazine_slots() == slots);
    f.Fill();
    CHECK(f.pool.depth() >= 100 - slots);
    for (int i = 0; i < 200; ++i) {
      std::vector<Block*> some;
      some.reserve(40);
      for (int k = 0; k < i % 40; ++k) some.push_back(f.pool.Acquire());
      CHECK(f.pool.counters().held - f.pool.depth() <= slots);
      for (Block* block : some) CHECK(f.pool.Release(block));
      CHECK(f.pool.counters().held - f.pool.depth() <= slots);
    }
    CHECK(f.TakeAll().size() == 100);
  }
}

// A pool of objects of 8 MiB, and a budget.
template <class P>
struct Large {
  Large(uint64_t bytes, uint64_t objects)
      : near(bytes, objects), f(40, {.object_bytes = 8 * kMiB, .near = &near}) {}
  uint64_t in_magazines() { return f.pool.counters().held - f.pool.depth(); }

  ion::NearBudget near;
  PoolFixture<P> f;
};

TEST_CASE_TEMPLATE("Pool: large objects lie in magazines within their budget", P, ion::PoolPolicy,
                   LockedPolicy, ion::testing::FencedPolicy) {
  for (const auto& [bytes, objects, most] :
       {std::tuple<uint64_t, uint64_t, uint64_t>{64 * kMiB, 64, 4},
        {64 * kMiB, 3, 3},
        {16 * kMiB, 64, 2},
        {8 * kMiB - 1, 64, 0},
        {64 * kMiB, 0, 0}}) {
    Large<P> large(bytes, objects);
    large.f.Fill();
    CHECK(large.in_magazines() == most);
    CHECK(large.near.objects() == most);
    CHECK(large.near.bytes() == most * 8 * kMiB);
    // The room stays taken though the objects are in use: the bound holds when they come back.
    std::vector<Block*> taken;
    for (uint64_t i = 0; i < most; ++i) taken.push_back(large.f.pool.Acquire());
    CHECK(large.in_magazines() == 0);
    CHECK(large.near.objects() == most);
    for (Block* block : taken) CHECK(large.f.pool.Release(block));
    CHECK(large.in_magazines() == most);
    large.f.pool.Drain();
    CHECK(large.in_magazines() == 0);
    CHECK(large.near.objects() == 0);
    CHECK(large.near.bytes() == 0);
    CHECK(large.f.TakeAll().size() == 40);
  }
}

TEST_CASE("Pool: a large object comes from the thread's magazine without a trip") {
  Large<ion::PoolPolicy> large(64 * kMiB, 64);
  large.f.Fill();
  const uint64_t before = large.f.pool.counters().depot_trips;
  for (int i = 0; i < 100; ++i) {
    Block* block = large.f.pool.Acquire();
    CHECK(large.f.pool.Release(block));
  }
  CHECK(large.f.pool.counters().depot_trips == before);
}

TEST_CASE_TEMPLATE("Pool: room of a budget comes back from a thread, and from a pool, that end", P,
                   ion::PoolPolicy, LockedPolicy) {
  ion::NearBudget near(64 * kMiB, 64);
  {
    PoolFixture<P> f(8, {.object_bytes = 8 * kMiB, .near = &near});
    std::thread([&] { f.Fill(); }).join();
    CHECK(near.objects() == 0);
    CHECK(f.pool.depth() == 8);
    Block* block = f.pool.Acquire();
    CHECK(f.pool.Release(block));
    CHECK(near.objects() == 1);
  }
  CHECK(near.objects() == 0);
  CHECK(near.bytes() == 0);
}

TEST_CASE("Pool: an idle thread's room goes back with a drain though its magazine is empty") {
  Large<ion::PoolPolicy> large(8 * kMiB, 1);
  large.f.Fill();
  Block* block = large.f.pool.Acquire();
  CHECK(large.in_magazines() == 0);
  CHECK(large.near.objects() == 1);
  large.f.pool.Drain();
  CHECK(large.near.objects() == 0);
  CHECK(large.f.pool.Release(block));
}

TEST_CASE("Pool: a thread that only releases large objects stops keeping them from the others") {
  Large<ion::PoolPolicy> large(64 * kMiB, 64);
  std::atomic<Block*> handed{nullptr};
  std::atomic<bool> end{false};
  std::thread releaser([&] {
    while (!end) {
      if (Block* block = handed.exchange(nullptr); block != nullptr) {
        const bool taken = large.f.pool.Release(block);
        REQUIRE(taken);
      }
      std::this_thread::yield();
    }
  });
  CHECK(large.f.pool.Release(&large.f.descriptors[0]));
  constexpr int kRounds = 2000;
  for (int i = 0; i < kRounds; ++i) {
    Block* block = nullptr;
    while ((block = large.f.pool.Acquire()) == nullptr) std::this_thread::yield();
    handed = block;
    while (handed != nullptr) std::this_thread::yield();
  }
  end = true;
  releaser.join();
  // Nearly all came by way of the depot.
  CHECK(large.f.pool.counters().drains < kRounds / 20);
}

struct Bounded : ion::PoolPolicy {
  static constexpr uint64_t kThreadBytes = 4 << 20;
};

TEST_CASE("Pool: a thread's magazines together are bounded, when one goes to the depot") {
  using Fixture = PoolFixture<Bounded>;
  std::vector<std::unique_ptr<Fixture>> pools;
  pools.reserve(8);
  for (int i = 0; i < 8; ++i) {
    pools.push_back(std::make_unique<Fixture>(100, ion::PoolOptions{.object_bytes = kMiB / 32}));
  }
  uint64_t most = 0;
  for (auto& f : pools) {
    f->Fill();
    uint64_t held = 0;
    for (auto& g : pools) held += (g->pool.counters().held - g->pool.depth()) * (kMiB / 32);
    most = std::max(most, held);
  }
  // One that has not been to the depot since it was last looked at may have filled up.
  CHECK(most <= Bounded::kThreadBytes + kMiB);
  CHECK(most > Bounded::kThreadBytes / 2);
  for (auto& f : pools) CHECK(f->TakeAll().size() == 100);
}

TEST_CASE("Pool: a swing that a magazine can hold comes to rest without the depot") {
  for (int swing : {1, 15, 16, 20, 24, 31, 32}) {
    for (int before : {0, 1, 7, 16, 31, 32, 40}) {
      PoolFixture f(200);
      f.Fill();
      std::vector<Block*> kept;
      kept.reserve(static_cast<size_t>(before));
      for (int i = 0; i < before; ++i) kept.push_back(f.pool.Acquire());
      auto swing_once = [&] {
        std::vector<Block*> some;
        some.reserve(static_cast<size_t>(swing));
        for (int i = 0; i < swing; ++i) some.push_back(f.pool.Acquire());
        for (Block* block : some) CHECK(f.pool.Release(block));
      };
      for (int i = 0; i < 20; ++i) swing_once();
      const uint64_t trips = f.pool.counters().depot_trips;
      for (int i = 0; i < 20; ++i) swing_once();
      CHECK(f.pool.counters().depot_trips == trips);
    }
  }
}

TEST_CASE_TEMPLATE("Pool: the counters say what happened", P, ion::PoolPolicy, LockedPolicy) {
  PoolFixture<P> f(100);
  f.Fill();  // 32 in the magazine; then a block of 15 goes each time, before 16 more come
  PoolCounters counters = f.pool.counters();
  CHECK(counters.hits == 0);
  CHECK(counters.misses == 0);
  CHECK(counters.depot_trips == 5);
  CHECK(counters.held == 100);
  CHECK(f.pool.depth() == 75);
  for (int i = 0; i < 25; ++i) CHECK(f.pool.Acquire() != nullptr);
  CHECK(f.pool.counters().hits == 25);
  CHECK(f.pool.counters().misses == 0);
  CHECK(f.pool.Acquire() != nullptr);
  counters = f.pool.counters();
  CHECK(counters.hits == 25);
  CHECK(counters.misses == 1);
  CHECK(counters.depot_trips == 6);
  CHECK(counters.held == 74);
  CHECK(counters.drains == 0);
  CHECK(f.pool.Drain() == 14);
  CHECK(f.pool.counters().drains == 1);
  CHECK(f.pool.counters().held == 74);
  CHECK(f.TakeAll().size() == 74);
  counters = f.pool.counters();
  CHECK(counters.hits + counters.misses == 101);  // 100 found, one that found nothing
}

TEST_CASE("Pool: more hits than a level holds are counted, and nothing is lost") {
  PoolFixture f(20);
  f.Fill();
  constexpr uint64_t kHits = (uint64_t{1} << 24) + 5;
  uint64_t missed = 0;
  for (uint64_t i = 0; i < kHits; ++i) {
    Block* block = f.pool.Acquire();
    if (block == nullptr || !f.pool.Release(block)) ++missed;
  }
  CHECK(missed == 0);
  CHECK(f.pool.counters().hits == kHits);
  CHECK(f.TakeAll().size() == 20);
}

TEST_CASE("Pool: a new pool counts from nothing, on the same thread and id") {
  for (int i = 0; i < 2; ++i) {
    PoolFixture f(40);
    CHECK(f.pool.counters().hits == 0);
    f.Fill();
    CHECK(f.TakeAll().size() == 40);
    CHECK(f.pool.counters().hits > 0);
  }
}

TEST_CASE("Pool: a drain brings everything to the depot") {
  PoolFixture f(100);
  f.Fill();
  CHECK(f.pool.depth() == 75);
  CHECK(f.pool.Drain() == 25);
  CHECK(f.pool.depth() == 100);
  CHECK(f.pool.Drain() == 0);
  CHECK(f.TakeAll().size() == 100);
}

struct CountedFence : ion::PoolPolicy {
  static bool Fence() noexcept {
    ++fences;
    return ion::PoolPolicy::Fence();
  }
  static inline int fences = 0;
};

TEST_CASE("Pool: one fence serves all pools of a drain, and none where there is nothing") {
  PoolFixture<CountedFence> a(20), b(40), c(10);
  a.Fill();
  b.Fill();
  ion::PoolBase<CountedFence>* pools[] = {&a.pool, &b.pool, &c.pool};
  CountedFence::fences = 0;
  CHECK(ion::PoolBase<CountedFence>::Drain(pools) == 45);
  CHECK(CountedFence::fences == 1);
  CHECK(a.pool.depth() == 20);
  CHECK(b.pool.depth() == 40);
  CHECK(ion::PoolBase<CountedFence>::Drain(pools) == 0);
  CHECK(CountedFence::fences == 1);
}

TEST_CASE("Pool: an acquire that finds nothing asks for no fence where the counts are 0") {
  PoolFixture<CountedFence> f(1);
  CHECK(f.pool.Acquire() == nullptr);
  CountedFence::fences = 0;
  CHECK(f.pool.Acquire() == nullptr);
  CHECK(CountedFence::fences == 0);
}

TEST_CASE("Pool: a trim gives back what is more than shall be kept") {
  PoolFixture f(100);
  f.Fill();
  std::set<Block*> given;
  CHECK(f.pool.Trim(30, [&](Block& block) { given.insert(&block); }) == 70);
  CHECK(given.size() == 70);
  CHECK(f.pool.counters().held == 30);
  CHECK(f.pool.Trim(30, [&](Block&) { FAIL("there was no more"); }) == 0);
  for (Block* block : f.TakeAll()) CHECK(given.insert(block).second);
  CHECK(given.size() == 100);
}

TEST_CASE("Pool: a trim to nothing empties it") {
  PoolFixture f(100);
  f.Fill();
  CHECK(f.pool.Trim(0, [](Block&) {}) == 100);
  CHECK(f.pool.Acquire() == nullptr);
}

TEST_CASE("Pool: shrinking leaves the magazines alone") {
  PoolFixture f(100);
  f.Fill();
  CHECK(f.pool.Shrink(0, [](Block&) {}) == 75);
  CHECK(f.TakeAll().size() == 25);
}

TEST_CASE("Pool: trimming what was unused gives back what the depot never went below") {
  PoolFixture f(200);
  f.Fill();
  f.pool.Drain();
  f.pool.TrimUnused([](Block&) {});
  const uint32_t before = f.pool.depth();
  std::vector<Block*> working;
  for (int round = 0; round < 10; ++round) {
    for (int i = 0; i < 60; ++i) working.push_back(f.pool.Acquire());
    for (Block* block : working) CHECK(f.pool.Release(block));
    working.clear();
  }
  const uint32_t trimmed = f.pool.TrimUnused([](Block&) {});
  // 60 were in use at a time, and they came from the depot in blocks of up to 15.
  CHECK(trimmed <= before - 60);
  CHECK(trimmed >= before - 60 - 32);
  // Nothing happened since: all that lies there was unused.
  const uint32_t rest = f.pool.depth();
  CHECK(f.pool.TrimUnused([](Block&) {}) == rest);
  CHECK(f.pool.depth() == 0);
}

TEST_CASE("Pool: listing what lies idle leaves it there, and is no need of it") {
  PoolFixture f(100);
  f.Fill();
  f.pool.Drain();
  CHECK(f.pool.TrimUnused([](Block&) {}) == 0);  // from here on all of it is unused
  std::vector<Block*> idle;
  f.pool.List(idle);
  CHECK(std::set<Block*>(idle.begin(), idle.end()).size() == 100);
  CHECK(f.pool.depth() == 100);
  CHECK(f.pool.TrimUnused([](Block&) {}) == 100);
}

TEST_CASE("Pool: a trim in the middle of another keeps what both shall keep") {
  PoolFixture f(200);
  f.Fill();
  uint32_t given = 0;
  f.pool.Trim(60, [&](Block&) {
    if (given++ == 0) f.pool.Trim(60, [&](Block&) { ++given; });
  });
  CHECK(given == 140);
  CHECK(f.pool.counters().held == 60);
}

TEST_CASE("Pool: closing gives everything, and ends it") {
  PoolFixture f(100);
  f.Fill();
  Block* kept = f.pool.Acquire();
  std::set<Block*> given;
  f.pool.Close([&](Block& block) { CHECK(given.insert(&block).second); });
  CHECK(given.size() == 99);
  CHECK(given.count(kept) == 0);
  f.pool.Close([&](Block&) { FAIL("there was no more"); });
}

std::string Death(void (*f)()) {
  const ion::testing::ChildEnd end = ion::testing::RunInChild([&] {
    f();
    return "it did not die";
  });
  CHECK(end.signal == SIGABRT);
  return end.text;
}

TEST_CASE("Pool: use after Close is caught") {
  const std::string text = Death([] {
    PoolFixture f(1);
    f.pool.Close([](Block&) {});
    f.pool.Acquire();
  });
  CHECK(text.find("moved from, or closed") != std::string::npos);
}

TEST_CASE("Pool: a descriptor of another array is caught where it leaves the magazine") {
  const std::string text = Death([] {
    PoolFixture f(1), other(1);
    (void)f.pool.Release(&other.descriptors[0]);
    f.pool.Drain();
  });
  CHECK(text.find("not of its array") != std::string::npos);
}

template <int kAt>
void ReleaseTheMiddle() {
  PoolFixture<ion::PoolPolicy, Odd> f(4);
  (void)f.pool.Release(reinterpret_cast<Odd*>(f.descriptors[1].bytes + kAt));
  f.pool.Drain();
}

TEST_CASE("Pool: in the middle of a descriptor is not of its array") {
  for (auto* release : {&ReleaseTheMiddle<1>, &ReleaseTheMiddle<4>, &ReleaseTheMiddle<8>}) {
    CHECK(Death(release).find("not of its array") != std::string::npos);
  }
}

TEST_CASE("Pool: at most 8 bytes for a descriptor, 1 KiB, and 320 bytes for a thread") {
  CHECK(sizeof(Pool<Block>) <= 64);
  CHECK(sizeof(ion::internal::PoolCore<ion::PoolPolicy>) - sizeof(ion::Depot<ion::PoolPolicy>) <=
        256);
  CHECK(sizeof(ion::Magazine<ion::PoolPolicy>) == 320);
}

}  // namespace
