// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pool_drain.h
//
// BM_PoolDrain: one Drain of the full magazines of 16 threads. Each thread filled its own, on the
// processor where it happened to run, and sleeps since. /awake: one more thread of the process runs
// meanwhile, and membarrier has to interrupt it.
#ifndef ION_BENCH_POOL_DRAIN_H_
#define ION_BENCH_POOL_DRAIN_H_

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <semaphore>
#include <span>
#include <thread>
#include <vector>

#include "ion/base/check.h"
#include "ion/block.h"
#include "ion/policies/pool/pool.h"

namespace ion::bench {

// Threads that fill their magazines when told to.
class Fillers {
 public:
  static constexpr uint32_t kThreads = 16;
  static constexpr uint32_t kShare = Pool<Block>::kSlots;

  explicit Fillers(Pool<Block>& pool) : pool_(pool) {
    for (uint32_t i = 0; i < kThreads; ++i) fillers_[i].thread = std::thread([this, i] { Run(i); });
  }
  Fillers(const Fillers&) = delete;
  Fillers& operator=(const Fillers&) = delete;
  ~Fillers() {
    stopping_ = true;
    for (Filler& filler : fillers_) filler.wake.release();
    for (Filler& filler : fillers_) filler.thread.join();
  }
  // Requires: the caller owns the blocks, kThreads * kShare.
  void Fill(std::span<Block* const> blocks) {
    blocks_ = blocks;
    for (Filler& filler : fillers_) filler.wake.release();
    for (uint32_t i = 0; i < kThreads; ++i) filled_.acquire();
  }

 private:
  struct Filler {
    std::binary_semaphore wake{0};
    std::thread thread;
  };

  void Run(uint32_t i) {
    for (;;) {
      fillers_[i].wake.acquire();
      if (stopping_) return;
      for (Block* block : blocks_.subspan(i * kShare, kShare)) {
        ION_CHECK(pool_.Release(block), "the pool was not inherited");
      }
      filled_.release();
    }
  }

  Pool<Block>& pool_;
  bool stopping_ = false;
  std::span<Block* const> blocks_;
  std::array<Filler, kThreads> fillers_;
  std::counting_semaphore<kThreads> filled_{0};
};

// A thread that never sleeps.
class Awake {
 public:
  Awake()
      : thread_([this] {
          while (!stop_.load(std::memory_order_relaxed))
            ;
        }) {}
  Awake(const Awake&) = delete;
  Awake& operator=(const Awake&) = delete;
  ~Awake() {
    stop_.store(true, std::memory_order_relaxed);
    thread_.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Long enough for threads that have nothing more to do to be asleep.
inline void LetThemSleep(std::chrono::nanoseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end)
    ;
}

// A median, so that a drain that was preempted does not count. Real time: a thread's own is told
// by a system call, which costs as much as a part of a drain.
inline void TimeDrains(benchmark::State& state) {
  constexpr int kDrains = 101;
  constexpr uint32_t kHeld = Fillers::kThreads * Fillers::kShare;
  std::vector<Block> descriptors(kHeld);
  Result<Pool<Block>> pool = Pool<Block>::Create(descriptors, {.object_bytes = 4096});
  ION_CHECK(pool.ok(), "no memory for a pool of 512 blocks");
  std::vector<Block*> blocks;
  blocks.reserve(kHeld);
  for (Block& block : descriptors) blocks.push_back(&block);
  Fillers fillers(*pool);

  for (auto _ : state) {
    std::array<double, kDrains> seconds;
    for (double& drain : seconds) {
      fillers.Fill(blocks);
      blocks.clear();
      LetThemSleep(std::chrono::microseconds(50));
      const auto start = std::chrono::steady_clock::now();
      const uint32_t moved = pool->Drain();
      const auto end = std::chrono::steady_clock::now();
      ION_CHECK(moved == kHeld, "a magazine was left out");
      drain = std::chrono::duration<double>(end - start).count();
      pool->Shrink(0, [&](Block& block) { blocks.push_back(&block); });
    }
    std::nth_element(seconds.begin(), seconds.begin() + kDrains / 2, seconds.end());
    state.SetIterationTime(seconds[kDrains / 2]);
  }
}

inline void DrainAsleep(benchmark::State& state) { TimeDrains(state); }
inline void DrainAwake(benchmark::State& state) {
  const Awake awake;
  TimeDrains(state);
}

inline void RegisterPoolDrain() {
  benchmark::RegisterBenchmark("BM_PoolDrain/asleep", DrainAsleep)->UseManualTime()->Iterations(1);
  benchmark::RegisterBenchmark("BM_PoolDrain/awake", DrainAwake)->UseManualTime()->Iterations(1);
}

}  // namespace ion::bench

#endif  // ION_BENCH_POOL_DRAIN_H_
