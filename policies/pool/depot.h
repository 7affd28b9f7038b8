// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/depot.h
//
// Depot: the shared part of a pool: a bounded bag of object indices that moves up to 15 at a time,
// in blocks of one cache line. A full stack and an empty stack of blocks: two locked instructions
// for 15 objects, and one line of data that crosses between processors.
//
// An object that comes alone, or when no block is empty, is a stray: a bit of its own. So a block
// may hold as few as one object, and there is always room for every object.
//
// Example:
//   std::vector<std::byte> memory(ion::Depot<>::Bytes(count));   // zeroed, aligned to 64
//   ion::Depot<> depot;
//   depot.Init(memory.data(), count);
//   depot.Put(indices, 15);
//   uint32_t n = depot.Get(indices, 15);
//
// Not for small objects one at a time (policies/pool/magazine.h stands before it).
//
// An object in the arms of a thread that is inside a call is in no place where another finds it:
// Get may find nothing while a Get or a Put of another thread is under way.
//
// Cost: at most 7.4 bytes per object, and 0.8 KiB. Thread-safe but for Init. Progress: Put and
// Get are lock-free, PutOne is wait-free; the search for strays takes a step per 64 objects, and is
// made only where there are some.
#ifndef ION_POLICIES_POOL_DEPOT_H_
#define ION_POLICIES_POOL_DEPOT_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "ion/policies/pool/packed_stack.h"

namespace ion {

template <class P = StackPolicy>
class Depot {
 public:
  static constexpr uint32_t kBlockObjects = 15;
  static constexpr uint32_t kMaxObjects = (PackedStack<P>::kMaxIndex - 4) * 10;

  // Bytes of memory that Init wants for `objects` objects.
  static constexpr size_t Bytes(uint32_t objects) noexcept {
    return (Blocks(objects) + 1) * (sizeof(Block) + sizeof(Link)) + Words(objects) * sizeof(Word);
  }

  // Requires: 0 < objects <= kMaxObjects; `memory` is Bytes(objects) zero bytes, aligned to a cache
  // line, and outlives this.
  void Init(void* memory, uint32_t objects) noexcept {
    const uint32_t blocks = Blocks(objects);
    blocks_ = static_cast<Block*>(memory);
    links_ = reinterpret_cast<Link*>(blocks_ + blocks + 1);
    words_ = reinterpret_cast<Word*>(links_ + blocks + 1);
    word_count_ = Words(objects);
    block_count_ = blocks;
  }

  // Requires: the caller owns each of the `n` objects; each is below the `objects` of Init.
  void Put(const uint32_t* objects, uint32_t n) noexcept {
    while (n > 0) {
      const uint32_t k = std::min(n, kBlockObjects);
      if (const uint32_t at = TakeEmpty(); at != 0) {
        Block& block = blocks_[at];
        Store(block.n, k);
        for (uint32_t i = 0; i < k; ++i) Store(block.objects[i], objects[i]);
        full_.Push(links_, at, k);
      } else {
        for (uint32_t i = 0; i < k; ++i) PutOne(objects[i]);
      }
      objects += k;
      n -= k;
    }
  }
  void PutOne(uint32_t object) noexcept {
    // Counted before it is there, and Get counts after it took: the count is never too low, and
    // nothing is overlooked.
    strays_.fetch_add(1, std::memory_order_relaxed);
    words_[object / 64].fetch_or(uint64_t{1} << object % 64, P::kPush);
  }

  // Up to `max` objects that were put together, as many as fit; the caller then owns them. Returns
  // how many. Requires: max > 0, and `objects` has room for min(max, kBlockObjects).
  uint32_t Get(uint32_t* objects, uint32_t max) noexcept {
    if (const uint32_t n = GetFromBlock(objects, max); n != 0) return n;
    return GetStrays(objects, std::min(max, kBlockObjects));
  }

  // f(object) for each that lies here, and stays here. While others take and put, one of theirs may
  // be missed, or be told twice, or as it left. Lock-free.
  template <class F>
  void Peek(F f) const {
    // A few times, so that most often all is of one moment.
    uint32_t objects[kBlockObjects];
    for (int tries = 0; tries < 4; ++tries) {
      const bool sure = full_.ForEach(links_, [&](uint32_t at) {
        const uint32_t n = std::min(Load(blocks_[at].n), kBlockObjects);
        for (uint32_t i = 0; i < n; ++i) objects[i] = Load(blocks_[at].objects[i]);
        for (uint32_t i = 0; i < n; ++i) f(objects[i]);
      });
      if (sure) break;
    }
    if (strays_.load(std::memory_order_relaxed) == 0) return;
    for (uint32_t i = 0; i < word_count_; ++i) {
      for (uint64_t here = words_[i].load(std::memory_order_relaxed); here != 0; here &= here - 1) {
        f(i * 64 + static_cast<uint32_t>(std::countr_zero(here)));
      }
    }
  }

