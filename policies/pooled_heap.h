// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pooled_heap.h
//
// Pooled: a heap, and a recycler over it (ion/recycler.h), PoolRecycler. It keeps whole buffers,
// with their descriptor and their mapping, in a pool (policies/pool/pool.h) for each trust domain,
// caching (yes, no or unknown) and size class. As with ION's uncached page pools, a hit needs no
// system call, no flush and no zeroing within its domain.
//
// Example:
//   using Camera = ion::Manager<ion::DmaHeapBackend<>, ion::Pooled<ion::System>,
//                                                      ion::Pooled<ion::Dma>>;
//
// Nobody sees stale bytes. Memory is zeroed before a request gets it, unless its client takes its
// own domain's bytes (ClientOptions::recycle_as_is); memory that comes from another domain always
// is. Memory that cannot be zeroed goes back to the kernel.
//
// Lent memory (Buffer::fd) is recycled within its domain. Before another domain gets it, the
// backend proves that nobody kept the descriptor; else it stays with its domain, and goes to the
// kernel with it.
//
// Shared memory. Others may hold memory that was kept by a handle. If the backend can prove that
// they do not (kCaps.proves_unshared) it waits in a quarantine for the proof; else it goes back to
// the kernel, and further blocks of that pool are mapped and populated when they are used, not
// before. The reason that hides the holders may pass (no /proc, a process that is not dumpable): a
// pool tries again once in age_ticks ticks. Foreign memory never comes here.
//
// Fences. A device may still use a block whose lease has ended. Nobody waits for it: the block lies
// in the quarantine until its fences are signalled, or until it is too old, and then goes back to
// the kernel.
//
// fork. The mappings are not inherited. The content of pools and of the quarantine is the parent's.
//
// A request searches in this order: the pool; blocks that wait to be zeroed; the quarantine, of
// which at most four are examined; blocks of a larger class, within the spec's bound; another
// domain's idle blocks; the kernel.
//
// Bounds: 128 pools, of which a domain has a share (policies/recycling/pool_directory.h); a request
// for which there is none is told once to the error sink, and counted. A pool's own bounds are in
// policies/pool/pool.h, those of idle memory in policies/recycling/pool_spec.h; a program may lower
// the latter when it opens the Manager (ManagerOptions::pools). An idle block goes
// back within 2 * age_ticks ticks of Manager::Tick; without ticks it lies until capacity, Trim,
// pressure or a shortage.
//
// Cost: a hit is that of the pool, and two loads to find it. The slow way takes a mutex, under
// which nothing is zeroed, and no question asked or memory given back of the kernel. Thread-safe
// but for moving and destruction.
#ifndef ION_POLICIES_POOLED_HEAP_H_
#define ION_POLICIES_POOLED_HEAP_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/base/lacks_pages.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/pending_fences.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/recycling/idle_limit.h"
#include "ion/policies/recycling/pool_classes.h"
#include "ion/policies/recycling/pool_directory.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/recycling/quarantine.h"
#include "ion/policies/recycling/scrubber.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/request.h"

namespace ion {

template <class Inner>
inline constexpr PoolSpec kPoolsFor = Inner::kContiguous ? kScarcePools : kUsualPools;

// The recycler of the blocks of a heap, Inner.
template <HeapIdentity Inner, PoolSpec kPools = kPoolsFor<Inner>, class Scrubber = PlainScrubber>
class PoolRecycler {
  static_assert(kPools.low_bytes <= kPools.high_bytes &&
                    (kPools.high_bytes <= kPools.capacity_bytes || kPools.capacity_bytes == 0),
                "ion: the watermarks of a PoolSpec are the wrong way round: low_bytes <= "
                "high_bytes <= capacity_bytes");
  static_assert(kPools.age_ticks > 0,
                "ion: age_ticks of a PoolSpec is 0, and nothing would be recycled: say "
                "capacity_bytes = 0 for a heap without pools");
  static_assert(kPools.most_percent >= 100,
                "ion: most_percent of a PoolSpec is at least 100: a block of the request's class");

 public:
  using BackendType = typename Inner::BackendType;

  static Result<PoolRecycler> Open(const Inner& heap, BackendType& backend,
                                   const PoolHost& host) noexcept {
    std::unique_ptr<State> state(new (std::nothrow) State);
    if (state == nullptr || !state->pools.Init() || !state->pools.UseBlocks(host)) {
      return Error(ENOMEM, "memory for the pools",
                   {BackendType::kName, Operation::kOpen, heap.name()});
    }
    state->bounds = host.bounds;
    return PoolRecycler(heap, backend, std::move(state));
  }
  PoolRecycler(PoolRecycler&&) noexcept = default;
  // The bounds of the PoolSpec. ManagerOptions::pools may set lower ones.
  static constexpr PoolBounds Ceiling() noexcept {
    return {.capacity_bytes = kPools.capacity_bytes,
            .capacity_blocks = kPools.capacity_blocks,
            .high_bytes = kPools.high_bytes,
            .low_bytes = kPools.low_bytes};
  }

