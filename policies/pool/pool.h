// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/pool.h
//
// Pool: recycles the elements of an array of descriptors (ion::Block) from any thread: a magazine
// per thread (policies/pool/magazine.h), before a depot (policies/pool/depot.h). A pool never reads
// or writes a descriptor: its line stays as it was, in whichever caches it is.
//
// Example:
//   ion::Result<ion::Pool<ion::Block>> pool =
//       ion::Pool<ion::Block>::Create(blocks, {.object_bytes = 4096});
//   bool kept = pool->Release(&blocks[0]);   // how a descriptor comes in: a new pool is empty
//   ion::Block* block = pool->Acquire([&]() -> ion::Block* { return FromTheKernel(); });
//   if (!pool->Release(block)) GiveToTheKernel(*block);   // false: in a forked child only
//   pool->Trim(/*keep=*/100, [&](ion::Block& block) { GiveToTheKernel(block); });
//
// An acquire looks in this order: the thread's magazine; the depot; the magazines of other threads,
// if a count of theirs is not 0; the caller's refill. So an acquire with no other call under way
// fails only if the pool is empty.
//
// Threads. Any thread may use a pool; the first use on a thread binds it. The content of its
// magazine goes to the depot when it ends; a thread-local destructor that uses the pool later goes
// to the depot directly. The descriptors of a pool and the pool must outlive every call, and not
// the threads.
//
// Signals. A handler may use a pool on a thread that was bound before (BindThread). If it
// interrupted a call on the same pool it goes to the depot.
//
// fork. The content of a pool belongs to the parent: the pages behind it are shared. In the child
// an inherited pool is empty for good: Acquire gives nothing, Release answers false and takes
// nothing. New pools work. (Not before Linux 4.14: see ion/base/wiped_pages.h. Not if the fork is
// made by a handler that interrupted a call.)
//
// No membarrier (seccomp, Linux before 4.14): found out when a pool is made; its magazines are then
// claimed by a locked instruction, at about 20 ns for a call. If a filter comes later, drains ask
// the owners instead of taking.
//
// Bounds. A magazine holds at most 32 descriptors, and at most 1 MiB. Larger objects lie in the
// depot; with a budget (PoolOptions::near) a magazine also holds up to 4 of them, for each of which
// it has taken room there. The magazines of one thread together hold P::kThreadBytes, larger objects
// not counted, checked when one of them goes to the depot.
//
// Cost: a hit is a few nanoseconds, no locked instruction, no system call. At most 7.4 bytes per
// descriptor and 1.2 KiB per pool, in whole pages; 320 bytes per thread and pool it uses.
// Thread-safe but for moving, Close and destruction.
//
// Progress: a hit is wait-free. Acquire and Release otherwise, Drain, Trim and the counters are
// lock-free: no thread ever waits for another to go on. Create scans 1024 ids, lock-free. Close
// (and the destructor) waits for threads that are in the middle of giving back what their magazine
// of this pool holds, which is all that they still do: in their exit, or in a call on another pool
// that found too much in the magazines of its thread.
#ifndef ION_POLICIES_POOL_POOL_H_
#define ION_POLICIES_POOL_POOL_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/library_hash.h"
#include "ion/base/wiped_pages.h"
#include "ion/policies/pool/depot.h"
#include "ion/policies/pool/magazine.h"
#include "ion/policies/pool/membarrier.h"
#include "ion/policies/pool/near_budget.h"
#include "ion/policies/pool/thread_record.h"

namespace ion {

// The parts of a Pool. Pools with different policies share nothing.
struct PoolPolicy : MagazinePolicy {
  // Once for each pool; false: do without Fence.
  static bool RegisterFence() noexcept { return kOwnerFences || internal::Membarrier::Register(); }
  // True: every other thread has passed a full barrier.
  static bool Fence() noexcept { return kOwnerFences || internal::Membarrier::Fence(); }
  // The most bytes that the magazines of one thread hold together. Arbitrary: sixteen full ones.
  static constexpr uint64_t kThreadBytes = 16 << 20;
};

struct PoolOptions {
  // The bytes that one descriptor stands for.
  uint64_t object_bytes = 4096;
  // The bound on objects above 1 MiB in magazines; none: they lie in the depot only. It outlives
  // the pool.
  NearBudget* near = nullptr;
};

// The fields of a pool that a hit reads.
struct PoolTicket {
  static constexpr uint64_t kNever = ~uint64_t{0};  // no magazine's gate: nothing is a hit

