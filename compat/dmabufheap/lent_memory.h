// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/dmabufheap/lent_memory.h
//
// LentMemory: a Manager whose buffers leave as plain descriptors, of which nobody tells when they
// are closed. The memory waits in the pools' quarantine, with a descriptor of ours, until the
// kernel proves that nobody else has it, and is zeroed before it is given out again; if the proof
// is none (memfd, Linux 5.10), or the quarantine is full, we let go of it at once, and it lives as
// long as the descriptors of others.
//
// Bounds: kLentPools. They are looked at when memory is taken: each Take examines at most four
// waiting buffers, and once a second all of them, and gives back what is old; all is given back if
// less than a tenth of the machine's memory is available, or the kernel has none for a Take.
//
// Cost: two system calls beside the pools' own. Thread-safe.
#ifndef ION_COMPAT_DMABUFHEAP_LENT_MEMORY_H_
#define ION_COMPAT_DMABUFHEAP_LENT_MEMORY_H_

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/memory_info.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_classes.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"

namespace ion::compat {

// Arbitrary: a few frames. Each waiting or idle buffer holds a descriptor of the process.
inline constexpr PoolSpec kLentPools = {.capacity_bytes = 32 << 20,
                                        .capacity_blocks = 32,
                                        .high_bytes = 16 << 20,
                                        .low_bytes = 8 << 20,
                                        .age_ticks = 4,
                                        .most_percent = 100,
                                        .largest_bytes = 16 << 20,
                                        .quarantine_blocks = 32,
                                        .quarantine_bytes = 32 << 20};

// kName: of the kernel's heap; empty: its first scattered one.
template <Backend B, HeapName kName = HeapName()>
class LentMemory {
  static constexpr HeapSpec kPooled{.id = 0, .name = kName};
  // For sizes that are no size class of the pools: a descriptor tells its size, which is to be what
  // was asked for.
  static constexpr HeapSpec kPlain{.id = 1, .name = kName};

 public:
  using Memory = Manager<B, Pooled<SystemOf<kPooled>, kLentPools>, SystemOf<kPlain>>;

  // Errors: as Manager::Open.
  static absl::StatusOr<std::unique_ptr<LentMemory>> Open(const typename B::Options& options) {
    absl::StatusOr<Memory> opened = Memory::Open(options);
    if (!opened.ok()) return opened.status();
    auto client = opened->CreateClient({.name = "libdmabufheap"});
    if (!client.ok()) return client.status();
    return std::make_unique<LentMemory>(*std::move(opened), *std::move(client));
  }
  // Not for users: Open.
  LentMemory(Memory&& opened, typename Memory::Client&& created) noexcept
      : memory_(std::move(opened)), client_(std::move(created)) {}

  // A descriptor of `bytes` of zeroed memory, rounded up to pages; or a negative errno.
  template <class Sys>
  int Take(uint64_t bytes, const Sys& sys) {
    TickAtTimes(sys);
    const uint64_t whole = RoundUpToPages(bytes);
    const bool pooled = whole != 0 && PoolClasses::Bytes(PoolClasses::Of(whole)) == whole;
    absl::StatusOr<Buffer> lease = client_.Allocate(
        {.bytes = bytes, .heaps = pooled ? kPooled.id : kPlain.id, .name = "system"});
    if (!lease.ok()) return -CodeOf(lease.status());
    const absl::StatusOr<Handle> handle = client_.MakeHandle(*std::move(lease));
    if (!handle.ok()) return -CodeOf(handle.status());
    absl::StatusOr<UniqueFd> fd = client_.Share(*handle);
    client_.Free(*handle).IgnoreError();
    return fd.ok() ? fd->release() : -CodeOf(fd.status());
  }
  Memory& memory() noexcept { return memory_; }

 private:
  static uint64_t RoundUpToPages(uint64_t bytes) noexcept {
    const uint64_t last = PageBytes() - 1;
    return bytes > UINT64_MAX - last ? 0 : (bytes + last) & ~last;
  }
  static int CodeOf(const absl::Status& status) noexcept {
    const int code = ErrnoOf(status);
    return code != 0 ? code : EIO;
  }
  template <class Sys>
  void TickAtTimes(const Sys& sys) noexcept {
    constexpr int64_t kInterval = 1'000'000'000;
    const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(
                            std::chrono::steady_clock::now().time_since_epoch())
                            .count();
    int64_t last = ticked_.load(std::memory_order_relaxed);
    if (now - last < kInterval || !ticked_.compare_exchange_strong(last, now)) return;
    memory_.Tick();
    const auto info = MemoryInfo::Read(sys);
    if (info.ok() && info->available_bytes < info->total_bytes / 10) memory_.Trim();
  }

  Memory memory_;
  typename Memory::Client client_;
  std::atomic<int64_t> ticked_{0};
};

}  // namespace ion::compat

#endif  // ION_COMPAT_DMABUFHEAP_LENT_MEMORY_H_
