// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/cpu_sync.h
//
// CpuSync decides which begins and ends of nested scopes the kernel must be told of. The kernel
// keeps no count: each begin for reading may discard the caches' content (arm64 invalidates), each
// end for writing cleans them. So:
//   - a scope that an open one covers sends nothing;
//   - reading inside an open write first ends the write (or its bytes would be lost by the
//     invalidation), then begins both;
//   - an end for reading waits while a write is open (older kernels invalidate on it, too);
//   - no end is sent without its begin: if a begin failed half way, the next end begins first.
//
// Cost: 6 bytes per block, a few instructions a scope. Not thread-safe: a buffer's scopes are
// opened and closed by one thread at a time.
#ifndef ION_ION_CPU_SYNC_H_
#define ION_ION_CPU_SYNC_H_

#include <cstdint>
#include <limits>

#include "ion/base/check.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"

namespace ion {

class CpuSync {
 public:
  // Opens a scope. `begin` and `end` take a Direction, tell the kernel, and return an Error. On an
  // error no scope was opened, and those that were open can still be closed.
  template <class BeginFn, class EndFn>
  Error Open(Direction direction, BeginFn begin, EndFn end) noexcept {
    uint8_t missing = Bits(direction) & ~started_;
    if ((missing & kRead) != 0 && writers_ != 0) {
      if (Error error = Clean(begin, end); !error.ok()) return error;
      missing = kRead | kWrite;
    }
    if (missing != 0) {
      if (Error error = begin(static_cast<Direction>(missing)); !error.ok()) return error;
      started_ |= missing;
    }
    OpenUntold(direction);
    return {};
  }
  // Opens a scope of memory whose accesses the kernel is never told.
  void OpenUntold(Direction direction) noexcept {
    ION_CHECK(readers_ < kMost && writers_ < kMost, "65535 CPU scopes are open on one buffer");
    readers_ = static_cast<uint16_t>(readers_ + Reads(direction));
    writers_ = static_cast<uint16_t>(writers_ + Writes(direction));
  }

  // Closes a scope; it is closed even where the kernel refuses, so that nothing is ended twice.
  template <class BeginFn, class EndFn>
  Error Close(Direction direction, BeginFn begin, EndFn end) noexcept {
    CloseUntold(direction);
    if (writers_ != 0) return {};
    if (Writes(direction) && (started_ & kWrite) == 0) return Clean(begin, end);
    const uint8_t ending = started_ & (readers_ == 0 ? kRead | kWrite : kWrite);
    if (ending == 0) return {};
    started_ &= static_cast<uint8_t>(~ending);
    return end(static_cast<Direction>(ending));
  }

  // Closes a scope that OpenUntold opened.
  void CloseUntold(Direction direction) noexcept {
    readers_ = static_cast<uint16_t>(readers_ - Reads(direction));
    writers_ = static_cast<uint16_t>(writers_ - Writes(direction));
  }

  // True if a CPU access is open.
  bool open() const noexcept { return readers_ != 0 || writers_ != 0; }
  // The most that Open of this direction begins.
  Direction MayBegin(Direction direction) const noexcept {
    return writers_ != 0 ? Direction::kReadWrite : direction;
  }

 private:
  static constexpr uint8_t kRead = 1, kWrite = 2;
  static constexpr uint16_t kMost = std::numeric_limits<uint16_t>::max();
  static constexpr uint8_t Bits(Direction d) noexcept { return static_cast<uint8_t>(d); }

  // Makes what was written so far safe from an invalidation.
  template <class BeginFn, class EndFn>
  Error Clean(BeginFn begin, EndFn end) noexcept {
    if ((started_ & kWrite) == 0) {
      if (Error error = begin(Direction::kWrite); !error.ok()) return error;
    }
    started_ &= static_cast<uint8_t>(~kWrite);
    return end(Direction::kWrite);
  }

  uint16_t readers_ = 0;
  uint16_t writers_ = 0;
  uint8_t started_ = 0;  // directions that the kernel was told to begin, and not yet to end
};
static_assert(sizeof(CpuSync) == 6);

}  // namespace ion

#endif  // ION_ION_CPU_SYNC_H_
