// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/quarantine.h
//
// Quarantine: pooled blocks that somebody else may still use: a peer that holds a descriptor, or a
// device that has not signalled its fence. A block waits here until the backend says that it may be
// given out again; the heap decides where it goes then. The same list, without the question, keeps
// the blocks that wait to be zeroed.
//
// A question costs system calls, so it is asked without the heap's mutex: Borrow marks a block,
// which stays in the list and is left alone by all others; then Return puts it back, or Remove
// takes it out.
//
// Not for users.
//
// Cost: a walk over the list. Under the heap's mutex, but for Ask.
#ifndef ION_POLICIES_RECYCLING_QUARANTINE_H_
#define ION_POLICIES_RECYCLING_QUARANTINE_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "ion/backend.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/pending_fences.h"

namespace ion::internal {

// Others' hold on a block. kUnknown: for this memory it can never be told. kFailed: not this time.
enum class Holders { kWeAlone, kOthers, kUnknown, kFailed };

// Returns false if only the library holds the block, which then counts as never lent. An error goes
// to the backend's sink.
template <Backend B>
Holders HoldersOf(B& backend, Block& block) noexcept {
  if constexpr (B::kCaps.proves_unshared) {
    const Result<bool> answer = backend.IsUnshared(block);
    if (answer.ok() && *answer) block.ClearLent();
    if (answer.ok()) return *answer ? Holders::kWeAlone : Holders::kOthers;
    if (answer.error().code() == ENOTSUP) return Holders::kUnknown;
    backend.errors().Report(answer.error());
    return Holders::kFailed;
  } else {
    return Holders::kUnknown;
  }
}

// The reason why a block waits, which is what ends its wait.
enum class Awaits : uint8_t {
  kProof,  // others may hold it
  kFence,  // a device may use it
  kZeros   // it has not been zeroed yet
};

template <size_t kMost>
class Quarantine {
 public:
  // False: the list is full.
  bool Put(Block& block, Awaits awaits, uint64_t tick = 0) noexcept {
    if (count_ == kMost) return false;
    items_[count_++] = {&block, tick, round_, awaits, false};
    bytes_ += block.bytes;
    return true;
  }

  // Returns true if the block may be allocated again. Without the mutex. Requires: the block is
  // borrowed.
  template <Backend B>
  static bool Ask(B& backend, Block& block, Awaits awaits) noexcept {
    if (awaits == Awaits::kFence) return !HasPendingFence(backend, block);
    return HoldersOf(backend, block) == Holders::kWeAlone;
  }

  // The oldest block that nobody has borrowed and that wanted(block, tick) accepts; nullptr: none.
  template <class F>
  Block* Borrow(F wanted, Awaits* awaits = nullptr) noexcept {
    for (size_t i = 0; i < count_; ++i) {
      Item& item = items_[i];
      if (item.borrowed || !wanted(*item.block, item.tick)) continue;
      item.borrowed = true;
      if (awaits != nullptr) *awaits = item.awaits;
      return item.block;
    }
    return nullptr;
  }
  // The oldest that no Borrow of this round has given yet; a block that comes later is of the next.
  Block* BorrowNext(Awaits* awaits) noexcept {
    for (size_t i = 0; i < count_; ++i) {
      Item& item = items_[i];
      if (item.borrowed || item.round == round_) continue;
      item.round = round_;
      item.borrowed = true;
      *awaits = item.awaits;
      return item.block;
    }
    return nullptr;
  }
  void NewRound() noexcept { ++round_; }
  void Return(const Block& block) noexcept { items_[IndexOf(block)].borrowed = false; }
  void Remove(const Block& block) noexcept {
    size_t i = IndexOf(block);
    bytes_ -= block.bytes;
    for (--count_; i < count_; ++i) items_[i] = items_[i + 1];
  }
  // Takes the oldest out that Borrow would give.
  template <class F>
  Block* Take(F wanted) noexcept {
    Block* block = Borrow(wanted);
    if (block != nullptr) Remove(*block);
    return block;
  }

  // f(block) for each, borrowed or not.
  template <class F>
  void ForEach(F f) const {
    for (size_t i = 0; i < count_; ++i) f(*items_[i].block);
  }
  size_t count() const noexcept { return count_; }
  uint64_t bytes() const noexcept { return bytes_; }
  bool full() const noexcept { return count_ == kMost; }

 private:
  struct Item {
    Block* block;
    uint64_t tick;  // when it came
    uint32_t round;
    Awaits awaits;
    bool borrowed;
  };

  size_t IndexOf(const Block& block) const noexcept {
    size_t i = 0;
    while (i < count_ && items_[i].block != &block) ++i;
    ION_CHECK(i < count_, "the block is not in the quarantine");
    return i;
  }

  size_t count_ = 0;
  uint64_t bytes_ = 0;
  uint32_t round_ = 0;
  Item items_[kMost];
};

}  // namespace ion::internal

#endif  // ION_POLICIES_RECYCLING_QUARANTINE_H_
