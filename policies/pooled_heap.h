// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pooled_heap.h
//
// PooledHeap: a heap whose memory is recycled: whole buffers, with their descriptor and their
// mapping, in a pool (policies/pool.h) for each trust domain, cached or uncached, and size class.
// What ION's uncached page pools were for: a hit needs no system call, no flush and no zeroing
// within its domain.
//
// Example:
//   template <ion::Backend B>
//   using Camera = ion::Manager<B, ion::PooledHeap<ion::SystemHeap<B>>,
//                                  ion::PooledHeap<ion::DmaHeap<B>>>;
//
// Nobody sees stale bytes. Memory is zeroed before a request gets it, unless its client takes what
// its own domain left (ClientOptions::recycle_as_is); memory that comes from another domain always
// is. What cannot be zeroed goes back to the kernel.
//
// Shared memory. What was kept by a handle may be held by others. Where the backend can prove that
// it is not (kCaps.proves_unshared) it waits in a quarantine until it does; else it goes back to
// the kernel. Foreign memory never comes here.
//
// fork. The mappings are not inherited. What lies in pools and in quarantine is the parent's.
//
// Where a request finds memory: the pool; what waits to be zeroed; the quarantine, of which at most
// four are examined; blocks of a larger class, within the spec's bound; another domain's idle
// blocks; the kernel.
//
// Bounds: 128 pools; a pool's own are in policies/pool.h, what lies idle is in
// policies/pool_spec.h. An idle block goes back within 2 * age_ticks ticks of Manager::Tick;
// without ticks it lies until capacity, Trim, pressure or a shortage.
//
// Cost: a hit is that of the pool, and two loads to find it. The slow way takes a mutex.
// Thread-safe but for moving and destruction.
#ifndef ION_POLICIES_POOLED_HEAP_H_
#define ION_POLICIES_POOLED_HEAP_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/block.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/request.h"
#include "policies/pool.h"
#include "policies/pool_classes.h"
#include "policies/pool_spec.h"
#include "policies/scrubber.h"
#include "policies/size_classes.h"

namespace ion {

template <class Inner>
inline constexpr PoolSpec kPoolsFor = Inner::kContiguous ? kScarcePools : kUsualPools;

template <class Inner, PoolSpec kPools = kPoolsFor<Inner>, class Scrubber = PlainScrubber>
class PooledHeap {
  static_assert(!Inner::kCaps.shares && !Inner::kCaps.recycles,
                "ion: a PooledHeap keeps whole buffers of a kernel's heap: a carveout's blocks are "
                "ranges, and cost no system call to begin with");
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
  static constexpr auto kSpec = Inner::kSpec;
  static constexpr HeapId kId = Inner::kId;
  static constexpr HeapType kType = Inner::kType;
  static constexpr bool kContiguous = Inner::kContiguous;
  static constexpr HeapCaps kCaps = [] {
    HeapCaps caps = Inner::kCaps;
    caps.recycles = true;
    return caps;
  }();

  static Result<PooledHeap> Bind(BackendType& backend) noexcept {
    Result<Inner> inner = Inner::Bind(backend);
    if (!inner.ok()) return inner.error();
    std::unique_ptr<State> state(new (std::nothrow) State);
    if (state != nullptr) {
      state->rows.reset(ZeroPages<Row>(PoolDomain::kSlots));
      state->hot.reset(ZeroPages<Hot>(kMostPools + 1));
    }
    if (state == nullptr || state->rows == nullptr || state->hot == nullptr) {
      return Error(ENOMEM, "operator new: the pools", {BackendType::kName, Operation::kOpen});
    }
    return PooledHeap(*std::move(inner), backend, std::move(state));
  }
  PooledHeap(PooledHeap&&) noexcept = default;

  std::string_view name() const noexcept { return inner_.name(); }
  const Properties& properties() const noexcept { return inner_.properties(); }
  const KernelHeap& kernel_heap() const noexcept { return inner_.kernel_heap(); }
  // What the size classes have cost so far, of memory fresh from the kernel.
  Rounding rounding() const noexcept { return state_->rounding.get(); }

