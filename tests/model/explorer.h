// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/model/explorer.h
//
// Explorer: runs a few threads of real lock-free code through every order in which their accesses
// to shared memory can fall, and shows the first order that breaks a promise.
//
// Example:
//   struct Policy : ion::StackPolicy { template <class V> using Atomic = ion::model::Atomic<V>; };
//   ion::PackedStack<Policy> stack;
//   ion::model::Explorer explorer;
//   explorer.Share("stack", &stack, sizeof(stack));
//   explorer.Spawn([&] { for (int i = 0; i < 3; ++i) { explorer.Choose(2); ... } });
//   explorer.Spawn(...);
//   explorer.AtEnd([&] { ... });                    // nothing runs: look at everything
//   const ion::model::Verdict verdict = explorer.Explore();
//
// What is covered. Threads are fibers; each access through Atomic may be a point where another goes
// on. A depth-first search takes every choice at every point, and knows a state again by a hash of
// 64 bits over all that is shared, the store buffers, and each fiber's stack and registers (two
// states in a search of 10 million have the same hash with a probability of 3 in a million).
// - Stores wait in a buffer for each processor and become visible in order at any later moment, as
//   on x86 (kBuffered of them at most); a thread sees its own at once. Locked instructions and
//   sequentially consistent stores wait until the buffer is empty. Membarrier() drains the buffers
//   of all other processors, one after the other, in any order.
// - What an object's owner wrote with plain stores must have happened before the next owner's
//   first use by the rules of C++: releases and acquires are followed, though x86 would forgive
//   their absence. Object() and Touch() say what is plain.
// - A signal handler may interrupt its thread between any two atomic accesses, and runs to its end
//   on the same processor.
// - Not covered: loads that pass earlier loads, and stores that pass earlier stores (arm64);
//   a compare_exchange_weak that fails for no reason; memory that is made while threads run.
//
// Orders that differ in nothing are taken once. An access commutes with all that other threads do
// where none of them ever writes (a load) or touches (a store) that place; then it is no point of
// choice. Who touches what is found out on the way, and a search that learns something new begins
// again. That a store leaves its buffer is put off until it makes a difference.
//
// A fiber's code must have no state but its stack and what Share() names; it must not be
// instrumented by a sanitizer (compile with -fno-sanitize=all).
#ifndef ION_TESTS_MODEL_EXPLORER_H_
#define ION_TESTS_MODEL_EXPLORER_H_

#include <ucontext.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ion::model {

struct Verdict {
  std::string violation;  // empty: none
  std::vector<std::string> trace;
  uint64_t states = 0;
  uint64_t transitions = 0;
  uint64_t ends = 0;  // different states in which all threads had ended
};

class Explorer {
 public:
  // The one that explores at this moment; nullptr: accesses are plain.
  static inline Explorer* running = nullptr;

  static constexpr uint32_t kMaxFibers = 4;
  static constexpr uint32_t kBuffered = 8;

  // With `reduced` = false it also takes the orders that differ in nothing: how the reductions are
  // tested.
  explicit Explorer(bool reduced = true) : reduced_(reduced) {}

  // --- before Explore ----------------------------------------------------------------------------

  // Memory that the threads share; it is put back at each step back of the search.
  void Share(std::string name, void* at, size_t bytes) {
    regions_.push_back({std::move(name), static_cast<std::byte*>(at), bytes});
  }
  // A thread. The first ones run on processors of their own.
  uint32_t Spawn(std::function<void()> body) {
    return AddFiber(std::move(body), static_cast<uint32_t>(fibers_.size()));
  }
  // A signal handler that may interrupt `thread` anywhere, once.
  uint32_t SpawnHandler(uint32_t thread, std::function<void()> body) {
    const uint32_t handler = AddFiber(std::move(body), thread);
    fibers_[handler]->interrupts = static_cast<int>(thread);
    fibers_[thread]->handler = static_cast<int>(handler);
    return handler;
  }
  // Called before the fiber goes on: where thread-local variables are switched.
  void OnSwitch(std::function<void(uint32_t)> f) { on_switch_ = std::move(f); }
  void AtEnd(std::function<void()> f) { at_end_ = std::move(f); }

  Verdict Explore();

  // --- by a fiber --------------------------------------------------------------------------------

  // kMaxFibers where AtEnd looks.
  uint32_t self() const { return current_ == nullptr ? kMaxFibers : current_->index; }

  // 0 to n - 1: each is tried.
  uint32_t Choose(uint32_t n) {
    Yield({.kind = Kind::kChoice, .choices = n});
    return chosen_;
  }
  // The thread reads and writes object `object` (0 to 7) plainly: it believes that it owns it.
  void Touch(uint32_t object);
  // Says in the trace what the thread does.
  void Note(const char* what, uint64_t number) {
    if (logging_) Log(what + (" " + std::to_string(number)));
  }
  // A promise is broken. On a fiber it does not return.
  void Fail(std::string violation);
  // Every other processor passes a full barrier during this call.
  void Membarrier();

  // --- by Atomic ---------------------------------------------------------------------------------

