// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/pool_directory.h
//
// PoolDirectory: the pools of one heap: it finds the pool that serves a trust domain, a caching and
// a size class, the fields that a hit reads of a pool, and the pool that a block belongs to. The
// bottom of policies/pooled_heap.h.
//
// Sizes that are the same in whole pages share a pool: with pages of 64 KiB all classes up to 64
// KiB are one.
//
// A pool whose domain has gone, and that has no block any more, is given to another domain or
// another size. Once half of the pools are in use, a domain opens no more than a quarter of all: so
// one client with many sizes leaves some to the others.
//
// Not for users.
//
// Cost: a hit reads a row and a line of the table. 128 pools at most. The rest is under the heap's
// mutex, unless its comment says otherwise.
#ifndef ION_POLICIES_RECYCLING_POOL_DIRECTORY_H_
#define ION_POLICIES_RECYCLING_POOL_DIRECTORY_H_

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>

#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/block.h"
#include "ion/policies/pool/near_budget.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/recycling/pool_classes.h"
#include "ion/policies/recycling/zero_pages.h"
#include "ion/recycling.h"
#include "ion/request.h"

namespace ion::internal {

// The fields of a pool that a hit reads; only the Manager's end changes them. A pool's number is
// its entry's offset in the table, in bytes, as a LeaseToken holds it, so the address of the
// thread's magazine is arithmetic. (It must not wait for a load: the next hit loads the word that a
// release stores there, and would wait for its address.)
struct HotPool {
  std::atomic<uint64_t> take_gate;  // nobody's where blocks are zeroed when they are taken
  std::atomic<uint64_t> give_gate;  // nobody's where blocks are zeroed on their way back
  uint64_t pages;
  std::atomic<uint64_t> zero_gate;  // of a thread that zeroes what it takes; else nobody's
  uint16_t entry;
  uint64_t padding[3];  // to the step of LeaseToken
};
static_assert(sizeof(HotPool) == LeaseToken::kPoolStep);

// A pool, or the rest of one.
struct PoolEntry {
  enum State : uint8_t { kFree, kOpen, kClosed };

  std::optional<Pool<Block>> pool;
  uint32_t number = 0;  // of the pool
  uint64_t block_bytes = 0;
  PoolDomain domain;
  State state = kFree;  // under the mutex
  Known cached = {};
  uint32_t size_class = 0;
  std::atomic<uint32_t> homes{0};  // blocks that are its own, leased or not
  // A block of it was shared, and could not be proven ours alone again: nor could the others. If a
  // proof is possible at all, this holds for an epoch.
  std::atomic<bool> ends_shared{false};
  // `nulls`: the part of the pool's count that is no hit of this domain.
  std::atomic<uint64_t> misses{0}, nulls{0}, other_hits{0}, scrubs{0}, moves{0};
  std::array<std::atomic<uint64_t>, kGiveBacks> given{};
};

template <uint64_t kLargestBytes>
class PoolDirectory {
 public:
  using Entry = PoolEntry;
  static constexpr uint32_t kClasses = PoolClasses::Of(kLargestBytes) + 1;
  static constexpr uint16_t kMaxEntries = 128;  // number 0 is no pool
  static constexpr uint16_t kMaxOfDomain = kMaxEntries / 4;

  // How a request chooses its memory's caching.
  static constexpr uint32_t kChoices = 3, kNoChoice = kChoices;
  static constexpr uint32_t ChoiceOf(Flags flags) noexcept {
    switch (flags) {
      case Flags::kNone:
        return 0;
      case Flags::kCached:
        return 1;
      case Flags::kUncached:
        return 2;
      default:
        return kNoChoice;
    }
  }

  // The pools of one domain, by number.
  struct Row {
    std::atomic<uint32_t> pools[kChoices][kClasses];
    uint16_t own[Known::kValues][kClasses];  // by caching; under the mutex
  };

  // False: no memory.
  bool Init() noexcept { return rows_.Map(PoolDomain::kSlots) && hot_.Map(kMostPools + 1); }
  // Told once, before all else. False: no memory.
  bool UseBlocks(const PoolHost& host) noexcept {
    host_ = host;
    near_.Set(host.bounds.capacity_bytes / 2, host.bounds.capacity_blocks / 2);
    return homes_.Map(host.blocks.size());
  }
  const PoolHost& host() const noexcept { return host_; }
  // The room that threads have for large blocks: half of the capacity, which it counts in.
  const NearBudget& near() const noexcept { return near_; }
  const Row* rows() const noexcept { return rows_.get(); }
  const HotPool* hot() const noexcept { return hot_.get(); }