  uint64_t gate = kNever;
  uint64_t offset = 0;
};

// Sums over all threads, read while they go on: each is a number that its owner stored, none is
// older than the call. Exact when no call is under way.
struct PoolCounters {
  uint64_t hits = 0;         // acquires that a magazine served
  uint64_t misses = 0;       // all other acquires
  uint64_t depot_trips = 0;  // times that a thread went to the depot, to take or to put
  uint64_t drains = 0;       // magazines emptied by another thread, or at its request
  uint64_t held = 0;         // descriptors that lie in the pool
};

namespace internal {

// The part of a pool that threads reach without its type. In wiped pages: in a forked child `alive`
// is 0.
template <class P>
struct PoolCore {
  uint32_t alive;
  uint32_t id;
  uint64_t generation;
  uint64_t open;     // the gate of a magazine that its owner may enter
  bool locked;       // no membarrier: magazines are claimed by their owners too
  uint32_t slots;    // the most that a magazine holds
  NearBudget* near;  // of large objects; else nullptr: a magazine has room for all its slots
  uint64_t object_bytes;
  std::byte* descriptors;
  uint32_t count;
  // The division of two descriptors' distance by their size: if it is exact, a rotation and the
  // inverse of the odd part suffice; if not, the result is no valid index.
  uint32_t stride;
  uint64_t stride_inverse;

  Depot<P> depot;
  // Acquires and depot trips of threads that have no magazine at hand.
  alignas(64) typename P::template Atomic<uint64_t> away_acquires;
  typename P::template Atomic<uint64_t> away_trips;
  typename P::template Atomic<uint64_t> drains;

  uint32_t IndexOf(const void* descriptor) const noexcept {
    const auto distance =
        static_cast<uint64_t>(static_cast<const std::byte*>(descriptor) - descriptors);
    const uint64_t index = std::rotr(distance, std::countr_zero(stride)) * stride_inverse;
    ION_CHECK(index < count, "a pool was given a descriptor that is not of its array");
    return static_cast<uint32_t>(index);
  }
  void* DescriptorAt(uint32_t index) const noexcept {
    return descriptors + uint64_t{index} * stride;
  }
};

// The inverse of an odd number modulo 2^64: each of Newton's steps doubles the right bits.
constexpr uint64_t InverseOfOdd(uint64_t odd) noexcept {
  uint64_t inverse = odd;
  for (int i = 0; i < 5; ++i) inverse *= 2 - odd * inverse;
  return inverse;
}

}  // namespace internal

// A Pool without the type of its descriptors, for calls on several pools at once.
template <class P = PoolPolicy>
class PoolBase {
 public:
  static constexpr uint32_t kSlots = Magazine<P>::kSlots;
  // The most that one magazine holds, of objects that are no larger; and of larger ones, by number.
  static constexpr uint64_t kMagazineBytes = 1 << 20;
  static constexpr uint32_t kNearSlots = 4;

  PoolBase(const PoolBase&) = delete;
  PoolBase& operator=(const PoolBase&) = delete;

  // Takes, here instead of on the first use, the memory that this thread's magazine needs. False:
  // there is none, or none is wanted, or the thread is in its exit; the pool works, through the
  // depot. Lock-free.
  bool BindThread() noexcept {
    Core& core = CheckedCore();
    if (core.alive == 0) return false;
    Magazine<P>* magazine = EnterSlow(core);
    if (magazine == nullptr) return false;
    LeaveSlow(core, *magazine);
    return true;
  }

  // Brings what the magazines hold to the depot. The one whose owner is inside at this moment is
  // left to it: it does so when it comes next. Returns how many descriptors were moved. Lock-free.
  uint32_t Drain() noexcept {
    PoolBase* self = this;
    return Drain(std::span(&self, 1));
  }
  // The same for several pools, with one membarrier.
  static uint32_t Drain(std::span<PoolBase* const> pools) noexcept {
    Magazine<P>* claimed = nullptr;
    bool fence = false;
    for (PoolBase* pool : pools) {
      Core& core = pool->CheckedCore();
      if (core.alive == 0) continue;
      ClaimAll(core, &claimed, /*idle_room=*/true);
      fence = fence || !core.locked;
    }
    return Empty(claimed, fence, nullptr);
  }

  // Returns when each call that is inside a magazine, and each giving back of one, that was under
  // way has ended. Waits for threads that are inside one. Not sure of hits where membarrier is
  // refused that was allowed when the pool was made. Requires: the caller is not a signal handler
  // inside a call.
  void AwaitOthers() noexcept {
    Core& core = CheckedCore();
    if (core.alive == 0) return;
    if (!core.locked) (void)P::Fence();
    ForEachMagazine(core, [](Magazine<P>& magazine) {
      while (magazine.busy()) internal::LetOthersRun();
    });
    internal::Table<P>()->AwaitPins(core.id);
  }

