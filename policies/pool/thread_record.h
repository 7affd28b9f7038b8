// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/thread_record.h
//
// The statics of the pool (policies/pool/pool.h): the record of each thread, and the table of the
// process's threads and pools. One pointer per thread leads to its record, a table of magazines by
// pool id; one table gives out the ids and links the records.
//
// A library with hidden visibility has statics of its own; else there is one set for the process
// (g++ makes them unique symbols, and then dlclose does not unload the library).
//
// A record is mapped when a thread first uses a pool: 320 KiB of address space, of which a thread
// touches a page for its header and the first 12 pools, and one for about each 13 more. When the
// thread ends, its record is emptied and kept for the next one. Records are never unmapped: a
// drainer may be walking them. Their number is the largest number of threads that used pools at the
// same time.
//
// Records and the table lie in pages that fork wipes: in the child each gate is 0, each list empty.
// The generations are not wiped: a pool of the child is never taken for one of the parent.
//
// Not for users.
//
// A library that is unloaded leaves its table and its records mapped: 16 KiB, and the pages of the
// records that its threads touched.
//
// Cost: as above. Thread-safe. Progress: all is lock-free but PoolTable::Close, which waits for
// threads that have the pool pinned. (The first use on a thread registers an exit handler with the
// C library, which has a lock and heap memory of its own.)
#ifndef ION_POLICIES_POOL_THREAD_RECORD_H_
#define ION_POLICIES_POOL_THREAD_RECORD_H_

#include <time.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "ion/base/no_cancel.h"
#include "ion/base/tls_model.h"
#include "ion/base/wiped_pages.h"
#include "ion/policies/pool/magazine.h"