  // The hit path: arithmetic and a load. The slow path makes the tests that are left out here.
  [[gnu::always_inline]] uint32_t PoolFor(const Request& request, uint16_t slot) const noexcept {
    const uint32_t size_class = PoolClasses::Of(request.bytes);
    if (size_class >= kClasses || request.alignment != 1) [[unlikely]]
      return 0;
    const std::atomic<uint32_t>* pools = rows_[slot].pools[0];
    if (request.flags != Flags::kNone) [[unlikely]] {
      const uint32_t choice = Directory::ChoiceOf(request.flags);
      if (choice == Directory::kNoChoice) [[unlikely]]
        return 0;
      pools += choice * kClasses;
    }
    // Acquired: the pool was made before its number came here.
    return pools[size_class].load(std::memory_order_acquire);
  }
  [[gnu::always_inline]] uint64_t PagesOf(uint32_t pool) const noexcept {
    return HotAt(pool).pages;
  }
  [[gnu::always_inline]] Block* TryAcquire(uint32_t pool) noexcept {
    return Pool<Block>::TryAcquire(HotAt(pool).take_gate, Directory::OffsetOf(pool));
  }
  [[gnu::always_inline]] bool TryRelease(uint32_t pool, Block& block) noexcept {
    return Pool<Block>::TryRelease(HotAt(pool).give_gate, Directory::OffsetOf(pool), &block);
  }
  Block* TryAcquireZeroing(uint32_t pool) noexcept {
    Block* block = Pool<Block>::TryAcquire(HotAt(pool).zero_gate, Directory::OffsetOf(pool));
    return block == nullptr ? nullptr : ZeroTaken(EntryAt(pool), *block);
  }
  Block* AcquireFromDepot(uint32_t pool) noexcept {
    Entry& entry = EntryAt(pool);
    Block* block = TakeFrom(entry);
    return block == nullptr || TakesHot(entry.domain) ? block : ZeroTaken(entry, *block);
  }
  // False: not taken; a block that has to be zeroed first takes the slow path.
  bool ReleaseToDepot(uint32_t pool, Block& block) noexcept {
    Entry& entry = EntryAt(pool);
    if (!GivesHot(entry.domain) || !entry.pool->Release(&block)) return false;
    BoundIdle();
    return true;
  }

  PooledBlock SearchIdle(const Request& request, PoolDomain domain) noexcept {
    if (domain.slot == 0 || !Recycles(request)) return {};
    const std::optional<Known> cached = heap_->CachingOf(request);
    if (!cached.has_value()) return {};
    const uint32_t size_class = Directory::ClassOf(request.bytes);
    // A block that turns out to be in use is put aside, and the next one looked at.
    for (int tries = 0; tries < kMostExamined; ++tries) {
      const Found found = Find(domain, *cached, size_class);
      if (found.block == nullptr) return {};
      Block& block = *found.block;
      Entry* home = &pools().EntryOf(block);
      if (found.elsewhere && !MayLeave(block, home->domain, domain)) {
        StayAtHome(block);
        return {};
      }
      if (found.dirty && (found.elsewhere || !domain.as_is)) {
        const Zeroed zeroed = Zero(block);
        if (zeroed != Zeroed::kYes) {
          Refuse(*home, block, zeroed, found.counted);
          if (zeroed == Zeroed::kInUse) continue;
          return {};
        }
        if (!found.counted) CountScrub(*home);
      }
      if (found.elsewhere) {
        home = MoveToOwn(block, domain, *cached, size_class);
        if (home == nullptr) return {};
      }
      if (!found.counted) home->other_hits.fetch_add(1, std::memory_order_relaxed);
      block.zeroed = !domain.as_is;
      return {&block, home->number};
    }
    return {};
  }

  // A whole size class, if its size is recycled.
  uint64_t BytesFor(const Request& request) const noexcept {
    if (!Recycles(request)) return request.bytes;
    return PoolClasses::Bytes(Directory::ClassOf(request.bytes));
  }

  // A class is less than a quarter larger than a request of that class; PoolSpec::most_percent is
  // of the class.
  static constexpr uint32_t MostPercent() noexcept {
    return static_cast<uint32_t>(
        std::min<uint64_t>((uint64_t{kPools.most_percent} * 125 + 99) / 100, UINT32_MAX));
  }

  // Not recycled: memory that is not known to be mappable, or cannot be zeroed, or for which there
  // is no pool. An error: the kernel cannot put its pages in place.
  Result<uint32_t> Adopt(Block& block, const Request& request, PoolDomain domain) noexcept {
    if (!Recycles(request)) return 0u;
    Entry* const entry = OpenEntry(domain, block.cached, Directory::ClassOf(request.bytes));
    // If the kernel gives more than was asked for, the sizes do not agree.
    if (entry == nullptr || block.bytes != entry->block_bytes) return 0u;
    if (!block.cpu_mappable.yes()) {
      if (!domain.as_is) return 0u;
    } else if (!entry->ends_shared.load(std::memory_order_relaxed)) {
      const Error error = MapToKeep(block);
      if (internal::LacksPages(error)) return error;
      backend_->errors().Report(error);
      if (!error.ok()) return 0u;  // a device has the memory all the same
    }
    // From now on it has what the domain left in it.
    if (domain.as_is) block.zeroed = false;
    pools().MoveTo(block, *entry);
    entry->misses.fetch_add(1, std::memory_order_relaxed);
    return entry->number;
  }

