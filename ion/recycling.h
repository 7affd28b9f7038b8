// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/recycling.h
//
// The types between a Manager and a recycler (ion/recycler.h): the trust domain of pools
// (PoolDomain), the bounds of idle memory (PoolBounds, HeapPools), the Manager's blocks (PoolHost),
// and the content of pools (PoolReport).
//
// Cost: plain data.
#ifndef ION_ION_RECYCLING_H_
#define ION_ION_RECYCLING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ion/base/known.h"
#include "ion/block.h"
#include "ion/heap_id.h"

namespace ion {

// A trust domain of pools: an index into the Manager's table of domains, reused after the domain's
// last client closes. Slot 0 is no domain: nothing is recycled for it.
struct PoolDomain {
  // As many as clients can be open in a process, the Manager's, and nobody's.
  static constexpr uint16_t kSlots = 1025;

  uint16_t slot = 0;
  bool as_is = false;  // its clients take memory of the domain unzeroed
  // The trust domain: two slots may be of one, as its clients differ in as_is. 0: it is alone.
  uint64_t trust = 0;
};

// Recycled memory, and the pool that its lease names. `block` is null if nothing suitable was idle.
struct PooledBlock {
  Block* block = nullptr;
  uint32_t pool = 0;
};

// Why memory of a pool went back to the kernel.
enum class GiveBack : uint8_t {
  kCapacity,   // more lay idle than the pools may hold
  kWatermark,  // more lay idle at a tick than the high watermark
  kAge,        // nobody needed it for too long
  kTrim,       // somebody asked for it
  kPressure,   // the machine was short of memory
  kShortage,   // an allocation failed: ENOMEM, ENFILE or EMFILE
  kRefused     // a block was not taken back: it was shared and not proven to be ours alone again,
               // its quarantine was full, or it could not be scrubbed
};
inline constexpr size_t kGiveBacks = 7;

constexpr std::string_view GiveBackName(GiveBack why) noexcept {
  constexpr std::array<std::string_view, kGiveBacks> kNames{
      "capacity", "watermark", "age", "trim", "pressure", "shortage", "refused"};
  return kNames[static_cast<size_t>(why)];
}

// One pool: blocks of one size, caching and trust domain. Sums over its life; exact while
// no call is under way.
struct PoolReport {
  HeapId heap;
  PoolDomain domain;
  bool open = false;  // the domain still has clients
  Known cached = {};
  uint64_t block_bytes = 0;
  uint64_t hits = 0;               // leases of memory that had been given back
  uint64_t misses = 0;             // leases of memory fresh from the kernel
  uint64_t held_bytes = 0;         // lies idle
  uint64_t quarantined_bytes = 0;  // was shared, and waits for proof
  uint64_t scrubs = 0;             // blocks zeroed
  uint64_t moves = 0;              // blocks that came from another domain's pool
  std::array<uint64_t, kGiveBacks> given_back_bytes{};  // by why
};

// How much idle memory the pools of one heap keep. Each bound is explained in
// policies/recycling/pool_spec.h.
struct PoolBounds {
  uint64_t capacity_bytes = 0;   // 0, here or in blocks: no pools
  uint32_t capacity_blocks = 0;  // each holds a file descriptor
  uint64_t high_bytes = 0;
  uint64_t low_bytes = 0;
};

// Bounds of one heap's pools that are set when a Manager opens (ManagerOptions::pools). None may be
// above that of the heap's PoolSpec. One that is left out is the PoolSpec's; but the high watermark
// is at most half of a smaller capacity, and the low one half of a smaller high one. The quarantine
// and the threads' magazines keep their bounds.
struct HeapPools {
  HeapId heap;
  std::optional<uint64_t> capacity_bytes = {};
  std::optional<uint32_t> capacity_blocks = {};
  std::optional<uint64_t> high_bytes = {};
  std::optional<uint64_t> low_bytes = {};
};

// The Manager's blocks, and a function that makes it forget a pool's block, whose memory the heap's
// own Free gives back to the kernel; and the bounds of the heap's pools, none above the recycler's
// ceiling.
struct PoolHost {
  std::span<Block> blocks;
  void* context = nullptr;
  void (*forget)(void* context, Block& block) noexcept = nullptr;
  PoolBounds bounds = {};
};

}  // namespace ion

#endif  // ION_ION_RECYCLING_H_