  bool on_fiber() const { return current_ != nullptr; }
  uint64_t Load(const void* at, uint32_t bytes, std::memory_order order);
  void Store(void* at, uint32_t bytes, uint64_t value, std::memory_order order);
  // Before a locked instruction, and what it means when it has been done.
  void BeforeRmw(void* at);
  void AfterRmw(void* at, bool written, std::memory_order order);

 private:
  enum class Kind : uint8_t { kStart, kChoice, kLocal, kLoad, kStore, kRmw, kBarrier };
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr size_t kStackBytes = 256 << 10;
  // What a step may dirty below the stack pointer. Cleared, so that what lies in a new frame's
  // padding does not tell apart states that are the same.
  static constexpr size_t kScratchBytes = 4 << 10;
  static constexpr uint32_t kMaxPlaces = 256;

  // What a fiber does when it goes on.
  struct Intent {
    Kind kind = Kind::kStart;
    uint32_t place = kNone;
    uint32_t choices = 1;
    uint32_t choice_mask = ~uint32_t{0};
  };
  struct Pending {
    uint64_t value;
    uint16_t place;
    uint8_t bytes;
    uint8_t known;  // published with it
  };
  struct Buffer {
    uint32_t count;
    // So many are older than the last step that others could see. The rest may as well have come
    // after a barrier that reaches the processor now.
    uint32_t settled;
    std::array<Pending, kBuffered> stores;
  };
  // The state beside regions and stacks; trivially copied.
  struct Live {
    std::array<Buffer, kMaxFibers> buffers;
    // Objects whose last writes happened before what the processor does next.
    std::array<uint8_t, kMaxFibers> known;
    std::array<uint8_t, kMaxPlaces> published;  // the same, for who acquires from the place
  };
  struct Fiber {
    uint32_t index;
    uint32_t processor;
    int interrupts = -1;
    int handler = -1;
    std::function<void()> body;
    std::unique_ptr<std::byte[]> stack;
    // From here on what a snapshot keeps, and the stack.
    ucontext_t context;
    Intent intent;
    bool started = false;
    bool done = false;
    uint64_t hash = 0;
  };
  struct Region {
    std::string name;
    std::byte* at;
    size_t bytes;
  };
  struct Place {
    std::byte* at;
    uint32_t readers = 0;  // a bit for each fiber
    uint32_t writers = 0;
  };
  struct Transition {
    uint8_t fiber;  // goes on with `choice`; or, from kMaxFibers on, a processor's oldest store
    uint8_t choice;
  };
  struct Frame {
    std::vector<std::byte> snapshot;
    std::vector<Transition> todo;
    size_t next = 0;
    size_t path = 0;
  };
  // The states that were seen: open addressing, 0 is free.
  class Seen {
   public:
    bool Insert(uint64_t hash) {
      if (hash == 0) hash = 1;
      if (2 * (count_ + 1) > table_.size()) Grow();
      if (!Put(hash)) return false;
      ++count_;
      return true;
    }
    void Clear() {
      table_.assign(1 << 16, 0);
      count_ = 0;
    }
    uint64_t count() const { return count_; }

   private:
    bool Put(uint64_t hash) {
      size_t at = hash & (table_.size() - 1);
      for (; table_[at] != 0; at = (at + 1) & (table_.size() - 1)) {
        if (table_[at] == hash) return false;
      }
      table_[at] = hash;
      return true;
    }
    void Grow() {
      std::vector<uint64_t> old(table_.empty() ? 1 << 16 : 2 * table_.size(), 0);
      old.swap(table_);
      for (uint64_t hash : old) {
        if (hash != 0) Put(hash);
      }
    }
    std::vector<uint64_t> table_;
    uint64_t count_ = 0;
  };

  uint32_t AddFiber(std::function<void()> body, uint32_t processor);
  static void Body(uint32_t low, uint32_t high);
  void Yield(Intent intent);
  void SwitchToSearch() { swapcontext(&current_->context, &search_); }
  void Resume(Fiber& fiber);

  uint32_t PlaceOf(const void* at);
  void LogAccess(const char* what, uint32_t place, uint64_t value);
  void Log(const std::string& words);
  // Notes that this fiber does so. False: no other ever does what would make the order matter.
  bool Matters(uint32_t place, bool read, bool write);
  static bool LoadMatters(const Place& place, uint32_t bit) { return (place.writers & ~bit) != 0; }
  static bool StoreMatters(const Place& place, uint32_t bit) {
    return ((place.readers | place.writers) & ~bit) != 0;
  }
  // A signal handler may come between any two steps of this one.
  bool interruptible() const { return current_->handler >= 0; }
  Buffer& buffer() { return live_.buffers[current_->processor]; }
  uint8_t& known() { return live_.known[current_->processor]; }
  void FlushOldest(uint32_t processor);

