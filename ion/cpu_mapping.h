// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/cpu_mapping.h
//
// CpuMapping: a buffer, or some pages of it, in this process's address space. Read-only or writable
// by its type. Bytes are written through a CpuAccess (ion/cpu_access.h), never through the mapping.
//
// Example:
//   absl::StatusOr<ion::WritableMapping> mapping = ion::WritableMapping::Of(buffer);
//
// A Buffer must outlive its mappings (checked); a SharedBuffer need not.
//
// Cost: the mapping of a whole buffer is made once and kept with the memory; a part is one mmap and
// one munmap. Not thread-safe: one thread at a time per buffer.
#ifndef ION_ION_CPU_MAPPING_H_
#define ION_ION_CPU_MAPPING_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/cpu_sync.h"

namespace ion {

class SharedBuffer;

template <MapMode kMode>
class [[nodiscard]] CpuMapping {
 public:
  // Maps `range` of `buffer`. EINVAL: the range is not whole pages, is empty, or ends past the
  // buffer. EACCES: a writable mapping of memory that was imported read-only. To map a Handle:
  // Client::Map.
  static absl::StatusOr<CpuMapping> Of(const Buffer& buffer ABSL_ATTRIBUTE_LIFETIME_BOUND,
                                       MapRange range = {}) noexcept {
    Block& block = LeaseAccess::BlockOf(buffer);
    if (range.bytes == UINT64_MAX && range.offset <= block.bytes) {
      range.bytes = block.bytes - range.offset;
    }
    const internal::SlabHeader& slab = internal::SlabOf(block);
    // The mapping that the block keeps; a child has it not.
    const bool whole = range.offset == 0 && range.bytes == block.bytes;
    const bool allowed = kMode == MapMode::kReadOnly || block.writable;
    if (block.mapping != nullptr && whole && allowed && !slab.InChild()) {
      return CpuMapping(block, block.mapping, range);
    }
    Result<std::byte*> at = slab.ops->map(slab.owner, block, range.offset, range.bytes, kMode);
    if (!at.ok()) return ToStatus(at.error());
    return CpuMapping(block, *at, range);
  }
  static absl::StatusOr<CpuMapping> Of(Buffer&&, MapRange = {}) = delete;
  // The same of shared memory (ion/shared_buffer.h), which lives as long as its mappings. EINVAL
  // also: the SharedBuffer is empty.
  static absl::StatusOr<CpuMapping> Of(const SharedBuffer& buffer, MapRange range = {}) noexcept;

  // Requires: no CpuAccess to `other` is open (checked: a scope points to its mapping).
  CpuMapping(CpuMapping&& other) noexcept : at_(other.at_), range_(other.range_) {
    ION_CHECK(other.scopes_ == 0, "a CpuMapping was moved inside a CpuAccess to it");
    block_ = std::exchange(other.block_, nullptr);
  }
  CpuMapping& operator=(CpuMapping&& other) noexcept {
    if (this != &other) {
      ION_CHECK(other.scopes_ == 0, "a CpuMapping was moved inside a CpuAccess to it");
      Unmap();
      block_ = std::exchange(other.block_, nullptr);
      at_ = other.at_;
      range_ = other.range_;
    }
    return *this;
  }
  // A munmap that the kernel refuses is reported to the error sink and tried again later.
  ~CpuMapping() { Unmap(); }

  // The size of the mapping, in bytes.
  uint64_t bytes() const noexcept { return range_.bytes; }
  // The bytes from the start of the buffer to that of the mapping.
  uint64_t offset() const noexcept { return range_.offset; }
  // The memory, without a promise: only inside a CpuAccess does it show what a device wrote.
  std::span<const std::byte> unsynced() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND {
    ION_CHECK(block_ != nullptr, "a CpuMapping was used after it was moved from");
    return {at_, static_cast<size_t>(range_.bytes)};
  }

 private:
  template <Direction>
  friend class CpuAccess;
  CpuMapping(Block& block, std::byte* at, MapRange range) noexcept
      : block_(&block), at_(at), range_(range) {
    const uint16_t alive = LeaseAccess::AddMapping(block);
    ION_CHECK(alive < Block::kOrphaned - 1, "32767 CpuMappings of one buffer are alive");
  }
  void Unmap() noexcept {
    if (block_ == nullptr) return;
    ION_CHECK(scopes_ == 0, "a CpuMapping ended inside a CpuAccess to it");
    Block& block = *std::exchange(block_, nullptr);
    const internal::SlabHeader& slab = internal::SlabOf(block);
    if (at_ != block.mapping) slab.ops->unmap(slab.owner, block, at_, range_.bytes);
    // From here on the block may be somebody else's, but for the last mapping of an orphan.
    const uint16_t alive = LeaseAccess::DropMapping(block);
    if (alive != (Block::kOrphaned | 1)) return;
    block.mappings = 0;
    slab.release(slab.owner, block, block.orphan);
  }

  Block* block_ = nullptr;
  std::byte* at_;
  MapRange range_;
  mutable uint32_t scopes_ = 0;  // CpuAccesses open
};

using ReadOnlyMapping = CpuMapping<MapMode::kReadOnly>;
using WritableMapping = CpuMapping<MapMode::kWritable>;

}  // namespace ion

#endif  // ION_ION_CPU_MAPPING_H_