  // As said at PoolCounters. Lock-free.
  PoolCounters counters() const noexcept {
    Core& core = CheckedCore();
    PoolCounters sum;
    if (core.alive == 0) return sum;
    sum.misses = core.away_acquires.load(std::memory_order_relaxed);
    sum.depot_trips = core.away_trips.load(std::memory_order_relaxed);
    sum.drains = core.drains.load(std::memory_order_relaxed);
    sum.held = core.depot.depth();
    ForEachMagazine(core, [&](Magazine<P>& magazine) {
      sum.hits += magazine.hits();
      sum.misses += magazine.misses();
      sum.depot_trips += magazine.trips();
      sum.held += magazine.count();
    });
    return sum;
  }
  // Descriptors in the depot, which Shrink could take. Lock-free.
  uint32_t depth() const noexcept {
    Core& core = CheckedCore();
    return core.alive == 0 ? 0 : core.depot.depth();
  }
  // Of the pools that live, each has another: below 1024.
  uint32_t id() const noexcept { return CheckedCore().id; }
  // How many descriptors this pool's magazines hold at most.
  uint32_t magazine_slots() const noexcept { return CheckedCore().slots; }
  // Inherited through a fork: empty for good.
  bool inherited() const noexcept { return CheckedCore().alive == 0; }
  // Membarrier was refused when the pool was made.
  bool locked() const noexcept { return CheckedCore().locked; }

 protected:
  using Core = internal::PoolCore<P>;
  using Record = internal::ThreadRecord<P>;
  using Statics = internal::Statics<P>;
  static constexpr uint64_t kNever = PoolTicket::kNever;

  PoolBase() = default;
  PoolBase(PoolBase&& other) noexcept { Swap(other); }
  ~PoolBase() = default;

  void Swap(PoolBase& other) noexcept {
    std::swap(gate_, other.gate_);
    std::swap(offset_, other.offset_);
    std::swap(core_, other.core_);
    std::swap(core_bytes_, other.core_bytes_);
  }

  Error Init(void* descriptors, size_t count, uint32_t stride,
             const PoolOptions& options) noexcept {
    const Origin origin{"pool", Operation::kOpen, {}, options.object_bytes};
    if (count == 0 || count > Depot<P>::kMaxObjects) {
      return Error(EINVAL, "the number of descriptors", origin,
                   "give the pool an array of 1 to 10485710 descriptors");
    }
    if (options.object_bytes == 0) {
      return Error(EINVAL, "object_bytes is 0", origin,
                   "say in PoolOptions what one descriptor stands for");
    }
    internal::PoolTable<P>* table = internal::Table<P>();
    const auto objects = static_cast<uint32_t>(count);
    const size_t bytes = sizeof(Core) + Depot<P>::Bytes(objects);
    void* memory = table == nullptr ? nullptr : internal::MapWiped(bytes);
    if (memory == nullptr) return Error(ENOMEM, "mmap: a pool", origin);

    Core* core = ::new (memory) Core{};
    // Libraries that have statics of their own begin at different ones: none takes another's pool
    // for one of its.
    uint64_t none = 0;
    Statics::last_generation.compare_exchange_strong(
        none, internal::LibraryHash(&Statics::last_generation) >> 21, std::memory_order_relaxed);
    core->generation = Statics::last_generation.fetch_add(1, std::memory_order_relaxed) + 1;
    if (core->generation > internal::PoolTable<P>::kMaxGeneration) {
      internal::UnmapWiped(memory, bytes);
      return Error(EOVERFLOW, "2^44 pools were made", origin, "restart the process");
    }
    core->open = Magazine<P>::OpenGate(core->generation);
    core->locked = !P::RegisterFence();
    core->slots = SlotsOf(options.object_bytes);
    if (core->slots == 0 && options.near != nullptr) {
      core->slots = kNearSlots;
      core->near = options.near;
    }
    core->object_bytes = options.object_bytes;
    core->descriptors = static_cast<std::byte*>(descriptors);
    core->count = objects;
    core->stride = stride;
    core->stride_inverse = internal::InverseOfOdd(stride >> std::countr_zero(stride));
    core->depot.Init(core + 1, objects);
    core->alive = 1;
    core->id = table->Open(core, core->generation);
    if (core->id == internal::kMaxPools) {
      internal::UnmapWiped(memory, bytes);
      return Error(ENOSPC, "1024 pools live", origin, "destroy some first");
    }
    gate_ = core->locked || core->slots == 0 ? kNever : core->open;
    offset_ = Record::Offset(core->id);
    core_ = core;
    core_bytes_ = bytes;
    return {};
  }

