// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/kernel_heap.h
//
// KernelHeapPolicy: a heap that takes each buffer from one heap of the kernel and gives it straight
// back. SystemHeap (policies/system_heap.h) and DmaHeap (policies/dma_heap.h) are this, for their
// type of memory.
//
// Cost: a call of the backend for each allocation and each release. Thread-safe.
#ifndef ION_POLICIES_KERNEL_HEAP_H_
#define ION_POLICIES_KERNEL_HEAP_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ion/backend.h"
#include "ion/block.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

template <Backend B, HeapId kHeapId, HeapType kHeapType>
class KernelHeapPolicy {
 public:
  static constexpr HeapId kId = kHeapId;
  static constexpr HeapType kType = kHeapType;

  // Takes the first usable kernel heap of the type, in the backend's order (a dma_heap backend
  // sorts by name: `system` comes before `system-uncached`). ENODEV: the backend offers none; or
  // the reason for which those that it has cannot be used.
  static Result<KernelHeapPolicy> Bind(B& backend) noexcept {
    Error reason(ENODEV, "the backend has no heap of this type",
                 {B::kName, Operation::kOpen, HeapTypeName(kType)});
    uint32_t index = 0;
    for (const KernelHeap& heap : backend.heaps()) {
      if (heap.type == kType && heap.unusable.ok()) return KernelHeapPolicy(backend, index, heap);
      if (heap.type == kType) reason = heap.unusable;
      ++index;
    }
    return reason;
  }

  std::string_view name() const noexcept { return kernel_heap_->name; }
  const Properties& properties() const noexcept { return kernel_heap_->properties; }

  // As the backend; and EINVAL for a flag that this memory cannot honour.
  Error Allocate(const Request& request, Block& block) noexcept {
    const bool cached = properties().cached;
    if (kType == HeapType::kCustom &&
        (Has(request.flags, Flags::kCached) || Has(request.flags, Flags::kUncached))) {
      return Refuse("whether its memory is cached is not known", request);
    }
    if (Has(request.flags, cached ? Flags::kUncached : Flags::kCached)) {
      return Refuse(
          cached ? "kUncached, but its memory is cached" : "kCached, but its memory is uncached",
          request);
    }
    return backend_->Allocate(index_, request.bytes, request.flags, request.name, block);
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }

  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

 private:
  Error Refuse(const char* why, const Request& request) const noexcept {
    return Error(EINVAL, why, {B::kName, Operation::kAllocate, name(), request.bytes});
  }
  KernelHeapPolicy(B& backend, uint32_t index, const KernelHeap& heap) noexcept
      : backend_(&backend), index_(index), kernel_heap_(&heap) {}

  B* backend_;
  uint32_t index_;
  const KernelHeap* kernel_heap_;
};

}  // namespace ion

#endif  // ION_POLICIES_KERNEL_HEAP_H_
