// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The whole of policies/pool/pool.h, by threads that are bound. Its many accesses leave room for
// fewer operations than the models of its parts.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "ion/policies/pool/near_budget.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/pool/thread_record.h"
#include "tests/model/explorer.h"
#include "tests/model/report.h"

namespace {

using ion::model::Explorer;
using ion::model::Verdict;

constexpr uint32_t kMaxOperations = 3;
constexpr uint32_t kThreads = 3;

struct ModelPolicy : ion::PoolPolicy {
  template <class V>
  using Atomic = ion::model::Atomic<V>;
  static bool RegisterFence() noexcept { return true; }
  static bool Fence() noexcept {
    if (ion::model::OnFiber()) Explorer::running->Membarrier();
    return true;
  }
};
struct NoBarrier : ModelPolicy {
  static bool Fence() noexcept { return true; }
};
// A seccomp filter that came after the pool.
struct RefusedBarrier : ModelPolicy {
  static bool Fence() noexcept { return !ion::model::OnFiber(); }
};
struct Locked : ModelPolicy {
  static bool RegisterFence() noexcept { return false; }
};
struct NoTag : ModelPolicy {
  static constexpr uint64_t kTagStep = 0;
};
struct RelaxedPush : ModelPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};

struct alignas(64) Object {
  char line[64];
};

// What a thread may do in one operation.
enum Action : uint32_t { kAcquire = 1, kRelease = 2, kDrain = 4 };

struct Setup {
  std::array<uint32_t, kThreads> actions;
  uint32_t objects;
  uint32_t magazine_slots;
  // How many objects each thread's magazine has at first; the rest is in the depot.
  std::array<uint32_t, kThreads> at_first;
  uint32_t operations;
  // The most objects in all magazines together, if they are large; 0: they are small.
  uint32_t near_objects = 0;
};

template <class P>
class World {
  using Pool = ion::Pool<Object, P>;
  using Record = ion::internal::ThreadRecord<P>;
  using Statics = ion::internal::Statics<P>;

 public:
  explicit World(const Setup& setup)
      : setup_(setup),
        objects_(setup.objects),
        near_(UINT64_MAX, setup.near_objects),
        pool_(Make()) {
    for (Record*& record : records_) {
      Statics::record = &Statics::nobodys.record;
      Expect(pool_.BindThread());
      record = Statics::record;
    }
    for (Object& object : objects_) Expect(pool_.Release(&object));
    pool_.Drain();
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      Statics::record = records_[thread];
      // The first acquire brings a whole block.
      std::vector<Object*> fetched;
      for (uint32_t i = 0; i < setup.at_first[thread]; ++i) {
        fetched.push_back(pool_.Acquire());
        Expect(fetched.back() != nullptr);
      }
      for (Object* object : fetched) Expect(pool_.Release(object));
    }
  }
  // The records are free for the next world.
  ~World() {
    for (Record* record : records_) record->owned.store(0);
  }

  Verdict Explore() {
    ion::internal::PoolTable<P>* table = ion::internal::Table<P>();
    const uint32_t id = OnlyId(*table);
    ion::internal::PoolCore<P>* core = table->slots[id].core.load();
    explorer_.Share(
        "table", table,
        offsetof(ion::internal::PoolTable<P>, slots) + sizeof(table->slots[0]) * (id + 1));
    explorer_.Share("core", core, sizeof(*core) + ion::Depot<P>::Bytes(setup_.objects));
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      const std::string number = std::to_string(thread);
      explorer_.Share("record" + number, records_[thread], sizeof(Record));
      ion::Magazine<P>& magazine = MagazineOf(thread);
      explorer_.Share("magazine" + number, &magazine, sizeof(magazine));
    }
    explorer_.Share("owner", owner_.data(), sizeof(owner_));
    explorer_.Share("near", &near_, sizeof(near_));
    explorer_.OnSwitch([this](uint32_t thread) { Statics::record = records_[thread]; });
    for (uint32_t thread = 0; thread < kThreads; ++thread) {
      if (setup_.actions[thread] == 0) continue;
      explorer_.Spawn([this, thread] { Thread(setup_.actions[thread]); });
    }
    explorer_.AtEnd([this] { End(); });
    Verdict verdict = explorer_.Explore();
    Statics::record = records_[0];
    return verdict;
  }

 private:
  static void Expect(bool done) { REQUIRE(done); }
  Pool Make() {
    const bool large = setup_.near_objects != 0;
    ion::Result<Pool> pool =
        Pool::Create(objects_, {.object_bytes = large ? 2 << 20 : (1 << 20) / setup_.magazine_slots,
                                .near = large ? &near_ : nullptr});
    REQUIRE(pool.ok());
    return *std::move(pool);
  }
  static uint32_t OnlyId(ion::internal::PoolTable<P>& table) {
    uint32_t id = 0;
    while (table.slots[id].state.load() == 0) ++id;
    return id;
  }
  ion::Magazine<P>& MagazineOf(uint32_t thread) const {
    return records_[thread]->At(Record::Offset(OnlyId(*ion::internal::Table<P>())));
  }
  uint32_t IndexOf(const Object* object) const {
    return static_cast<uint32_t>(object - objects_.data());
  }

  void Thread(uint32_t actions) {
    std::array<uint32_t, kMaxOperations> held;
    uint32_t count = 0;
    for (uint32_t i = 0; i < setup_.operations; ++i) {
      std::array<uint32_t, 3> can;
      uint32_t ways = 0;
      if ((actions & kAcquire) != 0 && count < setup_.objects) can[ways++] = kAcquire;
      if ((actions & kRelease) != 0 && count > 0) can[ways++] = kRelease;
      if ((actions & kDrain) != 0) can[ways++] = kDrain;
      switch (can[explorer_.Choose(ways)]) {
        case kAcquire:
          if (Object* object = pool_.Acquire(); object != nullptr) {
            held[count++] = Take(IndexOf(object));
          }
          break;
        case kRelease: {
          const uint32_t index = held[--count];
          held[count] = 0;
          explorer_.Note("releases", index);
          explorer_.Touch(index);
          owner_[index] = 0;
          if (!pool_.Release(&objects_[index])) explorer_.Fail("a release was refused");
          break;
        }
        default:
          explorer_.Note("drained", pool_.Drain());
      }
    }
  }
  uint32_t Take(uint32_t index) {
    explorer_.Note("acquired", index);
    if (index >= setup_.objects || owner_[index] != 0) explorer_.Fail("one object, two owners");
    owner_[index] = explorer_.self() + 1;
    explorer_.Touch(index);
    return index;
  }

  // No call is under way: one thread finds all that is not in a user's hands.
  void End() {
    Statics::record = records_[0];
    if (const ion::Magazine<P>& magazine = MagazineOf(0);
        (magazine.gate() & magazine.kFlush) != 0) {
      pool_.BindThread();
      if (magazine.count() != 0) return explorer_.Fail("an owner did not do what was left to it");
    }
    uint32_t room = 0;
    for (uint32_t thread = 0; thread < kThreads; ++thread) room += MagazineOf(thread).room();
    if (setup_.near_objects != 0 && near_.objects() != room) {
      return explorer_.Fail("the budget tells of more or less room than the magazines have");
    }
    std::array<bool, 8> found = {};
    auto in_hands = static_cast<uint32_t>(
        std::count_if(owner_.begin(), owner_.end(), [](uint32_t owner) { return owner != 0; }));
    if (pool_.counters().held + in_hands != setup_.objects) {
      return explorer_.Fail("the counters tell of more or fewer objects than there are");
    }
    while (Object* object = pool_.Acquire()) {
      const uint32_t index = IndexOf(object);
      if (owner_[index] != 0 || found[index]) return explorer_.Fail("an object is in two places");
      found[index] = true;
      ++in_hands;
    }
    if (in_hands != setup_.objects) explorer_.Fail("an object was lost");
  }

  const Setup setup_;
  std::vector<Object> objects_;
  ion::NearBudget near_;
  Pool pool_;
  std::array<Record*, kThreads> records_ = {};
  std::array<uint32_t, 8> owner_ = {};  // 0: it should lie in the pool
  Explorer explorer_;
};