  bool Owns(const Block& block) const noexcept { return pools().HasHome(block); }
  void Disown(Block& block) noexcept { pools().LeaveHome(block); }
  bool ReleaseForReuse(Block& block, bool was_shared) noexcept {
    Entry& entry = pools().EntryOf(block);
    if (was_shared) return TakeShared(entry, block);
    if (kPools.scrub == Scrub::kBackground && !entry.domain.as_is && PutDirty(block)) {
      BoundIdle();
      return true;
    }
    const Zeroed zeroed = Clean(entry, block);
    if (zeroed == Zeroed::kInUse) return PutAside(block, Awaits::kFence);
    if (zeroed == Zeroed::kNo || !entry.pool->Release(&block)) {
      CountGiven(entry, block, GiveBack::kRefused);
      return false;
    }
    BoundIdle();
    return true;
  }

  // 0 bytes: the content of magazines goes to the depots, and blocks that need not wait any more go
  // to their pools.
  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    // Of several that are short at once, each goes on when the one before has given memory back.
    std::lock_guard giving(state_->giving);
    if (bytes != UINT64_MAX) ExamineAll();
    {
      std::lock_guard lock(state_->mutex);
      DrainAll();
    }
    uint64_t given = GiveIdle(bytes, why, &Amount::bytes);
    while (given < bytes) {
      Block* const oldest = TakeWaiting([](const Block&, uint64_t) { return true; });
      if (oldest == nullptr) break;
      given += oldest->bytes;
      Forget(*oldest, why);
    }
    return given;
  }

  // From here on nothing is a hit. A trip that is under way may still leave blocks behind: the
  // Manager has whoever makes it call Trim afterwards.
  void Shutdown() noexcept {
    {
      std::lock_guard lock(state_->mutex);
      pools().Close();
    }
    // Twice: the blocks that an ending thread holds at first lie in a depot then.
    for (int i = 0; i < 2; ++i) {
      {
        std::lock_guard lock(state_->mutex);
        pools().ForEach([](Entry& entry) { entry.pool->AwaitOthers(); });
      }
      Trim(UINT64_MAX, GiveBack::kTrim);
    }
  }

  void CloseDomain(PoolDomain domain) noexcept {
    std::lock_guard lock(state_->mutex);
    pools().CloseDomain(domain);
    DrainAll();  // so that others find it
  }

  void Tick() noexcept {
    CleanDirty();
    std::lock_guard giving(state_->giving);
    uint64_t now;
    {
      std::lock_guard lock(state_->mutex);
      now = ++state_->tick;
    }
    ExamineAll();
    constexpr uint64_t kOld = 2 * uint64_t{kPools.age_ticks};
    while (Block* const old =
               TakeWaiting([&](const Block&, uint64_t tick) { return now - tick >= kOld; })) {
      Forget(*old, GiveBack::kAge);
    }
    if (now % kPools.age_ticks == 0) {
      {
        std::lock_guard lock(state_->mutex);
        DrainAll();
      }
      GiveUnused();
    }
    if (Idle().bytes > bounds().high_bytes) {
      // With the blocks at the hands of threads, and without the room that they do not use.
      DrainNear();
      if (const uint64_t idle = Idle().bytes; idle > bounds().high_bytes) {
        GiveIdle(idle - bounds().low_bytes, GiveBack::kWatermark, &Amount::bytes);
      }
    }
    std::lock_guard lock(state_->mutex);
    pools().FreeEmpty();
  }

