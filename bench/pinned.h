// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pinned.h
//
// Pinned: binds the thread of a benchmark to a processor while it lives, where there is one for
// each thread. More threads than processors are left to the scheduler.
#ifndef ION_BENCH_PINNED_H_
#define ION_BENCH_PINNED_H_

#include <benchmark/benchmark.h>
#include <sched.h>

namespace ion::bench {

class Pinned {
 public:
  explicit Pinned(const benchmark::State& state) {
    ::sched_getaffinity(0, sizeof(before_), &before_);
    if (state.threads() > CPU_COUNT(&before_)) return;
    int wanted = state.thread_index();
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_) || wanted-- > 0) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      ::sched_setaffinity(0, sizeof(one), &one);
      return;
    }
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { ::sched_setaffinity(0, sizeof(before_), &before_); }

 private:
  cpu_set_t before_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_PINNED_H_