  // False: it learned who touches what, and has to begin again.
  bool Search(Verdict* verdict);
  // From the state where memory stands: on to where there is a choice. Pushes it, if it is new.
  bool Advance(Verdict* verdict, std::vector<Frame>* frames, size_t* depth);
  void Execute(Transition transition);
  bool Enabled(const Fiber& fiber) const;
  void ListTransitions(std::vector<Transition>* list) const;
  // Whatever the others do next, it makes no difference whether this fiber goes first.
  bool Commutes(const Fiber& fiber) const;
  // A bit for each processor.
  uint32_t FlushesThatMatter(bool nothing_else) const;
  bool Buffers(uint32_t processor, uint32_t place) const;
  void CheckEnd();
  std::vector<std::string> TraceOf(const std::vector<Transition>& path);
  uint64_t HashState() const;
  static uint64_t Mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    return hash ^ hash >> 29;
  }
  static uint64_t MixBytes(uint64_t hash, const std::byte* at, size_t bytes);
  static uint64_t HashFiber(const Fiber& fiber);
  static std::byte* StackPointer(const ucontext_t& context);
  static uint64_t HashRegisters(const ucontext_t& context);
  void Save(std::vector<std::byte>* out) const;
  void Restore(const std::vector<std::byte>& in);

  const bool reduced_;
  std::vector<Region> regions_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::function<void(uint32_t)> on_switch_ = [](uint32_t) {};
  std::function<void()> at_end_ = [] {};

  Live live_ = {};
  Fiber* current_ = nullptr;  // nullptr: the search
  ucontext_t search_ = {};
  uint32_t chosen_ = 0;
  uint32_t accesses_ = 0;  // since the fiber went on
  std::string violation_;
  std::vector<std::byte> initial_;
  std::vector<Transition> path_;
  bool logging_ = false;
  std::vector<std::string> log_;

  // Learned, and kept when the search begins again.
  std::vector<Place> places_;
  std::unordered_map<const void*, uint32_t> place_of_;
  bool learned_ = false;

  Seen seen_;
};

// False: before, between and after the steps of a search, where accesses are plain.
inline bool OnFiber() noexcept {
  return Explorer::running != nullptr && Explorer::running->on_fiber();
}

// In place of std::atomic, in the policy of what is explored.
template <class V>
class Atomic {
  static_assert(std::is_trivially_copyable_v<V> && sizeof(V) <= sizeof(uint64_t));

 public:
  constexpr Atomic() noexcept = default;
  constexpr Atomic(V value) noexcept : value_(value) {}  // NOLINT: as std::atomic
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  V load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    if (!OnFiber()) return value_;
    const uint64_t word = Explorer::running->Load(&value_, sizeof(V), order);
    V value;
    std::memcpy(&value, &word, sizeof(V));
    return value;
  }
  void store(V value, std::memory_order order = std::memory_order_seq_cst) noexcept {
    if (!OnFiber()) {
      value_ = value;
      return;
    }
    uint64_t word = 0;
    std::memcpy(&word, &value, sizeof(V));
    Explorer::running->Store(&value_, sizeof(V), word, order);
  }
  bool compare_exchange_strong(V& expected, V desired, std::memory_order success,
                               std::memory_order failure) noexcept {
    if (OnFiber()) Explorer::running->BeforeRmw(&value_);
    const bool same = value_ == expected;
    if (same) {
      value_ = desired;
    } else {
      expected = value_;
    }
    if (OnFiber()) Explorer::running->AfterRmw(&value_, same, same ? success : failure);
    return same;
  }
  bool compare_exchange_weak(V& expected, V desired, std::memory_order success,
                             std::memory_order failure) noexcept {
    return compare_exchange_strong(expected, desired, success, failure);
  }
  bool compare_exchange_strong(V& expected, V desired, std::memory_order order) noexcept {
    return compare_exchange_strong(expected, desired, order, OnFailure(order));
  }
  bool compare_exchange_weak(V& expected, V desired, std::memory_order order) noexcept {
    return compare_exchange_strong(expected, desired, order, OnFailure(order));
  }
  V fetch_add(V by, std::memory_order order) noexcept {
    return Modify(order, [by](V old) { return static_cast<V>(old + by); });
  }
  V fetch_sub(V by, std::memory_order order) noexcept {
    return Modify(order, [by](V old) { return static_cast<V>(old - by); });
  }
  V fetch_or(V bits, std::memory_order order) noexcept {
    return Modify(order, [bits](V old) { return old | bits; });
  }
  V fetch_and(V bits, std::memory_order order) noexcept {
    return Modify(order, [bits](V old) { return old & bits; });
  }

 private:
  static constexpr std::memory_order OnFailure(std::memory_order order) noexcept {
    return order == std::memory_order_acq_rel   ? std::memory_order_acquire
           : order == std::memory_order_release ? std::memory_order_relaxed
                                                : order;
  }
  template <class F>
  V Modify(std::memory_order order, F f) noexcept {
    if (OnFiber()) Explorer::running->BeforeRmw(&value_);
    const V old = value_;
    value_ = f(old);
    if (OnFiber()) Explorer::running->AfterRmw(&value_, true, order);
    return old;
  }

  V value_{};
};

}  // namespace ion::model

#endif  // ION_TESTS_MODEL_EXPLORER_H_