  // Takes nothing out of any pool.
  void ListIdle(std::vector<const Block*>& idle) {
    std::lock_guard lock(state_->mutex);
    const auto add = [&](const Block& block) { idle.push_back(&block); };
    state_->quarantine.ForEach(add);
    state_->dirty.ForEach(add);
    if (state_->cleaning != nullptr) add(*state_->cleaning);
    pools().ForEach([&](Entry& entry) { entry.pool->Peek(add); });
  }
  void ListPools(std::vector<PoolReport>& reports) {
    std::lock_guard lock(state_->mutex);
    pools().ForEach([&](Entry& entry) {
      // First: each of them is an acquire that the pool has counted.
      const uint64_t nulls = entry.nulls.load(std::memory_order_acquire);
      const PoolCounters counters = entry.pool->counters();
      const uint64_t acquires = counters.hits + counters.misses;
      const uint64_t own_hits = acquires > nulls ? acquires - nulls : 0;
      PoolReport report{.heap = Inner::kId,
                        .domain = entry.domain,
                        .open = entry.state == Entry::kOpen,
                        .cached = entry.cached,
                        .block_bytes = entry.block_bytes,
                        .hits = own_hits + entry.other_hits.load(),
                        .misses = entry.misses.load(),
                        .held_bytes = counters.held * entry.block_bytes,
                        .scrubs = entry.scrubs.load() + (TakesHot(entry.domain) ? 0 : own_hits),
                        .moves = entry.moves.load()};
      for (size_t i = 0; i < kGiveBacks; ++i) report.given_back_bytes[i] = entry.given[i].load();
      const auto add_to = [&](uint64_t& bytes) {
        return [&](const Block& block) {
          if (&pools().EntryOf(block) == &entry) bytes += entry.block_bytes;
        };
      };
      state_->quarantine.ForEach(add_to(report.quarantined_bytes));
      state_->dirty.ForEach(add_to(report.held_bytes));
      if (state_->cleaning != nullptr) add_to(report.held_bytes)(*state_->cleaning);
      reports.push_back(report);
    });
  }
  // Leases of memory that no pool takes back, because there was no pool for them.
  uint64_t unpooled() const noexcept { return state_->unpooled.load(std::memory_order_relaxed); }

 private:
  using Directory = internal::PoolDirectory<kPools.largest_bytes>;
  using Entry = internal::PoolEntry;
  using Amount = internal::IdleAmount;
  using Awaits = internal::Awaits;
  using Holders = internal::Holders;
  using Waiting = internal::Quarantine<std::max<size_t>(kPools.quarantine_blocks, 1)>;
  static constexpr uint32_t kClasses = Directory::kClasses;
  // The most blocks, of those that wait or turn out to be in use, that a request examines.
  static constexpr int kMostExamined = 4;
  static constexpr bool kProves = BackendType::kCaps.proves_unshared;

  struct State {
    // Under `mutex` no system call is made, but for a new pool's and the barrier of a drain.
    // `giving` is held by one that gives memory back, and taken first.
    std::mutex giving;
    std::mutex mutex;
    Directory pools;
    PoolBounds bounds;  // set before the first request
    uint64_t tick = 0;
    Waiting quarantine, dirty;
    Block* cleaning = nullptr;  // in no list, while a tick zeroes it
    std::atomic<uint64_t> unpooled{0};
  };

  struct Found {
    Block* block = nullptr;
    bool dirty = false;      // has what somebody left in it
    bool elsewhere = false;  // of another domain, whose it still is
    bool counted = false;    // the pool has counted it as a hit
  };

  PoolRecycler(const Inner& heap, BackendType& backend, std::unique_ptr<State> state) noexcept
      : rows_(state->pools.rows()),
        hot_(state->pools.hot()),
        backend_(&backend),
        state_(std::move(state)),
        heap_(&heap) {}

  bool Recycles(const Request& request) const noexcept {
    return bounds().capacity_bytes != 0 && bounds().capacity_blocks != 0 &&
           HeapPrivateBits(request.flags) == 0 && Directory::ClassOf(request.bytes) < kClasses;
  }
  Directory& pools() const noexcept { return state_->pools; }
  const PoolBounds& bounds() const noexcept { return state_->bounds; }
  [[gnu::always_inline]] const internal::HotPool& HotAt(uint32_t pool) const noexcept {
    return *reinterpret_cast<const internal::HotPool*>(reinterpret_cast<const std::byte*>(hot_) +
                                                       pool);
  }
  Entry& EntryAt(uint32_t pool) const noexcept { return pools().at(HotAt(pool).entry); }
  // True if a block that is taken, or given, needs no zeroing then.
  static bool TakesHot(PoolDomain domain) noexcept {
    return domain.as_is || kPools.scrub != Scrub::kOnAllocate;
  }
  static bool GivesHot(PoolDomain domain) noexcept {
    return domain.as_is || kPools.scrub == Scrub::kOnAllocate;
  }
  void CountGiven(Entry& entry, const Block& block, GiveBack why) noexcept {
    entry.given[static_cast<size_t>(why)].fetch_add(block.bytes, std::memory_order_relaxed);
  }
  // Without the mutex: it is system calls.
  void Forget(Block& block, GiveBack why) noexcept {
    CountGiven(pools().EntryOf(block), block, why);
    pools().host().forget(pools().host().context, block);
  }
  void Forget(const internal::IdleSlice& slice, GiveBack why) noexcept {
    for (uint32_t i = 0; i < slice.count; ++i) Forget(*slice.at[i], why);
  }
  bool IsOursAlone(Block& block) noexcept {
    return internal::HoldersOf(*backend_, block) == Holders::kWeAlone;
  }
  Error MapToKeep(Block& block) noexcept {
    const Result<std::byte*> at = backend_->MapToKeep(block);
    if (at.ok()) block.mapping = *at;
    return at.error();
  }

  // --- pools -------------------------------------------------------------------------------------