  // Fresh from the kernel, of a whole size class where its size is recycled.
  Error Allocate(const Request& request, Block& block) noexcept {
    Request whole = request;
    if (Recycles(request)) whole.bytes = PoolClasses::Bytes(PoolClasses::Of(request.bytes));
    if (Error error = inner_.Allocate(whole, block); !error.ok()) return error;
    state_->rounding.Add(request.bytes, block.bytes);
    return {};
  }
  Error Free(Block& block) noexcept {
    if (const uint16_t home = std::exchange(HomeOf(block), 0); home != 0) {
      state_->entries[home].homes.fetch_sub(1, std::memory_order_acq_rel);
    }
    return inner_.Free(block);
  }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return inner_.Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return inner_.Unmap(at, bytes); }
  Segment SegmentAt(const Block& block, uint64_t offset) const noexcept
      requires(Inner::kCaps.knows_layout) {
    return inner_.SegmentAt(block, offset);
  }

  Error UseBlocks(const PoolHost& host) noexcept {
    state_->host = host;
    state_->homes.reset(ZeroPages<uint16_t>(host.blocks.size()));
    if (state_->homes != nullptr) return {};
    return Error(ENOMEM, "calloc: the pools", {BackendType::kName, Operation::kOpen, name()});
  }
  void CloseDomain(PoolDomain domain) noexcept {
    std::lock_guard lock(state_->mutex);
    Row& row = state_->rows[domain.slot];
    for (auto& classes : row.pools) {
      for (std::atomic<uint32_t>& pool : classes) pool.store(0, std::memory_order_relaxed);
    }
    for (auto& caching : row.own) std::ranges::fill(caching, uint16_t{0});
    ForEachEntry([&](Entry& entry) {
      if (entry.state == Entry::kOpen && entry.domain.slot == domain.slot) {
        entry.state = Entry::kClosed;
      }
    });
    DrainAll();  // so that others find it
  }

  // The hot way: arithmetic and a load. The slow way looks at what is left out here.
  [[gnu::always_inline]] uint32_t PoolOf(const Request& request, uint16_t slot) const noexcept {
    const uint32_t size_class = PoolClasses::Of(request.bytes);
    if (size_class >= kClasses || request.alignment != 1) [[unlikely]]
      return 0;
    const std::atomic<uint32_t>* pools = rows_[slot].pools[0];
    if (request.flags != Flags::kNone) [[unlikely]] {
      const uint32_t choice = ChoiceOf(request.flags);
      if (choice == kNoChoice) [[unlikely]]
        return 0;
      pools += choice * kClasses;
    }
    // Acquired: the pool was made before its number came here.
    return pools[size_class].load(std::memory_order_acquire);
  }
  [[gnu::always_inline]] uint64_t PoolPages(uint32_t pool) const noexcept {
    return HotAt(pool).pages;
  }
  [[gnu::always_inline]] Block* TryAcquire(uint32_t pool) noexcept {
    return Pool<Block>::TryAcquire(HotAt(pool).take_gate, OffsetOf(pool));
  }
  [[gnu::always_inline]] bool TryRecycle(uint32_t pool, Block& block) noexcept {
    const Hot& hot = HotAt(pool);
    return Pool<Block>::TryRelease(hot.give_gate, OffsetOf(pool), hot.slots, &block);
  }
  Block* AcquireOnTrip(uint32_t pool) noexcept { return TakeFrom(EntryAt(pool)); }
  // False: not taken; what has to be zeroed first goes the slow way.
  bool RecycleOnTrip(uint32_t pool, Block& block) noexcept {
    Entry& entry = EntryAt(pool);
    if (!GivesHot(entry.domain) || !entry.pool->Release(&block)) return false;
    BoundIdle();
    return true;
  }

  PooledBlock AcquireSlow(const Request& request, PoolDomain domain) noexcept {
    if (domain.slot == 0 || !Recycles(request)) return {};
    const std::optional<bool> cached = inner_.CachingOf(request);
    if (!cached.has_value()) return {};
    const uint32_t size_class = PoolClasses::Of(request.bytes);
    Found found = Find(domain, *cached, size_class);
    if (found.block == nullptr) return {};
    Entry& home = EntryOf(*found.block);
    if (found.dirty && (found.moved || !domain.as_is)) {
      if (Error error = Scrubber::Scrub(*backend_, *found.block); !error.ok()) {
        backend_->errors().Report(error);
        home.nulls.fetch_add(1, std::memory_order_release);  // it was counted as a hit
        Forget(*found.block, GiveBack::kRefused);
        return {};
      }
      home.scrubs.fetch_add(1, std::memory_order_relaxed);
    }
    found.block->zeroed = !domain.as_is;
    return {found.block, home.number};
  }

