// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/model/magazine_model.h
//
// The protocol of policies/pool/magazine.h: an owner, and two drainers as its header shows them, in
// every order. What leaves the magazine, or finds no way in, goes to a bag that is right by
// construction.
#ifndef ION_TESTS_MODEL_MAGAZINE_MODEL_H_
#define ION_TESTS_MODEL_MAGAZINE_MODEL_H_

#include <bit>
#include <cstdint>
#include <memory>

#include "ion/policies/pool/magazine.h"
#include "tests/model/explorer.h"

namespace ion::model {

enum class MagazineBug { kNone, kNoBarrier, kTakesWhileBusy, kForgetsClaim, kForgetsFlush };

namespace internal {

struct MagazineModelPolicy : MagazinePolicy {
  template <class V>
  using Atomic = model::Atomic<V>;
  static constexpr bool kOwnerFences = false;
};
using ModelMagazine = Magazine<MagazineModelPolicy>;

inline constexpr uint64_t kOpen = ModelMagazine::OpenGate(1);
inline constexpr uint32_t kObjects = 2;
// What is plain in the magazine itself, as one more object: it is touched by whoever is inside.
inline constexpr uint32_t kContent = kObjects;
inline constexpr uint32_t kMagazineOperations = 3;
inline constexpr uint32_t kHandlerOperations = 2;  // it takes, and may give back

struct SharedMagazine {
  alignas(64) ModelMagazine magazine{};
  MagazineModelPolicy::Atomic<uint64_t> bag;  // a bit for each object
  uint32_t owner[kObjects] = {};              // 0: it should be in the magazine or in the bag
  char objects[kObjects];                     // their addresses
};

struct MagazineWorld {
  Explorer explorer;
  SharedMagazine shared;
  MagazineBug bug;

  void Take(uint32_t object) {
    explorer.Note("takes", object);
    if (object >= kObjects || shared.owner[object] != 0) {
      return explorer.Fail("one object, two owners");
    }
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
    explorer.Touch(kContent);
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
    ModelMagazine& magazine = shared.magazine;
    if (magazine.busy()) return false;
    magazine.SetBusy();
    const uint64_t gate = magazine.gate();
    const bool flush = bug != MagazineBug::kForgetsFlush &&
                       gate == (kOpen | ModelMagazine::kFlush) && magazine.TakeFlush(kOpen);
    if (flush) MoveToBag();
    if (flush || gate == kOpen) return true;
    magazine.Leave();
    return false;
  }
  // kObjects: there is none.
  uint32_t Acquire() {
    ModelMagazine& magazine = shared.magazine;
    if (magazine.Enter(kOpen)) {
      explorer.Touch(kContent);
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
    ModelMagazine& magazine = shared.magazine;
    if (magazine.Enter(kOpen)) {
      explorer.Touch(kContent);
      magazine.PushAndLeave(&shared.objects[object]);
      return;
    }
    if (EnterSlow()) magazine.Leave();
    shared.bag.fetch_or(uint64_t{1} << object, std::memory_order_release);
  }
  void Drain() {
    ModelMagazine& magazine = shared.magazine;
    if (!magazine.Claim(kOpen)) return;
    if (bug != MagazineBug::kNoBarrier) explorer.Membarrier();
    if (bug == MagazineBug::kTakesWhileBusy || !magazine.busy()) {
      MoveToBag();
      magazine.Open(kOpen);
    } else if (bug != MagazineBug::kForgetsClaim) {
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
    for (uint32_t i = 0; i < kMagazineOperations; ++i) Drain();
  }

  // What was left to the owner is done when it comes next, and then everything is in one place.
  void End() {
    ModelMagazine& magazine = shared.magazine;
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

}  // namespace internal

// One object lies in the magazine, the others in the bag. `handler`: the third thread is a signal
// handler on the owner's, instead of a second drainer.
inline Verdict ExploreMagazine(MagazineBug bug, bool handler = false) {
  auto world = std::make_unique<internal::MagazineWorld>();
  Explorer& explorer = world->explorer;
  internal::SharedMagazine& shared = world->shared;
  world->bug = bug;
  shared.magazine.Bind(internal::kOpen, 0, 1, internal::kObjects);
  shared.magazine.Push(&shared.objects[0]);
  shared.bag.store((1 << internal::kObjects) - 2);

  explorer.Share("magazine", &shared, sizeof(shared));
  const uint32_t owner = explorer.Spawn([&] { world->User(internal::kMagazineOperations); });
  explorer.Spawn([&] { world->Drainer(); });
  if (handler) {
    explorer.SpawnHandler(owner, [&] { world->User(internal::kHandlerOperations); });
  } else {
    explorer.Spawn([&] { world->Drainer(); });
  }
  explorer.AtEnd([&] { world->End(); });
  return explorer.Explore();
}

}  // namespace ion::model

#endif  // ION_TESTS_MODEL_MAGAZINE_MODEL_H_