// A thread that recycles, and two that drain.
constexpr Setup kUserAndDrainers = {.actions = {kAcquire | kRelease, kDrain, kDrain},
                                    .objects = 2,
                                    .magazine_slots = 2,
                                    .at_first = {1, 0, 0},
                                    .operations = 2};
// Each may do everything: spills, refills, and an acquire that drains the others.
constexpr Setup kAllDoAll = {.actions = {kAcquire | kRelease | kDrain, kAcquire | kRelease | kDrain,
                                         kAcquire | kRelease | kDrain},
                             .objects = 2,
                             .magazine_slots = 1,
                             .at_first = {1, 0, 0},
                             .operations = 1};
// Two that may do everything.
constexpr Setup kTwoDoAll = {.actions = {kAcquire | kRelease | kDrain, kAcquire | kRelease, 0},
                             .objects = 2,
                             .magazine_slots = 1,
                             .at_first = {1, 0, 0},
                             .operations = 3};
// The same with large objects, and room for one in all magazines together.
constexpr Setup kLarge = {.actions = {kAcquire | kRelease | kDrain, kAcquire | kRelease, 0},
                          .objects = 2,
                          .magazine_slots = 0,
                          .at_first = {1, 0, 0},
                          .operations = 3,
                          .near_objects = 1};
template <class P>
Verdict Explore(const char* what, const Setup& setup) {
  World<P> world(setup);
  Verdict verdict = world.Explore();
  ion::model::Print(what, verdict);
  return verdict;
}

template <class P>
void CheckAll(const char* what, const Setup& setup) {
  const Verdict verdict = Explore<P>(what, setup);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("Pool: a user and two drainers, in every order") {
  CheckAll<ModelPolicy>("Pool, user and 2 drainers x 2 operations", kUserAndDrainers);
}

TEST_CASE("Pool: large objects within a budget, in every order") {
  CheckAll<ModelPolicy>("Pool, large, 2 threads x 3 operations", kLarge);
}

TEST_CASE("Pool: three threads that do everything, in every order") {
  CheckAll<ModelPolicy>("Pool, 3 threads x 1 operation", kAllDoAll);
}

TEST_CASE("Pool: two threads with three operations each, in every order") {
  CheckAll<ModelPolicy>("Pool, 2 threads x 3 operations", kTwoDoAll);
}

TEST_CASE("Pool: a membarrier that is refused later leaves all to the owners, in every order") {
  CheckAll<RefusedBarrier>("Pool, membarrier refused, user and 2 drainers x 2 operations",
                           kUserAndDrainers);
}

TEST_CASE("Pool: without membarrier from the start, in every order") {
  CheckAll<Locked>("Pool, locked, user and 2 drainers x 2 operations", kUserAndDrainers);
}

TEST_CASE("Pool: a drain that makes no barrier is found") {
  const Verdict verdict = Explore<NoBarrier>("Pool without its barrier", kUserAndDrainers);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Pool: a depot without tags is found") {
  const Verdict verdict = Explore<NoTag>("Pool without tags", kTwoDoAll);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Pool: a relaxed push is found") {
  const Verdict verdict = Explore<RelaxedPush>("Pool with a relaxed push", kTwoDoAll);
  CHECK_FALSE(verdict.violation.empty());
}

}  // namespace
