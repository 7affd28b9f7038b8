// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/slab.h
//
// BlockTable: the storage of Blocks. A slab is 64 KiB at an address of the same alignment: a header
// of one line, and 1023 blocks. Through the header a lease reaches its owner, so that a Buffer
// needs no more than the block's address and is no template. Beside the blocks lies a note of each
// for reports.
//
// Cost: New and Delete take a mutex (they stand beside a system call that takes microseconds).
// Addresses for 65,472 blocks are reserved; a slab's pages come when all others are full, and stay.
// Thread-safe.
#ifndef ION_ION_SLAB_H_
#define ION_ION_SLAB_H_

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <span>
#include <string>
#include <utility>

#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/fork_mark.h"
#include "ion/base/poll_until.h"
#include "ion/block.h"
#include "ion/buffer_identity.h"
#include "ion/frame_shape.h"
#include "ion/sync_counts.h"

namespace ion {

// The slow edges of a lease: its only indirect calls.
struct LeaseOps {
  void (*release)(void* owner, Block& block, LeaseToken token) noexcept;
  Result<std::byte*> (*map)(void* owner, Block& block, uint64_t offset, uint64_t bytes,
                            MapMode mode) noexcept;
  void (*unmap)(void* owner, Block& block, std::byte* at, uint64_t bytes) noexcept;
  Error (*begin_access)(void* owner, Block& block, Direction direction) noexcept;
  Error (*end_access)(void* owner, Block& block, Direction direction) noexcept;
  Error (*await_fences)(void* owner, Block& block, Direction direction, Deadline deadline) noexcept;
  void (*report)(void* owner, const Error& error) noexcept;
  // Prints a line that names the block and its mappings: the program is about to end, as they
  // outlive their Buffer.
  void (*print_mapped)(void* owner, Block& block) noexcept;
  // Reports show these for the block from here on; nullptr: none.
  void (*show_counts)(void* owner, Block& block,
                      std::shared_ptr<const SharedSyncCounts> counts) noexcept;
  StatedFrame (*stated)(void* owner, const Block& block) noexcept;
};

// A client's name and process, kept as long as a buffer that it allocated lives.
struct ClientIdentity {
  std::string name;
  int pid = 0;
  std::atomic<bool> open{true};
  uint32_t most_buffers = UINT32_MAX;
  // That reports show as its own: leased, kept or imported, or idle in a pool since it had them.
  mutable std::atomic<uint32_t> buffers{0};
};

// The line of a call: the default of an argument. (std::source_location is not there for clang 14.)
struct CallSite {
  const char* file = "";
  uint32_t line = 0;

  static constexpr CallSite Here(const char* file = __builtin_FILE(),
                                 uint32_t line = __builtin_LINE()) noexcept {
    return {file, line};
  }
};

// A copy of a block's facts for reports, so that a report never reads a block that is in use.
struct BlockNote {
  // CLOCK_MONOTONIC.
  static int64_t NowNs() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
  }

  char name[32] = {};  // as in the request, cut
  std::shared_ptr<const ClientIdentity> client;
  uint64_t bytes = 0;
  int64_t born_ns = 0;                                  // as NowNs
  CallSite where;                                       // of Allocate or Import
  uint8_t heap = 0;                                     // index of its heap in the Manager
  bool foreign = false;                                 // imported
  bool orphaned = false;                                // alive by a mapping alone
  BufferIdentity identity = {};                         // once somebody had to know it
  std::shared_ptr<const SharedSyncCounts> counts = {};  // of the stream that has it

  // Sets the holder of a recycled lease that another client had; its name is not known.
  void SetHolder(const std::shared_ptr<const ClientIdentity>& holder) noexcept {
    client = holder;
    name[0] = 0;
    where = {};
  }
};

namespace internal {

struct alignas(64) SlabHeader {
  void* owner;
  // Of ops: the hot one, a load nearer.
  void (*release)(void* owner, Block& block, LeaseToken token) noexcept;
  const LeaseOps* ops;
  const uint32_t* epochs;  // of its blocks
  const ForkMark* mark;    // nullptr: nobody asks
  // Atomic; not 0: a block may be marked kLent.
  mutable uint8_t lent = 0;

