// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/boost_lockfree.h
//
// boost::lockfree's stack and queue, of fixed size: a tagged index and a compare-exchange for each
// operation (the queue: two or three).
#ifndef ION_BENCH_BOOST_LOCKFREE_H_
#define ION_BENCH_BOOST_LOCKFREE_H_

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/stack.hpp>
#include <span>

#include "bench/contender.h"
#include "ion/base/check.h"

namespace ion::bench {

template <class Container>
class BoostLockfree {
 public:
  static constexpr bool kOversubscribed = true;
  using Thread = NoThread;

  explicit BoostLockfree(std::span<Block> blocks) {
    for (Block& block : blocks) Put(&block);
  }
  Block* Acquire(Thread&) {
    Block* block;
    return container_.pop(block) ? block : nullptr;
  }
  void Release(Thread&, Block* block) { Put(block); }

 private:
  void Put(Block* block) {
    ION_CHECK(container_.bounded_push(block), "more blocks than there are");
  }

  Container container_;
};

using BoostCapacity = boost::lockfree::capacity<2 * kBlocks>;
using BoostStack = BoostLockfree<boost::lockfree::stack<Block*, BoostCapacity>>;
using BoostQueue = BoostLockfree<boost::lockfree::queue<Block*, BoostCapacity>>;

}  // namespace ion::bench

#endif  // ION_BENCH_BOOST_LOCKFREE_H_
