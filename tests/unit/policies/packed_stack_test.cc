// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/pool/packed_stack.h"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "tests/support/hooked_atomic.h"
#include "tests/support/stale_atomic.h"

namespace {

using ion::testing::Interruption;
namespace stale = ion::testing::stale;

struct Hooked : ion::StackPolicy {
  template <class V>
  using Atomic = ion::testing::HookedAtomic<V>;
};
struct HookedWithoutTag : Hooked {
  static constexpr uint64_t kTagStep = 0;
};

template <class P = ion::StackPolicy>
struct Stack {
  explicit Stack(uint32_t count) : links(count + 1) {}
  void Push(uint32_t index, uint32_t weight = 1) { stack.Push(links.data(), index, weight); }
  uint32_t Pop() { return stack.Pop(links.data()); }
  uint32_t weight() const { return stack.weight(links.data()); }

  ion::PackedStack<P> stack;
  std::vector<typename ion::PackedStack<P>::Link> links;
};

TEST_CASE("PackedStack: what was pushed last is popped first") {
  Stack<> s(3);
  for (uint32_t i : {1u, 2u, 3u}) s.Push(i);
  for (uint32_t i : {3u, 2u, 1u}) CHECK(s.Pop() == i);
}

TEST_CASE("PackedStack: an empty stack gives 0") {
  Stack<> s(1);
  CHECK(s.Pop() == 0);
  s.Push(1);
  CHECK(s.Pop() == 1);
  CHECK(s.Pop() == 0);
}

TEST_CASE("PackedStack: the highest index is kept apart from the tag") {
  constexpr uint32_t kMost = ion::PackedStack<>::kMaxIndex;
  Stack<> s(kMost);
  for (int i = 0; i < 3; ++i) {
    s.Push(kMost);
    CHECK(s.Pop() == kMost);
  }
  CHECK(s.stack.tag() == 3);
  CHECK(s.Pop() == 0);
}

TEST_CASE("PackedStack: the weight is that of all entries") {
  Stack<> s(3);
  CHECK(s.weight() == 0);
  s.Push(1, 15);
  s.Push(2, 4);
  CHECK(s.weight() == 19);
  CHECK(s.Pop() == 2);
  CHECK(ion::PackedStack<>::WeightAt(s.links.data(), 2) == 19);
  CHECK(s.weight() == 15);
  s.Push(3, 1);
  CHECK(s.weight() == 16);
}

TEST_CASE("PackedStack: the tag advances on each pop, and on nothing else") {
  Stack<> s(2);
  s.Push(1);
  s.Push(2);
  CHECK(s.stack.tag() == 0);
  s.Pop();
  s.Pop();
  CHECK(s.stack.tag() == 2);
  s.Pop();
  CHECK(s.stack.tag() == 2);
}

TEST_CASE("PackedStack: the tag has 44 bits or more") { CHECK(ion::PackedStack<>::kTagBits >= 44); }

// Pop has read that 2 lies under 3, and sleeps. 3 and 2 are popped, and 3 comes back: the index is
// the one that it saw, and 2 belongs to somebody.
template <class P>
uint32_t PopWhileItsTopGoesAndComesBack(Stack<P>& s) {
  for (uint32_t i : {1u, 2u, 3u}) s.Push(i);
  // Accesses of Pop: the head, the link, the exchange.
  Interruption between(2, [&] {
    s.Pop();
    s.Pop();
    s.Push(3);
  });
  const uint32_t popped = s.Pop();
  REQUIRE(between.happened());
  return popped;
}

TEST_CASE("PackedStack: a top that went and came back is not taken for the old one") {
  Stack<Hooked> s(3);
  CHECK(PopWhileItsTopGoesAndComesBack(s) == 3);
  CHECK(s.Pop() == 1);
  CHECK(s.Pop() == 0);
}

TEST_CASE("PackedStack: without the tag, it is taken for the old one, and 2 has two owners") {
  Stack<HookedWithoutTag> s(3);
  CHECK(PopWhileItsTopGoesAndComesBack(s) == 3);
  CHECK(s.Pop() == 2);
}

TEST_CASE("PackedStack: a push that is interrupted anywhere loses nothing and keeps the weight") {
  int n = 0;
  for (bool happened = true; happened; ++n) {
    Stack<Hooked> s(4);
    for (uint32_t i : {1u, 2u, 3u}) s.Push(i, i);
    Interruption between(n, [&] {
      CHECK(s.Pop() == 3);
      CHECK(s.Pop() == 2);
      s.Push(3, 30);
    });
    s.Push(4, 400);
    happened = between.happened();
    if (!happened) continue;
    // Before its exchange, the push comes after the others; the last access is the exchange.
    CHECK(s.weight() == 431);
    CHECK(s.Pop() == 4);
    CHECK(s.Pop() == 3);
    CHECK(s.Pop() == 1);
    CHECK(s.Pop() == 0);
  }
  CHECK(n == 6);  // head, weight under, link, weight, exchange: then it is over
}

TEST_CASE("PackedStack: a weight that is read while the stack changes is that of some moment") {
  int n = 0;
  for (bool happened = true; happened; ++n) {
    Stack<Hooked> s(3);
    s.Push(1, 1);
    s.Push(2, 10);
    Interruption between(n, [&] {
      s.Pop();
      s.Pop();
      s.Push(2, 100);
    });
    const uint32_t weight = s.weight();
    happened = between.happened();
    CHECK((weight == 11 || weight == 100));
  }
  CHECK(n == 4);  // head, weight, head again
}

// Loads of the head, and of the links, answer the newest value or the oldest that is allowed.
template <bool kNewestHead, bool kNewestLinks>
struct Stale : ion::StackPolicy {
  template <class V>
  using Atomic =
      ion::testing::StaleAtomic<V, std::array{kNewestLinks,
                                              kNewestHead}[sizeof(V) / sizeof(uint64_t)]>;
};

TEST_CASE("StaleAtomic: what was not acquired is old, and what was acquired is not") {
  ion::testing::StaleAtomic<uint32_t> data, flag;
  stale::thread = 0;
  data.store(7, std::memory_order_relaxed);
  CHECK(data.load(std::memory_order_relaxed) == 7);
  flag.store(1, std::memory_order_release);
  stale::thread = 1;
  CHECK(flag.load(std::memory_order_acquire) == 0);
  CHECK(flag.fetch_or(2, std::memory_order_relaxed) == 1);
  CHECK(data.load(std::memory_order_relaxed) == 0);
  CHECK(flag.load(std::memory_order_acquire) == 3);
  CHECK(data.load(std::memory_order_relaxed) == 7);
  stale::thread = 0;
}

using HeadOld = Stale<false, false>;
using HeadNew = Stale<true, false>;
TEST_CASE_TEMPLATE("PackedStack: a push knows the weight of what another thread pushed", P, HeadOld,
                   HeadNew) {
  Stack<P> s(2);
  stale::thread = 0;
  s.Push(1, 10);
  stale::thread = 1;
  s.Push(2, 5);
  CHECK(s.weight() == 15);
  stale::thread = 0;
}

TEST_CASE("PackedStack: an entry's weight in another stack is not taken for its weight in this") {
  using P = Stale<false, true>;
  Stack<P> s(2);
  ion::PackedStack<P> other;
  stale::thread = 1;
  s.Push(1, 1);
  stale::thread = 0;
  s.Push(2, 10);
  // Before weight() reads the link of the head that it has read.
  Interruption between(1, [&] {
    stale::thread = 1;
    CHECK(s.Pop() == 2);
    other.Push(s.links.data(), 2, 0);
    stale::thread = 0;
  });
  CHECK(s.weight() == 1);
  CHECK(between.happened());
}

TEST_CASE(
    "PackedStack: between threads, each entry has one owner, who sees what the last one wrote") {
  constexpr uint32_t kEntries = 8;
  constexpr int kThreads = 4;
  constexpr int kRounds = 20'000;
  Stack<> s(kEntries);
  std::vector<std::atomic<int>> owners(kEntries + 1);
  std::vector<uint64_t> written(kEntries + 1);  // plain: a race here is the stack's fault
  for (uint32_t i = 1; i <= kEntries; ++i) s.Push(i, i);
  std::atomic<int> twice{0};
  std::atomic<uint64_t> pops{0};
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        uint64_t mine = 0;
        for (int round = 0; round < kRounds; ++round) {
          const uint32_t index = s.Pop();
          if (index == 0) continue;
          if (owners[index].exchange(1, std::memory_order_relaxed) != 0) ++twice;
          ++written[index];
          ++mine;
          owners[index].store(0, std::memory_order_relaxed);
          s.Push(index, index);
        }
        pops += mine;
      });
    }
  }
  CHECK(twice == 0);
  CHECK(s.weight() == kEntries * (kEntries + 1) / 2);
  uint64_t sum = 0;
  for (uint64_t n : written) sum += n;
  CHECK(sum == pops);
  CHECK(s.stack.tag() == pops);
}

}  // namespace
