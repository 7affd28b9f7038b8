// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Usage: pool_stress [SECONDS]
//
// Everything that may happen to pools at the same time: eight workers, threads that live for a
// moment, a drainer, a trimmer, signal handlers, too few objects, pools that are made and destroyed
// while threads hold magazines of dead ones. Each object has an owner word, and fields that its
// owner writes plainly, so that ThreadSanitizer sees a missing happens-before. When a round ends,
// every object is found again, once.
//
// Before that, three negative controls: the same stress with a bug planted by a policy, each in a
// child process. One that is not caught is a failure: the stress would not see the bug either.
//
// Last line: stress: N operations, 0 errors, controls caught: 3

#include <sched.h>
#include <signal.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ion/policies/pool/magazine.h"
#include "ion/policies/pool/near_budget.h"
#include "ion/policies/pool/pool.h"
#include "tests/stress/program.h"
#include "tests/stress/searches.h"

namespace {

using ion::stress::CheckSearch;
using ion::stress::Complain;
using ion::stress::kWorkers;
using ion::stress::milliseconds;
using ion::stress::misses;
using ion::stress::operations;

// --- policies ------------------------------------------------------------------------------------

// Loses the processor between a load and what follows it: where the bugs of lock-free code are.
void MaybeYield() {
  thread_local uint32_t state = 0;
  if (state == 0) state = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&state) >> 4) | 1;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  if (state % 32 == 0) ::sched_yield();
}

template <class V>
class YieldingAtomic : public std::atomic<V> {
 public:
  using std::atomic<V>::atomic;
  V load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    const V value = std::atomic<V>::load(order);
    MaybeYield();
    return value;
  }
};

struct Yielding : ion::PoolPolicy {
  template <class V>
  using Atomic = YieldingAtomic<V>;
};
struct Locked : ion::PoolPolicy {
  static bool RegisterFence() noexcept { return false; }
};

struct NoTag : Yielding {
  static constexpr uint64_t kTagStep = 0;
};
struct NoMembarrier : ion::PoolPolicy {
  static bool Fence() noexcept { return true; }
};
struct RelaxedPush : ion::PoolPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};

// --- objects -------------------------------------------------------------------------------------

struct alignas(64) Object {
  // Relaxed: it must not order what it watches.
  std::atomic<uint32_t> owner{0};
  uint64_t uses = 0;
  Object* self = nullptr;
};

// A pool and what lies in it.
template <class P>
struct Arena {
  std::vector<Object> objects;
  ion::NearBudget near;
  ion::Pool<Object, P> pool;

  // `most_near`: of large objects, in all magazines together; 0: no budget.
  Arena(uint32_t count, uint64_t object_bytes, uint64_t most_near = 0)
      : objects(count),
        near(UINT64_MAX, most_near),
        pool(Make(objects, object_bytes, most_near == 0 ? nullptr : &near)) {
    for (Object& object : objects) Give(&object);
  }

  Object* Take(uint32_t owner) {
    Object* object = pool.Acquire();
    if (object != nullptr) Own(object, owner);
    return object;
  }
  void GiveBack(Object* object, uint32_t owner) {
    Disown(object, owner);
    Give(object);
  }

  // Every object is in the pool, once. Threads that used it may be in their exit: Close waits.
  void FinishByClose() {
    uint64_t found = 0;
    pool.Close([&](Object& object) { NoteFound(object, &found); });
    CheckFound(found);
    if (near.objects() != 0 || near.bytes() != 0) Complain("a closed pool has room of its budget");
  }
  // The same, found by acquiring. Requires: the threads that used it are gone.
  void FinishByAcquire() {
    if (pool.counters().held != objects.size()) Complain("the counters do not know every object");
    uint64_t found = 0;
    while (Object* object = pool.Acquire()) NoteFound(*object, &found);
    CheckFound(found);
    pool.Drain();
    if (near.objects() != 0) Complain("drained magazines have room of their budget");
  }

  static void Own(Object* object, uint32_t owner) {
    if (object->owner.exchange(owner, std::memory_order_relaxed) != 0) {
      Complain("an object has two owners");
    }
    object->self = object;
    ++object->uses;
  }
  static void Disown(Object* object, uint32_t owner) {
    if (object->self != object) Complain("an object was written by another");
    object->self = nullptr;
    if (object->owner.exchange(0, std::memory_order_relaxed) != owner) {
      Complain("an object changed its owner");
    }
  }
  void Give(Object* object) {
    if (!pool.Release(object)) Complain("a release was refused");
  }

