// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/tls_array.h
//
// A thread-local array of pointers: the least that recycling on one thread can cost. Nothing ever
// crosses between threads, and nothing can be drained.
#ifndef ION_BENCH_TLS_ARRAY_H_
#define ION_BENCH_TLS_ARRAY_H_

#include <cstdint>
#include <span>

#include "bench/contender.h"
#include "ion/base/check.h"

namespace ion::bench {

class TlsArray {
 public:
  static constexpr bool kOversubscribed = true;

  explicit TlsArray(std::span<Block> blocks) : blocks_(blocks) {}
  // Takes the thread's share, which is all that it will ever have.
  struct Thread {
    Thread(TlsArray& array, int index) {
      slots.count = 0;
      for (Block& block : array.blocks_.subspan(index * kShare, kShare))
        array.Release(*this, &block);
    }
  };
  Block* Acquire(Thread&) {
    if (slots.count == 0) [[unlikely]]
      return nullptr;
    return slots.block[--slots.count];
  }
  void Release(Thread&, Block* block) {
    ION_CHECK(slots.count < kSlots, "more blocks than there are");
    slots.block[slots.count++] = block;
  }

 private:
  static constexpr uint32_t kShare = kBlocks / 16;
  static constexpr uint32_t kSlots = 63;
  struct Slots {
    uint64_t count;
    Block* block[kSlots];
  };
  static inline constinit thread_local Slots slots = {};

  std::span<Block> blocks_;
};

}  // namespace ion::bench

#endif  // ION_BENCH_TLS_ARRAY_H_
