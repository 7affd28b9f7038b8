// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// That the explorer sees what it claims to cover: the classic small programs, and nothing else.

#include "tests/model/explorer.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <set>
#include <vector>

#include "doctest/doctest.h"
#include "tests/model/report.h"

namespace {

using ion::model::Atomic;
using ion::model::Explorer;
using ion::model::Verdict;

struct Shared {
  Atomic<uint32_t> x;
  Atomic<uint32_t> y;
  uint32_t seen[3] = {};
};

using Body = std::function<void(Explorer&, Shared&)>;

// What the threads can have seen, as the digits of one number.
struct Outcomes {
  Verdict verdict;
  std::set<uint32_t> seen;
};

Outcomes Run(const std::vector<Body>& bodies, bool reduced = true) {
  Outcomes outcomes;
  Shared shared;
  Explorer explorer(reduced);
  explorer.Share("shared", &shared, sizeof(shared));
  for (const Body& body : bodies) explorer.Spawn([&] { body(explorer, shared); });
  explorer.AtEnd(
      [&] { outcomes.seen.insert(shared.seen[0] * 100 + shared.seen[1] * 10 + shared.seen[2]); });
  outcomes.verdict = explorer.Explore();
  return outcomes;
}

Body StoresXLoadsY(std::memory_order order) {
  return [order](Explorer&, Shared& shared) {
    shared.x.store(1, order);
    shared.seen[0] = shared.y.load(order);
  };
}
Body StoresYLoadsX(std::memory_order order) {
  return [order](Explorer&, Shared& shared) {
    shared.y.store(1, order);
    shared.seen[1] = shared.x.load(order);
  };
}

TEST_CASE("Explorer: a store may wait while its thread loads") {
  const Outcomes outcomes =
      Run({StoresXLoadsY(std::memory_order_release), StoresYLoadsX(std::memory_order_release)});
  CHECK(outcomes.seen == std::set<uint32_t>{0, 10, 100, 110});
}

TEST_CASE("Explorer: a sequentially consistent store does not wait") {
  const Outcomes outcomes =
      Run({StoresXLoadsY(std::memory_order_seq_cst), StoresYLoadsX(std::memory_order_seq_cst)});
  CHECK(outcomes.seen == std::set<uint32_t>{10, 100, 110});
}

TEST_CASE("Explorer: a membarrier of one thread is enough for both") {
  const Body fenced = [](Explorer& explorer, Shared& shared) {
    shared.y.store(1, std::memory_order_relaxed);
    explorer.Membarrier();
    shared.seen[1] = shared.x.load(std::memory_order_relaxed);
  };
  const Outcomes outcomes = Run({StoresXLoadsY(std::memory_order_relaxed), fenced});
  CHECK(outcomes.seen == std::set<uint32_t>{10, 100, 110});
}

TEST_CASE("Explorer: stores become visible in their order") {
  const Body writer = [](Explorer&, Shared& shared) {
    shared.x.store(1, std::memory_order_relaxed);
    shared.y.store(1, std::memory_order_relaxed);
  };
  const Body reader = [](Explorer&, Shared& shared) {
    shared.seen[0] = shared.y.load(std::memory_order_relaxed);
    shared.seen[1] = shared.x.load(std::memory_order_relaxed);
  };
  CHECK(Run({writer, reader}).seen == std::set<uint32_t>{0, 10, 110});
}

TEST_CASE("Explorer: a thread's own store may be overwritten before it loads it") {
  const Body first = [](Explorer&, Shared& shared) {
    shared.x.store(1, std::memory_order_relaxed);
    shared.seen[0] = shared.x.load(std::memory_order_relaxed);
  };
  const Body second = [](Explorer&, Shared& shared) {
    shared.x.store(2, std::memory_order_relaxed);
  };
  CHECK(Run({first, second}).seen == std::set<uint32_t>{100, 200});
}

TEST_CASE("Explorer: a locked instruction is one step") {
  const Body add = [](Explorer&, Shared& shared) {
    shared.x.fetch_add(1, std::memory_order_relaxed);
  };
  const Body load_and_store = [](Explorer&, Shared& shared) {
    shared.y.store(shared.y.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  };
  const auto total = [](const Body& body, Atomic<uint32_t> Shared::*counter) {
    std::set<uint32_t> totals;
    Shared shared;
    Explorer explorer;
    explorer.Share("shared", &shared, sizeof(shared));
    for (int i = 0; i < 3; ++i) explorer.Spawn([&] { body(explorer, shared); });
    explorer.AtEnd([&] { totals.insert((shared.*counter).load()); });
    explorer.Explore();
    return totals;
  };
  CHECK(total(add, &Shared::x) == std::set<uint32_t>{3});
  CHECK(total(load_and_store, &Shared::y) == std::set<uint32_t>{1, 2, 3});
}

TEST_CASE("Explorer: plain writes are handed on by release and acquire only") {
  const auto hand_on = [](std::memory_order store, std::memory_order load) {
    const Body writer = [store](Explorer& explorer, Shared& shared) {
      explorer.Touch(0);
      shared.x.store(1, store);
    };
    const Body reader = [load](Explorer& explorer, Shared& shared) {
      if (shared.x.load(load) == 1) explorer.Touch(0);
    };
    return Run({writer, reader}).verdict.violation;
  };
  CHECK(hand_on(std::memory_order_release, std::memory_order_acquire).empty());
  CHECK_FALSE(hand_on(std::memory_order_relaxed, std::memory_order_acquire).empty());
  CHECK_FALSE(hand_on(std::memory_order_release, std::memory_order_relaxed).empty());
}

TEST_CASE("Explorer: a handler runs as a whole between two steps of its thread") {
  std::set<uint32_t> seen;
  Shared shared;
  Explorer explorer;
  explorer.Share("shared", &shared, sizeof(shared));
  const uint32_t thread = explorer.Spawn([&] {
    shared.x.store(1, std::memory_order_relaxed);
    shared.x.store(2, std::memory_order_relaxed);
  });
  explorer.SpawnHandler(thread, [&] {
    shared.seen[0] = shared.x.load(std::memory_order_relaxed);
    shared.seen[1] = shared.x.load(std::memory_order_relaxed);
  });
  explorer.AtEnd([&] { seen.insert(shared.seen[0] * 10 + shared.seen[1]); });
  explorer.Explore();
  CHECK(seen == std::set<uint32_t>{0, 11, 22});
}

TEST_CASE("Explorer: it tells of a thread that waits for ever") {
  const Body waits = [](Explorer&, Shared& shared) {
    while (shared.x.load(std::memory_order_relaxed) == 0) {
    }
  };
  const Verdict verdict = Run({waits, [](Explorer&, Shared&) {}}).verdict;
  CHECK(verdict.violation == "a thread goes round in a circle");
}

TEST_CASE("Explorer: what it leaves out differs in nothing") {
  const std::vector<Body> bodies(3, [](Explorer& explorer, Shared& shared) {
    const uint32_t self = explorer.self();
    shared.seen[self] = shared.x.load(std::memory_order_acquire);
    shared.y.store(self, std::memory_order_release);
    shared.x.store(self + 1, std::memory_order_relaxed);
    shared.seen[self] += 3 * shared.y.load(std::memory_order_relaxed);
    if (self == 2) explorer.Membarrier();
    shared.x.fetch_add(explorer.Choose(2), std::memory_order_acq_rel);
  });
  const Outcomes reduced = Run(bodies);
  const Outcomes all = Run(bodies, /*reduced=*/false);
  CHECK(reduced.seen == all.seen);
  CHECK(reduced.verdict.ends == all.verdict.ends);
  CHECK(reduced.verdict.states < all.verdict.states);
}

}  // namespace