 private:
  static void NoteFound(Object& object, uint64_t* found) {
    if (object.owner.exchange(1, std::memory_order_relaxed) != 0) {
      Complain("an object is found twice");
    }
    ++*found;
  }
  void CheckFound(uint64_t found) const {
    if (found != objects.size()) Complain("an object is lost");
  }
  static ion::Pool<Object, P> Make(std::vector<Object>& objects, uint64_t object_bytes,
                                   ion::NearBudget* near) {
    ion::Result<ion::Pool<Object, P>> pool =
        ion::Pool<Object, P>::Create(objects, {.object_bytes = object_bytes, .near = near});
    if (!pool.ok()) {
      std::fputs("pool_stress: no pool: is there memory to map?\n", stderr);
      std::_Exit(2);
    }
    return *std::move(pool);
  }
};

// What one thread has of one pool.
template <class P>
class Hand {
 public:
  Hand(Arena<P>& arena, uint32_t owner) : arena_(arena), owner_(owner) {}
  ~Hand() { Clear(); }
  Hand(const Hand&) = delete;
  Hand& operator=(const Hand&) = delete;

  bool Take() {
    ++operations_;
    Object* object = arena_.Take(owner_);
    if (object == nullptr) {
      ++misses_;
      return false;
    }
    held_.push_back(object);
    return true;
  }
  void Give(size_t i) {
    ++operations_;
    std::swap(held_[i], held_.back());
    arena_.GiveBack(held_.back(), owner_);
    held_.pop_back();
  }
  void Clear() {
    while (size() > 0) Give(size() - 1);
    operations.fetch_add(std::exchange(operations_, 0), std::memory_order_relaxed);
    misses.fetch_add(std::exchange(misses_, 0), std::memory_order_relaxed);
  }
  size_t size() const { return held_.size(); }

 private:
  Arena<P>& arena_;
  const uint32_t owner_;
  std::vector<Object*> held_;
  uint64_t operations_ = 0;
  uint64_t misses_ = 0;
};

// --- signals -------------------------------------------------------------------------------------

// What a signal does on this thread.
thread_local std::function<void()>* on_signal = nullptr;

void HandleSignal(int) {
  if (on_signal != nullptr) (*on_signal)();
}

// --- a round -------------------------------------------------------------------------------------

template <class P>
class Round {
 public:
  // The first has fewer objects than its workers want, and small magazines: its depot and its
  // drains are busy. The second has enough. The third has large ones, and room for a few of them.
  Round()
      : scarce_(48, (1 << 20) / 4),
        roomy_(2048, 4096),
        large_(24, 2 << 20, 10),
        life_(std::make_unique<Life>()) {}

  void Run(milliseconds time) {
    const ion::stress::HangGuard guard;
    std::array<std::thread, kWorkers> workers;
    for (uint32_t i = 0; i < kWorkers; ++i) workers[i] = std::thread([this, i] { Work(i + 1); });
    std::array<std::thread, 6> others = {
        std::thread([this] { SpawnShortLived(1000); }),
        std::thread([this] { SpawnShortLived(2000); }),
        std::thread([this] { Drain(); }),
        std::thread([this] { Trim(3000); }),
        std::thread([this] { Replace(); }),
        std::thread([&] { Interrupt(workers); }),
    };
    std::this_thread::sleep_for(time);
    stop_.store(true, std::memory_order_relaxed);
    // The one that sends signals first: they need a living thread.
    for (auto thread = others.rbegin(); thread != others.rend(); ++thread) thread->join();
    for (std::thread& worker : workers) worker.join();
    scarce_.FinishByAcquire();
    roomy_.FinishByAcquire();
    large_.FinishByAcquire();
    life_->arena.FinishByClose();
    life_->large.FinishByClose();
  }

 private:
  // A pool that will be destroyed while its users live on.
  struct Life {
    Arena<P> arena{128, 4096};
    Arena<P> large{16, 2 << 20, 6};
    std::atomic<uint32_t> users{0};
  };

  bool stop() const { return stop_.load(std::memory_order_relaxed); }

  void Work(uint32_t self) {
    std::minstd_rand random(self);
    Hand<P> scarce(scarce_, self);
    Hand<P> roomy(roomy_, self);
    Hand<P> large(large_, self);
    scarce_.pool.BindThread();
    std::function<void()> interrupt = [this, self] {
      const uint32_t handler = self + 100;
      Object* object = scarce_.Take(handler);
      if (object != nullptr) scarce_.GiveBack(object, handler);
    };
    on_signal = &interrupt;
    while (!stop()) {
      switch (random() % 5) {
        case 0:
          for (int i = 0; i < 500; ++i) {
            if (scarce.Take()) scarce.Give(scarce.size() - 1);
          }
          break;
        case 1:
          Walk(scarce, random, 500, 24);
          break;
        case 2:
          for (int i = 0; i < 40; ++i) roomy.Take();
          for (int i = 0; i < 300; ++i) {
            if (roomy.Take()) roomy.Give(roomy.size() - 1);
          }
          roomy.Clear();
          break;
        case 3:
          Walk(large, random, 500, 6);
          break;
        default:
          Visit(self, random);
      }
      scarce.Clear();
      large.Clear();
    }
    on_signal = nullptr;
  }
  static void Walk(Hand<P>& hand, std::minstd_rand& random, int steps, size_t most) {
    for (int i = 0; i < steps; ++i) {
      if (random() % 2 == 0) {
        if (hand.size() < most) hand.Take();
      } else if (hand.size() > 0) {
        hand.Give(random() % hand.size());
      }
    }
  }

