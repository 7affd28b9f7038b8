// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/cpu_access.h
//
// CpuAccess: a scope of CPU access to a mapping, and the only way to a writable span. The kernel is
// told of its begin and its end, so that the CPU's caches and the devices see the same bytes.
//
// Example:
//   absl::StatusOr<ion::CpuWrite> cpu = ion::CpuWrite::Begin(mapping);
//   if (!cpu.ok()) return cpu.status();
//   std::ranges::fill(cpu->bytes(), std::byte{0x5a});
//   return std::move(*cpu).End();  // or let the scope end: an error then goes to the error sink
//
// CpuWrite is for bytes that are overwritten whole. It does not fetch the bytes that a device
// wrote: if a cache line is written in part, its other bytes may come back as they were before.
// CpuReadWrite fetches them.
//
// Scopes nest: one that is covered by an open one sends nothing (ion/cpu_sync.h says what is sent,
// and why). A mapping must outlive its scopes, and stay where it is meanwhile (checked).
//
// Cost: most often one system call at each end; none for a nested scope, and none for uncached
// memory. Not thread-safe: one thread at a time per buffer.
#ifndef ION_ION_CPU_ACCESS_H_
#define ION_ION_CPU_ACCESS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/cpu_mapping.h"
#include "ion/cpu_sync.h"
#include "ion/slab.h"

namespace ion {

template <Direction kDirection>
class [[nodiscard]] CpuAccess {
 public:
  using Byte = std::conditional_t<Writes(kDirection), std::byte, const std::byte>;

  // Begins CPU access. Waits, as the kernel does, for the fences of devices that still use the
  // buffer, without bound. For uncached memory it makes no call and waits for nothing.
  template <MapMode kMode>
  static absl::StatusOr<CpuAccess> Begin(
      const CpuMapping<kMode>& mapping ABSL_ATTRIBUTE_LIFETIME_BOUND) noexcept {
    static_assert(kMode == MapMode::kWritable || !Writes(kDirection),
                  "ion: this mapping is read-only; take a WritableMapping to write through it");
    ION_CHECK(mapping.block_ != nullptr, "a CpuMapping was used after it was moved from");
    Block& block = *mapping.block_;
    if (block.Marked(Block::kNoSync)) {
      block.cpu_sync.OpenUntold(kDirection);
    } else if (Error error = block.cpu_sync.Open(kDirection, Send(block, &LeaseOps::begin_access),
                                                 Send(block, &LeaseOps::end_access));
               !error.ok()) {
      return ToStatus(error);
    }
    return CpuAccess(block, mapping.scopes_,
                     {mapping.at_, static_cast<size_t>(mapping.range_.bytes)});
  }
  template <MapMode kMode>
  static absl::StatusOr<CpuAccess> Begin(CpuMapping<kMode>&&) = delete;

  // The same with a deadline: it first waits by poll, also for uncached memory, until no fence
  // conflicts with the access. DeadlineExceeded (ETIMEDOUT): the deadline came before; no scope was
  // opened, and nothing was begun. With a deadline in the past it does not wait.
  //
  // Between the poll and the begin another thread or process may submit work that adds a fence to
  // the buffer: the begin of cached memory then waits for it without bound, and the CPU and the
  // device use uncached memory at once. The kernel has no call that does both. So the deadline
  // holds if each who may submit work on the buffer leaves it alone until the scope has begun.
  template <MapMode kMode>
  static absl::StatusOr<CpuAccess> Begin(
      const CpuMapping<kMode>& mapping ABSL_ATTRIBUTE_LIFETIME_BOUND, Deadline deadline) noexcept {
    ION_CHECK(mapping.block_ != nullptr, "a CpuMapping was used after it was moved from");
    Block& block = *mapping.block_;
    if (!block.Marked(Block::kNoSync)) {
      const internal::SlabHeader& slab = internal::SlabOf(block);
      const Direction waits = block.cpu_sync.MayBegin(kDirection);
      if (Error error = slab.ops->await_fences(slab.owner, block, waits, deadline); !error.ok()) {
        return ToStatus(error);
      }
    }
    return Begin(mapping);
  }
  template <MapMode kMode>
  static absl::StatusOr<CpuAccess> Begin(CpuMapping<kMode>&&, Deadline) = delete;

  CpuAccess(CpuAccess&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)),
        scopes_(other.scopes_),
        bytes_(other.bytes_) {}
  CpuAccess& operator=(CpuAccess&& other) noexcept {
    if (this != &other) {
      EndOrReport();
      block_ = std::exchange(other.block_, nullptr);
      scopes_ = other.scopes_;
      bytes_ = other.bytes_;
    }
    return *this;
  }
  // An end that the kernel refuses goes to the error sink; End() tells the caller instead.
  ~CpuAccess() { EndOrReport(); }

  // The bytes of the mapping, valid until the scope ends.
  std::span<Byte> bytes() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return bytes_; }

  // Ends the scope now. Call once; the span must not be used after it.
  absl::Status End() && noexcept {
    return block_ == nullptr || CloseUntold() ? absl::OkStatus() : ToStatus(Close());
  }

 private:
  CpuAccess(Block& block, uint32_t& scopes, std::span<Byte> bytes) noexcept
      : block_(&block), scopes_(&scopes), bytes_(bytes) {
    ++scopes;
  }

  using Access = Error (*LeaseOps::*)(void*, Block&, Direction) noexcept;
  static auto Send(Block& block, Access access) noexcept {
    return [&block, access](Direction direction) noexcept {
      const internal::SlabHeader& slab = internal::SlabOf(block);
      return (slab.ops->*access)(slab.owner, block, direction);
    };
  }
  // Closes the scope if nobody has to be told. False: it is still open.
  bool CloseUntold() noexcept {
    if (!block_->Marked(Block::kNoSync)) return false;
    --*scopes_;
    std::exchange(block_, nullptr)->cpu_sync.CloseUntold(kDirection);
    return true;
  }
  Error Close() noexcept {
    Block& block = *std::exchange(block_, nullptr);
    --*scopes_;
    return block.cpu_sync.Close(kDirection, Send(block, &LeaseOps::begin_access),
                                Send(block, &LeaseOps::end_access));
  }
  void EndOrReport() noexcept {
    if (block_ == nullptr || CloseUntold()) return;
    const internal::SlabHeader& slab = internal::SlabOf(*block_);
    if (const Error error = Close(); !error.ok()) slab.ops->report(slab.owner, error);
  }

  Block* block_;
  uint32_t* scopes_;  // its mapping's count
  std::span<Byte> bytes_;
};

using CpuRead = CpuAccess<Direction::kRead>;
using CpuWrite = CpuAccess<Direction::kWrite>;
using CpuReadWrite = CpuAccess<Direction::kReadWrite>;

}  // namespace ion

#endif  // ION_ION_CPU_ACCESS_H_
