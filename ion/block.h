// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/block.h
//
// Block: the library's record of one piece of device memory, in one cache line. Users hold a Buffer
// (ion/buffer.h), heaps and backends pass Blocks.
//
// A block is empty, reserved (bytes are known, memory is not taken yet), or filled. Whole buffers
// have offset 0; a block of a carveout is a range of a larger descriptor.
//
// Cost: 64 bytes. Not thread-safe, but for its marks: written only by the lease's holder, on slow
// edges.
#ifndef ION_ION_BLOCK_H_
#define ION_ION_BLOCK_H_

#include <cstddef>
#include <cstdint>

#include "ion/base/fd.h"
#include "ion/base/known.h"
#include "ion/cpu_sync.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// A piece of memory as another process or driver names it. The descriptor is borrowed: it is valid
// as long as the lease it came from.
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

// A lease's word beside its block, so that a release need not read the block: the account that it
// is charged to (an AccountId's bits), and the pool, of which heap, that takes it back.
struct LeaseToken {
  static constexpr unsigned kHeapBits = 6;
  static constexpr unsigned kPoolBits = 16;
  static constexpr uint64_t kPoolStep = uint64_t{1} << kHeapBits;  // from one to the next
  static constexpr uint64_t kNoHeap = kPoolStep - 1;
  // Among the heap's bits: the lease's descriptor was lent. No heap's index has it, so the way of a
  // release to its pool does not ask for it and does not find the heap.
  static constexpr uint64_t kLent = kPoolStep / 2;
  static_assert(HeapId::kCount <= kLent);

  uint64_t word = kNoHeap;

  // `pool`: a multiple of kPoolStep; 0: none takes it back.
  static constexpr LeaseToken Of(uint64_t account, uint32_t pool, size_t heap) noexcept {
    return {account | pool | (pool != 0 ? heap : kNoHeap)};
  }
  // The account that the lease is charged to, as AccountId::FromBits takes it.
  constexpr uint64_t account() const noexcept {
    return word >> (kHeapBits + kPoolBits) << (kHeapBits + kPoolBits);
  }
  // The number of the pool that takes the block back, a multiple of kPoolStep; 0: none.
  constexpr uint32_t pool() const noexcept {
    return static_cast<uint32_t>(word & ((uint64_t{1} << (kHeapBits + kPoolBits)) - kPoolStep));
  }
  // The heap's index in the Manager; kNoHeap where no pool takes it back.
  constexpr size_t heap() const noexcept { return word & kNoHeap; }
  // Requires: a pool takes it back.
  constexpr bool lent() const noexcept { return (word & kLent) != 0; }
  // The same token without the mark that lent() reads.
  constexpr LeaseToken NotLent() const noexcept { return {word & ~kLent}; }
};

struct alignas(64) Block {
  int32_t fd = -1;               // the dma-buf or memfd; -1: no memory
  uint32_t generation = 0;       // changes when the memory behind the block does; its lower half
  uint64_t offset = 0;           // bytes from the descriptor's start to the block's
  uint64_t bytes = 0;            // whole pages
  std::byte* mapping = nullptr;  // of the whole block, kept once it was made
  uint64_t cookie = 0;           // the backend's own
  CpuSync cpu_sync;
  uint16_t mappings = 0;      // CpuMappings alive, and kOrphaned; atomic (CpuMapping)
  uint8_t heap = 0;           // index of its heap in the Manager
  uint8_t kernel_heap = 0;    // index of its kernel heap in the backend
  uint8_t marks = 0;          // atomic: other threads look, and mark
  bool writable : 1 = false;  // the descriptor may be mapped for writing
  bool foreign : 1 = false;   // imported: not counted as ours, never recycled
  uint8_t alignment_log2 : 6 = 0;
  Known cpu_mappable = {};
  Known cached = {};
  Known contiguous = {};
  Known zeroed = {};
  // Of its last lease: so reports tell the holder, and the last mapping of an orphan gives it back.
  // Atomic (LeaseAccess).
  LeaseToken orphan;

  // In `mappings`: the lease has ended, and the last mapping gives the memory back.
  static constexpr uint16_t kOrphaned = 1u << 15;

  // In `marks`, from then on until the memory is proven to be held by nobody else.
  static constexpr uint8_t kLent = 1;      // its descriptor was lent
  static constexpr uint8_t kImported = 2;  // one of our clients imported what was lent
  // For good: the Manager's OwnMemory knows it.
  static constexpr uint8_t kKnown = 4;
  // From an idle block's way to the kernel on: it is no lease, and lies nowhere.
  static constexpr uint8_t kLeaving = 8;
  // Until the memory goes: CPU access to it begins and ends without a call of its backend or heap.
  static constexpr uint8_t kNoSync = 16;
  // From MakeHandle or an import on, until it is recycled: another thread may end the lease while
  // the memory is mapped.
  static constexpr uint8_t kKept = 32;

  // Returns true if the block has the mark. Thread-safe, as Mark and ClearLent.
  bool Marked(uint8_t mark) const noexcept {
    return (__atomic_load_n(&marks, __ATOMIC_RELAXED) & mark) != 0;
  }
  // Sets a mark.
  void Mark(uint8_t mark) noexcept { __atomic_fetch_or(&marks, mark, __ATOMIC_RELAXED); }
  // Clears marks.
  void Unmark(uint8_t of) noexcept {
    __atomic_fetch_and(&marks, static_cast<uint8_t>(~of), __ATOMIC_RELAXED);
  }
  // Clears kLent and kImported, after a proof that nothing else holds the memory.
  void ClearLent() noexcept { Unmark(kLent | kImported); }

  // Empties the block, but for its generation. Until its table has it back, other threads may read
  // its atomic fields.
  void Empty() noexcept {
    fd = -1;
    offset = bytes = cookie = 0;
    mapping = nullptr;
    cpu_sync = {};
    mappings = 0;
    heap = kernel_heap = 0;
    writable = foreign = false;
    alignment_log2 = 0;
    cpu_mappable = cached = contiguous = zeroed = Known();
    __atomic_store_n(&marks, uint8_t{0}, __ATOMIC_RELAXED);
    __atomic_store_n(&orphan.word, LeaseToken().word, __ATOMIC_RELAXED);
  }
  // Takes the memory of `other` and its properties. Requires: the block is empty.
  void TakeMemoryOf(const Block& other) noexcept {
    fd = other.fd;
    offset = other.offset;
    bytes = other.bytes;
    mapping = other.mapping;
    cookie = other.cookie;
    kernel_heap = other.kernel_heap;
    writable = other.writable;
    foreign = other.foreign;
    alignment_log2 = other.alignment_log2;
    cpu_mappable = other.cpu_mappable;
    cached = other.cached;
    contiguous = other.contiguous;
    zeroed = other.zeroed;
  }
  // True if the block has memory.
  bool filled() const noexcept { return fd >= 0; }
  // True if the block's size is known and its memory is not taken yet.
  bool reserved() const noexcept { return fd < 0 && bytes != 0; }
  // The block as another process or driver names it. Requires: filled().
  BlockRange range() const noexcept { return {FdRef(fd), offset, bytes}; }
  // The properties of the block's memory.
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