  // The domain's pool, made where there is none; nullptr: there is no pool left for it.
  Entry* OpenEntry(PoolDomain domain, Known cached, uint32_t size_class) noexcept {
    const Origin origin{BackendType::kName, Operation::kAllocate, heap_->name(),
                        PoolClasses::Bytes(size_class)};
    Result<Entry*> entry = Error(ENOSPC, "all pools' domains are in use", origin,
                                 "its memory is not recycled: let clients share a domain");
    if (domain.slot != 0) {
      entry = TryOpen(domain, cached, size_class, origin);
      // Idle blocks of closed domains go back, and their pools are free for others.
      if (!entry.ok() && entry.error().code() == ENOSPC && GiveClosed()) {
        entry = TryOpen(domain, cached, size_class, origin);
      }
    }
    if (entry.ok()) return *entry;
    if (entry.error().code() == ESHUTDOWN) return nullptr;
    if (state_->unpooled.fetch_add(1, std::memory_order_relaxed) == 0) {
      backend_->errors().Report(entry.error());
    }
    return nullptr;
  }
  Result<Entry*> TryOpen(PoolDomain domain, Known cached, uint32_t size_class,
                         const Origin& origin) noexcept {
    uint32_t choices = 0;
    for (const Flags flags : {Flags::kNone, Flags::kCached, Flags::kUncached}) {
      const std::optional<Known> of_flags = heap_->CachingOf({.bytes = 1, .flags = flags});
      const bool answers = of_flags.has_value() && *of_flags == cached;
      choices |= uint32_t{answers} << Directory::ChoiceOf(flags);
    }
    std::lock_guard lock(state_->mutex);
    return pools().Open(domain, cached, size_class, TakesHot(domain), GivesHot(domain), choices,
                        origin);
  }

  Block* TakeFrom(Entry& entry) noexcept {
    Block* block = entry.pool->Acquire();
    if (block == nullptr) entry.nulls.fetch_add(1, std::memory_order_release);
    return block;
  }
  Found Find(PoolDomain domain, Known cached, uint32_t size_class) noexcept {
    // A block of one's own pool was zeroed when it came, or has to be now.
    constexpr bool kDirty = kPools.scrub == Scrub::kOnAllocate;
    Entry* own;
    {
      std::lock_guard lock(state_->mutex);
      own = pools().Find(domain, cached, size_class);
      if (own != nullptr) {
        if (Block* block = TakeFrom(*own); block != nullptr) {
          return {.block = block, .dirty = kDirty, .counted = true};
        }
        Block* const dirty = state_->dirty.Take(
            [&](const Block& block, uint64_t) { return &pools().EntryOf(block) == own; });
        if (dirty != nullptr) return {.block = dirty, .dirty = true};
      }
    }
    if (own != nullptr) {
      if (Block* block = TakeReady(*own); block != nullptr) return {.block = block, .dirty = true};
    }
    std::lock_guard lock(state_->mutex);
    const uint64_t most = PoolClasses::Bytes(size_class) * kPools.most_percent / 100;
    for (uint32_t larger = size_class + 1; larger < kClasses && PoolClasses::Bytes(larger) <= most;
         ++larger) {
      Entry* entry = pools().Find(domain, cached, larger);
      if (entry == nullptr) continue;
      if (Block* block = TakeFrom(*entry); block != nullptr) {
        return {.block = block, .dirty = kDirty, .counted = true};
      }
    }
    return FindElsewhere(domain, cached, size_class);
  }
  // Takes a block of another domain from its depot, not from its threads' magazines. Under the
  // mutex.
  Found FindElsewhere(PoolDomain domain, Known cached, uint32_t size_class) noexcept {
    Block* block = nullptr;
    pools().ForEach([&](Entry& entry) {
      const bool ours = entry.state == Entry::kOpen && entry.domain.slot == domain.slot;
      if (block != nullptr || ours || entry.cached != cached || entry.size_class != size_class) {
        return;
      }
      entry.pool->Take(1, [&](Block& one) { block = &one; });
    });
    if (block == nullptr) return {};
    return {.block = block, .dirty = true, .elsewhere = true};
  }
  // A receiver may still hold a lent block: it stays its domain's, or nobody's.
  bool MayLeave(Block& block, PoolDomain from, PoolDomain to) noexcept {
    const bool trusted = to.trust != 0 && from.trust == to.trust;
    return trusted || !block.Marked(Block::kLent) || IsOursAlone(block);
  }
  void StayAtHome(Block& block) noexcept {
    {
      std::lock_guard lock(state_->mutex);
      Entry& home = pools().EntryOf(block);
      if (home.state == Entry::kOpen && home.pool->Release(&block)) return;
    }
    Forget(block, GiveBack::kRefused);
  }
  // Zeroed memory of another domain becomes this one's. nullptr: there is no pool for it.
  Entry* MoveToOwn(Block& block, PoolDomain domain, Known cached, uint32_t size_class) noexcept {
    Entry* const own = OpenEntry(domain, cached, size_class);
    if (own == nullptr) {
      (void)pools().EntryOf(block).pool->Release(&block);
      return nullptr;
    }
    pools().MoveTo(block, *own);
    own->moves.fetch_add(1, std::memory_order_relaxed);
    return own;
  }

