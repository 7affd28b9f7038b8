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
// Not for what must outlive the call: who keeps the descriptor (another process, a V4L2 queue)
// needs a Handle (ion/client.h: Keep, then Share).
//
// Cost: two words; no count, no lock. Thread-compatible: one thread at a time, any thread.
#ifndef ION_ION_BUFFER_H_
#define ION_ION_BUFFER_H_

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/base/attributes.h"
#include "ion/block.h"
#include "ion/check.h"
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

  bool valid() const noexcept { return block_ != nullptr; }
  uint64_t bytes() const noexcept { return block().bytes; }
  Properties properties() const noexcept { return block().properties(); }
  // Lends the descriptor: nobody may keep it past the lease.
  FdRef fd() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return FdRef(block().fd); }
  BlockRange range() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return block().range(); }
  // Which memory this is: two leases of one Manager, of whatever time, that have the same range and
  // generation are the same memory.
  uint32_t generation() const noexcept { return block().generation; }

 private:
  friend struct LeaseAccess;
  Buffer(Block* block, LeaseToken token) noexcept : block_(block), token_(token) {}

  Block& block() const noexcept {
    ION_CHECK(block_ != nullptr, "an empty Buffer was used: it was moved from, or never filled");
    return *block_;
  }
  void Release() noexcept {
    if (block_ == nullptr) return;
    ION_CHECK(block_->mappings == 0, "a Buffer was released while a CpuMapping of it lives");
    const internal::SlabHeader& slab = internal::SlabOf(*block_);
    slab.release(slab.owner, *block_, token_);
  }

  Block* block_ = nullptr;
  LeaseToken token_;
};

// How the parts of this library make leases and look into them. Not for users.
struct LeaseAccess {
  static Buffer Make(Block* block, LeaseToken token) noexcept { return {block, token}; }
  static Block& BlockOf(const Buffer& buffer) noexcept { return buffer.block(); }
  static LeaseToken TokenOf(const Buffer& buffer) noexcept { return buffer.token_; }
  // Its release gives the memory back to the kernel.
  static void Retire(Buffer& buffer) noexcept {
    buffer.token_ = LeaseToken::Of(buffer.token_.account(), 0, 0);
  }
  // Ends the lease: the memory goes back now, or with the last CpuMapping of it.
  static void Orphan(Buffer buffer) noexcept {
    Block& block = buffer.block();
    block.orphan = buffer.token_;
    if (MappingCount(block).fetch_or(Block::kOrphaned, std::memory_order_acq_rel) != 0) {
      buffer.block_ = nullptr;
    } else {
      block.mappings = 0;
    }
  }
  static std::atomic_ref<uint16_t> MappingCount(Block& block) noexcept {
    return std::atomic_ref<uint16_t>(block.mappings);
  }
};

}  // namespace ion

#endif  // ION_ION_BUFFER_H_
