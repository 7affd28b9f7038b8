// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool_spec.h
//
// PoolSpec: how much a PooledHeap keeps, for how long, and when it zeroes. A template argument, so
// that what contradicts itself does not compile.
//
// Example:
//   ion::PooledHeap<ion::SystemHeap<B>, ion::PoolSpec{.capacity_bytes = 32_MiB, .high_bytes =
//   16_MiB, .low_bytes = 8_MiB}>
#ifndef ION_POLICIES_POOL_SPEC_H_
#define ION_POLICIES_POOL_SPEC_H_

#include <cstdint>

namespace ion {

// When memory is zeroed whose next user must not see what the last one left.
enum class Scrub : uint8_t {
  kOnAllocate,  // by who gets it, who will have it in the caches
  kOnFree,      // by who gives it back; an allocation then takes nanoseconds
  kBackground   // in Manager::Tick, which a Keeper calls; where it was not done yet, by who gets it
};

struct PoolSpec {
  // What may lie idle, in bytes, beside what a thread has at hand (at most 1 MiB of a pool; drained
  // whenever memory is short) and what waits for proof. Past it a release gives memory back at
  // once. 0, here or in blocks: no pools.
  uint64_t capacity_bytes = uint64_t{256} << 20;
  // The same in blocks, as each holds a file descriptor of the process, which usually has 1024 of
  // them. Past it memory goes back until half as many lie idle.
  uint32_t capacity_blocks = 512;
  // Where more than `high` lies idle at a tick, memory goes back until no more than `low` does.
  uint64_t high_bytes = uint64_t{128} << 20;
  uint64_t low_bytes = uint64_t{64} << 20;
  // What nobody needed for so many ticks goes back: the whole of it within twice as many.
  uint32_t age_ticks = 4;
  // A request may get a block of so much of its own size class: 100 means its own class only.
  uint32_t most_percent = 150;
  // Larger requests are not recycled.
  uint64_t largest_bytes = uint64_t{64} << 20;
  // What waits for proof that nobody else holds it.
  uint32_t quarantine_blocks = 32;
  uint64_t quarantine_bytes = uint64_t{64} << 20;
  Scrub scrub = Scrub::kOnAllocate;
};

// Scattered memory: as above. Contiguous memory is scarce.
inline constexpr PoolSpec kUsualPools = {};
inline constexpr PoolSpec kScarcePools = {.capacity_bytes = 32 << 20,
                                          .capacity_blocks = 128,
                                          .high_bytes = 16 << 20,
                                          .low_bytes = 0,
                                          .age_ticks = 2,
                                          .most_percent = 125,
                                          .largest_bytes = 16 << 20,
                                          .quarantine_blocks = 8,
                                          .quarantine_bytes = 16 << 20};

}  // namespace ion

#endif  // ION_POLICIES_POOL_SPEC_H_
