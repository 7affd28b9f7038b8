// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pooled_memfd.h
//
// PooledMemfd: memfds of one class behind ion::Pool: a heap whose hits are all that a hit can cost,
// the kernel left out.
#ifndef ION_BENCH_POOLED_MEMFD_H_
#define ION_BENCH_POOLED_MEMFD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "backends/memfd.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "policies/pool.h"

namespace ion::bench {

template <HeapId kHeapId>
class PooledMemfd {
 public:
  static constexpr HeapId kId = kHeapId;
  static constexpr HeapType kType = HeapType::kSystem;
  static constexpr HeapCaps kCaps = {.recycles = true};
  static constexpr uint64_t kClassBytes = 4096;

  static Result<PooledMemfd> Bind(MemfdBackend<>& backend) noexcept { return PooledMemfd(backend); }
  std::string_view name() const noexcept { return "pooled memfd"; }
  const Properties& properties() const noexcept { return backend_->heaps()[0].properties; }
  Error Allocate(const Request& request, Block& block) noexcept {
    return backend_->Allocate(0, request.bytes, request.flags, request.name, block);
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

  uint16_t PoolOf(const Request& request) const noexcept {
    return request.bytes - 1 < kClassBytes && request.flags == Flags::kNone ? 1 : 0;
  }
  uint64_t PoolPages(uint16_t) const noexcept { return 1; }
  [[gnu::always_inline]] Block* Acquire(uint16_t) noexcept { return pool_->Acquire(); }
  [[gnu::always_inline]] bool Recycle(uint16_t, Block& block) noexcept {
    return pool_->Release(&block);
  }
  Error UseBlocks(std::span<Block> blocks) noexcept {
    Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {.object_bytes = kClassBytes});
    if (!pool.ok()) return pool.error();
    pool_.emplace(*std::move(pool));
    return {};
  }
  void DrainPools(void (*give_back)(void* context, Block& block), void* context) noexcept {
    pool_->Trim(0, [&](Block& block) { give_back(context, block); });
  }

 private:
  explicit PooledMemfd(MemfdBackend<>& backend) noexcept : backend_(&backend) {}

  MemfdBackend<>* backend_;
  std::optional<Pool<Block>> pool_;
};
static_assert(HeapCheck<PooledMemfd<HeapId{0}>, MemfdBackend<>>::kOk);

}  // namespace ion::bench

#endif  // ION_BENCH_POOLED_MEMFD_H_
