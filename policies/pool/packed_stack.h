// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/packed_stack.h
//
// PackedStack: a lock-free LIFO of small indices, its head {index, tag} in one 64-bit word, its
// links in an array beside the things that the indices stand for. Each entry has a weight, and each
// link knows the weight of all that lies under it: the depth of the stack costs no counter.
//
// Example:
//   std::vector<ion::PackedStack<>::Link> links(count + 1);   // index 0 stands for "none"
//   ion::PackedStack<> stack;
//   stack.Push(links.data(), 7, /*weight=*/15);
//   uint32_t index = stack.Pop(links.data());                 // 7; 0 where it is empty
//
// Not for more than kMaxIndex entries, and not where two threads do nothing else: two locked
// instructions are 11 to 22 ns, so move many objects with one entry (policies/pool/depot.h).
//
// All bytes zero is the empty stack: its memory may be wiped under it by a fork.
//
// Cost: 8 bytes, and 8 per index. Thread-safe. Progress: Push, Pop and weight are lock-free (a
// failed try means that another thread's Push or Pop succeeded).
#ifndef ION_POLICIES_POOL_PACKED_STACK_H_
#define ION_POLICIES_POOL_PACKED_STACK_H_

#include <atomic>
#include <cstdint>

namespace ion {

// The parts of a PackedStack. A test derives from it to plant bugs: a push that does not release
// (kPush = relaxed), a head that can be taken for an older one (kTagStep = 0). A model checker puts
// its own atomics in.
struct StackPolicy {
  template <class V>
  using Atomic = std::atomic<V>;
  static constexpr std::memory_order kPush = std::memory_order_release;
  static constexpr uint64_t kTagStep = 1;
};

template <class P = StackPolicy>
class PackedStack {
 public:
  // 44 bits of tag: at one pop in 25 ns, the fastest that two processors were seen to do, they wrap
  // after 5 days; a thread would have to sleep in the middle of Pop for exactly that long. 32 bits
  // wrap in 100 s.
  static constexpr unsigned kTagBits = 44;
  static constexpr unsigned kIndexBits = 64 - kTagBits;
  static constexpr uint32_t kMaxIndex = (uint32_t{1} << kIndexBits) - 1;

  struct Link {
    typename P::template Atomic<uint32_t> next;    // the entry under this one
    typename P::template Atomic<uint32_t> weight;  // of this entry and of all under it
  };

  // Requires: the caller owns `index`, which is in no stack and is not 0.
  void Push(Link* links, uint32_t index, uint32_t weight) noexcept {
    uint64_t head = head_.load(std::memory_order_acquire);
    do {
      // The weight under us is right if the exchange succeeds: it was acquired with the head, and
      // the top was not popped meanwhile (its tag stands), so its link was not written.
      const uint32_t under = IndexOf(head);
      const uint32_t under_weight =
          under == 0 ? 0 : links[under].weight.load(std::memory_order_relaxed);
      links[index].next.store(under, std::memory_order_relaxed);
      // Released: a reader in weight() that takes it for that of an older head sees that the head
      // is older.
      links[index].weight.store(under_weight + weight, std::memory_order_release);
    } while (!head_.compare_exchange_weak(head, (head & ~uint64_t{kMaxIndex}) | index, P::kPush,
                                          kPushFailed));
  }

  // An index, which the caller then owns; 0: the stack was empty.
  //
  // The tag advances here alone. A head that was seen before can come back only through a pop of
  // it, so every exchange that would put a stale link into the head fails. The link that is read
  // may be of an entry that somebody else has popped, and is being written: it is atomic, and then
  // not used.
  uint32_t Pop(Link* links) noexcept {
    uint64_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      const uint32_t index = IndexOf(head);
      if (index == 0) return 0;
      const uint64_t tag = (head >> kIndexBits) + P::kTagStep;
      const uint64_t under = links[index].next.load(std::memory_order_relaxed);
      if (head_.compare_exchange_weak(head, tag << kIndexBits | under, std::memory_order_acquire,
                                      std::memory_order_acquire)) {
        return index;
      }
    }
  }

  // The weight of all entries, as it was at one moment during the call.
  uint32_t weight(const Link* links) const noexcept {
    uint64_t head = head_.load(std::memory_order_acquire);
    for (;;) {
      const uint32_t top = IndexOf(head);
      const uint32_t weight = top == 0 ? 0 : links[top].weight.load(std::memory_order_acquire);
      const uint64_t again = head_.load(std::memory_order_relaxed);
      if (again == head) return weight;
      head = again;
    }
  }

  // f(index) for each entry, from the top; they stay. False: others pushed or popped meanwhile, and
  // f may have been called for entries that are not, or not any more, of this stack.
  template <class F>
  bool ForEach(const Link* links, F f) const {
    const uint64_t head = head_.load(std::memory_order_acquire);
    for (uint32_t at = IndexOf(head); at != 0;) {
      f(at);
      at = links[at].next.load(std::memory_order_acquire);
      // A link that was read is of this stack where the head still stands.
      if (head_.load(std::memory_order_acquire) != head) return false;
    }
    return true;
  }

  // The weight that lay under `index` at its Push, and its own. Requires: the caller popped it.
  static uint32_t WeightAt(const Link* links, uint32_t index) noexcept {
    return links[index].weight.load(std::memory_order_relaxed);
  }

  uint64_t tag() const noexcept { return head_.load(std::memory_order_relaxed) >> kIndexBits; }

 private:
  // Acquire; a policy whose push is relaxed may not ask for more where it fails.
  static constexpr std::memory_order kPushFailed =
      P::kPush == std::memory_order_relaxed ? std::memory_order_relaxed : std::memory_order_acquire;

  static uint32_t IndexOf(uint64_t head) noexcept {
    return static_cast<uint32_t>(head) & kMaxIndex;
  }

  typename P::template Atomic<uint64_t> head_{0};
};

}  // namespace ion

#endif  // ION_POLICIES_POOL_PACKED_STACK_H_