namespace ion::internal {

// Pools that live at the same time. Arbitrary: it is address space only.
inline constexpr uint32_t kMaxPools = 1024;

template <class P>
struct PoolCore;

// Called by a loop that waits for another thread. Sleeps; sched_yield could starve a thread of
// lower priority.
inline void LetOthersRun() noexcept {
  const NoCancel guard;
  const timespec moment{.tv_sec = 0, .tv_nsec = 50'000};
  ::nanosleep(&moment, nullptr);
}

// The header; the magazines lie behind it.
template <class P>
struct alignas(64) ThreadRecord {
  template <class V>
  using Atomic = typename P::template Atomic<V>;

  Atomic<uint32_t> owned;   // 1: a thread has it
  Atomic<uint32_t> linked;  // 0: new, or wiped by a fork
  ThreadRecord* next;       // in PoolTable::records; constant once linked
  // What the magazines would hold if all were full. The owner's.
  uint64_t capacity_bytes;
  // The ids whose magazines were ever bound. The owner writes, and drainers skip the pages of
  // others.
  Atomic<uint64_t> bound[kMaxPools / 64];

  static constexpr size_t Bytes() noexcept { return Offset(kMaxPools); }
  static constexpr uint64_t Offset(uint64_t id) noexcept {
    return sizeof(ThreadRecord) + id * sizeof(Magazine<P>);
  }
  // The base in one register that the compiler cannot see through: else g++ addresses the fields of
  // a magazine by several, and a load that follows a store through another register does not get
  // its value early (5 ns instead of 1.9 for a hit).
  [[gnu::always_inline]] Magazine<P>& At(uint64_t offset) noexcept {
    auto* magazine = reinterpret_cast<Magazine<P>*>(reinterpret_cast<std::byte*>(this) + offset);
    asm("" : "+r"(magazine));
    return *magazine;
  }
  bool IsBound(uint32_t id) const noexcept {
    return (bound[id / 64].load(std::memory_order_acquire) >> id % 64 & 1) != 0;
  }
  // f(id, magazine) for each magazine that was ever bound.
  template <class F>
  void ForEachBound(F f) noexcept {
    for (uint32_t word = 0; word < kMaxPools / 64; ++word) {
      for (uint64_t bits = bound[word].load(std::memory_order_acquire); bits != 0;
           bits &= bits - 1) {
        const uint32_t id = word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
        f(id, At(Offset(id)));
      }
    }
  }
};

// The ids of pools, and the records of threads.
template <class P>
struct PoolTable {
  template <class V>
  using Atomic = typename P::template Atomic<V>;

  // A pool that is pinned is not destroyed: how a thread that exits, or that has too much in its
  // magazines, which its pools' users know nothing of, may still reach their depots.
  struct Slot {
    Atomic<uint64_t> state;  // {generation, pins}; 0: free
    Atomic<PoolCore<P>*> core;
  };
  static constexpr unsigned kPinBits = 20;  // threads that give back at the same time
  static constexpr uint64_t kPinMask = (uint64_t{1} << kPinBits) - 1;
  static constexpr uint64_t kClosing = ~kPinMask;  // in place of a generation
  static constexpr uint64_t kMaxGeneration = (kClosing >> kPinBits) - 1;

  Atomic<ThreadRecord<P>*> records;
  Slot slots[kMaxPools];

  // A free id for `core`, or kMaxPools. The lowest: records stay dense.
  uint32_t Open(PoolCore<P>* core, uint64_t generation) noexcept {
    for (uint32_t id = 0; id < kMaxPools; ++id) {
      uint64_t free = 0;
      if (slots[id].state.load(std::memory_order_relaxed) != 0) continue;
      // Reserved first: Pin must not find the generation before the core.
      if (!slots[id].state.compare_exchange_strong(free, kClosing, std::memory_order_acquire,
                                                   std::memory_order_relaxed)) {
        continue;
      }
      slots[id].core.store(core, std::memory_order_relaxed);
      slots[id].state.store(generation << kPinBits, std::memory_order_release);
      return id;
    }
    return kMaxPools;
  }
  // No Pin of this id succeeds from here on, and none is held. Waits for those that are.
  void Close(uint32_t id) noexcept {
    slots[id].state.fetch_or(kClosing, std::memory_order_relaxed);
    while (slots[id].state.load(std::memory_order_acquire) != kClosing) LetOthersRun();
  }
  // The id may be given out again. Requires: closed, and no magazine is bound to it.
  void Free(uint32_t id) noexcept { slots[id].state.store(0, std::memory_order_release); }

  // The core of pool {id, generation}, kept alive until Unpin; nullptr: it is gone.
  PoolCore<P>* Pin(uint32_t id, uint64_t generation) noexcept {
    uint64_t state = slots[id].state.load(std::memory_order_relaxed);
    while (state >> kPinBits == generation && (state & kPinMask) != kPinMask) {
      if (slots[id].state.compare_exchange_weak(state, state + 1, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
        return slots[id].core.load(std::memory_order_relaxed);
      }
    }
    return nullptr;
  }
  void Unpin(uint32_t id) noexcept { slots[id].state.fetch_sub(1, std::memory_order_release); }
  // Returns when each pin that was held has ended. Requires: the pool lives.
  void AwaitPins(uint32_t id) noexcept {
    while ((slots[id].state.load(std::memory_order_acquire) & kPinMask) != 0) LetOthersRun();
  }

  // f(record) for each record.
  template <class F>
  void ForEachRecord(F f) {
    for (ThreadRecord<P>* record = records.load(std::memory_order_acquire); record != nullptr;
         record = record->next) {
      f(*record);
    }
  }
  void Link(ThreadRecord<P>& record) noexcept {
    record.owned.store(1, std::memory_order_relaxed);
    record.linked.store(1, std::memory_order_relaxed);
    ThreadRecord<P>* head = records.load(std::memory_order_relaxed);
    do record.next = head;
    while (!records.compare_exchange_weak(head, &record, std::memory_order_release,
                                          std::memory_order_relaxed));
  }
  // A record that no thread has, or a new one; nullptr: no memory.
  ThreadRecord<P>* TakeRecord() noexcept {
    for (ThreadRecord<P>* record = records.load(std::memory_order_acquire); record != nullptr;
         record = record->next) {
      uint32_t free = 0;
      if (record->owned.load(std::memory_order_relaxed) == 0 &&
          record->owned.compare_exchange_strong(free, 1, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
        return record;
      }
    }
    auto* record = static_cast<ThreadRecord<P>*>(MapWiped(ThreadRecord<P>::Bytes()));
    if (record != nullptr) Link(*record);
    return record;
  }
};

// The statics: the table, the last generation given out, and the thread's record.
template <class P>
struct Statics {
  // Zero bytes, which cost address space only: as a record, its magazines are bound to nothing.
  union Nobodys {
    constexpr Nobodys() noexcept : bytes{} {}
    std::byte bytes[ThreadRecord<P>::Bytes()];
    ThreadRecord<P> record;
  };

  static inline constinit std::atomic<PoolTable<P>*> table{nullptr};
  static inline constinit std::atomic<uint64_t> last_generation{0};
  // The record of each thread that has none, or has none any more: so a hit need not ask whether it
  // has one. Nobody ever gets in. Any thread may find it busy, as any thread may try.
  alignas(ThreadRecord<P>) static inline constinit Nobodys nobodys;
  [[ION_INTERNAL_TLS_MODEL]] static inline constinit thread_local ThreadRecord<P>* record =
      &nobodys.record;
  // The thread's exit handler has run: it gets no record again.
  [[ION_INTERNAL_TLS_MODEL]] static inline constinit thread_local bool exited = false;
};

// The table, made on first use; nullptr: no memory.
template <class P>
PoolTable<P>* Table() noexcept {
  PoolTable<P>* table = Statics<P>::table.load(std::memory_order_acquire);
  if (table != nullptr) return table;
  auto* made = static_cast<PoolTable<P>*>(MapWiped(sizeof(PoolTable<P>)));
  if (made == nullptr) return nullptr;
  if (Statics<P>::table.compare_exchange_strong(table, made, std::memory_order_acq_rel)) {
    return made;
  }
  UnmapWiped(made, sizeof(PoolTable<P>));
  return table;
}

}  // namespace ion::internal

#endif  // ION_POLICIES_POOL_THREAD_RECORD_H_
