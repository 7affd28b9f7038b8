// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool: between threads, and when threads and pools end.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <latch>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/pool/pool.h"
#include "tests/support/pool_fixture.h"

namespace {

using ion::Block;
using ion::Pool;
using ion::testing::FencedPolicy;
using ion::testing::LockedPolicy;
using ion::testing::PoolFixture;

using namespace std::chrono_literals;

// A descriptor that knows who has it, and has plain bytes that its owners write: under TSan, a
// release that is not seen by the next acquire is a race.
struct Owned {
  std::atomic<uint32_t> owner{0};
  uint64_t written = 0;
};

template <class P>
struct Workers {
  explicit Workers(size_t count) : f(count) { f.Fill(); }

  // Acquires and releases at random until `stop`, and in the end releases all.
  void Work(uint32_t me, const std::atomic<bool>& stop, size_t at_most) {
    std::minstd_rand random(me);
    std::vector<Owned*> mine;
    do {
      for (int i = 0; i < 500; ++i) {
        if (random() % 2 == 0 && mine.size() < at_most) {
          Owned* got = f.pool.Acquire();
          if (got == nullptr) continue;
          if (got->owner.exchange(me, std::memory_order_relaxed) != 0) ++errors;
          ++got->written;
          mine.push_back(got);
        } else if (!mine.empty()) {
          std::swap(mine[random() % mine.size()], mine.back());
          Give(mine, me);
        }
      }
    } while (!stop);
    while (!mine.empty()) Give(mine, me);
  }
  void Give(std::vector<Owned*>& mine, uint32_t me) {
    Owned* given = mine.back();
    mine.pop_back();
    if (given->owner.exchange(0, std::memory_order_relaxed) != me) ++errors;
    if (!f.pool.Release(given)) ++errors;
  }

  PoolFixture<P, Owned> f;
  std::atomic<uint64_t> errors{0};
};

TEST_CASE_TEMPLATE(
    "Pool: with threads that come and go, drains and scarcity, each object has one owner", P,
    ion::PoolPolicy, FencedPolicy, LockedPolicy, ion::testing::RefusedPolicy) {
  for (size_t count : {20u, 300u}) {
    Workers<P> w(count);
    std::atomic<bool> stop{false};
    {
      std::vector<std::jthread> threads;
      threads.reserve(8);
      for (uint32_t t = 1; t <= 4; ++t) threads.emplace_back([&, t] { w.Work(t, stop, 40); });
      threads.emplace_back([&] {
        const std::atomic<bool> at_once{true};
        for (uint32_t t = 100; !stop; ++t) {
          std::jthread([&, t] { w.Work(t, at_once, 10); }).join();
        }
      });
      threads.emplace_back([&] {
        while (!stop) {
          w.f.pool.Drain();
          w.f.pool.counters();
          std::this_thread::sleep_for(100us);
        }
      });
      std::this_thread::sleep_for(300ms);
      stop = true;
    }
    CHECK(w.errors == 0);
    CHECK(w.f.pool.counters().held == count);
    CHECK(w.f.TakeAll().size() == count);
  }
}

TEST_CASE("Pool: what an idle thread's magazine holds is found by another's acquire") {
  PoolFixture f(20);
  std::latch filled(1), done(1);
  std::jthread idle([&] {
    f.Fill();
    filled.count_down();
    done.wait();
  });
  filled.wait();
  CHECK(f.pool.depth() == 0);
  CHECK(f.pool.Acquire() != nullptr);
  CHECK(f.pool.counters().drains == 1);
  CHECK(f.TakeAll().size() == 19);
  done.count_down();
}

TEST_CASE("Pool: a thread that ends leaves what it held, and what it counted") {
  PoolFixture f(20);
  std::jthread([&] {
    f.Fill();
    CHECK(f.pool.Release(f.pool.Acquire()));
  }).join();
  CHECK(f.pool.depth() == 20);
  CHECK(f.pool.counters().hits == 1);
  CHECK(f.pool.counters().depot_trips == 1);
  CHECK(f.TakeAll().size() == 20);
}

TEST_CASE("Pool: the threads that follow take over the memory of those that ended") {
  PoolFixture f(20);
  auto records = [] {
    int count = 0;
    ion::internal::Table<ion::PoolPolicy>()->ForEachRecord([&](auto&) { ++count; });
    return count;
  };
  std::jthread([&] { CHECK(f.pool.BindThread()); }).join();
  const int before = records();
  for (int i = 0; i < 50; ++i) std::jthread([&] { CHECK(f.pool.BindThread()); }).join();
  CHECK(records() == before);
}

// Its destructor runs after that of anything that the thread constructs later: so after the pool's
// own exit handler, if it is constructed before the first use.
struct AtExit {
  ~AtExit() {
    if (act) act();
  }
  std::function<void()> act;
};

TEST_CASE(
    "Pool: a thread-local destructor that comes after the pool's own uses it through the depot") {
  PoolFixture f(20);
  std::set<Block*> got;
  std::jthread([&] {
    static thread_local AtExit last;
    last.act = [&] {
      CHECK_FALSE(f.pool.BindThread());
      for (int i = 0; i < 5; ++i) got.insert(f.pool.Acquire());
      CHECK(f.pool.Release(*got.begin()));
    };
    f.Fill();
  }).join();
  CHECK(got.size() == 5);
  CHECK(got.count(nullptr) == 0);
  CHECK(f.pool.depth() == 16);
  CHECK(f.TakeAll().size() == 16);
}

TEST_CASE("Pool: a thread-local destructor that comes before the pool's own uses it as ever") {
  PoolFixture f(20);
  std::jthread([&] {
    f.Fill();
    static thread_local AtExit first;
    first.act = [&] { CHECK(f.pool.Release(f.pool.Acquire())); };
  }).join();
  CHECK(f.pool.depth() == 20);
  CHECK(f.pool.counters().hits == 1);
}

TEST_CASE("Pool: a thread outlives pools whose objects its magazines hold") {
  std::latch done(1), used(1);
  auto f = std::make_unique<PoolFixture<>>(20);
  std::jthread idle([&] {
    f->Fill();
    used.count_down();
    done.wait();
  });
  used.wait();
  CHECK(f->pool.counters().held == 20);
  f.reset();
  PoolFixture next(20);  // may have the same id
  CHECK(next.pool.Acquire() == nullptr);
  next.Fill();
  CHECK(next.TakeAll().size() == 20);
  done.count_down();
}

TEST_CASE("Pool: closing finds what the magazines of all threads hold") {
  PoolFixture f(60);
  std::latch filled(3), done(1);
  std::vector<std::jthread> threads;
  threads.reserve(8);
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) CHECK(f.pool.Release(&f.descriptors[t * 20 + i]));
      filled.count_down();
      done.wait();
    });
  }
  filled.wait();
  std::set<Block*> given;
  f.pool.Close([&](Block& block) { CHECK(given.insert(&block).second); });
  CHECK(given.size() == 60);
  done.count_down();
}