  // How many objects lie here. Exact while no call is under way.
  uint32_t depth() const noexcept {
    return full_.weight(links_) + strays_.load(std::memory_order_relaxed);
  }
  // The lowest depth that a Get has left behind since the last NewEpoch: so many were not needed.
  uint32_t lowest() const noexcept {
    return std::min(lowest_.load(std::memory_order_relaxed), depth());
  }
  void NewEpoch() noexcept { lowest_.store(depth(), std::memory_order_relaxed); }

 private:
  struct alignas(64) Block {
    uint32_t n;
    uint32_t objects[kBlockObjects];
  };
  static_assert(sizeof(Block) == 64);
  // Peek reads what somebody else may be writing; its owner's accesses stay plain moves.
  [[gnu::always_inline]] static uint32_t Load(const uint32_t& word) noexcept {
    return __atomic_load_n(&word, __ATOMIC_RELAXED);
  }
  [[gnu::always_inline]] static void Store(uint32_t& word, uint32_t value) noexcept {
    __atomic_store_n(&word, value, __ATOMIC_RELAXED);
  }
  using Link = typename PackedStack<P>::Link;
  using Word = typename P::template Atomic<uint64_t>;

  // A block for each 10 objects, not for each 15, so that many blocks may be partly filled before a
  // full load is split into single objects.
  static constexpr uint32_t Blocks(uint32_t objects) noexcept { return objects / 10 + 4; }
  static constexpr uint32_t Words(uint32_t objects) noexcept { return (objects + 63) / 64; }

  // An empty block: one that was used before, or the next that never was, so that memory is touched
  // as objects come. 0: none.
  uint32_t TakeEmpty() noexcept {
    if (const uint32_t at = empty_.Pop(links_); at != 0) return at;
    if (touched_.load(std::memory_order_relaxed) >= block_count_) return 0;
    const uint32_t at = touched_.fetch_add(1, std::memory_order_relaxed) + 1;
    return at <= block_count_ ? at : 0;
  }

  uint32_t GetFromBlock(uint32_t* objects, uint32_t max) noexcept {
    const uint32_t at = full_.Pop(links_);
    if (at == 0) return 0;
    Block& block = blocks_[at];
    const uint32_t weight = PackedStack<P>::WeightAt(links_, at);
    const uint32_t all = Load(block.n);
    const uint32_t n = std::min(all, max);
    const uint32_t rest = all - n;
    for (uint32_t i = 0; i < n; ++i) objects[i] = Load(block.objects[rest + i]);
    if (rest == 0) {
      empty_.Push(links_, at, 0);
    } else {
      Store(block.n, rest);
      full_.Push(links_, at, rest);
    }
    Note(weight - n + strays_.load(std::memory_order_relaxed));
    return n;
  }

  uint32_t GetStrays(uint32_t* objects, uint32_t max) noexcept {
    if (strays_.load(std::memory_order_relaxed) == 0) return 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < word_count_ && n < max; ++i) {
      uint64_t wanted = words_[i].load(std::memory_order_relaxed);
      while (std::popcount(wanted) > static_cast<int>(max - n)) wanted &= wanted - 1;
      if (wanted == 0) continue;
      uint64_t got = words_[i].fetch_and(~wanted, std::memory_order_acquire) & wanted;
      for (; got != 0; got &= got - 1) {
        objects[n++] = i * 64 + static_cast<uint32_t>(std::countr_zero(got));
      }
    }
    if (n == 0) return 0;
    Note(strays_.fetch_sub(n, std::memory_order_relaxed) - n + full_.weight(links_));
    return n;
  }

  void Note(uint32_t depth) noexcept {
    uint32_t lowest = lowest_.load(std::memory_order_relaxed);
    while (depth < lowest &&
           !lowest_.compare_exchange_weak(lowest, depth, std::memory_order_relaxed)) {
    }
  }

  // First the fields that every trip writes, on a line for each stack; then those that are only
  // read.
  alignas(64) PackedStack<P> full_;
  typename P::template Atomic<uint32_t> lowest_{0};
  typename P::template Atomic<uint32_t> strays_{0};
  alignas(64) PackedStack<P> empty_;
  typename P::template Atomic<uint32_t> touched_{0};  // blocks 1 to this have been used
  alignas(64) Block* blocks_ = nullptr;
  Link* links_ = nullptr;
  Word* words_ = nullptr;
  uint32_t word_count_ = 0;
  uint32_t block_count_ = 0;
};

}  // namespace ion

#endif  // ION_POLICIES_POOL_DEPOT_H_
