// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/pool_spec.h
//
// PoolSpec: how much a PoolRecycler keeps, for how long, and when it zeroes. A template argument, so
// that what contradicts itself does not compile. Its capacities and watermarks are also the ceiling
// of those that a program sets when it opens a Manager (ManagerOptions::pools).
//
// Example:
//   constexpr ion::PoolSpec kBounds{
//       .capacity_bytes = 32_MiB, .high_bytes = 16_MiB, .low_bytes = 8_MiB};
//   using Recycled = ion::Pooled<ion::System, kBounds>;
#ifndef ION_POLICIES_RECYCLING_POOL_SPEC_H_
#define ION_POLICIES_RECYCLING_POOL_SPEC_H_

#include <cstdint>

namespace ion {

// The time at which memory is zeroed if its next user must not see the bytes of the last one.
enum class Scrub : uint8_t {
  kOnAllocate,  // by the allocating thread, whose caches then hold it
  kOnFree,      // by the releasing thread; an allocation then takes nanoseconds
  kBackground   // in Manager::Tick, which a Reclaimer calls; else by the allocating thread
};

struct PoolSpec {
  // Maximum idle bytes. Blocks of up to 1 MiB at a thread's hand (at most 1 MiB per pool and thread;
  // taken back if memory is short) and the quarantine are not counted. Larger blocks at threads'
  // hands are, by the room for them, which is half of this at most. Above it, a release frees what is
  // too much. 0, here or in blocks: no pools.
  uint64_t capacity_bytes = uint64_t{256} << 20;
  // The same in blocks, as each holds a file descriptor of the process, which usually has 1024 of
  // them.
  uint32_t capacity_blocks = 512;
  // If more than `high` lies idle at a tick, memory goes back until no more than `low` does.
  uint64_t high_bytes = uint64_t{128} << 20;
  uint64_t low_bytes = uint64_t{64} << 20;
  // Memory that was not needed for this number of ticks goes back, all of it within twice as many.
  uint32_t age_ticks = 4;
  // A request may get a block of so much of its own size class: 100 means its own class only.
  uint32_t most_percent = 150;
  // Larger requests are not recycled.
  uint64_t largest_bytes = uint64_t{64} << 20;
  // Blocks that may wait for the proof that nothing else holds them.
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

#endif  // ION_POLICIES_RECYCLING_POOL_SPEC_H_