  // Not recycled: memory that cannot be mapped, or zeroed, or for which there is no pool.
  uint32_t Adopt(Block& block, const Request& request, PoolDomain domain) noexcept {
    if (domain.slot == 0 || !Recycles(request)) return 0;
    Entry* entry;
    {
      std::lock_guard lock(state_->mutex);
      entry = OpenEntry(domain, block.cached, PoolClasses::Of(request.bytes));
    }
    // Where the kernel gives more than was asked for, the sizes would not agree.
    if (entry == nullptr || block.bytes != entry->block_bytes) return 0;
    if (block.cpu_mappable) {
      const Result<std::byte*> at = backend_->MapToKeep(block);
      if (!at.ok()) {
        backend_->errors().Report(at.error());
        return 0;
      }
      block.mapping = *at;
    } else if (!domain.as_is) {
      return 0;
    }
    // From now on it has what the domain left in it.
    if (domain.as_is) block.zeroed = false;
    MoveTo(block, *entry);
    entry->misses.fetch_add(1, std::memory_order_relaxed);
    return entry->number;
  }

  bool RecycleSlow(Block& block, bool shared) noexcept {
    if (HomeOf(block) == 0) return false;
    Entry& entry = EntryOf(block);
    if (shared) return TakeShared(entry, block);
    if (kPools.scrub == Scrub::kBackground && !entry.domain.as_is && PutDirty(block)) {
      BoundIdle();
      return true;
    }
    if (!Clean(entry, block) || !entry.pool->Release(&block)) {
      CountGiven(entry, block, GiveBack::kRefused);
      return false;
    }
    BoundIdle();
    return true;
  }

  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    std::lock_guard lock(state_->mutex);
    ExamineAll();
    DrainAll();
    uint64_t given = GiveIdle(bytes, why, &Amount::bytes);
    while (given < bytes && state_->quarantine.count > 0) {
      Block& oldest = *state_->quarantine.Take(0);
      given += oldest.bytes;
      Forget(oldest, why);
    }
    return given;
  }

  // From here on nothing is a hit. A trip that is under way may still leave blocks behind: the
  // Manager has whoever makes it call Trim afterwards.
  void Close() noexcept {
    {
      std::lock_guard lock(state_->mutex);
      state_->closed = true;
      ForEachEntry([&](Entry& entry) {
        HotOf(entry).take_gate.store(PoolTicket::kNever, std::memory_order_seq_cst);
        HotOf(entry).give_gate.store(PoolTicket::kNever, std::memory_order_seq_cst);
      });
    }
    // Twice: what a thread that ends had in its hands at first lies in a depot then.
    for (int i = 0; i < 2; ++i) {
      {
        std::lock_guard lock(state_->mutex);
        ForEachEntry([](Entry& entry) { entry.pool->AwaitOthers(); });
      }
      Trim(UINT64_MAX, GiveBack::kTrim);
    }
  }

  void Tick() noexcept {
    std::unique_lock lock(state_->mutex);
    CleanDirty(lock);
    const uint64_t now = ++state_->tick;
    ExamineAll();
    for (size_t i = state_->quarantine.count; i > 0; --i) {
      if (now - state_->quarantine.tick[i - 1] >= 2 * uint64_t{kPools.age_ticks}) {
        Forget(*state_->quarantine.Take(i - 1), GiveBack::kAge);
      }
    }
    if (now % kPools.age_ticks == 0) {
      DrainAll();
      ForEachEntry([&](Entry& entry) {
        entry.pool->TrimUnused([&](Block& block) { Forget(block, GiveBack::kAge); });
      });
    }
    if (const uint64_t idle = Idle().bytes; idle > kPools.high_bytes) {
      GiveIdle(idle - kPools.low_bytes, GiveBack::kWatermark, &Amount::bytes);
    }
    ForEachEntry([](Entry& entry) { FreeIfEmpty(entry); });
  }

  // Pools are empty for a moment: a request that comes just then goes to the kernel.
  void ListIdle(std::vector<const Block*>& idle) {
    std::lock_guard lock(state_->mutex);
    DrainAll();
    for (size_t i = 0; i < state_->quarantine.count; ++i) idle.push_back(state_->quarantine.at[i]);
    for (size_t i = 0; i < state_->dirty.count; ++i) idle.push_back(state_->dirty.at[i]);
    if (state_->cleaning != nullptr) idle.push_back(state_->cleaning);
    std::vector<Block*> lying;
    ForEachEntry([&](Entry& entry) { entry.pool->List(lying); });
    idle.insert(idle.end(), lying.begin(), lying.end());
  }
  void ListPools(std::vector<PoolReport>& reports) {
    std::lock_guard lock(state_->mutex);
    ForEachEntry([&](Entry& entry) {
      // First: each of them is an acquire that the pool has counted.
      const uint64_t nulls = entry.nulls.load(std::memory_order_acquire);
      const PoolCounters counters = entry.pool->counters();
      PoolReport report{.heap = kId,
                        .domain = entry.domain,
                        .open = entry.state == Entry::kOpen,
                        .cached = entry.cached,
                        .block_bytes = entry.block_bytes,
                        .hits = counters.hits + counters.misses - nulls + entry.other_hits.load(),
                        .misses = entry.misses.load(),
                        .held_bytes = counters.held * entry.block_bytes,
                        .scrubs = entry.scrubs.load(),
                        .moves = entry.moves.load()};
      for (size_t i = 0; i < kGiveBacks; ++i) report.given_back_bytes[i] = entry.given[i].load();
      const auto add = [&](const List& list, uint64_t& bytes) {
        for (size_t i = 0; i < list.count; ++i) {
          if (&EntryOf(*list.at[i]) == &entry) bytes += entry.block_bytes;
        }
      };
      add(state_->quarantine, report.quarantined_bytes);
      add(state_->dirty, report.held_bytes);
      if (state_->cleaning != nullptr && &EntryOf(*state_->cleaning) == &entry) {
        report.held_bytes += entry.block_bytes;
      }
      reports.push_back(report);
    });
  }

 private:
  static constexpr uint32_t kClasses = PoolClasses::Of(kPools.largest_bytes) + 1;
  static constexpr uint16_t kMaxEntries = 128;  // number 0 is no pool
  static constexpr bool kProves = BackendType::kCaps.proves_unshared;

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

  // The pools of one domain. For the hot way only those that are not to be zeroed there.
  struct Row {
    std::atomic<uint32_t> pools[kChoices][kClasses];
    uint16_t own[2][kClasses];  // uncached and cached; under the mutex
  };

  // What a hit reads of a pool, and only the Manager's end changes. A pool's number is how far in
  // bytes its own lies in the table: so it is what a LeaseToken wants, and the way to the thread's
  // magazine is arithmetic. (It must not wait for a load: what a release stores there, the next hit
  // loads, and waits for its address.)
  struct Hot {
    std::atomic<uint64_t> take_gate;
    std::atomic<uint64_t> give_gate;  // nobody's where blocks are zeroed on their way back
    uint64_t pages;
    uint32_t slots;
    uint16_t entry;
    uint64_t padding[4];  // to the step of LeaseToken
  };
  static_assert(sizeof(Hot) == LeaseToken::kPoolStep);
  static constexpr size_t kMostPools = 1024;
  static uint64_t OffsetOf(uint64_t pool) noexcept {
    constexpr uint64_t kFirst = Pool<Block>::OffsetOf(0);
    constexpr uint64_t kStep = Pool<Block>::OffsetOf(1) - kFirst;
    static_assert(kStep % sizeof(Hot) == 0);
    return kFirst - kStep + pool * (kStep / sizeof(Hot));
  }

  // A pool, or what is left of one.
  struct Entry {
    enum State : uint8_t { kFree, kOpen, kClosed };

    std::optional<Pool<Block>> pool;
    uint32_t number = 0;  // of the pool
    uint64_t block_bytes = 0;
    PoolDomain domain;
    State state = kFree;  // under the mutex
    bool cached = false;
    uint32_t size_class = 0;
    std::atomic<uint32_t> homes{0};  // blocks that are its own, leased or not
    // `nulls`: of what the pool has counted, what is no hit of this domain.
    std::atomic<uint64_t> misses{0}, nulls{0}, other_hits{0}, scrubs{0}, moves{0};
    std::array<std::atomic<uint64_t>, kGiveBacks> given{};
  };

  // Blocks that wait, the oldest first. Under the mutex.
  struct List {
    static constexpr size_t kMost = std::max<size_t>(kPools.quarantine_blocks, 1);

    bool Put(Block& block, uint64_t now = 0) noexcept {
      if (count == kMost) return false;
      at[count] = &block;
      tick[count++] = now;
      bytes += block.bytes;
      return true;
    }
    Block* Take(size_t i) noexcept {
      Block* block = at[i];
      --count;
      for (; i < count; ++i) {
        at[i] = at[i + 1];
        tick[i] = tick[i + 1];
      }
      bytes -= block->bytes;
      return block;
    }

    size_t count = 0;
    uint64_t bytes = 0;
    Block* at[kMost];
    uint64_t tick[kMost];
  };

  // Zeros, of which those that nobody writes cost no memory.
  template <class T>
  static T* ZeroPages(size_t count) noexcept {
    return static_cast<T*>(std::calloc(count, sizeof(T)));
  }
  struct FreeDeleter {
    void operator()(void* at) const noexcept { std::free(at); }
  };
  struct State {
    std::unique_ptr<Row[], FreeDeleter> rows;
    std::unique_ptr<Hot[], FreeDeleter> hot;
    std::array<Entry, kMaxEntries> entries;
    PoolHost host;
    std::unique_ptr<uint16_t[], FreeDeleter> homes;  // by the block's index: its entry's number
    RoundingCounter rounding;
    std::mutex mutex;
    uint16_t entries_used = 1;  // those that ever had a pool are below
    uint64_t tick = 0;
    bool closed = false;  // no pool is made any more
    List quarantine, dirty;
    Block* cleaning = nullptr;  // in no list, while a tick zeroes it
  };

  struct Found {
    Block* block = nullptr;
    bool dirty = false;  // has what somebody left in it
    bool moved = false;  // from another domain
  };

  PooledHeap(Inner&& inner, BackendType& backend, std::unique_ptr<State> state) noexcept
      : rows_(state->rows.get()),
        hot_(state->hot.get()),
        backend_(&backend),
        state_(std::move(state)),
        inner_(std::move(inner)) {}

  static bool Recycles(const Request& request) noexcept {
    return kPools.capacity_bytes != 0 && kPools.capacity_blocks != 0 &&
           HeapPrivateBits(request.flags) == 0 && PoolClasses::Of(request.bytes) < kClasses;
  }
  uint16_t& HomeOf(const Block& block) const noexcept {
    return state_->homes[static_cast<size_t>(&block - state_->host.blocks.data())];
  }
  Entry& EntryOf(const Block& block) const noexcept { return state_->entries[HomeOf(block)]; }
  [[gnu::always_inline]] const Hot& HotAt(uint32_t pool) const noexcept {
    return *reinterpret_cast<const Hot*>(reinterpret_cast<const std::byte*>(hot_) + pool);
  }
  Entry& EntryAt(uint32_t pool) const noexcept { return state_->entries[HotAt(pool).entry]; }
  Hot& HotOf(const Entry& entry) const noexcept { return state_->hot[entry.number / sizeof(Hot)]; }
  uint16_t IndexOf(const Entry& entry) const noexcept {
    return static_cast<uint16_t>(&entry - state_->entries.data());
  }
  // Whether what is taken, or given, needs no zeroing then.
  static bool TakesHot(PoolDomain domain) noexcept {
    return domain.as_is || kPools.scrub != Scrub::kOnAllocate;
  }
  static bool GivesHot(PoolDomain domain) noexcept {
    return domain.as_is || kPools.scrub == Scrub::kOnAllocate;
  }
  void MoveTo(Block& block, Entry& entry) noexcept {
    const uint16_t was = std::exchange(HomeOf(block), IndexOf(entry));
    if (was != 0) state_->entries[was].homes.fetch_sub(1, std::memory_order_acq_rel);
    entry.homes.fetch_add(1, std::memory_order_relaxed);
  }
  void CountGiven(Entry& entry, const Block& block, GiveBack why) noexcept {
    entry.given[static_cast<size_t>(why)].fetch_add(block.bytes, std::memory_order_relaxed);
  }
  void Forget(Block& block, GiveBack why) noexcept {
    CountGiven(EntryOf(block), block, why);
    state_->host.forget(state_->host.context, block);
  }

  // f(entry) for each that is somebody's. Under the mutex.
  template <class F>
  void ForEachEntry(F f) {
    for (uint16_t i = 1; i < state_->entries_used; ++i) {
      if (state_->entries[i].state != Entry::kFree) f(state_->entries[i]);
    }
  }
  // The entry of a domain's pool; nullptr: there is none. Under the mutex.
  Entry* EntryFor(PoolDomain domain, bool cached, uint32_t size_class) noexcept {
    const uint16_t number = state_->rows[domain.slot].own[cached][size_class];
    return number == 0 ? nullptr : &state_->entries[number];
  }
  // The same, made where there is none; nullptr: no more can be made.
  Entry* OpenEntry(PoolDomain domain, bool cached, uint32_t size_class) noexcept {
    if (Entry* entry = EntryFor(domain, cached, size_class); entry != nullptr) return entry;
    Entry* entry = state_->closed ? nullptr : FreeEntry(size_class);
    if (entry == nullptr) return nullptr;
    entry->domain = domain;
    entry->cached = cached;
    for (std::atomic<uint64_t>* counter :
         {&entry->misses, &entry->other_hits, &entry->scrubs, &entry->moves}) {
      counter->store(0, std::memory_order_relaxed);
    }
    // What the pool counted while it was another domain's is no hit of this one.
    const PoolCounters before = entry->pool->counters();
    entry->nulls.store(before.hits + before.misses, std::memory_order_relaxed);
    for (auto& given : entry->given) given.store(0, std::memory_order_relaxed);
    entry->state = Entry::kOpen;
    HotOf(*entry).give_gate.store(
        GivesHot(domain) ? entry->pool->Ticket().gate : PoolTicket::kNever,
        std::memory_order_relaxed);
    Row& row = state_->rows[domain.slot];
    row.own[cached][size_class] = IndexOf(*entry);
    if (!TakesHot(domain)) return entry;
    for (const Flags flags : {Flags::kNone, Flags::kCached, Flags::kUncached}) {
      if (inner_.CachingOf({.bytes = 1, .flags = flags}) != cached) continue;
      row.pools[ChoiceOf(flags)][size_class].store(entry->number, std::memory_order_release);
    }
    return entry;
  }
  // One that has a pool of this size: a free one, or a new one, or in place of one of another size.
  Entry* FreeEntry(uint32_t size_class) noexcept {
    Entry* other = nullptr;
    for (uint16_t i = 1; i < state_->entries_used; ++i) {
      Entry& entry = state_->entries[i];
      FreeIfEmpty(entry);
      if (entry.state != Entry::kFree) continue;
      if (entry.size_class == size_class) return &entry;
      other = &entry;
    }
    const bool full = state_->entries_used == kMaxEntries;
    if (full && other == nullptr) return nullptr;
    const uint64_t block_bytes = *RoundUpToPages(PoolClasses::Bytes(size_class));
    Result<Pool<Block>> pool =
        Pool<Block>::Create(state_->host.blocks, {.object_bytes = block_bytes});
    if (!pool.ok()) {
      backend_->errors().Report(pool.error());
      return nullptr;
    }
    Entry& entry = full ? *other : state_->entries[state_->entries_used++];
    // No block is its own, and no client: who is still in a call to it is on his way out.
    if (entry.pool.has_value()) entry.pool->AwaitOthers();
    entry.size_class = size_class;
    entry.block_bytes = block_bytes;
    entry.pool.emplace(*std::move(pool));
    entry.number = (entry.pool->id() + 1) * sizeof(Hot);
    Hot& hot = HotOf(entry);
    hot.take_gate.store(entry.pool->Ticket().gate, std::memory_order_relaxed);
    hot.pages = entry.block_bytes / PageBytes();
    hot.slots = entry.pool->Ticket().slots;
    hot.entry = IndexOf(entry);
    return &entry;
  }
  // A closed pool that has no block any more can be another domain's, or of another size.
  static void FreeIfEmpty(Entry& entry) noexcept {
    if (entry.state == Entry::kClosed && entry.homes.load(std::memory_order_acquire) == 0) {
      entry.state = Entry::kFree;
    }
  }

  Block* TakeFrom(Entry& entry) noexcept {
    Block* block = entry.pool->Acquire();
    if (block == nullptr) entry.nulls.fetch_add(1, std::memory_order_release);
    return block;
  }
  Found Find(PoolDomain domain, bool cached, uint32_t size_class) noexcept {
    // What lies in a pool of one's own was zeroed when it came, or has to be now.
    constexpr bool kDirty = kPools.scrub == Scrub::kOnAllocate;
    std::lock_guard lock(state_->mutex);
    Entry* own = EntryFor(domain, cached, size_class);
    if (own != nullptr) {
      if (Block* block = TakeFrom(*own); block != nullptr) return {block, kDirty};
      if (Block* block = TakeWaiting(*own); block != nullptr) {
        own->other_hits.fetch_add(1, std::memory_order_relaxed);
        return {block, true};
      }
    }
    const uint64_t most = PoolClasses::Bytes(size_class) * kPools.most_percent / 100;
    for (uint32_t larger = size_class + 1; larger < kClasses && PoolClasses::Bytes(larger) <= most;
         ++larger) {
      Entry* entry = EntryFor(domain, cached, larger);
      if (entry == nullptr) continue;
      if (Block* block = TakeFrom(*entry); block != nullptr) return {block, kDirty};
    }
    return FindElsewhere(domain, cached, size_class);
  }
  // Of another domain: what lies in its depot, which is not what its threads have at hand.
  Found FindElsewhere(PoolDomain domain, bool cached, uint32_t size_class) noexcept {
    Block* block = nullptr;
    ForEachEntry([&](Entry& entry) {
      const bool ours = entry.state == Entry::kOpen && entry.domain.slot == domain.slot;
      if (block != nullptr || ours || entry.cached != cached || entry.size_class != size_class) {
        return;
      }
      const uint32_t depth = entry.pool->depth();
      if (depth == 0) return;
      entry.pool->Shrink(depth - 1, [&](Block& one) {
        // Of several at once each may get one too many.
        if (block == nullptr) {
          block = &one;
        } else {
          (void)entry.pool->Release(&one);
        }
      });
    });
    if (block == nullptr) return {};
    Entry* own = OpenEntry(domain, cached, size_class);
    if (own == nullptr) {
      (void)EntryOf(*block).pool->Release(block);
      return {};
    }
    MoveTo(*block, *own);
    own->moves.fetch_add(1, std::memory_order_relaxed);
    own->other_hits.fetch_add(1, std::memory_order_relaxed);
    return {block, /*dirty=*/true, /*moved=*/true};
  }
  // From what waits to be zeroed, or for proof.
  Block* TakeWaiting(Entry& own) noexcept {
    for (size_t i = 0; i < state_->dirty.count; ++i) {
      if (&EntryOf(*state_->dirty.at[i]) == &own) return state_->dirty.Take(i);
    }
    unsigned examined = 0;
    for (size_t i = 0; i < state_->quarantine.count && examined < 4; ++i) {
      Block& block = *state_->quarantine.at[i];
      if (&EntryOf(block) != &own) continue;
      ++examined;
      if (IsOursAlone(block)) return state_->quarantine.Take(i);
    }
    return nullptr;
  }

  // Who holds a block that was shared. Nobody can tell: ENOTSUP, and what went wrong.
  enum class Holders { kWeAlone, kOthers, kUnknown };
  Holders HoldersOf(const Block& block) noexcept {
    if constexpr (kProves) {
      const Result<bool> answer = backend_->IsUnshared(block);
      if (answer.ok()) return *answer ? Holders::kWeAlone : Holders::kOthers;
      if (answer.error().code() != ENOTSUP) backend_->errors().Report(answer.error());
    }
    return Holders::kUnknown;
  }
  bool IsOursAlone(const Block& block) noexcept { return HoldersOf(block) == Holders::kWeAlone; }
  bool TakeShared(Entry& entry, Block& block) noexcept {
    if constexpr (kProves) {
      std::lock_guard lock(state_->mutex);
      const Holders holders = HoldersOf(block);
      if (holders == Holders::kWeAlone) {
        if (PutBack(entry, block)) return true;
      } else if (holders == Holders::kOthers && kPools.quarantine_blocks > 0 &&
                 block.bytes <= kPools.quarantine_bytes) {
        while (state_->quarantine.count > 0 &&
               (state_->quarantine.count == List::kMost ||
                state_->quarantine.bytes + block.bytes > kPools.quarantine_bytes)) {
          Block& oldest = *state_->quarantine.Take(0);
          if (!IsOursAlone(oldest) || !PutBack(EntryOf(oldest), oldest)) {
            Forget(oldest, GiveBack::kRefused);
          }
        }
        return state_->quarantine.Put(block, state_->tick);
      }
    }
    CountGiven(entry, block, GiveBack::kRefused);
    return false;
  }
  // Zeroes what the next request of its domain must not see. False: it cannot be.
  bool Clean(Entry& entry, Block& block) noexcept {
    if (kPools.scrub == Scrub::kOnAllocate || entry.domain.as_is) return true;
    if (Error error = Scrubber::Scrub(*backend_, block); !error.ok()) {
      backend_->errors().Report(error);
      return false;
    }
    entry.scrubs.fetch_add(1, std::memory_order_relaxed);
    return true;
  }
  // Into its pool. Under the mutex.
  bool PutBack(Entry& entry, Block& block) noexcept {
    return Clean(entry, block) && entry.pool->Release(&block);
  }
  // All that waits and need not any more.
  void ExamineAll() noexcept {
    for (size_t i = state_->quarantine.count; i > 0; --i) {
      if (!IsOursAlone(*state_->quarantine.at[i - 1])) continue;
      Block& block = *state_->quarantine.Take(i - 1);
      if (!PutBack(EntryOf(block), block)) Forget(block, GiveBack::kRefused);
    }
  }
  bool PutDirty(Block& block) noexcept {
    std::lock_guard lock(state_->mutex);
    return state_->dirty.Put(block);
  }
  // Zeroes what waits for it now, without the mutex: who comes meanwhile does not wait.
  void CleanDirty(std::unique_lock<std::mutex>& lock) noexcept {
    for (size_t n = state_->dirty.count; n > 0 && state_->dirty.count > 0; --n) {
      if (state_->cleaning != nullptr) return;  // another tick is at it
      Block& block = *(state_->cleaning = state_->dirty.Take(0));
      lock.unlock();
      Entry& entry = EntryOf(block);
      const bool clean = Clean(entry, block);
      lock.lock();
      state_->cleaning = nullptr;
      if (!clean || !entry.pool->Release(&block)) Forget(block, GiveBack::kRefused);
    }
  }

  void DrainAll() noexcept {
    PoolBase<>* pools[kMaxEntries];
    size_t count = 0;
    ForEachEntry([&](Entry& entry) { pools[count++] = &*entry.pool; });
    PoolBase<>::Drain(std::span(pools, count));
  }
  struct Amount {
    uint64_t bytes;
    uint64_t blocks;
  };
  // One of an entry's blocks.
  static Amount OneOf(const Entry& entry) noexcept { return {entry.block_bytes, 1}; }

  Amount Idle() noexcept {
    Amount idle{state_->dirty.bytes, state_->dirty.count};
    ForEachEntry([&](Entry& entry) {
      const uint32_t depth = entry.pool->depth();
      idle.bytes += depth * entry.block_bytes;
      idle.blocks += depth;
    });
    return idle;
  }
  // Gives back what waits to be zeroed, then what lies in depots: of closed domains, then where
  // most lies. No more than there is now, though others go on putting: it ends.
  uint64_t GiveIdle(uint64_t amount, GiveBack why, uint64_t Amount::*unit) noexcept {
    amount = std::min(amount, Idle().*unit);
    uint64_t given = 0;
    while (given < amount && state_->dirty.count > 0) {
      Block& oldest = *state_->dirty.Take(0);
      given += OneOf(EntryOf(oldest)).*unit;
      Forget(oldest, why);
    }
    while (given < amount) {
      Entry* fullest = nullptr;
      uint64_t most = 0;
      ForEachEntry([&](Entry& entry) {
        uint64_t lies = entry.pool->depth() * OneOf(entry).*unit;
        if (lies != 0 && entry.state == Entry::kClosed) lies |= uint64_t{1} << 63;
        if (lies <= most) return;
        most = lies;
        fullest = &entry;
      });
      if (fullest == nullptr) return given;
      const uint64_t one = OneOf(*fullest).*unit;
      const uint64_t wanted = (amount - given - 1) / one + 1;
      const uint32_t depth = fullest->pool->depth();
      const auto keep = static_cast<uint32_t>(depth - std::min<uint64_t>(wanted, depth));
      const uint32_t taken = fullest->pool->Shrink(keep, [&](Block& block) { Forget(block, why); });
      if (taken == 0) return given;  // others took it meanwhile
      given += taken * one;
    }
    return given;
  }
  // After a thread went to a depot.
  [[gnu::noinline]] void BoundIdle() noexcept {
    // Somebody else is at it, or makes a pool: the next trip looks again.
    std::unique_lock lock(state_->mutex, std::try_to_lock);
    if (!lock.owns_lock()) return;
    const Amount idle = Idle();
    if (idle.bytes > kPools.capacity_bytes) {
      GiveIdle(idle.bytes - kPools.high_bytes, GiveBack::kCapacity, &Amount::bytes);
    } else if (idle.blocks > kPools.capacity_blocks) {
      GiveIdle(idle.blocks - kPools.capacity_blocks / 2, GiveBack::kCapacity, &Amount::blocks);
    }
  }

  // What a hit reads, and nobody changes.
  const Row* rows_;
  const Hot* hot_;
  BackendType* backend_;
  std::unique_ptr<State> state_;
  Inner inner_;
};

}  // namespace ion

#endif  // ION_POLICIES_POOLED_HEAP_H_
