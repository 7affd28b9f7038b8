// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The protocol of policies/magazine.h: an owner, and two drainers as its header shows them. What
// leaves the magazine, or finds no way in, goes to a bag that is right by construction.

#include <bit>
#include <cstdint>
#include <memory>

#include "doctest/doctest.h"
#include "policies/magazine.h"
#include "tests/model/explorer.h"
#include "tests/model/report.h"

namespace {

using ion::model::Explorer;
using ion::model::Verdict;

struct ModelPolicy : ion::MagazinePolicy {
  template <class V>
  using Atomic = ion::model::Atomic<V>;
};
using Magazine = ion::Magazine<ModelPolicy>;

constexpr uint64_t kOpen = Magazine::OpenGate(1);
constexpr uint32_t kObjects = 2;
constexpr uint32_t kOperations = 3;

enum class Bug { kNone, kNoBarrier, kTakesWhileBusy, kForgetsClaim, kForgetsFlush };

struct Shared {
  alignas(64) Magazine magazine{};
  ModelPolicy::Atomic<uint64_t> bag;  // a bit for each object
  uint32_t owner[kObjects] = {};      // 0: it should be in the magazine or in the bag
  char objects[kObjects];             // their addresses
};

struct World {
  Explorer explorer;
  Shared shared;
  Bug bug;

  void Take(uint32_t object) {
    explorer.Note("takes", object);
    if (object >= kObjects || shared.owner[object] != 0)
      return explorer.Fail("one object, two owners");
    shared.owner[object] = explorer.self() + 1;
    explorer.Touch(object);
  }
  void Part(uint32_t object) {
    explorer.Note("parts with", object);
    explorer.Touch(object);
    shared.owner[object] = 0;
  }
  uint32_t IndexOf(const void* object) const {
    return static_cast<uint32_t>(static_cast<const char*>(object) - shared.objects);
  }

  // Requires: the caller owns the content of the magazine.
  void MoveToBag() {
    const uint32_t n = shared.magazine.count();
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t object = IndexOf(shared.magazine.slot(i));
      Take(object);
      Part(object);
      shared.bag.fetch_or(uint64_t{1} << object, std::memory_order_release);
    }
    shared.magazine.DropLowest(n);
  }

  // Off the hot path. True: it was entered, and the caller has to leave.
  bool EnterSlow() {
    Magazine& magazine = shared.magazine;
    if (magazine.busy()) return false;
    magazine.SetBusy();
    const uint64_t gate = magazine.gate();
    const bool flush = bug != Bug::kForgetsFlush && gate == (kOpen | Magazine::kFlush) &&
                       magazine.TakeFlush(kOpen);
    if (flush) MoveToBag();
    if (flush || gate == kOpen) return true;
    magazine.Leave();
    return false;
  }
  // kObjects: there is none.
  uint32_t Acquire() {
    Magazine& magazine = shared.magazine;
    if (magazine.Enter(kOpen)) {
      const void* object = magazine.PopAndLeave();
      if (object != nullptr) return IndexOf(object);
    }
    if (EnterSlow()) magazine.Leave();
    const uint64_t there = shared.bag.load(std::memory_order_relaxed);
    const uint64_t wanted = there & -there;
    const uint64_t got = shared.bag.fetch_and(~wanted, std::memory_order_acquire) & wanted;
    return got == 0 ? kObjects : static_cast<uint32_t>(std::countr_zero(got));
  }
  void Release(uint32_t object) {
    Magazine& magazine = shared.magazine;
    if (magazine.Enter(kOpen)) {
      magazine.PushAndLeave(&shared.objects[object], kObjects);
      return;
    }
    if (EnterSlow()) magazine.Leave();
    shared.bag.fetch_or(uint64_t{1} << object, std::memory_order_release);
  }
  void Drain() {
    Magazine& magazine = shared.magazine;
    if (!magazine.Claim(kOpen)) return;
    if (bug != Bug::kNoBarrier) explorer.Membarrier();
    if (bug == Bug::kTakesWhileBusy || !magazine.busy()) {
      MoveToBag();
      magazine.Open(kOpen);
    } else if (bug != Bug::kForgetsClaim) {
      magazine.OpenFlush(kOpen);
    }
  }