  // f(descriptor) for each that lies in the pool, which is then no more.
  template <class F>
  void CloseInto(F f) noexcept {
    Core* core = std::exchange(core_, nullptr);
    if (core == nullptr) return;
    gate_ = kNever;
    if (core->alive != 0) {
      internal::PoolTable<P>* table = internal::Table<P>();
      const uint32_t id = core->id;
      table->Close(id);
      ForEachMagazine(*core, [&](Magazine<P>& magazine) {
        ION_CHECK(!magazine.busy(), "a pool was destroyed while a thread was inside a call to it");
        for (uint32_t i = 0; i < magazine.count(); ++i) f(magazine.slot(i));
        GiveRoom(*core, magazine);
        magazine.Unbind();
      });
      TakeFromDepot(*core, core->count, /*keep=*/0, f);
      internal::UnmapWiped(core, core_bytes_);
      table->Free(id);
    } else {
      internal::UnmapWiped(core, core_bytes_);
    }
  }

  // f(descriptor) for up to `n` from the depot, while more than `keep` lie there. Returns for how
  // many.
  template <class F>
  static uint32_t TakeFromDepot(Core& core, uint32_t n, uint32_t keep, F f) noexcept {
    uint32_t taken = 0;
    uint32_t objects[Depot<P>::kBlockObjects];
    while (taken < n) {
      // Again each time: others take, too.
      const uint32_t depth = core.depot.depth();
      if (depth <= keep) break;
      const uint32_t got = core.depot.Get(objects, std::min(n - taken, depth - keep));
      if (got == 0) break;
      for (uint32_t i = 0; i < got; ++i) f(core.DescriptorAt(objects[i]));
      taken += got;
    }
    return taken;
  }

  [[gnu::noinline]] void* AcquireSlow() noexcept {
    Core& core = CheckedCore();
    if (core.alive == 0) return nullptr;
    if (Magazine<P>* magazine = EnterSlow(core); magazine != nullptr) {
      void* descriptor = magazine->count() > 0 ? magazine->Pop() : Refill(core, *magazine);
      LeaveSlow(core, *magazine);
      if (descriptor != nullptr) return descriptor;
    } else {
      core.away_acquires.fetch_add(1, std::memory_order_relaxed);
      core.away_trips.fetch_add(1, std::memory_order_relaxed);
      uint32_t object;
      if (core.depot.Get(&object, 1) != 0) return core.DescriptorAt(object);
    }
    // The whole of another thread's magazine: all but one descriptor goes to the depot.
    Magazine<P>* claimed = nullptr;
    ClaimAll(core, &claimed, /*idle_room=*/false);
    void* one = nullptr;
    Empty(claimed, !core.locked, &one);
    if (one != nullptr) return one;
    uint32_t object;  // somebody may have been draining, too
    return core.depot.Get(&object, 1) != 0 ? core.DescriptorAt(object) : nullptr;
  }

  [[gnu::noinline]] bool ReleaseSlow(void* descriptor) noexcept {
    Core& core = CheckedCore();
    if (core.alive == 0) return false;
    if (Magazine<P>* magazine = EnterSlow(core); magazine != nullptr) {
      const bool fits = magazine->count() < magazine->room() || MakeRoom(core, *magazine);
      if (fits) {
        magazine->Push(descriptor);
      } else {
        magazine->CountTrip();
      }
      LeaveSlow(core, *magazine);
      if (fits) return true;
    } else {
      core.away_trips.fetch_add(1, std::memory_order_relaxed);
    }
    const uint32_t object = core.IndexOf(descriptor);
    core.depot.Put(&object, 1);
    return true;
  }

  // f(magazine) for each that is bound to the pool.
  template <class F>
  static void ForEachMagazine(Core& core, F f) {
    internal::Table<P>()->ForEachRecord([&](Record& record) {
      if (!record.IsBound(core.id)) return;
      Magazine<P>& magazine = record.At(Record::Offset(core.id));
      if (magazine.generation() == core.generation) f(magazine);
    });
  }

  Core& CheckedCore() const noexcept {
    ION_CHECK(core_ != nullptr, "a Pool was used that was moved from, or closed");
    return *core_;
  }

  // Read by the hot path, and written by nobody.
  uint64_t gate_ = kNever;
  uint64_t offset_ = 0;

