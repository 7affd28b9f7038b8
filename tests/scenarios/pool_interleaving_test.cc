// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool: every operation, stopped at every access to shared memory, while another is done in
// between: by a signal handler (the same thread), or by another thread.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/pool/pool.h"
#include "tests/support/hooked_atomic.h"
#include "tests/support/pool_fixture.h"

namespace {

using ion::Block;
using ion::testing::Interruption;

template <class Base>
struct Hooked : Base {
  template <class V>
  using Atomic = ion::testing::HookedAtomic<V>;
};

constexpr size_t kCount = 48;
constexpr ion::PoolOptions kSixteenSlots = {.object_bytes = 64 << 10};

// A pool of which this thread and another hold some, and a few lie in the depot.
template <class P>
struct Scene {
  Scene() : f(kCount, kSixteenSlots), other([this] { Other(); }) { Ask(); }
  ~Scene() {
    wanted.store(kStop);
    wanted.notify_all();
  }

  // `act` on the other thread, to its end.
  void OnOther(std::function<void()> act) {
    action = std::move(act);
    Ask();
  }
  void EndOther() {
    wanted.store(kStop);
    wanted.notify_all();
    other.join();
  }

  void Release(std::vector<Block*>& mine, size_t n) {
    while (n-- > 0 && !mine.empty()) {
      if (!f.pool.Release(mine.back())) ++refused;
      mine.pop_back();
    }
  }
  void Acquire(std::vector<Block*>& mine, size_t n) {
    while (n-- > 0) {
      if (Block* block = f.pool.Acquire()) mine.push_back(block);
    }
  }

  // Each of the array is in `mine`, in `others`, or in the pool; in one of them.
  bool NothingLost() {
    // Where no barrier can be had, each thread takes what its own magazine holds.
    if (other.joinable()) OnOther([this] { Acquire(others, kCount); });
    Acquire(mine, kCount);
    std::set<Block*> all(mine.begin(), mine.end());
    all.insert(others.begin(), others.end());
    const bool once = mine.size() + others.size() == kCount;
    return once && all.size() == kCount && refused == 0 && f.pool.counters().held == 0;
  }

  ion::testing::PoolFixture<P> f;
  std::vector<Block*> mine, others;
  std::function<void()> action = [] {};
  int refused = 0;

