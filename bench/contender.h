// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/contender.h
//
// What every contender of the pool is: something that has blocks to acquire and release.
//
//   struct C {
//     static constexpr bool kOversubscribed;      // false: stalls where its threads outnumber the
//     processors explicit C(std::span<ion::Block> blocks);   // all of them lie in it struct Thread
//     { Thread(C&, int index); };   // what one thread brings along ion::Block* Acquire(Thread&);
//     // nullptr: none void Release(Thread&, ion::Block*);
//   };
//
// A file per contender; bench/exchanges.h is what they go through.
#ifndef ION_BENCH_CONTENDER_H_
#define ION_BENCH_CONTENDER_H_

#include <concepts>
#include <cstdint>
#include <span>

#include "ion/block.h"

namespace ion::bench {

// Enough for 16 threads that keep 32 each.
inline constexpr uint32_t kBlocks = 512;

template <class C>
concept Contender = std::constructible_from<C, std::span<Block>> &&
                    std::constructible_from<typename C::Thread, C&, int> &&
                    requires(C& contender, typename C::Thread& thread, Block* block) {
                      { C::kOversubscribed } -> std::convertible_to<bool>;
                      { contender.Acquire(thread) } -> std::same_as<Block*>;
                      contender.Release(thread, block);
                    };

// For contenders whose threads bring nothing along.
struct NoThread {
  template <class C>
  NoThread(C&, int) {}
};

}  // namespace ion::bench

#endif  // ION_BENCH_CONTENDER_H_