  // Each operation is an acquire, or the release of what the thread has.
  void User(uint32_t operations) {
    uint32_t held[kObjects];
    uint32_t count = 0;
    for (uint32_t i = 0; i < operations; ++i) {
      if (count == 0 || (count < kObjects && explorer.Choose(2) == 0)) {
        const uint32_t object = Acquire();
        if (object == kObjects) continue;
        Take(object);
        held[count++] = object;
      } else {
        const uint32_t object = held[--count];
        held[count] = 0;
        Part(object);
        Release(object);
      }
    }
  }
  void Drainer() {
    for (uint32_t i = 0; i < kOperations; ++i) Drain();
  }

  // What was left to the owner is done when it comes next, and then everything is in one place.
  void End() {
    Magazine& magazine = shared.magazine;
    if (EnterSlow()) magazine.Leave();
    if (magazine.gate() != kOpen) return explorer.Fail("the magazine stays closed to its owner");
    MoveToBag();
    uint64_t all = shared.bag.load();
    for (uint32_t object = 0; object < kObjects; ++object) {
      const uint64_t bit = uint64_t{1} << object;
      if ((all & bit) != 0 && shared.owner[object] != 0)
        explorer.Fail("an object is in two places");
      if (shared.owner[object] != 0) all |= bit;
    }
    if (all != (uint64_t{1} << kObjects) - 1) explorer.Fail("an object was lost");
  }
};

// One object lies in the magazine, the others in the bag. `handler`: the third thread is a signal
// handler on the owner's, instead of a second drainer.
Verdict Explore(Bug bug, bool handler = false) {
  auto world = std::make_unique<World>();
  Explorer& explorer = world->explorer;
  Shared& shared = world->shared;
  world->bug = bug;
  shared.magazine.Bind(kOpen, 0, 1);
  shared.magazine.Push(&shared.objects[0]);
  shared.bag.store((1 << kObjects) - 2);

  explorer.Share("magazine", &shared, sizeof(shared));
  const uint32_t owner = explorer.Spawn([&] { world->User(kOperations); });
  explorer.Spawn([&] { world->Drainer(); });
  if (handler) {
    explorer.SpawnHandler(owner, [&] { world->User(kOperations); });
  } else {
    explorer.Spawn([&] { world->Drainer(); });
  }
  explorer.AtEnd([&] { world->End(); });
  return explorer.Explore();
}

TEST_CASE("Magazine: an owner and two drainers with 3 operations each, in every order") {
  const Verdict verdict = Explore(Bug::kNone);
  ion::model::Print("Magazine, owner and 2 drainers x 3 operations", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("Magazine: an owner, a signal handler on its thread, and a drainer, in every order") {
  const Verdict verdict = Explore(Bug::kNone, /*handler=*/true);
  ion::model::Print("Magazine, owner, handler and drainer x 3 operations", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("Magazine: a drainer without membarrier takes what the owner is taking") {
  const Verdict verdict = Explore(Bug::kNoBarrier);
  ion::model::Print("Magazine without membarrier", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: a drainer that takes while the owner is busy is found") {
  const Verdict verdict = Explore(Bug::kTakesWhileBusy);
  ion::model::Print("Magazine, taken while busy", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: a drainer that finds it busy and keeps its claim is found") {
  const Verdict verdict = Explore(Bug::kForgetsClaim);
  ion::model::Print("Magazine, a claim never given back", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: an owner that forgets to flush is found") {
  const Verdict verdict = Explore(Bug::kForgetsFlush);
  ion::model::Print("Magazine, a flush forgotten", verdict);
  CHECK(verdict.violation == "the magazine stays closed to its owner");
}

}  // namespace
