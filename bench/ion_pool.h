// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/ion_pool.h
//
// ion::Pool, as a contender.
#ifndef ION_BENCH_ION_POOL_H_
#define ION_BENCH_ION_POOL_H_

#include <span>
#include <utility>

#include "bench/contender.h"
#include "ion/base/check.h"
#include "ion/policies/pool/pool.h"

namespace ion::bench {

class IonPool {
 public:
  static constexpr bool kOversubscribed = true;
  using Thread = NoThread;

  explicit IonPool(std::span<Block> blocks) : pool_(Create(blocks)) {
    for (Block& block : blocks) ION_CHECK(pool_.Release(&block), "a pool that was not inherited");
    // What the main thread's magazine kept is for all.
    pool_.Drain();
  }
  Block* Acquire(Thread&) { return pool_.Acquire(); }
  void Release(Thread&, Block* block) {
    ION_CHECK(pool_.Release(block), "a pool that was not inherited");
  }

 private:
  static Pool<Block> Create(std::span<Block> blocks) {
    Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {.object_bytes = 4096});
    ION_CHECK(pool.ok(), "no memory for a pool of 512 blocks");
    return std::move(*pool);
  }

  Pool<Block> pool_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_ION_POOL_H_
