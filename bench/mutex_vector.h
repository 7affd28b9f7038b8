// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/mutex_vector.h
//
// A vector under a std::mutex: what is written when nobody has measured.
#ifndef ION_BENCH_MUTEX_VECTOR_H_
#define ION_BENCH_MUTEX_VECTOR_H_

#include <mutex>
#include <span>
#include <vector>

#include "bench/contender.h"

namespace ion::bench {

class MutexVector {
 public:
  static constexpr bool kOversubscribed = true;
  using Thread = NoThread;

  explicit MutexVector(std::span<Block> blocks) {
    for (Block& block : blocks) blocks_.push_back(&block);
  }
  Block* Acquire(Thread&) {
    std::lock_guard lock(mutex_);
    if (blocks_.empty()) return nullptr;
    Block* block = blocks_.back();
    blocks_.pop_back();
    return block;
  }
  void Release(Thread&, Block* block) {
    std::lock_guard lock(mutex_);
    blocks_.push_back(block);
  }

 private:
  std::mutex mutex_;
  std::vector<Block*> blocks_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_MUTEX_VECTOR_H_