 private:
  // Empties the record of a thread that ends. Local to BindRecord: constructed with the record.
  struct ExitGuard {
    ~ExitGuard() {
      Record* record = Statics::record;
      Statics::exited = true;  // first: a signal handler must not bind a record again
      std::atomic_signal_fence(std::memory_order_seq_cst);
      Statics::record = &Statics::nobodys.record;
      // From here on a signal handler on this thread goes to the depots.
      std::atomic_signal_fence(std::memory_order_seq_cst);
      record->ForEachBound([](uint32_t id, Magazine<P>& magazine) { GiveBack(id, magazine); });
      record->owned.store(0, std::memory_order_release);
    }
  };

  // The thread's record, taken if it has none; nullptr: no memory, or the thread is in its exit.
  static Record* BindRecord() noexcept {
    Record* record = Statics::record;
    if (record != &Statics::nobodys.record) {
      // Wiped by a fork: we are the child's only thread, and its table is empty.
      if (record->linked.load(std::memory_order_relaxed) == 0) internal::Table<P>()->Link(*record);
      return record;
    }
    if (Statics::exited) return nullptr;
    record = internal::Table<P>()->TakeRecord();
    if (record == nullptr) return nullptr;
    Statics::record = record;
    static thread_local ExitGuard guard;
    asm volatile("" : : "r"(&guard));  // the compiler must not think it unused
    return record;
  }

  // The owner's way into its magazine off the hot path; nullptr: it has none, or somebody has
  // claimed it, or we are a signal handler inside a call. Such a caller goes to the depot.
  static Magazine<P>* EnterSlow(Core& core) noexcept {
    if (core.slots == 0) return nullptr;
    Record* record = BindRecord();
    if (record == nullptr) return nullptr;
    Magazine<P>& magazine = record->At(Record::Offset(core.id));
    if (magazine.busy()) return nullptr;
    // Busy while the gate is bound, too: a handler in the middle of that would bind it again.
    magazine.SetBusy();
    uint64_t gate = magazine.gate();
    if (gate >> Magazine<P>::kStateBits != core.generation) {
      Bind(core, *record, magazine);
      gate = core.open;
    }
    bool entered = gate == core.open;
    bool flush = false;
    if (core.locked) {
      entered = magazine.Claim(core.open, &flush);
    } else if (gate == (core.open | Magazine<P>::kFlush)) {
      entered = flush = magazine.TakeFlush(core.open);
    }
    if (!entered) {
      magazine.Leave();
      return nullptr;
    }
    magazine.FoldHits();
    if (flush) {
      MoveToDepot(core, magazine, magazine.count());
      GiveRoom(core, magazine);
      core.drains.fetch_add(1, std::memory_order_relaxed);
    }
    return &magazine;
  }
  static void LeaveSlow(Core& core, Magazine<P>& magazine) noexcept {
    if (core.locked) magazine.Unclaim();
    magazine.Leave();
  }

  static void Bind(Core& core, Record& record, Magazine<P>& magazine) noexcept {
    magazine.Bind(core.open, core.id, core.object_bytes, core.near == nullptr ? core.slots : 0);
    record.bound[core.id / 64].fetch_or(uint64_t{1} << core.id % 64, std::memory_order_release);
    record.capacity_bytes = 0;
    record.ForEachBound([&](uint32_t, Magazine<P>& bound) {
      if (bound.generation() == 0) return;
      record.capacity_bytes += SlotsOf(bound.object_bytes()) * bound.object_bytes();
    });
  }
  // Of a magazine whose objects are no larger than it holds; of larger ones 0.
  static uint32_t SlotsOf(uint64_t object_bytes) noexcept {
    return static_cast<uint32_t>(std::min<uint64_t>(kMagazineBytes / object_bytes, kSlots));
  }

  // Takes the `n` that were put first, as indices. Requires: the caller owns the content.
  static void TakeLowest(const Core& core, Magazine<P>& magazine, uint32_t n,
                         uint32_t* objects) noexcept {
    for (uint32_t i = 0; i < n; ++i) objects[i] = core.IndexOf(magazine.slot(i));
    magazine.DropLowest(n);
  }
  static void MoveToDepot(Core& core, Magazine<P>& magazine, uint32_t n) noexcept {
    uint32_t objects[kSlots];
    TakeLowest(core, magazine, n, objects);
    core.depot.Put(objects, n);
  }