  // Returns true in a child that a fork made: it has not the mappings that blocks keep.
  bool InChild() const noexcept { return mark != nullptr && mark->InChild(); }
};

inline constexpr size_t kSlabBytes = 64 << 10;
inline constexpr size_t kBlocksPerSlab = kSlabBytes / sizeof(Block) - 1;
static_assert(sizeof(SlabHeader) == sizeof(Block));

// The header of the slab that a block lives in.
inline const SlabHeader& SlabOf(const Block& block) noexcept {
  const auto at = reinterpret_cast<uintptr_t>(&block) & ~uintptr_t{kSlabBytes - 1};
  return *reinterpret_cast<const SlabHeader*>(at);
}

// Marks a block kLent.
inline void MarkLent(Block& block) noexcept {
  if (!block.Marked(Block::kLent)) block.Mark(Block::kLent);
  // After the mark: BlockTable::ForEachLent clears this before it looks for marks. Also if another
  // thread has set the mark, which may not have come to this yet.
  const SlabHeader& slab = SlabOf(block);
  if (__atomic_load_n(&slab.lent, __ATOMIC_RELAXED) != 0) return;
  __atomic_store_n(&slab.lent, uint8_t{1}, __ATOMIC_RELEASE);
}

// Never the same for two blocks of a table, of whatever time: a block has room for the lower half.
inline uint64_t GenerationOf(const Block& block) noexcept {
  const size_t index = reinterpret_cast<uintptr_t>(&block) % kSlabBytes / sizeof(Block) - 1;
  return uint64_t{SlabOf(block).epochs[index]} << 32 | block.generation;
}

}  // namespace internal

class BlockTable {
 public:
  static constexpr size_t kMaxSlabs = 64;
  static constexpr size_t kMaxBlocks = kMaxSlabs * internal::kBlocksPerSlab;

