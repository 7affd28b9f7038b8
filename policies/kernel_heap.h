// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/kernel_heap.h
//
// KernelHeapPolicy: a heap that takes each buffer from one heap of the kernel and gives it straight
// back. SystemHeap (policies/system_heap.h), SystemContigHeap (policies/system_contig_heap.h) and
// DmaHeap (policies/dma_heap.h) are this, for their type of memory. Which heap of the kernel, its
// HeapSpec says (policies/claim.h); in what sizes, its SizeClasses (policies/size_classes.h).
//
// Cost: a call of the backend for each allocation and each release. Thread-safe.
#ifndef ION_POLICIES_KERNEL_HEAP_H_
#define ION_POLICIES_KERNEL_HEAP_H_

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ion/backend.h"
#include "ion/block.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/request.h"
#include "policies/claim.h"
#include "policies/size_classes.h"

namespace ion {

template <Backend B, HeapSpec kHeapSpec, HeapType kHeapType, SizeClasses Classes = WholePages>
class KernelHeapPolicy {
  static_assert(kHeapSpec.type == kHeapType,
                "ion: the HeapSpec says another type than this policy serves: give it the "
                "policy's, as in HeapSpec{.type = HeapType::kDma, .id = 5} for a DmaHeap");

 public:
  static constexpr HeapSpec kSpec = kHeapSpec;
  static constexpr HeapId kId{kHeapSpec.id};
  static constexpr HeapType kType = kHeapType;
  // A contiguous block is one run; where, the kernel does not say. Scattered ones it does not list.
  static constexpr bool kContiguous =
      kHeapType == HeapType::kDma || kHeapType == HeapType::kSystemContig;
  static constexpr HeapCaps kCaps = {.knows_layout = kContiguous};

  // Claims its kernel heap, or says why there is none.
  static Result<KernelHeapPolicy> Bind(B& backend) noexcept {
    const Result<uint32_t> index = ClaimKernelHeap(backend.heaps(), kSpec, B::kName);
    if (!index.ok()) return index.error();
    return KernelHeapPolicy(backend, *index);
  }

  std::string_view name() const noexcept { return kernel_heap_->name; }
  const Properties& properties() const noexcept { return properties_; }
  const KernelHeap& kernel_heap() const noexcept { return *kernel_heap_; }
  // What the size classes, and the kernel's pages, have cost so far.
  Rounding rounding() const noexcept { return rounding_.get(); }

  // As the backend, of a whole size class; and EINVAL for a flag or an alignment that this memory
  // cannot honour.
  Error Allocate(const Request& request, Block& block) noexcept {
    if (!std::has_single_bit(request.alignment) || request.alignment > properties_.alignment) {
      return Refuse("an alignment that its memory does not promise", request);
    }
    if (const char* why = RefusedCaching(request.flags); why != nullptr) {
      return Refuse(why, request);
    }
    if (Error error = backend_->Allocate(index_, Classes::RoundUp(request.bytes), request.flags,
                                         request.name, block);
        !error.ok()) {
      return error;
    }
    block.contiguous = properties_.contiguous;
    rounding_.Add(request.bytes, block.bytes);
    return {};
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }

  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

  Segment SegmentAt(const Block& block, uint64_t offset) const noexcept requires kContiguous {
    return {.offset = offset, .bytes = block.bytes - offset};
  }

 private:
  // Why its memory cannot be cached, or uncached, as wanted; nullptr where it can.
  const char* RefusedCaching(Flags flags) const noexcept {
    const bool cached = Has(flags, Flags::kCached), uncached = Has(flags, Flags::kUncached);
    if (kernel_heap_->either_caching) {
      return cached && uncached ? "kCached and kUncached at once" : nullptr;
    }
    if (kernel_heap_->type == HeapType::kCustom && (cached || uncached)) {
      return "whether its memory is cached is not known";
    }
    if (properties_.cached) return uncached ? "kUncached, but its memory is cached" : nullptr;
    return cached ? "kCached, but its memory is uncached" : nullptr;
  }
  Error Refuse(const char* why, const Request& request) const noexcept {
    return Error(EINVAL, why, {B::kName, Operation::kAllocate, name(), request.bytes});
  }
  KernelHeapPolicy(B& backend, uint32_t index) noexcept
      : backend_(&backend),
        index_(index),
        kernel_heap_(&backend.heaps()[index]),
        properties_(kernel_heap_->properties) {
    // What its type means holds of a kernel heap that the backend does not know, too: its spec
    // vouches for it.
    if (kContiguous) properties_.contiguous = true;
  }

  B* backend_;
  uint32_t index_;
  const KernelHeap* kernel_heap_;
  Properties properties_;
  RoundingCounter rounding_;
};

}  // namespace ion

#endif  // ION_POLICIES_KERNEL_HEAP_H_