  static void* Refill(Core& core, Magazine<P>& magazine) noexcept {
    uint32_t objects[Depot<P>::kBlockObjects];
    magazine.CountMiss();
    magazine.CountTrip();
    const uint32_t n = core.depot.Get(objects, core.near == nullptr ? core.slots : 1);
    if (n == 0) return nullptr;
    for (uint32_t i = 0; i + 1 < n; ++i) {
      magazine.Push(core.DescriptorAt(objects[i]));
    }
    magazine.NoteRefill();
    KeepThreadInBounds(magazine);
    return core.DescriptorAt(objects[n - 1]);
  }
  // Of a full magazine. False: it gets no more.
  static bool MakeRoom(Core& core, Magazine<P>& magazine) noexcept {
    if (core.near == nullptr) {
      magazine.CountTrip();
      MoveToDepot(core, magazine, std::min(magazine.NextSpill(), core.slots));
      KeepThreadInBounds(magazine);
      return true;
    }
    const uint32_t room = magazine.room();
    if (room == core.slots || magazine.Pauses() || !core.near->Take(core.object_bytes))
      return false;
    magazine.SetRoom(room + 1);
    return true;
  }
  // After the content went to the depot. Requires: the caller owns it.
  static void GiveRoom(const Core& core, Magazine<P>& magazine) noexcept {
    if (core.near == nullptr || magazine.room() == 0) return;
    core.near->Give(core.object_bytes, magazine.room());
    magazine.SetRoom(0);
  }

  // Empties the fullest of the thread's other magazines, until the rest is half of the bound.
  // `used` is the one that the caller is inside of.
  static void KeepThreadInBounds(Magazine<P>& used) noexcept {
    if (Statics::record->capacity_bytes <= P::kThreadBytes) [[likely]]
      return;
    ShedOthers(used);
  }
  [[gnu::noinline]] static void ShedOthers(Magazine<P>& used) noexcept {
    uint64_t bound = P::kThreadBytes;
    for (;;) {
      uint64_t sum = 0;
      uint64_t most = 0;
      uint32_t fullest_id = 0;
      Magazine<P>* fullest = nullptr;
      Statics::record->ForEachBound([&](uint32_t id, Magazine<P>& magazine) {
        if (magazine.object_bytes() > kMagazineBytes) return;
        const uint64_t bytes = magazine.count() * magazine.object_bytes();
        sum += bytes;
        if (&magazine == &used || magazine.busy() || bytes <= most) return;
        most = bytes;
        fullest_id = id;
        fullest = &magazine;
      });
      if (sum <= bound || fullest == nullptr) return;
      if (!GiveBack(fullest_id, *fullest)) return;
      bound = P::kThreadBytes / 2;
    }
  }

  // Moves the content of one of this thread's magazines to the depot of its pool, which the caller
  // need not know to live. False: the pool is gone, or a drainer has the magazine, and does it.
  static bool GiveBack(uint32_t id, Magazine<P>& magazine) noexcept {
    internal::PoolTable<P>* table = internal::Table<P>();
    const uint64_t generation = magazine.generation();
    if (generation == 0) return false;
    Core* core = table->Pin(id, generation);
    if (core == nullptr) return false;
    // The owner claims as a drainer would, and needs no barrier: it is not inside.
    bool claimed, told = false;
    do {
      claimed = magazine.Claim(core->open);
      told = !claimed && magazine.Tell(core->open);
    } while (!claimed && !told);
    if (claimed) {
      if (magazine.count() > 0) {
        magazine.CountTrip();
        MoveToDepot(*core, magazine, magazine.count());
      }
      GiveRoom(*core, magazine);
      magazine.Open(core->open);
    }
    table->Unpin(id);
    return claimed;
  }

  // Puts those magazines of the pool that hold something, and could be claimed, before `*claimed`;
  // `idle_room`: also those that have room of a budget, and do not use it.
  static void ClaimAll(Core& core, Magazine<P>** claimed, bool idle_room) noexcept {
    idle_room = idle_room && core.near != nullptr;
    ForEachMagazine(core, [&](Magazine<P>& magazine) {
      if (magazine.count() == 0 && !(idle_room && magazine.room() != 0)) return;
      if (magazine.Claim(core.open)) {
        magazine.next_claimed = std::exchange(*claimed, &magazine);
      } else if (core.locked) {
        magazine.Tell(core.open);
      }
    });
  }
  // The descriptors that a drainer has taken: of one pool, so that magazines that hold little fill
  // blocks.
  struct Harvest {
    // Requires: n <= kSlots.
    void Add(Core& of, Magazine<P>& magazine, uint32_t n) noexcept {
      if (core != &of) Put(count);
      core = &of;
      TakeLowest(of, magazine, n, objects + count);
      count += n;
      Put(count - count % kBlock);
    }
    void Put(uint32_t n) noexcept {
      if (n == 0) return;
      count -= n;
      core->depot.Put(objects + count, n);
    }