TEST_CASE("Pool: closing while threads end finds everything") {
  for (int round = 0; round < 300; ++round) {
    PoolFixture f(60);
    std::latch filled(3);
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 20; ++i) CHECK(f.pool.Release(&f.descriptors[t * 20 + i]));
        filled.count_down();
      });
    }
    filled.wait();
    size_t given = 0;
    f.pool.Close([&](Block&) { ++given; });
    REQUIRE(given == 60);
  }
}

TEST_CASE("Pool: 10,000 are made and destroyed under threads that keep magazines of the dead") {
  constexpr size_t kCount = 16;
  constexpr int kThreads = 3;
  constexpr int kPools = 10'000;
  std::vector<Block> blocks(kCount);
  std::atomic<Pool<Block>*> current{nullptr};
  std::atomic<int> using_it{0}, turn{0};
  std::atomic<uint64_t> errors{0};
  std::vector<std::jthread> threads;
  threads.reserve(8);
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int seen = 0; seen < kPools;) {
        turn.wait(seen);
        seen = turn.load();
        Pool<Block>* pool = current.load();
        for (int i = 0; i < 10; ++i) {
          Block* block = pool->Acquire();
          if (block == nullptr) continue;
          if (block < blocks.data() || block >= blocks.data() + kCount) ++errors;
          if (!pool->Release(block)) ++errors;
        }
        if (using_it.fetch_sub(1) == 1) using_it.notify_all();
      }
    });
  }
  uint64_t lost = 0;
  for (int i = 1; i <= kPools; ++i) {
    ion::Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {});
    REQUIRE(pool.ok());
    for (Block& block : blocks) {
      if (!pool->Release(&block)) ++errors;
    }
    current = &*pool;
    using_it = kThreads;
    turn = i;
    turn.notify_all();
    for (int left; (left = using_it.load()) != 0;) using_it.wait(left);
    size_t given = 0;
    if (i % 2 == 0) {
      pool->Close([&](Block&) { ++given; });
      if (given != kCount) ++lost;
    }
  }
  CHECK(errors == 0);
  CHECK(lost == 0);
}

TEST_CASE("Pool: many more threads than processors") {
  Workers<ion::PoolPolicy> w(200);
  {
    const std::atomic<bool> at_once{true};
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (uint32_t t = 1; t <= 64; ++t) threads.emplace_back([&, t] { w.Work(t, at_once, 8); });
  }
  CHECK(w.errors == 0);
  CHECK(w.f.TakeAll().size() == 200);
}

TEST_CASE("Pool: counters are read while threads go on, and never go back") {
  Workers<ion::PoolPolicy> w(200);
  std::atomic<bool> stop{false};
  {
    std::vector<std::jthread> threads;
    threads.reserve(8);
    for (uint32_t t = 1; t <= 3; ++t) threads.emplace_back([&, t] { w.Work(t, stop, 20); });
    uint64_t hits = 0, misses = 0, trips = 0;
    for (int i = 0; i < 2000; ++i) {
      const ion::PoolCounters now = w.f.pool.counters();
      CHECK(now.hits >= hits);
      CHECK(now.misses >= misses);
      CHECK(now.depot_trips >= trips);
      hits = now.hits;
      misses = now.misses;
      trips = now.depot_trips;
    }
    stop = true;
  }
  CHECK(w.errors == 0);
}

}  // namespace
