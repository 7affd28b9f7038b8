// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/magazine.h
//
// Magazine: the objects of one pool that one thread keeps at hand. Its owner takes and puts with
// plain loads and stores; any other thread may empty it. Neither ever waits for the other.
//
// Example (policies/pool/pool.h has the whole):
//   if (magazine.Enter(open)) {                       // the owner
//     void* object = magazine.PopAndLeave();
//   }
//   if (magazine.Claim(open)) {                       // a drainer
//     const bool quiet = internal::Membarrier::Fence();
//     if ((!quiet || magazine.busy()) && magazine.OpenFlush(open)) return;  // its owner will do it
//     TakeContent(magazine);
//     magazine.Open(open);
//   }
//
// The gate is one word: {generation of the pool, state}. It is `open` where the owner may enter, so
// one compare on the hot path tells this pool from a dead one and from one that had its id, a drain
// in progress, a thread that never met the pool, and a forked child (whose copy is wiped to zero).
//
//   state      who may touch the content     next
//   open       the owner, while busy         claimed: any drainer
//   claimed    the claimer, see below        open, or flush: the claimer
//   flush      nobody                        open: the owner, which empties it then;
//                                            claimed: any drainer
//   told       the claimer                   open: the claimer
//   0          nobody                        open: the owner binds it
//
// `told` is claimed, and the owner said that it is not inside: it ends, and finds that somebody is
// before it. Then the claimer has the content even if it sees busy, or could get no barrier; else
// the objects would lie in the magazine of no thread.
//
// Why the content has one user at a time. The owner writes busy, then reads the gate; a drainer
// writes the gate, makes every running thread of the process pass a full barrier (membarrier), then
// reads busy. If the owner's pair lies before its barrier, the drainer sees busy and keeps its
// hands off. If the owner's read lies after it, the owner sees the gate claimed and goes to the
// depot. If the barrier falls between the two, both happen. In no order do both go in. A busy that
// is seen as 0 was released by the last operation, so the content is complete; the gate releases
// the drainer's writes, and the owner's next read of the gate acquires them.
//
// A drainer that stops in the middle holds up nothing but the objects in its hands: the owner
// passes by. An owner that stops while busy keeps its magazine: the drainer leaves `flush` behind
// and goes; the owner empties it when it comes again, or a later drainer does that finds it idle.
//
// A signal handler that interrupts the owner's operation and uses the same pool sees busy, and goes
// to the depot.
//
// Without membarrier (tested when the pool is made), the owner claims by compare-exchange as
// drainers do (policies/pool/pool.h); then busy only tells signal handlers, and `told` means that a
// drainer met the owner inside: the owner leaves to flush. For a tool that must see the order (TSan
// does not know membarrier), P::kOwnerFences makes busy and gate sequentially consistent.
//
// All bytes zero is a magazine that is bound to nothing.
//
// Cost: 320 bytes for 32 objects (less where a pointer has 32 bits). Enter, PopAndLeave and
// PushAndLeave are plain moves. Progress: Claim is lock-free (a failed try means that another
// claimer or the owner changed the state), all else is wait-free.
#ifndef ION_POLICIES_POOL_MAGAZINE_H_
#define ION_POLICIES_POOL_MAGAZINE_H_

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <type_traits>

#include "ion/policies/pool/packed_stack.h"

namespace ion {

// The parts of a Magazine. kOwnerFences: the owner fences by itself, and drainers need no
// membarrier.
struct MagazinePolicy : StackPolicy {
#if defined(__SANITIZE_THREAD__)
  static constexpr bool kOwnerFences = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
  static constexpr bool kOwnerFences = true;
#else
  static constexpr bool kOwnerFences = false;
#endif
#else
  static constexpr bool kOwnerFences = false;
#endif
};

template <class P = MagazinePolicy>
class alignas(64) Magazine {
 public:
  static constexpr uint32_t kSlots = 32;

  // The states of a gate, beside the generation.
  static constexpr uint64_t kClaimed = 1;
  static constexpr uint64_t kFlush = 2;
  static constexpr unsigned kStateBits = 2;
  static constexpr uint64_t OpenGate(uint64_t generation) noexcept {
    return generation << kStateBits;
  }

