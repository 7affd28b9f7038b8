// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/buffer.h
//
// Buffer: a lease of one piece of device memory. Given back when it goes out of scope, through the
// heap it came from.
//
// Example:
//   absl::StatusOr<ion::Buffer> buffer = client.Allocate({.bytes = 8_MiB});
//   queue.Submit(buffer->fd());
//
// Do not use it for a descriptor that must outlive the call: another process, or a V4L2 queue, that
// keeps the descriptor needs a Handle (ion/client.h: MakeHandle, then Share).
//
// Cost: two words; no count, no lock. Thread-compatible: one thread at a time, any thread.
#ifndef ION_ION_BUFFER_H_
#define ION_ION_BUFFER_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/base/attributes.h"
#include "ion/base/atomic_ref.h"
#include "ion/base/check.h"
#include "ion/block.h"
#include "ion/slab.h"

namespace ion {

class [[nodiscard]] Buffer {
 public:
  // An empty lease; only assigning to it and asking valid() mean something.
  constexpr Buffer() = default;
  Buffer(Buffer&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)), token_(other.token_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      Release();
      block_ = std::exchange(other.block_, nullptr);
      token_ = other.token_;
    }
    return *this;
  }
  // Requires: no CpuMapping of this buffer lives (checked).
  ~Buffer() { Release(); }

  // False for an empty lease: one that was moved from, or never filled.
  bool valid() const noexcept { return block_ != nullptr; }
  // The size in bytes, rounded up to whole pages or to a size class.
  uint64_t bytes() const noexcept { return block().bytes; }
  // The properties of the memory. Unknown ones are no promise.
  Properties properties() const noexcept { return block().properties(); }
  // The pitch and the size that a driver stated of the request's frame; an empty one of other memory.
  StatedFrame stated() const noexcept {
    const internal::SlabHeader& slab = internal::SlabOf(block());
    return slab.ops->stated(slab.owner, block());
  }
  // Lends the descriptor, which must not be kept past the lease. Lent memory stays within its trust
  // domain until the kernel proves that nothing else holds it.
  FdRef fd() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return FdRef(Lend().fd); }
  // As fd(), with the offset and size, in bytes, of the buffer in its descriptor.
  BlockRange range() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return Lend().range(); }
  // Identifies the memory: two leases of one Manager, at any times, that have the same range and
  // generation are the same memory.
  uint64_t generation() const noexcept { return internal::GenerationOf(block()); }

 private:
  friend struct LeaseAccess;
  Buffer(Block* block, LeaseToken token) noexcept : block_(block), token_(token) {}

  Block& block() const noexcept {
    ION_CHECK(block_ != nullptr, "an empty Buffer was used: it was moved from, or never filled");
    return *block_;
  }
  // Two threads may lend the descriptor of one lease at once.
  const Block& Lend() const noexcept {
    Block& block = this->block();
    internal::MarkLent(block);
    const uint64_t word = __atomic_load_n(&token_.word, __ATOMIC_RELAXED);
    if ((word & LeaseToken::kLent) == 0) {
      __atomic_store_n(&token_.word, word | LeaseToken::kLent, __ATOMIC_RELAXED);
    }
    return block;
  }
  [[noreturn, gnu::cold, gnu::noinline]] static void StillMapped(Block& block) noexcept {
    const internal::SlabHeader& slab = internal::SlabOf(block);
    slab.ops->print_mapped(slab.owner, block);
    internal::CheckFailed(__FILE__, __LINE__, "block.mappings == 0",
                          "a Buffer was released while a CpuMapping of it lives");
  }
  void Release() noexcept {
    if (block_ == nullptr) return;
    if (block_->mappings != 0) [[unlikely]]
      StillMapped(*block_);
    const internal::SlabHeader& slab = internal::SlabOf(*block_);
    slab.release(slab.owner, *block_, token_);
  }

  Block* block_ = nullptr;
  mutable LeaseToken token_;
};

// How the parts of this library make leases and look into them. Not for users.
struct LeaseAccess {
  // One plain store: the block's line is the one that a release looks at.
  [[gnu::always_inline]] static Buffer Make(Block* block, LeaseToken token) noexcept {
    __atomic_store_n(&block->orphan.word, token.word, __ATOMIC_RELAXED);
    return {block, token};
  }
  // The token of the block's last lease, on any thread.
  static LeaseToken LastOf(const Block& block) noexcept {
    return {__atomic_load_n(&block.orphan.word, __ATOMIC_RELAXED)};
  }
  // The block of a lease. Requires: it is not empty (checked).
  static Block& BlockOf(const Buffer& buffer) noexcept { return buffer.block(); }
  // The token of a lease: its account and the pool that takes it back.
  static LeaseToken TokenOf(const Buffer& buffer) noexcept { return buffer.token_; }
  // Its release gives the memory back to the kernel.
  static void Retire(Buffer& buffer) noexcept {
    buffer.token_ = LeaseToken::Of(buffer.token_.account(), 0, 0);
    buffer.block().Mark(Block::kKept);
  }
  // Ends the lease: the memory goes back now, or with the last CpuMapping of it. Requires: the block
  // is marked kKept (checked).
  static void Orphan(Buffer buffer) noexcept {
    Block& block = buffer.block();
    ION_CHECK(block.Marked(Block::kKept), "a lease that no handle has was orphaned");
    __atomic_store_n(&block.orphan.word, buffer.token_.word, __ATOMIC_RELAXED);
    if (MappingCount(block).fetch_or(Block::kOrphaned, std::memory_order_acq_rel) != 0) {
      buffer.block_ = nullptr;
    } else {
      block.mappings = 0;
    }
  }
  // Counts one CpuMapping more, or one less. Returns what was there before, as MappingCount. Only a
  // lease that is kept ends on another thread, so only its count takes locked instructions.
  static uint16_t AddMapping(Block& block) noexcept {
    internal::AtomicRef<uint16_t> count = MappingCount(block);
    if (block.Marked(Block::kKept)) return count.fetch_add(1, std::memory_order_relaxed);
    const uint16_t before = count.load(std::memory_order_relaxed);
    count.store(static_cast<uint16_t>(before + 1), std::memory_order_relaxed);
    return before;
  }
  static uint16_t DropMapping(Block& block) noexcept {
    internal::AtomicRef<uint16_t> count = MappingCount(block);
    if (block.Marked(Block::kKept)) return count.fetch_sub(1, std::memory_order_acq_rel);
    const uint16_t before = count.load(std::memory_order_relaxed);
    count.store(static_cast<uint16_t>(before - 1), std::memory_order_relaxed);
    return before;
  }
  // The number of living CpuMappings of a block, and the bit kOrphaned.
  static internal::AtomicRef<uint16_t> MappingCount(Block& block) noexcept {
    return internal::AtomicRef<uint16_t>(block.mappings);
  }
};

}  // namespace ion

#endif  // ION_ION_BUFFER_H_