  // --- zeroing -----------------------------------------------------------------------------------

  enum class Zeroed { kYes, kInUse, kNo };
  // kInUse: a device may still use the block, which only one that was lent can be. kNo: it cannot
  // be zeroed, which was reported.
  Zeroed Zero(Block& block) noexcept {
    if (block.Marked(Block::kLent) && internal::HasPendingFence(*backend_, block)) {
      return Zeroed::kInUse;
    }
    if (block.mapping == nullptr && block.cpu_mappable) {
      if (Error error = MapToKeep(block); !error.ok()) {
        backend_->errors().Report(error);
        return Zeroed::kNo;
      }
    }
    if (Error error = Scrubber::Scrub(*backend_, block); !error.ok()) {
      backend_->errors().Report(error);
      return Zeroed::kNo;
    }
    block.zeroed = true;
    return Zeroed::kYes;
  }
  // But for those of hits of a pool whose blocks are zeroed when they are taken: their number is
  // that of the hits.
  static void CountScrub(Entry& entry) noexcept {
    entry.scrubs.fetch_add(1, std::memory_order_relaxed);
  }
  // A hit of such a pool; nullptr: it cannot be had.
  Block* ZeroTaken(Entry& entry, Block& block) noexcept {
    const Zeroed zeroed = Zero(block);
    if (zeroed == Zeroed::kYes) [[likely]]
      return &block;
    Refuse(entry, block, zeroed, /*counted=*/true);
    return nullptr;
  }
  // A block that was taken for a request, and could not be zeroed. `counted`: as a hit.
  void Refuse(Entry& home, Block& block, Zeroed zeroed, bool counted) noexcept {
    if (counted) home.nulls.fetch_add(1, std::memory_order_release);
    if (zeroed == Zeroed::kInUse) {
      SetAside(block, Awaits::kFence);
    } else {
      Forget(block, GiveBack::kRefused);
    }
  }
  // The same on the way into a pool, if the next request of its domain must not see the content.
  // A device's fence holds back memory that nobody zeroes, too.
  Zeroed Clean(Entry& entry, Block& block) noexcept {
    if (entry.domain.as_is) {
      const bool in_use = block.Marked(Block::kLent) && internal::HasPendingFence(*backend_, block);
      return in_use ? Zeroed::kInUse : Zeroed::kYes;
    }
    if (kPools.scrub == Scrub::kOnAllocate) return Zeroed::kYes;
    const Zeroed zeroed = Zero(block);
    if (zeroed == Zeroed::kYes) CountScrub(entry);
    return zeroed;
  }
  // Into its pool, or wherever it can go.
  void PutBack(Block& block) noexcept {
    Entry& entry = pools().EntryOf(block);
    const Zeroed zeroed = Clean(entry, block);
    if (zeroed == Zeroed::kInUse) return SetAside(block, Awaits::kFence);
    if (zeroed == Zeroed::kYes && entry.pool->Release(&block)) return;
    Forget(block, GiveBack::kRefused);
  }
  bool PutDirty(Block& block) noexcept {
    std::lock_guard lock(state_->mutex);
    return state_->dirty.Put(block, Awaits::kZeros);
  }
  // Zeroes what waits for it now. A device may come to use what was lent after it was asked for
  // fences: unless nobody else holds it, only its own domain's requests zero it.
  void CleanDirty() noexcept {
    std::unique_lock lock(state_->mutex);
    for (size_t n = state_->dirty.count(); n > 0; --n) {
      if (state_->cleaning != nullptr) return;  // another tick is at it
      Block* const block = state_->dirty.Take([](const Block&, uint64_t) { return true; });
      if (block == nullptr) return;
      state_->cleaning = block;
      lock.unlock();
      const bool others =
          BackendType::kCaps.fences && block->Marked(Block::kLent) && !IsOursAlone(*block);
      const Zeroed zeroed = others ? Zeroed::kNo : Clean(pools().EntryOf(*block), *block);
      if (zeroed == Zeroed::kInUse) {
        SetAside(*block, Awaits::kFence);
        lock.lock();
        state_->cleaning = nullptr;
        continue;
      }
      lock.lock();
      state_->cleaning = nullptr;
      if (others && state_->dirty.Put(*block, Awaits::kZeros)) continue;
      if (zeroed == Zeroed::kYes && pools().EntryOf(*block).pool->Release(block)) continue;
      block->Mark(Block::kLeaving);
      lock.unlock();
      Forget(*block, GiveBack::kRefused);
      lock.lock();
    }
  }

  // --- blocks that wait --------------------------------------------------------------------------