  // The class of blocks that serve a request: the smallest in whole pages. kClasses or more: there
  // is none.
  static uint32_t ClassOf(uint64_t bytes) noexcept { return ClassOf(bytes, PageBytes()); }
  static constexpr uint32_t ClassOf(uint64_t bytes, uint64_t page) noexcept {
    const uint32_t size_class = PoolClasses::Of(bytes);
    if (size_class >= kClasses || page <= PoolClasses::kSmallest) return size_class;
    return PoolClasses::Of((PoolClasses::Bytes(size_class) + page - 1) / page * page);
  }

  // --- without the mutex -------------------------------------------------------------------------

  static uint64_t OffsetOf(uint64_t pool) noexcept {
    constexpr uint64_t kFirst = Pool<Block>::OffsetOf(0);
    constexpr uint64_t kStep = Pool<Block>::OffsetOf(1) - kFirst;
    static_assert(kStep % sizeof(HotPool) == 0);
    return kFirst - kStep + pool * (kStep / sizeof(HotPool));
  }
  HotPool& HotOf(const Entry& entry) const noexcept { return hot_[entry.number / sizeof(HotPool)]; }
  Entry& at(uint16_t index) noexcept { return entries_[index]; }

  // The pool that a block belongs to. Requires: the caller owns the block, and HasHome.
  Entry& EntryOf(const Block& block) noexcept { return entries_[HomeOf(block)]; }
  bool HasHome(const Block& block) const noexcept { return HomeOf(block) != 0; }
  void MoveTo(Block& block, Entry& entry) noexcept {
    entry.homes.fetch_add(1, std::memory_order_relaxed);
    SetHome(block, IndexOf(entry));
  }
  void LeaveHome(Block& block) noexcept { SetHome(block, 0); }

  // --- under the mutex ---------------------------------------------------------------------------

  // f(entry) for each that is somebody's.
  template <class F>
  void ForEach(F f) {
    for (uint16_t i = 1; i < used_; ++i) {
      if (entries_[i].state != Entry::kFree) f(entries_[i]);
    }
  }
  uint16_t used() const noexcept { return used_; }  // those that ever had a pool are below

  // The pool of a domain; nullptr: there is none.
  Entry* Find(PoolDomain domain, Known cached, uint32_t size_class) noexcept {
    const uint16_t number = rows_[domain.slot].own[cached.index()][size_class];
    return number == 0 ? nullptr : &entries_[number];
  }
  // The same; makes the pool if there is none. `takes_hot`, `gives_hot`: an allocation, or a
  // release, may use the hit path; else it zeroes the block. `choices`: bits, by ChoiceOf, that this caching answers. EDQUOT: the domain
  // has its share of the pools. ENOSPC: all are in use.
  Result<Entry*> Open(PoolDomain domain, Known cached, uint32_t size_class, bool takes_hot,
                      bool gives_hot, uint32_t choices, const Origin& origin) noexcept {
    if (Entry* entry = Find(domain, cached, size_class); entry != nullptr) return entry;
    if (CountOf(domain) >= kMaxOfDomain && CountOfAll() >= kMaxEntries / 2) {
      return Error(EDQUOT, "the domain has its share of the pools", origin,
                   "its further sizes are not recycled: use fewer sizes");
    }
    const Result<Entry*> free = FreeEntry(size_class, origin);
    if (!free.ok()) return free;
    Entry* const entry = *free;
    entry->domain = domain;
    entry->cached = cached;
    entry->ends_shared.store(false, std::memory_order_relaxed);
    for (std::atomic<uint64_t>* counter :
         {&entry->misses, &entry->other_hits, &entry->scrubs, &entry->moves}) {
      counter->store(0, std::memory_order_relaxed);
    }
    // The pool's count from the time of another domain is no hit of this one.
    const PoolCounters before = entry->pool->counters();
    entry->nulls.store(before.hits + before.misses, std::memory_order_relaxed);
    for (auto& given : entry->given) given.store(0, std::memory_order_relaxed);
    entry->state = Entry::kOpen;
    HotPool& hot = HotOf(*entry);
    const uint64_t gate = entry->pool->Ticket().gate;
    hot.take_gate.store(takes_hot ? gate : PoolTicket::kNever, std::memory_order_relaxed);
    hot.zero_gate.store(takes_hot ? PoolTicket::kNever : gate, std::memory_order_relaxed);
    hot.give_gate.store(gives_hot ? gate : PoolTicket::kNever, std::memory_order_relaxed);
    Row& row = rows_[domain.slot];
    row.own[cached.index()][size_class] = IndexOf(*entry);
    for (uint32_t choice = 0; choice < kChoices; ++choice) {
      if ((choices >> choice & 1) == 0) continue;
      // Each class that is this one in whole pages: a hit does not round to pages.
      for (uint32_t other = 0; other <= size_class; ++other) {
        if (ClassOf(PoolClasses::Bytes(other)) != size_class) continue;
        row.pools[choice][other].store(entry->number, std::memory_order_release);
      }
    }
    return entry;
  }

