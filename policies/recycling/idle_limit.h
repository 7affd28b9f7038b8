// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/idle_limit.h
//
// IdleLimit: counts the idle bytes in the pools of a heap, with the room that threads have for
// large blocks, used or not, and chooses the blocks that go back first: those that wait to be
// zeroed; then those in depots of closed domains; then those of the fullest depots. It takes blocks
// out a few at a time (IdleSlice): the caller gives them back to the kernel, by system calls,
// without the heap's mutex, and calls again.
//
// Not for users.
//
// Cost: a look at each pool. Under the heap's mutex.
#ifndef ION_POLICIES_RECYCLING_IDLE_LIMIT_H_
#define ION_POLICIES_RECYCLING_IDLE_LIMIT_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "ion/block.h"
#include "ion/policies/recycling/pool_directory.h"

namespace ion::internal {

struct IdleAmount {
  uint64_t bytes = 0;
  uint64_t blocks = 0;
};

// Blocks on their way to the kernel.
struct IdleSlice {
  static constexpr uint32_t kMost = 16;

  std::array<Block*, kMost> at;
  uint32_t count = 0;
};

// Waiting: a Quarantine whose blocks wait to be zeroed.
template <class Directory, class Waiting>
class IdleLimit {
 public:
  using Entry = typename Directory::Entry;

  IdleLimit(Directory& pools, Waiting& waiting) noexcept : pools_(pools), waiting_(waiting) {}

  IdleAmount Idle() noexcept {
    IdleAmount idle{waiting_.bytes() + pools_.near().bytes(),
                    waiting_.count() + pools_.near().objects()};
    pools_.ForEach([&](Entry& entry) {
      const uint32_t depth = entry.pool->depth();
      idle.bytes += depth * entry.block_bytes;
      idle.blocks += depth;
    });
    return idle;
  }

  // Takes out what goes first, no more than is needed for `amount`, and no more than a slice.
  // Returns how much it is.
  uint64_t Take(uint64_t amount, uint64_t IdleAmount::*unit, IdleSlice& slice) noexcept {
    uint64_t taken = 0;
    while (taken < amount && slice.count < IdleSlice::kMost) {
      Block* const oldest = waiting_.Take([](const Block&, uint64_t) { return true; });
      if (oldest == nullptr) break;
      taken += OneOf(pools_.EntryOf(*oldest)).*unit;
      Add(*oldest, slice);
    }
    while (taken < amount && slice.count < IdleSlice::kMost) {
      Entry* const fullest = Fullest(unit);
      if (fullest == nullptr) break;
      const uint64_t one = OneOf(*fullest).*unit;
      const uint64_t wanted = (amount - taken - 1) / one + 1;
      const uint32_t got = TakeFrom(*fullest, wanted, slice);
      if (got == 0) break;  // others took it meanwhile
      taken += got * one;
    }
    return taken;
  }

  // Takes up to `wanted` from the depot of a pool. Returns how many.
  static uint32_t TakeFrom(Entry& entry, uint64_t wanted, IdleSlice& slice) noexcept {
    const auto most =
        static_cast<uint32_t>(std::min<uint64_t>(wanted, IdleSlice::kMost - slice.count));
    return entry.pool->Take(most, [&](Block& block) { Add(block, slice); });
  }

 private:
  static void Add(Block& block, IdleSlice& slice) noexcept {
    block.Mark(Block::kLeaving);
    slice.at[slice.count++] = &block;
  }
  static IdleAmount OneOf(const Entry& entry) noexcept { return {entry.block_bytes, 1}; }

  Entry* Fullest(uint64_t IdleAmount::*unit) noexcept {
    Entry* fullest = nullptr;
    uint64_t most = 0;
    pools_.ForEach([&](Entry& entry) {
      uint64_t lies = entry.pool->depth() * (OneOf(entry).*unit);
      if (lies != 0 && entry.state == Entry::kClosed) lies |= uint64_t{1} << 63;
      if (lies <= most) return;
      most = lies;
      fullest = &entry;
    });
    return fullest;
  }

  Directory& pools_;
  Waiting& waiting_;
};

}  // namespace ion::internal

#endif  // ION_POLICIES_RECYCLING_IDLE_LIMIT_H_
