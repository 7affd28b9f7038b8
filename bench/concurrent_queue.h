// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/concurrent_queue.h
//
// moodycamel::ConcurrentQueue, with a producer's and a consumer's token for each thread.
#ifndef ION_BENCH_CONCURRENT_QUEUE_H_
#define ION_BENCH_CONCURRENT_QUEUE_H_

#include <concurrentqueue/concurrentqueue.h>

#include <span>

#include "bench/contender.h"

namespace ion::bench {

class ConcurrentQueue {
 public:
  static constexpr bool kOversubscribed = true;

  explicit ConcurrentQueue(std::span<Block> blocks) : queue_(2 * blocks.size()) {
    for (Block& block : blocks) queue_.enqueue(&block);
  }
  struct Thread {
    Thread(ConcurrentQueue& queue, int) : producer(queue.queue_), consumer(queue.queue_) {}
    moodycamel::ProducerToken producer;
    moodycamel::ConsumerToken consumer;
  };
  Block* Acquire(Thread& thread) {
    Block* block;
    return queue_.try_dequeue(thread.consumer, block) ? block : nullptr;
  }
  void Release(Thread& thread, Block* block) { queue_.enqueue(thread.producer, block); }

 private:
  moodycamel::ConcurrentQueue<Block*> queue_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_CONCURRENT_QUEUE_H_