 private:
  static constexpr int kIdle = 0, kWanted = 1, kStop = 2;
  void Ask() {
    wanted.store(kWanted);
    wanted.notify_all();
    wanted.wait(kWanted);
  }
  void Other() {
    for (;;) {
      wanted.wait(kIdle);
      if (wanted.load() == kStop) return;
      action();
      wanted.store(kIdle);
      wanted.notify_all();
    }
  }
  std::atomic<int> wanted{kIdle};
  std::jthread other;
};

template <class P>
struct Act {
  std::string name;
  void (*prepare)(Scene<P>&);                         // before the operation that is interrupted
  void (*run)(Scene<P>&, std::vector<Block*>& mine);  // of the thread that runs it
};

template <class P>
const std::vector<Act<P>>& Acts() {
  using S = Scene<P>;
  using Blocks = std::vector<Block*>;
  static const std::vector<Act<P>> acts = {
      {"hit", [](S&) {}, [](S& s, Blocks& mine) { s.Acquire(mine, 1); }},
      {"put", [](S&) {}, [](S& s, Blocks& mine) { s.Release(mine, 1); }},
      {"refill", [](S& s) { s.Acquire(s.mine, 6); },
       [](S& s, Blocks& mine) { s.Acquire(mine, 1); }},
      {"spill", [](S& s) { s.Release(s.mine, 10); },
       [](S& s, Blocks& mine) { s.Release(mine, 1); }},
      {"all", [](S&) {}, [](S& s, Blocks& mine) { s.Acquire(mine, kCount); }},
      {"drain", [](S&) {}, [](S& s, Blocks&) { s.f.pool.Drain(); }},
      {"hit after a request to flush",
       [](S& s) {
         // Stopped at its second access, this thread is busy, and is asked.
         Interruption between(2, [&] { s.OnOther([&] { s.f.pool.Drain(); }); });
         s.Acquire(s.mine, 1);
       },
       [](S& s, Blocks& mine) { s.Acquire(mine, 1); }},
      {"trim", [](S&) {},
       [](S& s, Blocks& mine) { s.f.pool.Trim(5, [&](Block& block) { mine.push_back(&block); }); }},
  };
  return acts;
}

// This thread's magazine holds 6, the other's 8, the depot 15; the rest is in their hands.
template <class P>
void Arrange(Scene<P>& s) {
  for (size_t i = 0; i < kCount; ++i) (i < 36 ? s.mine : s.others).push_back(&s.f.descriptors[i]);
  s.Release(s.mine, 15);
  s.f.pool.Drain();
  s.OnOther([&] { s.Release(s.others, 8); });
  s.Release(s.mine, 6);
}

template <class P, class Interrupt>
void TryEverywhere(Interrupt interrupt) {
  for (const Act<P>& outer : Acts<P>()) {
    for (const Act<P>& inner : Acts<P>()) {
      bool happened = true;
      for (int n = 0; happened; ++n) {
        INFO(outer.name, " stopped before its access ", n, " by ", inner.name);
        Scene<P> s;
        Arrange(s);
        outer.prepare(s);
        {
          Interruption between(n, [&] { interrupt(s, inner); });
          outer.run(s, s.mine);
          happened = between.happened();
        }
        REQUIRE(s.NothingLost());
      }
    }
  }
}

TEST_CASE_TEMPLATE(
    "Pool: a signal handler between any two steps of a call loses and doubles nothing", P,
    Hooked<ion::PoolPolicy>, Hooked<ion::testing::FencedPolicy>, Hooked<ion::testing::LockedPolicy>,
    Hooked<ion::testing::RefusedPolicy>) {
  TryEverywhere<P>([](Scene<P>& s, const Act<P>& inner) { inner.run(s, s.others); });
}

TEST_CASE_TEMPLATE("Pool: another thread between any two steps of a call loses and doubles nothing",
                   P, Hooked<ion::PoolPolicy>, Hooked<ion::testing::FencedPolicy>,
                   Hooked<ion::testing::LockedPolicy>, Hooked<ion::testing::RefusedPolicy>) {
  TryEverywhere<P>(
      [](Scene<P>& s, const Act<P>& inner) { s.OnOther([&] { inner.run(s, s.others); }); });
}

TEST_CASE_TEMPLATE("Pool: a thread that ends between any two steps of a call loses nothing", P,
                   Hooked<ion::PoolPolicy>, Hooked<ion::testing::FencedPolicy>,
                   Hooked<ion::testing::LockedPolicy>, Hooked<ion::testing::RefusedPolicy>) {
  TryEverywhere<P>([](Scene<P>& s, const Act<P>& inner) {
    s.OnOther([&] { inner.run(s, s.others); });
    s.EndOther();
  });
}

TEST_CASE_TEMPLATE(
    "Pool: what a drain leaves to an owner that is inside, it does when it comes next", P,
    Hooked<ion::PoolPolicy>, Hooked<ion::testing::FencedPolicy>, Hooked<ion::testing::LockedPolicy>,
    Hooked<ion::testing::RefusedPolicy>) {
  bool happened = true;
  for (int n = 0; happened; ++n) {
    INFO("stopped before access ", n);
    Scene<P> s;
    Arrange(s);
    const uint64_t before = s.f.pool.counters().drains;
    {
      Interruption between(n, [&] { s.OnOther([&] { s.f.pool.Drain(); }); });
      s.Acquire(s.mine, 1);
      happened = between.happened();
    }
    if (!happened) break;
    s.Acquire(s.mine, 1);
    s.OnOther([&] { s.Acquire(s.others, 1); });
    CHECK(s.f.pool.counters().drains == before + 2);
    REQUIRE(s.NothingLost());
  }
}

TEST_CASE("Pool: first use, stopped anywhere by a handler on the same thread, binds once") {
  using P = Hooked<ion::PoolPolicy>;
  bool happened = true;
  for (int n = 0; happened; ++n) {
    ion::testing::PoolFixture<P> f(kCount), warm(1);
    CHECK(warm.pool.BindThread());
    {
      Interruption between(n, [&] { CHECK(f.pool.Release(&f.descriptors[0])); });
      CHECK(f.pool.Release(&f.descriptors[1]));
      happened = between.happened();
    }
    CHECK(f.TakeAll().size() == (happened ? 2 : 1));
  }
}

// A thread that ends is stopped before its n-th access; then the pool is closed, and another made
// in its place, for which the thread's end is none of its business.
TEST_CASE_TEMPLATE("Pool: closed, and followed by another, while a thread is anywhere in its exit",
                   P, Hooked<ion::PoolPolicy>, Hooked<ion::testing::LockedPolicy>) {
  bool happened = true;
  for (int n = 0; happened; ++n) {
    INFO("stopped before access ", n, " of the exit");
    std::set<Block*> given;
    int doubled = 0;
    ion::testing::PoolFixture<P> first(20);
    std::unique_ptr<ion::testing::PoolFixture<P>> second;
    std::thread closer;
    // Closing may have to wait for the thread, and the thread must not wait for it.
    auto close_meanwhile = [&] {
      closer = std::thread([&] {
        first.pool.Close([&](Block& block) { doubled += !given.insert(&block).second; });
        second = std::make_unique<ion::testing::PoolFixture<P>>(20);
        second->Fill();
      });
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    };
    std::optional<Interruption> stop;
    std::thread([&] {
      first.Fill();
      stop.emplace(n, close_meanwhile);
    }).join();
    happened = stop->happened();
    if (!happened) break;
    closer.join();
    CHECK(doubled == 0);
    CHECK(given.size() == 20);
    CHECK(second->pool.counters().held == 20);
    CHECK(second->TakeAll().size() == 20);
  }
}

}  // namespace
