// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/sleeper.h
//
// Sleeper: a second thread of the process, asleep while it lives. In a process of one thread the C
// library's mutexes, and the reference counts of its allocator, cost next to nothing.
#ifndef ION_BENCH_SLEEPER_H_
#define ION_BENCH_SLEEPER_H_

#include <semaphore>
#include <thread>

namespace ion::bench {

class Sleeper {
 public:
  Sleeper() : thread_([this] { wake_.acquire(); }) {}
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper() {
    wake_.release();
    thread_.join();
  }

 private:
  std::binary_semaphore wake_{0};
  std::thread thread_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_SLEEPER_H_