  // A domain has lost its last client.
  void CloseDomain(PoolDomain domain) noexcept {
    Row& row = rows_[domain.slot];
    for (auto& classes : row.pools) {
      for (std::atomic<uint32_t>& pool : classes) pool.store(0, std::memory_order_relaxed);
    }
    for (auto& caching : row.own) {
      for (uint16_t& own : caching) own = 0;
    }
    ForEach([&](Entry& entry) {
      if (entry.state == Entry::kOpen && entry.domain.slot == domain.slot) {
        entry.state = Entry::kClosed;
      }
    });
  }
  // A closed pool that has no block any more can be another domain's, or of another size.
  void FreeEmpty() noexcept { ForEach(FreeIfEmpty); }

  // No pool is made any more, and nothing is a hit.
  void Close() noexcept {
    closed_ = true;
    ForEach([&](Entry& entry) {
      HotOf(entry).take_gate.store(PoolTicket::kNever, std::memory_order_seq_cst);
      HotOf(entry).zero_gate.store(PoolTicket::kNever, std::memory_order_seq_cst);
      HotOf(entry).give_gate.store(PoolTicket::kNever, std::memory_order_seq_cst);
    });
  }

 private:
  static constexpr size_t kMostPools = 1024;

  uint16_t& HomeOf(const Block& block) const noexcept {
    return homes_[static_cast<size_t>(&block - host_.blocks.data())];
  }
  void SetHome(Block& block, uint16_t to) noexcept {
    const uint16_t was = std::exchange(HomeOf(block), to);
    if (was != 0) entries_[was].homes.fetch_sub(1, std::memory_order_acq_rel);
  }
  uint16_t IndexOf(const Entry& entry) const noexcept {
    return static_cast<uint16_t>(&entry - entries_.data());
  }
  static void FreeIfEmpty(Entry& entry) noexcept {
    if (entry.state == Entry::kClosed && entry.homes.load(std::memory_order_acquire) == 0) {
      entry.state = Entry::kFree;
    }
  }
  uint32_t CountOf(PoolDomain domain) noexcept {
    uint32_t count = 0;
    ForEach([&](const Entry& entry) {
      count += entry.state == Entry::kOpen && entry.domain.slot == domain.slot;
    });
    return count;
  }
  uint32_t CountOfAll() noexcept {
    uint32_t count = 0;
    ForEach([&](const Entry& entry) { count += entry.state == Entry::kOpen; });
    return count;
  }

  // One that has a pool of this size: a free one, or a new one, or in place of one of another size.
  Result<Entry*> FreeEntry(uint32_t size_class, const Origin& origin) noexcept {
    if (closed_) return Error(ESHUTDOWN, "the Manager has gone", origin);
    Entry* other = nullptr;
    for (uint16_t i = 1; i < used_; ++i) {
      Entry& entry = entries_[i];
      FreeIfEmpty(entry);
      if (entry.state != Entry::kFree) continue;
      if (entry.size_class == size_class) return &entry;
      other = &entry;
    }
    const bool full = used_ == kMaxEntries;
    if (full && other == nullptr) {
      return Error(ENOSPC, "all pools are in use", origin,
                   "this memory is not recycled: let clients share a domain, or close some");
    }
    const uint64_t block_bytes = *RoundUpToPages(PoolClasses::Bytes(size_class));
    Result<Pool<Block>> pool =
        Pool<Block>::Create(host_.blocks, {.object_bytes = block_bytes, .near = &near_});
    if (!pool.ok()) return pool.error();
    Entry& entry = full ? *other : entries_[used_++];
    // No block is its own, and no client: a thread that still is in a call to it is on its way out.
    if (entry.pool.has_value()) entry.pool->AwaitOthers();
    entry.size_class = size_class;
    entry.block_bytes = block_bytes;
    entry.pool.emplace(*std::move(pool));
    entry.number = static_cast<uint32_t>((entry.pool->id() + 1) * sizeof(HotPool));
    HotPool& hot = HotOf(entry);
    hot.pages = entry.block_bytes / PageBytes();
    hot.entry = IndexOf(entry);
    return &entry;
  }

  ZeroPages<Row> rows_;
  ZeroPages<HotPool> hot_;
  NearBudget near_;  // outlives the pools
  std::array<Entry, kMaxEntries> entries_;
  PoolHost host_;
  ZeroPages<uint16_t> homes_;  // by the block's index: its entry's number
  uint16_t used_ = 1;
  bool closed_ = false;
};

}  // namespace ion::internal

#endif  // ION_POLICIES_RECYCLING_POOL_DIRECTORY_H_
