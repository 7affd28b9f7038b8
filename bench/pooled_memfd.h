// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pooled_memfd.h
//
// PooledMemfd: pooled memfds as a heap of any id, so that one Manager can have several. (A
// SystemHeap claims the one kernel heap that there is.)
#ifndef ION_BENCH_POOLED_MEMFD_H_
#define ION_BENCH_POOLED_MEMFD_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ion/backend.h"
#include "ion/backends/memfd.h"
#include "ion/base/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/policies/pooled_heap.h"
#include "ion/request.h"

namespace ion::bench {

template <HeapId kHeapId, class B = MemfdBackend<>>
class UnclaimedMemfd {
 public:
  using BackendType = B;
  static constexpr HeapSpec kSpec = {.type = HeapType::kSystem, .id = kHeapId};
  static constexpr HeapId kId = kHeapId;
  static constexpr HeapType kType = HeapType::kSystem;
  static constexpr bool kContiguous = false;
  static constexpr HeapCaps kCaps = {};

  static Result<UnclaimedMemfd> Bind(B& backend) noexcept { return UnclaimedMemfd(backend); }
  std::string_view name() const noexcept { return "pooled memfd"; }
  const Properties& properties() const noexcept { return kernel_heap().properties; }
  const KernelHeap& kernel_heap() const noexcept { return backend_->heaps()[0]; }
  std::optional<Known> CachingOf(const Request& request) const noexcept {
    if (Has(request.flags, Flags::kUncached)) return std::nullopt;
    return true;
  }
  Error Allocate(const Request& request, Block& block) noexcept {
    return backend_->Allocate(0, request.bytes, request.flags, request.name, block);
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

 private:
  explicit UnclaimedMemfd(B& backend) noexcept : backend_(&backend) {}

  B* backend_;
};

template <HeapId kHeapId>
using PooledMemfd = PooledHeap<UnclaimedMemfd<kHeapId>>;
static_assert(HeapCheck<UnclaimedMemfd<HeapId{0}>, MemfdBackend<>>::kOk);

}  // namespace ion::bench

#endif  // ION_BENCH_POOLED_MEMFD_H_