  // A block that was shared. False: the kernel gets it.
  bool TakeShared(Entry& entry, Block& block) noexcept {
    if (!kProves) entry.ends_shared.store(true, std::memory_order_relaxed);
    // One that was not mapped beforehand is never proven ours, which tells nothing of the others.
    const bool unmapped = block.cpu_mappable.yes() && block.mapping == nullptr;
    if (unmapped || entry.ends_shared.load(std::memory_order_relaxed)) {
      CountGiven(entry, block, GiveBack::kRefused);
      return false;
    }
    const Holders holders = internal::HoldersOf(*backend_, block);
    if (holders == Holders::kWeAlone) {
      PutBack(block);
      BoundIdle();
      return true;
    }
    if (holders == Holders::kOthers) return PutAside(block, Awaits::kProof);
    if (holders == Holders::kUnknown) entry.ends_shared.store(true, std::memory_order_relaxed);
    CountGiven(entry, block, GiveBack::kRefused);
    return false;
  }
  // Into the quarantine, whose oldest blocks make room where they can go, or to the kernel. False:
  // there is no room, which is counted.
  bool PutAside(Block& block, Awaits awaits) noexcept {
    const bool fits = kPools.quarantine_blocks > 0 && block.bytes <= kPools.quarantine_bytes;
    for (bool room = fits; room;) {
      Awaits oldest_awaits;
      Block* oldest;
      {
        std::lock_guard lock(state_->mutex);
        if (!state_->quarantine.full() &&
            state_->quarantine.bytes() + block.bytes <= kPools.quarantine_bytes) {
          return state_->quarantine.Put(block, awaits, state_->tick);
        }
        oldest =
            state_->quarantine.Borrow([](const Block&, uint64_t) { return true; }, &oldest_awaits);
      }
      room = oldest != nullptr;
      if (room) Settle(*oldest, Waiting::Ask(*backend_, *oldest, oldest_awaits));
    }
    CountGiven(pools().EntryOf(block), block, GiveBack::kRefused);
    return false;
  }
  // The same for a block that is nobody's lease.
  void SetAside(Block& block, Awaits awaits) noexcept {
    if (PutAside(block, awaits)) return;
    pools().host().forget(pools().host().context, block);
  }
  // Ends the wait of a borrowed block, which lies in the quarantine until it lies in its pool.
  void Settle(Block& block, bool ready) noexcept {
    Entry& entry = pools().EntryOf(block);
    const Zeroed zeroed = ready ? Clean(entry, block) : Zeroed::kNo;
    {
      std::lock_guard lock(state_->mutex);
      state_->quarantine.Remove(block);
      if (zeroed == Zeroed::kYes && entry.pool->Release(&block)) return;
      // It has just made room.
      if (zeroed == Zeroed::kInUse) {
        (void)state_->quarantine.Put(block, Awaits::kFence, state_->tick);
        return;
      }
      block.Mark(Block::kLeaving);
    }
    Forget(block, GiveBack::kRefused);
  }
  // Takes the oldest that is wanted out of the quarantine, unasked, for the kernel; nullptr: there
  // is none.
  template <class F>
  Block* TakeWaiting(F wanted) noexcept {
    std::lock_guard lock(state_->mutex);
    Block* const block = state_->quarantine.Take(wanted);
    if (block != nullptr) block->Mark(Block::kLeaving);
    return block;
  }
  // A block of this pool that waits and need not any more; nullptr: not among the few that are
  // asked for.
  Block* TakeReady(Entry& own) noexcept {
    std::array<const Block*, kMostExamined> seen{};
    for (size_t examined = 0; examined < seen.size(); ++examined) {
      Awaits awaits;
      Block* block;
      {
        std::lock_guard lock(state_->mutex);
        block = state_->quarantine.Borrow(
            [&](const Block& one, uint64_t) {
              return &pools().EntryOf(one) == &own && std::ranges::find(seen, &one) == seen.end();
            },
            &awaits);
      }
      if (block == nullptr) return nullptr;
      seen[examined] = block;
      const bool ready = Waiting::Ask(*backend_, *block, awaits);
      std::lock_guard lock(state_->mutex);
      if (ready) {
        state_->quarantine.Remove(*block);
        return block;
      }
      state_->quarantine.Return(*block);
    }
    return nullptr;
  }
  // All that waits and need not any more goes to its pool. By one that is giving.
  void ExamineAll() noexcept {
    {
      std::lock_guard lock(state_->mutex);
      state_->quarantine.NewRound();
    }
    for (;;) {
      Awaits awaits;
      Block* block;
      {
        std::lock_guard lock(state_->mutex);
        block = state_->quarantine.BorrowNext(&awaits);
      }
      if (block == nullptr) return;
      if (Waiting::Ask(*backend_, *block, awaits)) {
        Settle(*block, true);
      } else {
        std::lock_guard lock(state_->mutex);
        state_->quarantine.Return(*block);
      }
    }
  }

  // --- idle blocks -------------------------------------------------------------------------------

