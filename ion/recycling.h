// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/recycling.h
//
// What a Manager and a heap that recycles say to each other: whose memory may be given to whom
// again (PoolDomain), where the Manager keeps its blocks (PoolHost), and what lies in pools
// (PoolReport). The hooks themselves are in ion/heap.h; policies/pooled_heap.h is such a heap.
//
// Cost: plain data.
#ifndef ION_ION_RECYCLING_H_
#define ION_ION_RECYCLING_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "ion/block.h"
#include "ion/heap_id.h"

namespace ion {

// A trust domain, as pools know it: a slot of the Manager's table, which another domain may get
// when the last client of this one has gone. Slot 0 is nobody's: nothing is recycled for it.
struct PoolDomain {
  static constexpr uint16_t kSlots = 256;

  uint16_t slot = 0;
  bool as_is = false;  // its clients take memory with what the domain left in it
};

// Memory that was recycled, and the pool that its lease names. No block: there was none.
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

// One pool: blocks of one size, cached or not, of one trust domain. Sums over its life; exact while
// no call is under way.
struct PoolReport {
  HeapId heap;
  PoolDomain domain;
  bool open = false;  // the domain still has clients
  bool cached = false;
  uint64_t block_bytes = 0;
  uint64_t hits = 0;               // leases of memory that had been given back
  uint64_t misses = 0;             // leases of memory fresh from the kernel
  uint64_t held_bytes = 0;         // lies idle
  uint64_t quarantined_bytes = 0;  // was shared, and waits for proof
  uint64_t scrubs = 0;             // blocks zeroed
  uint64_t moves = 0;              // blocks that came from another domain's pool
  std::array<uint64_t, kGiveBacks> given_back_bytes{};  // by why
};

// Where the blocks of a Manager live, and how a heap has it forget one that lay in a pool: it is
// given back to the kernel by the heap's own Free.
struct PoolHost {
  std::span<Block> blocks;
  void* context = nullptr;
  void (*forget)(void* context, Block& block) noexcept = nullptr;
};

}  // namespace ion

#endif  // ION_ION_RECYCLING_H_