  // --- the owner ---------------------------------------------------------------------------------

  // Goes in, if the gate is `open` and we are not a signal handler inside a call. False: not
  // entered, go the slow way. `open` is read while busy: another thread may change an atomic one,
  // and if it then sees us not busy, after a barrier of all threads, we certainly read the changed
  // value.
  template <class Word>
  [[gnu::always_inline]] bool Enter(const Word& open) noexcept {
    if (busy_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      return false;
    SetBusy();
    if (gate_.load(kGateOrder) == Value(open)) [[likely]]
      return true;
    Leave();
    return false;
  }
  [[gnu::always_inline]] void Leave() noexcept { busy_.store(0, std::memory_order_release); }
  // As Enter, but looks at nothing: the caller looks at the gate next. Requires: not busy.
  [[gnu::always_inline]] void SetBusy() noexcept {
    busy_.store(1, P::kOwnerFences ? std::memory_order_seq_cst : std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

  // The object that was put last; nullptr: none, or the hits must be folded. Requires: entered; has
  // left afterwards.
  [[gnu::always_inline]] void* PopAndLeave() noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    const uint64_t n = static_cast<uint8_t>(level);
    uint32_t next;
    if (n == 0 || __builtin_add_overflow(level, kPopOne, &next)) [[unlikely]] {
      Leave();
      return nullptr;
    }
    void* object = slots_[n - 1];
    if (object == nullptr) __builtin_unreachable();  // spares the caller a second test
    SetLevelAndLeave(next);
    return object;
  }
  // False: there is no room. Requires: entered; has left afterwards.
  [[gnu::always_inline]] bool PushAndLeave(void* object) noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    const auto n = static_cast<uint8_t>(level);
    if (n >= room()) [[unlikely]] {
      Leave();
      return false;
    }
    Store(slots_[n], object);
    SetLevelAndLeave(level + 1);
    return true;
  }

  // --- the owner, off the hot path ---------------------------------------------------------------

  uint64_t gate() const noexcept { return gate_.load(kGateOrder); }
  // Makes it a magazine of pool `id`, empty, with room for `room` objects. Requires: busy, the gate
  // is of no living pool, room <= kSlots.
  void Bind(uint64_t open, uint32_t id, uint64_t object_bytes, uint32_t room) noexcept {
    level_.store(0, std::memory_order_relaxed);
    folded_hits_.store(0, std::memory_order_relaxed);
    misses_.store(0, std::memory_order_relaxed);
    trips_.store(0, std::memory_order_relaxed);
    id_ = static_cast<uint16_t>(id);
    spill_ = kMaxSpill;
    refilled_ = false;
    SetRoom(room);
    pause_ = kFirstPause;
    paused_ = 0;
    object_bytes_ = object_bytes;
    gate_.store(open, std::memory_order_release);
  }

  // How many objects to part with when full. A refill that follows a spill shows that the spill was
  // too large: the next is half of it; a spill that follows a spill is twice as large. So any
  // pattern that swings by no more than the magazine holds comes to rest without the depot.
  uint32_t NextSpill() noexcept {
    const uint32_t next =
        refilled_ ? std::max(spill_ / 2u, 1u) : std::min(2u * spill_ + 1, kMaxSpill);
    spill_ = static_cast<uint8_t>(next);
    refilled_ = false;
    return spill_;
  }
  void NoteRefill() noexcept { refilled_ = true; }
  // True if the magazine must do without more room for this time, since another thread took its
  // content: a thread that releases what others acquire would make each of them pay for a drain.
  bool Pauses() noexcept {
    if (paused_ == 0) return false;
    --paused_;
    return true;
  }

  // Must be called before the hits of the level are full; PopAndLeave tells when.
  void FoldHits() noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    if (level >> 31 == 0) [[likely]]
      return;
    folded_hits_.store(hits(), std::memory_order_relaxed);
    level_.store(level & kCountMask, std::memory_order_relaxed);
  }
  void CountMiss() noexcept { Increment(misses_); }
  void CountTrip() noexcept { Increment(trips_); }

