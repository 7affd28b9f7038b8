// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/spsc_ring.h
//
// SpscRing: how one thread hands blocks to one other. As a contender, BareRing: blocks that go
// round in order and are never given back, so that a hand-over costs the ring alone.
#ifndef ION_BENCH_SPSC_RING_H_
#define ION_BENCH_SPSC_RING_H_

#include <atomic>
#include <cstdint>
#include <span>

#include "bench/contender.h"

namespace ion::bench {

class SpscRing {
 public:
  static constexpr uint32_t kSlots = 64;

  bool Push(Block* block) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == kSlots) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == kSlots) return false;
    }
    slots_[tail % kSlots] = block;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  Block* Pop() {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) {
      tail_seen_ = tail_.load(std::memory_order_acquire);
      if (head == tail_seen_) return nullptr;
    }
    Block* block = slots_[head % kSlots];
    head_.store(head + 1, std::memory_order_release);
    return block;
  }

 private:
  // Two lines apart: some processors fetch lines in pairs.
  alignas(128) std::atomic<uint32_t> tail_{0};
  uint32_t head_seen_ = 0;  // the producer's
  alignas(128) std::atomic<uint32_t> head_{0};
  uint32_t tail_seen_ = 0;  // the consumer's
  alignas(128) Block* slots_[kSlots];
};

class BareRing {
 public:
  static constexpr bool kOversubscribed = true;

  explicit BareRing(std::span<Block> blocks) : blocks_(blocks) {}
  // A pair of threads has twice what its ring can hold.
  struct Thread {
    Thread(BareRing& ring, int index) : blocks(ring.blocks_.subspan(index / 2 * kShare, kShare)) {}
    std::span<Block> blocks;
    uint32_t next = 0;
  };
  Block* Acquire(Thread& thread) { return &thread.blocks[thread.next++ % kShare]; }
  void Release(Thread&, Block*) {}

 private:
  static constexpr uint32_t kShare = 2 * SpscRing::kSlots;
  std::span<Block> blocks_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_SPSC_RING_H_