    static constexpr uint32_t kBlock = Depot<P>::kBlockObjects;
    Core* core = nullptr;
    uint32_t count = 0;
    uint32_t objects[kBlock - 1 + kSlots];
  };

  // Brings the content of claimed magazines to their depots, but for `*one`, if it is wanted. Of
  // the caller's own no barrier is wanted. Returns how many were moved.
  static uint32_t Empty(Magazine<P>* claimed, bool fence, void** one) noexcept {
    if (claimed == nullptr) return 0;
    const bool quiet = !fence || P::Fence();
    Harvest harvest;
    uint32_t moved = 0;
    while (claimed != nullptr) {
      Magazine<P>& magazine = *claimed;
      claimed = magazine.next_claimed;
      Core& core = *internal::Table<P>()->slots[magazine.id()].core.load(std::memory_order_relaxed);
      const bool sure = quiet || &Statics::record->At(Record::Offset(magazine.id())) == &magazine;
      if (!core.locked && (!sure || magazine.busy()) && magazine.OpenFlush(core.open)) continue;
      moved += magazine.count();
      if (one != nullptr && *one == nullptr && magazine.count() > 0) {
        *one = magazine.slot(0);
        magazine.DropLowest(1);
      }
      harvest.Add(core, magazine, magazine.count());
      GiveRoom(core, magazine);
      if (one != nullptr) magazine.Pause();
      magazine.Open(core.open);
      core.drains.fetch_add(1, std::memory_order_relaxed);
    }
    harvest.Put(harvest.count);
    return moved;
  }

  Core* core_ = nullptr;
  size_t core_bytes_ = 0;
};

template <class T, class P = PoolPolicy>
class Pool : public PoolBase<P> {
  using Base = PoolBase<P>;

 public:
  // A pool, empty, of elements of `descriptors`, which outlive it. EINVAL: none, too many, or
  // object_bytes is 0. ENOMEM: mmap. ENOSPC: 1024 pools live. EOVERFLOW: 2^44 pools were made in
  // this process.
  static Result<Pool> Create(std::span<T> descriptors, const PoolOptions& options = {}) noexcept {
    Pool pool;
    if (Error error = pool.Init(descriptors.data(), descriptors.size(), sizeof(T), options);
        !error.ok()) {
      return error;
    }
    return pool;
  }
  Pool(Pool&& other) noexcept : Base(std::move(other)) {}
  Pool& operator=(Pool&& other) noexcept {
    this->Swap(other);
    return *this;
  }
  // As Close. Descriptors that lay in the pool are forgotten.
  ~Pool() {
    this->CloseInto([](void*) {});
  }

  // A descriptor, which the caller then owns; nullptr: none lies here. A hit is wait-free, else
  // lock-free.
  [[gnu::always_inline]] T* Acquire() noexcept {
    T* descriptor = TryAcquire(this->gate_, this->offset_);
    if (descriptor != nullptr) [[likely]]
      return descriptor;
    return static_cast<T*>(this->AcquireSlow());
  }
  // The same; and refill() where none lies here.
  template <class F>
  [[gnu::always_inline]] T* Acquire(F&& refill) {
    T* descriptor = Acquire();
    if (descriptor != nullptr) [[likely]]
      return descriptor;
    return refill();
  }

  // Takes a descriptor. False, in a child that inherited this pool by a fork: it was not taken, and
  // the caller disposes of its own copy. Requires: the caller owns it, and it is of the array of
  // Create (checked where it leaves the magazine). A hit is wait-free, else lock-free.
  [[nodiscard, gnu::always_inline]] bool Release(T* descriptor) noexcept {
    if (TryRelease(this->gate_, this->offset_, descriptor)) [[likely]]
      return true;
    return this->ReleaseSlow(descriptor);
  }