  // `mark`: of the process that the blocks are of. `generation`: of the first block.
  BlockTable(const LeaseOps* ops, void* owner, const internal::ForkMark* mark = nullptr,
             uint64_t generation = 0) noexcept
      : ops_(ops), owner_(owner), mark_(mark), generation_(generation) {
    void* at = ::mmap(nullptr, kReserved, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return;
    reserved_ = at;
    const auto first = (reinterpret_cast<uintptr_t>(at) + internal::kSlabBytes - 1) &
                       ~uintptr_t{internal::kSlabBytes - 1};
    slabs_ = reinterpret_cast<std::byte*>(first);
  }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;
  // Requires: no block is live.
  ~BlockTable() {
    for (size_t i = 0; i < slab_count_; ++i) {
      delete[] notes_[i];
      delete[] epochs_[i];
    }
    if (reserved_ != nullptr) ::munmap(reserved_, kReserved);
  }

  // The range of all blocks that New ever returns, with headers between them; pools of blocks are
  // made over it. Empty if the kernel had no addresses.
  std::span<Block> all() noexcept {
    if (slabs_ == nullptr) return {};
    return {reinterpret_cast<Block*>(slabs_), kMaxSlabs * (internal::kBlocksPerSlab + 1)};
  }

  // An empty block of a new generation; nullptr: kMaxBlocks are live, or there is no memory left.
  Block* New() noexcept {
    std::lock_guard lock(mutex_);
    if (free_ == nullptr && !AddSlab()) return nullptr;
    Block* block = free_;
    free_ = reinterpret_cast<Block*>(block->cookie);
    ++live_;
    Block* made = ::new (block) Block;
    // Counted for the table, not for the block: the kernel gives a descriptor's number again, and
    // another block may get it.
    made->generation = static_cast<uint32_t>(generation_);
    EpochOf(*made) = static_cast<uint32_t>(generation_++ >> 32);
    return made;
  }

  // Takes back what New gave. Returns how many blocks are still live.
  size_t Delete(Block* block) noexcept {
    std::lock_guard lock(mutex_);
    ION_CHECK(block->heap != kFree, "a block was given back twice");
    Replace(NoteOf(*block), BlockNote());
    Free(block);
    return --live_;
  }

  // From here on reports show the block; before, and after Delete, they do not.
  // A block that was listed keeps its identity.
  void List(const Block& block, BlockNote note) noexcept {
    std::lock_guard lock(mutex_);
    if (!note.identity.known()) note.identity = NoteOf(block).identity;
    Replace(NoteOf(block), std::move(note));
  }
  // f(note of the block), to change it.
  template <class F>
  void Amend(const Block& block, F f) noexcept {
    std::lock_guard lock(mutex_);
    f(NoteOf(block));
  }
  // Removes the block from reports and returns its note. Call it before the block's memory goes if
  // the block is marked.
  BlockNote Unlist(const Block& block) noexcept {
    std::lock_guard lock(mutex_);
    return Replace(NoteOf(block), BlockNote());
  }
  // f(block, note) for each that is listed and marked kLent. Until f returns its descriptor is not
  // closed. Looks only into slabs in which a block was lent since the last look that found none.
  template <class F>
  void ForEachLent(F f) noexcept {
    std::lock_guard lock(mutex_);
    for (size_t slab = 0; slab < slab_count_; ++slab) {
      const internal::SlabHeader& header = internal::SlabOf(BlockAt(slab, 0));
      if (__atomic_load_n(&header.lent, __ATOMIC_RELAXED) == 0) continue;
      (void)__atomic_exchange_n(&header.lent, uint8_t{0}, __ATOMIC_ACQ_REL);
      bool any = false;
      for (size_t i = 0; i < internal::kBlocksPerSlab; ++i) {
        auto& block = const_cast<Block&>(BlockAt(slab, i));
        if (!block.Marked(Block::kLent)) continue;
        any = true;
        if (BlockNote& note = notes_[slab][i]; note.bytes != 0) f(block, note);
      }
      if (any) __atomic_store_n(&header.lent, uint8_t{1}, __ATOMIC_RELAXED);
    }
  }
  // The client of each listed block for which held(block, note) is true is `holder` from here on.
  template <class F>
  void SetHolders(const std::shared_ptr<const ClientIdentity>& holder, F held) noexcept {
    std::lock_guard lock(mutex_);
    for (size_t slab = 0; slab < slab_count_; ++slab) {
      for (size_t i = 0; i < internal::kBlocksPerSlab; ++i) {
        BlockNote& note = notes_[slab][i];
        if (note.bytes == 0 || !held(BlockAt(slab, i), std::as_const(note))) continue;
        BlockNote changed = note;
        changed.SetHolder(holder);
        Replace(note, std::move(changed));
      }
    }
  }
  // f(block, note) for each block that is listed.
  template <class F>
  void ForEachListed(F f) const {
    std::lock_guard lock(mutex_);
    for (size_t slab = 0; slab < slab_count_; ++slab) {
      for (size_t i = 0; i < internal::kBlocksPerSlab; ++i) {
        if (notes_[slab][i].bytes != 0) f(BlockAt(slab, i), std::as_const(notes_[slab][i]));
      }
    }
  }

  // The number of blocks in use.
  size_t live() const noexcept {
    std::lock_guard lock(mutex_);
    return live_;
  }

 private:
  // In place of a block's heap while nobody has it. Found by a second Delete, if no New came
  // between.
  static constexpr uint8_t kFree = 0xfe;

  // Among all(), headers counted.
  size_t IndexOf(const Block& block) const noexcept {
    return static_cast<size_t>(&block - reinterpret_cast<const Block*>(slabs_));
  }
  uint32_t& EpochOf(const Block& block) noexcept {
    const size_t index = IndexOf(block);
    return epochs_[index / (internal::kBlocksPerSlab + 1)]
                  [index % (internal::kBlocksPerSlab + 1) - 1];
  }
  BlockNote& NoteOf(const Block& block) noexcept {
    const auto at = static_cast<size_t>(reinterpret_cast<const std::byte*>(&block) - slabs_);
    return notes_[at / internal::kSlabBytes][at % internal::kSlabBytes / sizeof(Block) - 1];
  }

  // Returns the note that was there. Each client's buffers are counted.
  static BlockNote Replace(BlockNote& at, BlockNote note) noexcept {
    if (note.client != nullptr) note.client->buffers.fetch_add(1, std::memory_order_relaxed);
    if (at.client != nullptr) at.client->buffers.fetch_sub(1, std::memory_order_relaxed);
    return std::exchange(at, std::move(note));
  }
  const Block& BlockAt(size_t slab, size_t i) const noexcept {
    const std::byte* at = slabs_ + slab * internal::kSlabBytes + (i + 1) * sizeof(Block);
    return *reinterpret_cast<const Block*>(at);
  }

  // A free block keeps the address of the next one in its cookie.
  void Free(void* at) noexcept {
    Block* block = ::new (at) Block;
    block->heap = kFree;
    block->cookie = reinterpret_cast<uintptr_t>(free_);
    free_ = block;
  }

  bool AddSlab() noexcept {
    if (slabs_ == nullptr || slab_count_ == kMaxSlabs) return false;
    auto* notes = new (std::nothrow) BlockNote[internal::kBlocksPerSlab];
    auto* epochs = new (std::nothrow) uint32_t[internal::kBlocksPerSlab];
    if (notes == nullptr || epochs == nullptr) {
      delete[] notes;
      delete[] epochs;
      return false;
    }
    std::byte* slab = slabs_ + slab_count_ * internal::kSlabBytes;
    epochs_[slab_count_] = epochs;
    notes_[slab_count_++] = notes;
    ::new (slab) internal::SlabHeader{owner_, ops_->release, ops_, epochs, mark_, 0};
    for (size_t i = internal::kBlocksPerSlab; i > 0; --i) Free(slab + i * sizeof(Block));
    return true;
  }

  // One slab more than there are, to find an aligned start.
  static constexpr size_t kReserved = (kMaxSlabs + 1) * internal::kSlabBytes;

  const LeaseOps* const ops_;
  void* const owner_;
  const internal::ForkMark* const mark_;
  mutable std::mutex mutex_;
  Block* free_ = nullptr;
  void* reserved_ = nullptr;
  std::byte* slabs_ = nullptr;  // kMaxSlabs of them, of which slab_count_ are in use
  size_t slab_count_ = 0;
  BlockNote* notes_[kMaxSlabs] = {};
  uint32_t* epochs_[kMaxSlabs] = {};  // the upper half of each block's generation
  size_t live_ = 0;
  uint64_t generation_;
};

}  // namespace ion

#endif  // ION_ION_SLAB_H_
