// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/pool/membarrier.h"

#include <sched.h>
#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "tests/support/child.h"
#include "tests/support/pinned.h"
#include "tests/support/refuse_call.h"
#include "tests/support/skip.h"

namespace {

using ion::internal::Membarrier;
using ion::testing::Pinned;
using ion::testing::RefuseCall;
using ion::testing::RunInChild;

constexpr const char* kMissing = "this kernel has no membarrier";

TEST_CASE("Membarrier: a fence can be made when it was registered, and again in a forked child") {
  if (!Membarrier::Register()) return ion::testing::Skip(kMissing);
  CHECK(Membarrier::Register());
  CHECK(Membarrier::Fence());
  CHECK(RunInChild([] {
          if (!Membarrier::Register()) return "not registered";
          return Membarrier::Fence() ? "" : "no fence";
        }).text == "");
}

TEST_CASE("Membarrier: where a filter refuses, both say so, and errno is kept") {
  for (int code : {EPERM, ENOSYS}) {
    CHECK(RunInChild([code] {
            if (!RefuseCall(SYS_membarrier, code)) return "no filter";
            errno = 77;
            if (Membarrier::Register()) return "registered";
            if (Membarrier::Fence()) return "a fence that was not made";
            return errno == 77 ? "" : "errno was changed";
          }).text == "");
  }
}

TEST_CASE("Membarrier: errno is kept where it works") {
  if (!Membarrier::Register()) return ion::testing::Skip(kMissing);
  errno = 77;
  Membarrier::Register();
  Membarrier::Fence();
  CHECK(errno == 77);
}

// Built-ins, as without optimisation std::atomic makes every store sequentially consistent.
struct alignas(64) Line {
  void Store(uint64_t value) { __atomic_store_n(&word, value, __ATOMIC_RELAXED); }
  uint64_t Load() const { return __atomic_load_n(&word, __ATOMIC_RELAXED); }
  uint64_t word = 0;
};

// Those this thread may run on, ascending.
std::vector<int> Processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(sched_getaffinity(0, sizeof(set), &set) == 0);
  std::vector<int> found;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) found.push_back(i);
  }
  return found;
}

// What the pool builds on. Each thread writes its word, then reads the other's; the owner has a
// compiler's fence between the two, the drainer a membarrier. In no round may both read 0.
//
// Each has a processor of its own if there are two: where others want them too, threads that yield
// to each other can stay on one for long, and there no write is ever late.
//
// Returns in how many rounds both did.
template <class F>
uint64_t RoundsInWhichBothReadZero(uint64_t rounds, F fence) {
  const std::vector<int> processors = Processors();
  Line busy, gate;
  alignas(64) std::atomic<uint64_t> owner_round{0};
  alignas(64) std::atomic<uint64_t> drainer_round{0};
  uint64_t owner_saw = 0, both = 0;
  // Each waits, turning, until the other is at the same round: the two meet.
  auto meet = [](std::atomic<uint64_t>& mine, const std::atomic<uint64_t>& other, uint64_t round) {
    mine.store(round, std::memory_order_release);
    for (uint32_t i = 0; other.load(std::memory_order_acquire) < round; ++i) {
      if (i % 1024 == 1023) std::this_thread::yield();
    }
  };
  // Who comes last goes on first: by some time that differs from round to round. The stores keep
  // those that follow them waiting, as they go to memory that is in no cache.
  constexpr size_t kLines = 1 << 16;
  std::vector<Line> far(2 * kLines);
  auto dawdle = [&far](size_t side, uint64_t times) {
    for (uint64_t i = 0; i < times; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
    for (int i = 0; i < 8; ++i) {
      static thread_local size_t line = 0;
      line = (line + 4099) % kLines;
      far[side * kLines + line].Store(times);
    }
  };
  std::jthread owner([&] {
    const Pinned pinned(processors.front());
    for (uint64_t round = 1; round <= rounds; ++round) {
      meet(owner_round, drainer_round, 3 * round);
      dawdle(0, round * 37 % 256);
      busy.Store(round);
      std::atomic_signal_fence(std::memory_order_seq_cst);
      owner_saw = gate.Load();
      meet(owner_round, drainer_round, 3 * round + 1);
      meet(owner_round, drainer_round, 3 * round + 2);
    }
  });
  std::jthread drainer([&] {
    const Pinned pinned(processors.back());
    for (uint64_t round = 1; round <= rounds; ++round) {
      meet(drainer_round, owner_round, 3 * round);
      dawdle(1, round * 53 % 256);
      gate.Store(round);
      fence();
      const uint64_t drainer_saw = busy.Load();
      meet(drainer_round, owner_round, 3 * round + 1);
      if (owner_saw != round && drainer_saw != round) ++both;
      meet(drainer_round, owner_round, 3 * round + 2);
    }
  });
  owner.join();
  drainer.join();
  return both;
}

TEST_CASE("Membarrier: of two that write and then read, one sees the other's write") {
  if (!Membarrier::Register()) return ion::testing::Skip(kMissing);
  CHECK(RoundsInWhichBothReadZero(50'000, [] { Membarrier::Fence(); }) == 0);
}

TEST_CASE("Membarrier: the rounds before would show a fence that is none") {
  if (Processors().size() < 2) return ion::testing::Skip("one processor");
  uint64_t both = 0;
  // The bound is for a machine where others leave the two no moment in common.
  const auto patience = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (both == 0 && std::chrono::steady_clock::now() < patience) {
    both = RoundsInWhichBothReadZero(50'000,
                                     [] { std::atomic_signal_fence(std::memory_order_seq_cst); });
  }
  CHECK(both > 0);
}

}  // namespace