  // The hit path alone, for a caller with a table of many pools: it takes a PoolTicket, whose
  // offset is arithmetic on the pool's id. nullptr or false: no hit; call Acquire or Release.
  // Wait-free.
  //
  // A gate that is an Atomic may be closed: once PoolTicket::kNever is stored there (sequentially
  // consistent) and AwaitOthers has returned, nobody takes or puts by it any more.
  PoolTicket Ticket() const noexcept { return {this->gate_, this->offset_}; }
  static constexpr uint64_t OffsetOf(uint64_t id) noexcept { return Base::Record::Offset(id); }
  template <class Gate>
  [[gnu::always_inline]] static T* TryAcquire(const Gate& gate, uint64_t offset) noexcept {
    Magazine<P>& magazine = internal::Statics<P>::record->At(offset);
    if (!magazine.Enter(gate)) [[unlikely]]
      return nullptr;
    return static_cast<T*>(magazine.PopAndLeave());
  }
  template <class Gate>
  [[gnu::always_inline]] static bool TryRelease(const Gate& gate, uint64_t offset,
                                                T* descriptor) noexcept {
    Magazine<P>& magazine = internal::Statics<P>::record->At(offset);
    if (!magazine.Enter(gate)) [[unlikely]]
      return false;
    return magazine.PushAndLeave(descriptor);
  }

  // Drains, and calls give_back(T&) for each descriptor above `keep`, which the caller then owns.
  // Returns their number. If several threads call it at once, each may take up to 15 too many.
  // Lock-free.
  template <class F>
  uint32_t Trim(uint32_t keep, F&& give_back) noexcept {
    this->Drain();
    return Shrink(keep, give_back);
  }
  // The same without the drain, for descriptors in the depot, after a Drain of many pools.
  // Lock-free.
  template <class F>
  uint32_t Shrink(uint32_t keep, F&& give_back) noexcept {
    auto& core = this->CheckedCore();
    if (core.alive == 0) return 0;
    // No more than there are now, though others go on putting: it ends.
    return Base::TakeFromDepot(core, core.depot.depth(), keep, Typed(give_back));
  }
  // Gives back what the depot never went below since the last call of this: nobody needed it. Not
  // what lies in magazines. Lock-free.
  template <class F>
  uint32_t TrimUnused(F&& give_back) noexcept {
    auto& core = this->CheckedCore();
    if (core.alive == 0) return 0;
    const uint32_t taken =
        Base::TakeFromDepot(core, core.depot.lowest(), /*keep=*/0, Typed(give_back));
    core.depot.NewEpoch();
    return taken;
  }
  // The number that TrimUnused would give back at this moment; begins its next window. For a caller
  // that takes them out in steps. Lock-free.
  uint32_t unused() const noexcept {
    auto& core = this->CheckedCore();
    return core.alive == 0 ? 0 : core.depot.lowest();
  }
  void NewEpoch() noexcept {
    auto& core = this->CheckedCore();
    if (core.alive != 0) core.depot.NewEpoch();
  }
  // take(T&) for up to `n` that lie in the depot; the caller owns them then. Returns for how many.
  // Lock-free.
  template <class F>
  uint32_t Take(uint32_t n, F&& take) noexcept {
    auto& core = this->CheckedCore();
    if (core.alive == 0) return 0;
    return Base::TakeFromDepot(core, n, /*keep=*/0, Typed(take));
  }
  // look(const T&) for each that lies in the pool, and stays there: it may be somebody's at that
  // moment, so only its address is sure. While others take and put, one of theirs may be missed, or
  // be told twice, or as it left. Lock-free.
  template <class F>
  void Peek(F&& look) const {
    auto& core = this->CheckedCore();
    if (core.alive == 0) return;
    // The depot last: a drain moves from magazines to there.
    Base::ForEachMagazine(core, [&](const Magazine<P>& magazine) {
      const uint32_t count = magazine.count();
      for (uint32_t i = 0; i < count; ++i) {
        if (const void* one = magazine.slot(i); one != nullptr) look(*static_cast<const T*>(one));
      }
    });
    core.depot.Peek(
        [&](uint32_t object) { look(*static_cast<const T*>(core.DescriptorAt(object))); });
  }

  void List(std::vector<T*>& idle) {
    auto& core = this->CheckedCore();
    Peek([&](const T& one) {
      idle.push_back(static_cast<T*>(core.DescriptorAt(core.IndexOf(&one))));
    });
  }

  // Ends the pool, and calls give_back(T&) for all that lies in it. Requires: no other call is
  // under way or comes after, but for the destructor; threads may be ending or using other pools
  // meanwhile, and it waits for those that are in the middle of giving back to this pool. In a
  // forked child: calls nothing.
  template <class F>
  void Close(F&& give_back) noexcept {
    this->CloseInto(Typed(give_back));
  }

 private:
  Pool() = default;

  template <class F>
  static auto Typed(F& give_back) noexcept {
    return [&give_back](void* descriptor) { give_back(*static_cast<T*>(descriptor)); };
  }
};

}  // namespace ion

#endif  // ION_POLICIES_POOL_POOL_H_
