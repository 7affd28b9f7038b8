// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/exchanges.h
//
// What the contenders go through (bench/contender.h):
//
//   BM_<Type>Hot           acquire a block, touch it, release it
//   BM_<Type>Burst/32      acquire 32 and touch them, release 32; the time is of one
//   BM_<Type>HandOver/read, /write
//                          even threads acquire, touch and send, odd threads receive, touch and
//                          release. What they touch is read only, or written by the first. The
//                          time is of one iteration of one thread, waiting included; so with two
//                          threads it is the time from one block to the next.
#ifndef ION_BENCH_EXCHANGES_H_
#define ION_BENCH_EXCHANGES_H_

#include <benchmark/benchmark.h>
#include <sched.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/contender.h"
#include "bench/pinned.h"
#include "bench/spsc_ring.h"

namespace ion::bench {

// What one run works on; made before its threads start, and gone after they ended.
template <Contender C>
struct Stage {
  std::vector<Block> blocks{kBlocks};
  C contender{blocks};
  SpscRing rings[8];

  static inline std::unique_ptr<Stage> current;
  static void SetUp(const benchmark::State&) { current = std::make_unique<Stage>(); }
  static void TearDown(const benchmark::State&) { current.reset(); }
};

enum class Touch { kRead, kWrite };

template <Touch kTouch>
[[gnu::always_inline]] inline void TouchBlock(Block* block) {
  if constexpr (kTouch == Touch::kWrite) ++block->cookie;
  asm volatile("" : : "r"(block->fd), "r"(block) : "memory");
}

// Waits for the other side of a ring: it may need our processor.
class Patience {
 public:
  void Wait() {
    if (++waited_ % 256 == 0) {
      ::sched_yield();
    } else {
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
  }

 private:
  uint32_t waited_ = 0;
};

template <Contender C>
void Hot(benchmark::State& state) {
  const Pinned pinned(state);
  C& contender = Stage<C>::current->contender;
  typename C::Thread thread(contender, state.thread_index());
  for (auto _ : state) {
    Block* block = contender.Acquire(thread);
    if (block == nullptr) [[unlikely]] {
      state.SkipWithError("there was no block");
      break;
    }
    TouchBlock<Touch::kWrite>(block);
    contender.Release(thread, block);
  }
}

template <Contender C>
void Burst(benchmark::State& state) {
  constexpr int kBurst = 32;
  const Pinned pinned(state);
  C& contender = Stage<C>::current->contender;
  typename C::Thread thread(contender, state.thread_index());
  Block* blocks[kBurst];
  while (state.KeepRunningBatch(kBurst)) {
    for (Block*& block : blocks) {
      block = contender.Acquire(thread);
      if (block == nullptr) [[unlikely]] {
        state.SkipWithError("there was no block");
        return;
      }
      TouchBlock<Touch::kWrite>(block);
    }
    for (Block* block : blocks) contender.Release(thread, block);
  }
}

template <Contender C, Touch kTouch>
void HandOver(benchmark::State& state) {
  const Pinned pinned(state);
  Stage<C>& stage = *Stage<C>::current;
  C& contender = stage.contender;
  typename C::Thread thread(contender, state.thread_index());
  SpscRing& ring = stage.rings[state.thread_index() / 2];
  Patience patience;
  if (state.thread_index() % 2 == 0) {
    for (auto _ : state) {
      Block* block;
      while ((block = contender.Acquire(thread)) == nullptr) patience.Wait();
      TouchBlock<kTouch>(block);
      while (!ring.Push(block)) patience.Wait();
    }
  } else {
    for (auto _ : state) {
      Block* block;
      while ((block = ring.Pop()) == nullptr) patience.Wait();
      TouchBlock<Touch::kRead>(block);
      contender.Release(thread, block);
    }
  }
}

template <Contender C>
void RegisterStaged(const std::string& name, void (*run)(benchmark::State&),
                    std::initializer_list<int> thread_counts) {
  for (const int threads : thread_counts) {
    benchmark::RegisterBenchmark(name.c_str(), run)
        ->Setup(Stage<C>::SetUp)
        ->Teardown(Stage<C>::TearDown)
        ->Threads(threads);
  }
}

template <Contender C>
void RegisterHandOver(const std::string& type) {
  for (const int threads : {2, 4}) {
    if (threads > 2 && !C::kOversubscribed) break;
    RegisterStaged<C>("BM_" + type + "HandOver/read", HandOver<C, Touch::kRead>, {threads});
    RegisterStaged<C>("BM_" + type + "HandOver/write", HandOver<C, Touch::kWrite>, {threads});
  }
}

template <Contender C>
void RegisterOwn(const std::string& type) {
  RegisterStaged<C>("BM_" + type + "Hot", Hot<C>, {1, 2, 4, 16});
  RegisterStaged<C>("BM_" + type + "Burst/32", Burst<C>, {1, 2});
}

template <Contender C>
void RegisterExchanges(const std::string& type) {
  RegisterOwn<C>(type);
  RegisterHandOver<C>(type);
}

// In place of a contender that this program was built without.
inline void RegisterMissing(const std::string& type, const std::string& package) {
  const auto missing = [package](benchmark::State& state) {
    state.SkipWithError(("missing: install the Debian package " + package).c_str());
  };
  for (const auto& [exchange, threads] :
       {std::pair("Hot", 1), std::pair("Burst/32", 1), std::pair("HandOver/read", 2)}) {
    benchmark::RegisterBenchmark(("BM_" + type + exchange).c_str(), missing)->Threads(threads);
  }
}

}  // namespace ion::bench

#endif  // ION_BENCH_EXCHANGES_H_