  // Also a pool that is nobody's: a thread may have room for it.
  void DrainAll() noexcept {
    PoolBase<>* all[Directory::kMaxEntries];
    size_t count = 0;
    for (uint16_t i = 1; i < pools().used(); ++i) {
      if (Entry& entry = pools().at(i); entry.pool.has_value()) all[count++] = &*entry.pool;
    }
    PoolBase<>::Drain(std::span(all, count));
  }
  // If threads have room for large blocks.
  void DrainNear() noexcept {
    if (pools().near().objects() == 0) return;
    std::lock_guard lock(state_->mutex);
    DrainAll();
  }
  auto Limit() noexcept { return internal::IdleLimit(pools(), state_->dirty); }
  Amount Idle() noexcept {
    std::lock_guard lock(state_->mutex);
    return Limit().Idle();
  }
  // No more than there is now, though others go on putting: it ends. By one that is giving.
  uint64_t GiveIdle(uint64_t amount, GiveBack why, uint64_t Amount::*unit) noexcept {
    amount = std::min(amount, Idle().*unit);
    uint64_t given = 0;
    while (given < amount) {
      internal::IdleSlice slice;
      {
        std::lock_guard lock(state_->mutex);
        given += Limit().Take(amount - given, unit, slice);
      }
      if (slice.count == 0) break;
      Forget(slice, why);
    }
    return given;
  }
  // Gives back the blocks of each pool that nobody needed since the last time.
  void GiveUnused() noexcept {
    GiveFromEach(GiveBack::kAge, [](Entry& entry) { return entry.pool->unused(); });
    std::lock_guard lock(state_->mutex);
    pools().ForEach([](Entry& entry) {
      entry.pool->NewEpoch();
      if (kProves) entry.ends_shared.store(false, std::memory_order_relaxed);
    });
  }
  // Gives back the content of closed domains' depots. Returns true if there was any.
  bool GiveClosed() noexcept {
    return GiveFromEach(GiveBack::kCapacity, [](Entry& entry) {
             return entry.state == Entry::kClosed ? entry.pool->depth() : 0;
           }) != 0;
  }
  // Gives many(entry) blocks of each pool back. Returns how many there were.
  template <class F>
  uint64_t GiveFromEach(GiveBack why, F many) noexcept {
    uint64_t given = 0;
    for (uint16_t i = 1; i < Directory::kMaxEntries; ++i) {
      uint32_t left = UINT32_MAX;
      uint32_t number = 0;
      while (left != 0) {
        internal::IdleSlice slice;
        {
          std::lock_guard lock(state_->mutex);
          Entry& entry = pools().at(i);
          if (i >= pools().used()) return given;
          if (entry.state == Entry::kFree || (number != 0 && number != entry.number)) break;
          if (number == 0) left = many(entry);
          number = entry.number;
          Limit().TakeFrom(entry, left, slice);
        }
        left -= slice.count;
        given += slice.count;
        if (slice.count == 0) break;
        Forget(slice, why);
      }
    }
    return given;
  }
  // After a thread went to a depot. Gives back what is too much, and no more, or one release would
  // wait for many blocks.
  [[gnu::noinline]] void BoundIdle() noexcept {
    // Twice: others may release meanwhile, and leave the rest to us.
    for (int turn = 0; turn < 2 && IsPastCapacity(); ++turn) {
      std::unique_lock giving(state_->giving, std::try_to_lock);
      if (!giving.owns_lock()) return;
      GivePast(bounds().capacity_bytes, &Amount::bytes);
      GivePast(bounds().capacity_blocks, &Amount::blocks);
    }
  }
  // False also while somebody else looks at the pools: the next trip looks again.
  bool IsPastCapacity() noexcept {
    std::unique_lock lock(state_->mutex, std::try_to_lock);
    if (!lock.owns_lock()) return false;
    const Amount idle = Limit().Idle();
    return idle.bytes > bounds().capacity_bytes || idle.blocks > bounds().capacity_blocks;
  }
  void GivePast(uint64_t bound, uint64_t Amount::*unit) noexcept {
    if (Idle().*unit <= bound) return;
    DrainNear();
    const uint64_t idle = Idle().*unit;
    if (idle > bound) GiveIdle(idle - bound, GiveBack::kCapacity, unit);
  }

  // Read by a hit, and never changed.
  const typename Directory::Row* rows_;
  const internal::HotPool* hot_;
  BackendType* backend_;
  std::unique_ptr<State> state_;
  const Inner* heap_;
};

// A heap and a PoolRecycler over it, in a Manager's list. Deprecated: Pooled describes the same.
// Not an alias: g++ 12 cannot take a PoolSpec that depends on a template parameter through one.
template <class Inner, PoolSpec kPools = kPoolsFor<Inner>, class Scrubber = PlainScrubber>
struct PooledHeap {
  using Heap = Inner;
  using Recycler = PoolRecycler<Inner, kPools, Scrubber>;
};

// A heap and a PoolRecycler over it, described without a backend; Inner describes the heap. Bounds
// that are not given are those for its type of memory.
template <class Inner, PoolSpec... kPools>
  requires(sizeof...(kPools) <= 1)
struct Pooled {
  template <Backend B>
  using On = PooledHeap<internal::BoundTo<Inner, B>, kPools...>;
};

}  // namespace ion

#endif  // ION_POLICIES_POOLED_HEAP_H_