  // Threads that leave their magazines to their exit.
  void SpawnShortLived(uint32_t self) {
    while (!stop()) {
      ++self;
      std::thread([this, self] {
        std::minstd_rand random(self);
        Hand<P> scarce(scarce_, self);
        Hand<P> roomy(roomy_, self);
        Walk(scarce, random, 60, 12);
        Walk(roomy, random, 60, 40);
        Hand<P> large(large_, self);
        Walk(large, random, 60, 6);
        Visit(self, random);
      }).join();
    }
  }

  // Without a pause for a while, then with some: a magazine is found open, claimed, and idle.
  void Drain() {
    ion::PoolBase<P>* const pools[] = {&scarce_.pool, &roomy_.pool, &large_.pool};
    for (uint32_t i = 0; !stop(); ++i) {
      ion::PoolBase<P>::Drain(pools);
      if (i / 1024 % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  void Trim(uint32_t self) {
    std::minstd_rand random(self);
    std::vector<Object*> taken;
    const auto take = [&](Object& object) {
      Arena<P>::Own(&object, self);
      taken.push_back(&object);
    };
    while (!stop()) {
      for (Arena<P>* arena : {&scarce_, &roomy_, &large_}) {
        const auto keep = static_cast<uint32_t>(random() % arena->objects.size());
        if (random() % 2 == 0) {
          arena->pool.Trim(keep, take);
        } else {
          arena->pool.TrimUnused(take);
        }
        for (Object* object : std::exchange(taken, {})) arena->GiveBack(object, self);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  void Interrupt(std::array<std::thread, kWorkers>& workers) {
    for (uint32_t i = 0; !stop(); ++i) {
      ::pthread_kill(workers[i % kWorkers].native_handle(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  void Visit(uint32_t self, std::minstd_rand& random) {
    Life* life;
    {
      std::lock_guard lock(life_mutex_);
      life = life_.get();
      life->users.fetch_add(1, std::memory_order_relaxed);
    }
    {
      Hand<P> hand(life->arena, self);
      Walk(hand, random, 100, 24);
      Hand<P> large(life->large, self);
      Walk(large, random, 50, 6);
    }
    life->users.fetch_sub(1, std::memory_order_release);
  }
  void Replace() {
    while (!stop()) {
      auto life = std::make_unique<Life>();
      {
        std::lock_guard lock(life_mutex_);
        life.swap(life_);
      }
      while (life->users.load(std::memory_order_acquire) != 0) ::sched_yield();
      life->arena.FinishByClose();
      life->large.FinishByClose();
    }
  }

  std::atomic<bool> stop_{false};
  Arena<P> scarce_;
  Arena<P> roomy_;
  Arena<P> large_;
  std::mutex life_mutex_;
  std::unique_ptr<Life> life_;
};

template <class P>
void RunRound(milliseconds time) {
  std::make_unique<Round<P>>()->Run(time);
}

// --- controls ------------------------------------------------------------------------------------

template <class P>
void Control() {
  ion::stress::RepeatRound(&RunRound<P>);
}

// Two bugs do not show in every build, and there the search of tests/model has to find them in the
// same layers. On x86 a locked instruction releases whatever it is asked for: in a run, only
// ThreadSanitizer sees the missing order. And under ThreadSanitizer the owners fence, and no
// membarrier is needed.
constexpr bool kThreadSanitizer = ion::MagazinePolicy::kOwnerFences;

void ControlRelaxedPush() {
  if (kThreadSanitizer) return Control<RelaxedPush>();
  CheckSearch(ion::stress::ExploreRelaxedPush());
}
void ControlNoMembarrier() {
  if (!kThreadSanitizer) return Control<NoMembarrier>();
  CheckSearch(ion::stress::ExploreNoMembarrier());
}

}  // namespace

int main(int argc, char** argv) {
  ion::stress::Handle(SIGUSR1, &HandleSignal);
  constexpr ion::stress::Control kControls[] = {
      {"relaxed push", &ControlRelaxedPush},
      {"no tag", &Control<NoTag>},
      {"no membarrier", &ControlNoMembarrier},
  };
  constexpr ion::stress::Kind kAsShipped{"as shipped", &RunRound<ion::PoolPolicy>};
  constexpr ion::stress::Kind kRounds[] = {
      kAsShipped,
      {"preempted", &RunRound<Yielding>},
      kAsShipped,
      {"locked", &RunRound<Locked>},
  };
  return ion::stress::Run(argc, argv, kControls, kRounds);
}
