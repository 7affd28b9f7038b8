// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/sync_counts.h
//
// SyncCounts: how many begins and ends of CPU access the kernel was told of for a buffer, and how
// many were left out. SharedSyncCounts are those of one buffer, for reports of other threads.
//
// Cost: a SharedSyncCounts stores four numbers, and locks nothing.
#ifndef ION_ION_SYNC_COUNTS_H_
#define ION_ION_SYNC_COUNTS_H_

#include <atomic>
#include <cstdint>

namespace ion {

struct SyncCounts {
  uint64_t begins = 0;         // sent
  uint64_t ends = 0;           // sent
  uint64_t elided_begins = 0;  // scopes that were opened without one
  uint64_t elided_ends = 0;    // scopes that were closed without one, then or later

  constexpr SyncCounts& operator+=(const SyncCounts& more) noexcept {
    begins += more.begins;
    ends += more.ends;
    elided_begins += more.elided_begins;
    elided_ends += more.elided_ends;
    return *this;
  }
  friend constexpr bool operator==(const SyncCounts&, const SyncCounts&) = default;
};

// One thread at a time sets them; any thread reads them, each number by itself.
class SharedSyncCounts {
 public:
  void Set(const SyncCounts& now) noexcept {
    begins_.store(now.begins, std::memory_order_relaxed);
    ends_.store(now.ends, std::memory_order_relaxed);
    elided_begins_.store(now.elided_begins, std::memory_order_relaxed);
    elided_ends_.store(now.elided_ends, std::memory_order_relaxed);
  }
  SyncCounts Get() const noexcept {
    return {.begins = begins_.load(std::memory_order_relaxed),
            .ends = ends_.load(std::memory_order_relaxed),
            .elided_begins = elided_begins_.load(std::memory_order_relaxed),
            .elided_ends = elided_ends_.load(std::memory_order_relaxed)};
  }

 private:
  std::atomic<uint64_t> begins_{0}, ends_{0}, elided_begins_{0}, elided_ends_{0};
};

}  // namespace ion

#endif  // ION_ION_SYNC_COUNTS_H_