  // --- the owner of the content: entered, or claimed ---------------------------------------------

  // Requires: count() < kSlots.
  void Push(void* object) noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    Store(slots_[level & kCountMask], object);
    level_.store(level + 1, std::memory_order_relaxed);
  }
  // Requires: count() > 0, hits folded.
  void* Pop() noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    level_.store(level + kPopOne, std::memory_order_relaxed);
    return slots_[(level & kCountMask) - 1];
  }
  // The `n` objects that lie lowest were taken out by the caller. Requires: n <= count().
  void DropLowest(uint32_t n) noexcept {
    const uint32_t level = level_.load(std::memory_order_relaxed);
    const uint32_t rest = (level & kCountMask) - n;
    for (uint32_t i = 0; i < rest; ++i) Store(slots_[i], Load(slots_[n + i]));
    level_.store(level - n, std::memory_order_relaxed);
  }
  // Requires: room <= kSlots.
  void SetRoom(uint32_t room) noexcept {
    __atomic_store_n(&room_, static_cast<uint8_t>(room), __ATOMIC_RELAXED);
  }
  // Another thread needed the content: the owner gets no more room for a while, which doubles each
  // time.
  void Pause() noexcept {
    paused_ = pause_;
    pause_ = static_cast<uint8_t>(std::min(2u * pause_, 255u));
  }
  // Anybody may look; only to one that owns the content does it say what lies there.
  void* slot(uint32_t i) const noexcept { return Load(slots_[i]); }

  // --- anybody -----------------------------------------------------------------------------------

  bool busy() const noexcept {
    return busy_.load(P::kOwnerFences ? std::memory_order_seq_cst : std::memory_order_acquire) != 0;
  }
  // From open or flush to claimed; `was_flush` tells from which. False: somebody else has it, or it
  // is not of this pool.
  bool Claim(uint64_t open, bool* was_flush = nullptr) noexcept {
    uint64_t gate = gate_.load(std::memory_order_relaxed);
    while ((gate | kFlush) == (open | kFlush)) {
      if (gate_.compare_exchange_weak(gate, open | kClaimed, std::memory_order_seq_cst,
                                      std::memory_order_relaxed)) {
        if (was_flush != nullptr) *was_flush = gate != open;
        return true;
      }
    }
    return false;
  }
  // From claimed to claimed with a word to the claimer (see the table above). False: it is not
  // claimed any more.
  bool Tell(uint64_t open) noexcept {
    uint64_t gate = open | kClaimed;
    return gate_.compare_exchange_strong(gate, gate | kFlush, std::memory_order_release,
                                         std::memory_order_relaxed) ||
           gate == (open | kClaimed | kFlush);
  }
  // From claimed to open. Requires: the caller claimed it.
  void Open(uint64_t open) noexcept { gate_.store(open, std::memory_order_release); }
  // From claimed to flush: the content stays here. False: the owner told that it is not inside, so
  // the content is the caller's. Requires: the caller claimed it.
  bool OpenFlush(uint64_t open) noexcept {
    uint64_t gate = open | kClaimed;
    return gate_.compare_exchange_strong(gate, open | kFlush, std::memory_order_acq_rel,
                                         std::memory_order_acquire);
  }
  // From claimed to open, or to flush where the claimer was told to. Requires: the owner claimed
  // it.
  void Unclaim() noexcept { gate_.fetch_and(~kClaimed, std::memory_order_release); }
  // From flush to open; the owner's, while busy. False: a drainer was faster.
  bool TakeFlush(uint64_t open) noexcept {
    uint64_t flush = open | kFlush;
    return gate_.compare_exchange_strong(flush, open, std::memory_order_seq_cst,
                                         std::memory_order_relaxed);
  }
  // To "bound to nothing", whatever it was. Requires: no thread uses it or its pool.
  void Unbind() noexcept {
    level_.store(0, std::memory_order_relaxed);
    gate_.store(0, std::memory_order_release);
  }

  uint64_t generation() const noexcept {
    return gate_.load(std::memory_order_acquire) >> kStateBits;
  }
  [[gnu::always_inline]] uint32_t count() const noexcept {
    return level_.load(std::memory_order_relaxed) & kCountMask;
  }
  // The most objects that it may hold now.
  [[gnu::always_inline]] uint32_t room() const noexcept {
    return __atomic_load_n(&room_, __ATOMIC_RELAXED);
  }
  // Counters, exact while the owner is not inside.
  uint64_t hits() const noexcept {
    return folded_hits_.load(std::memory_order_relaxed) +
           (level_.load(std::memory_order_relaxed) >> kCountBits);
  }
  uint64_t misses() const noexcept { return misses_.load(std::memory_order_relaxed); }
  uint64_t trips() const noexcept { return trips_.load(std::memory_order_relaxed); }

  uint32_t id() const noexcept { return id_; }
  uint64_t object_bytes() const noexcept { return object_bytes_; }
  // The list of magazines that one drainer has claimed; the claimer's.
  Magazine* next_claimed = nullptr;

 private:
  template <class V>
  using Atomic = typename P::template Atomic<V>;

  // The level is {hits, objects here}: the store that the hot path makes anyway counts the hits.
  static constexpr unsigned kCountBits = 8;
  static constexpr uint32_t kCountMask = (uint32_t{1} << kCountBits) - 1;
  static constexpr uint32_t kPopOne = kCountMask;  // one hit more, one object less
  static constexpr uint32_t kMaxSpill = 15;        // a block of the depot
  static constexpr uint8_t kFirstPause = 8;        // arbitrary
  static_assert(kSlots <= kCountMask);

  static constexpr std::memory_order kGateOrder =
      P::kOwnerFences ? std::memory_order_seq_cst : std::memory_order_acquire;

  [[gnu::always_inline]] static uint64_t Value(const uint64_t& word) noexcept { return word; }
  [[gnu::always_inline]] static uint64_t Value(const Atomic<uint64_t>& word) noexcept {
    return word.load(P::kOwnerFences ? std::memory_order_seq_cst : std::memory_order_relaxed);
  }

  // level_ and busy_ = 0 in one store of both: the hot path is bound by its stores. Readers read
  // one of them at a time. For a tool that must see each, two stores.
  [[gnu::always_inline]] void SetLevelAndLeave(uint32_t level) noexcept {
    if constexpr (P::kOwnerFences || std::endian::native != std::endian::little ||
                  !std::is_same_v<Atomic<uint32_t>, std::atomic<uint32_t>>) {
      level_.store(level, std::memory_order_relaxed);
      Leave();
    } else {
      using Both [[gnu::may_alias]] = uint64_t;
      static_assert(sizeof(level_) == 4 && sizeof(busy_) == 4);
      __atomic_store_n(reinterpret_cast<Both*>(&level_), Both{level}, __ATOMIC_RELEASE);
    }
  }

  // Reports read slots while the owner writes them. Plain moves; but g++ folds no address into
  // them.
  [[gnu::always_inline]] static void* Load(void* const& slot) noexcept {
    return __atomic_load_n(&slot, __ATOMIC_RELAXED);
  }
  [[gnu::always_inline]] static void Store(void*& slot, void* object) noexcept {
    __atomic_store_n(&slot, object, __ATOMIC_RELAXED);
  }
  // One writer: a plain load, add and store.
  static void Increment(Atomic<uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  Atomic<uint64_t> gate_;
  alignas(8) Atomic<uint32_t> level_;
  Atomic<uint32_t> busy_;  // directly behind level_
  uint16_t id_;
  uint8_t spill_;
  bool refilled_;
  uint8_t room_;    // of the owner of the content
  uint8_t pause_;   // the number of releases that the next pause lasts
  uint8_t paused_;  // those that are left of this one
  uint64_t object_bytes_;
  Atomic<uint64_t> folded_hits_;
  Atomic<uint64_t> misses_;
  Atomic<uint64_t> trips_;
  void* slots_[kSlots];
};
static_assert(sizeof(Magazine<>) <= 320);

}  // namespace ion

#endif  // ION_POLICIES_POOL_MAGAZINE_H_
