// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/block.h
//
// Block: what the library knows of one piece of device memory, in one cache line. Users hold a
// Buffer (ion/buffer.h), heaps and backends pass Blocks.
//
// A block is empty, reserved (bytes are known, memory is not taken yet), or filled. Whole buffers
// have offset 0; a block of a carveout is a range of a larger descriptor.
//
// Cost: 64 bytes. Not thread-safe: written only by the lease's holder, on slow edges.
#ifndef ION_ION_BLOCK_H_
#define ION_ION_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "ion/cpu_sync.h"
#include "ion/fd.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// A piece of memory as another process or driver is told of it. Requires: the descriptor is only
// borrowed; it lives as long as the lease it came from.
struct BlockRange {
  FdRef fd;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// How a mapping may be used.
enum class MapMode : uint8_t { kReadOnly, kWritable };

// A part of a block, in bytes from its start. Whole pages.
struct MapRange {
  uint64_t offset = 0;
  uint64_t bytes = UINT64_MAX;  // UINT64_MAX: to the end
};

// What a lease knows beside its block, in one word, so that a release need not read the block:
// whose account it is on (an AccountId's bits), and which pool of which heap takes it back.
struct LeaseToken {
  static constexpr unsigned kHeapBits = 6;
  static constexpr unsigned kPoolBits = 16;
  static constexpr uint64_t kPoolStep = uint64_t{1} << kHeapBits;  // from one to the next
  static constexpr uint64_t kNoHeap = kPoolStep - 1;

  uint64_t word = kNoHeap;

  // `pool`: a multiple of kPoolStep; 0: none takes it back.
  static constexpr LeaseToken Of(uint64_t account, uint32_t pool, size_t heap) noexcept {
    return {account | pool | (pool != 0 ? heap : kNoHeap)};
  }
  constexpr uint64_t account() const noexcept {
    return word >> (kHeapBits + kPoolBits) << (kHeapBits + kPoolBits);
  }
  constexpr uint32_t pool() const noexcept {
    return word & ((uint64_t{1} << (kHeapBits + kPoolBits)) - kPoolStep);
  }
  // The heap's index in the Manager; kNoHeap where no pool takes it back.
  constexpr size_t heap() const noexcept { return word & kNoHeap; }
};

struct alignas(64) Block {
  int32_t fd = -1;               // the dma-buf or memfd; -1: no memory
  uint32_t generation = 0;       // changes when the memory behind the block does
  uint64_t offset = 0;           // bytes, where the block starts in the descriptor
  uint64_t bytes = 0;            // whole pages
  std::byte* mapping = nullptr;  // of the whole block, kept once it was made
  uint64_t cookie = 0;           // the backend's own
  CpuSync cpu_sync;
  uint16_t mappings = 0;      // CpuMappings alive, and kOrphaned; atomic (CpuMapping)
  uint8_t heap = 0;           // index of its heap in the Manager
  uint8_t kernel_heap = 0;    // index of its kernel heap in the backend
  bool writable : 1 = false;  // the descriptor may be mapped for writing
  bool foreign : 1 = false;   // imported: not counted as ours, never recycled
  bool cpu_mappable : 1 = false;
  bool cached : 1 = false;
  bool contiguous : 1 = false;
  bool zeroed : 1 = false;
  uint8_t alignment_log2 = 0;
  LeaseToken orphan;  // of the lease that ended before its mappings

  // In `mappings`: the lease has ended, and the last mapping gives the memory back.
  static constexpr uint16_t kOrphaned = 1u << 15;

  bool filled() const noexcept { return fd >= 0; }
  bool reserved() const noexcept { return fd < 0 && bytes != 0; }
  BlockRange range() const noexcept { return {FdRef(fd), offset, bytes}; }
  Properties properties() const noexcept {
    return {.cpu_mappable = cpu_mappable,
            .cached = cached,
            .contiguous = contiguous,
            .zeroed = zeroed,
            .alignment = uint64_t{1} << alignment_log2};
  }
};
static_assert(sizeof(Block) == 64);

}  // namespace ion

#endif  // ION_ION_BLOCK_H_
