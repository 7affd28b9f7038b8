// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/kernel_heap.h
//
// KernelHeapPolicy: a heap that takes each buffer from one heap of the kernel and gives it straight
// back. SystemHeap (policies/system_heap.h), SystemContigHeap (policies/system_contig_heap.h) and
// DmaHeap (policies/dma_heap.h) are this, for their type of memory. Its HeapSpec names the heap of
// the kernel (policies/claim.h), its SizeClasses the sizes (policies/size_classes.h).
//
// Cost: a call of the backend for each allocation and each release. Thread-safe.
#ifndef ION_POLICIES_KERNEL_HEAP_H_
#define ION_POLICIES_KERNEL_HEAP_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "ion/backend.h"
#include "ion/base/alignment.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/policies/claim.h"
#include "ion/policies/size_classes.h"
#include "ion/request.h"

namespace ion {

template <Backend B, HeapSpec kHeapSpec, HeapType kHeapType, SizeClasses Classes = WholePages>
class KernelHeapPolicy {
  static_assert(kHeapSpec.type == kHeapType,
                "ion: the HeapSpec says another type than this policy serves: give it the "
                "policy's, as in HeapSpec{.type = HeapType::kDma, .id = 5} for a DmaHeap");

 public:
  using BackendType = B;
  static constexpr HeapSpec kSpec = kHeapSpec;
  static constexpr HeapId kId{kHeapSpec.id};
  static constexpr HeapType kType = kHeapType;
  // A contiguous block is one run, at an address that the kernel does not tell. It lists no runs of
  // scattered blocks.
  static constexpr bool kContiguous =
      kHeapType == HeapType::kDma || kHeapType == HeapType::kSystemContig;
  // Its memory may have more whole pages than the request.
  static constexpr bool kRoundsUp = !std::is_same_v<Classes, WholePages>;
  static constexpr HeapCaps kCaps = {
      .knows_layout = kContiguous, .named_only = true, .frames = B::kCaps.frames};

  // Claims its kernel heap, or says why there is none.
  static Result<KernelHeapPolicy> Bind(B& backend) noexcept {
    const Result<uint32_t> index = ClaimKernelHeapOf(backend, kSpec);
    if (!index.ok()) return index.error();
    return KernelHeapPolicy(backend, *index);
  }

  std::string_view name() const noexcept { return kernel_heap_->name; }
  const Properties& properties() const noexcept { return properties_; }
  const KernelHeap& kernel_heap() const noexcept { return *kernel_heap_; }
  // True if the kernel heap serves only requests that name this heap.
  bool NamedOnly() const noexcept { return kernel_heap_->named_only; }
  // True if a request's frame is its driver's to make.
  bool MakesFrames() const noexcept { return kernel_heap_->frames != ion::MakesFrames::kNo; }
  // The bytes by which size classes and the kernel's pages have rounded requests up so far.
  Rounding rounding() const noexcept { return rounding_.get(); }

  // Returns the caching of memory for this request; nothing: the request is refused.
  std::optional<Known> CachingOf(const Request& request) const noexcept {
    if (!Admit(request).ok()) return std::nullopt;
    if (kernel_heap_->either_caching && Has(request.flags, Flags::kCached)) {
      return Known(true);
    }
    return properties_.cached;
  }

  // As the backend, of a whole size class; and EINVAL for a flag or an alignment that this memory
  // cannot honour.
  Error Allocate(const Request& request, Block& block) noexcept {
    if (Error error = Admit(request); !error.ok()) return error;
    // Caching that a request cannot select is no business of the backend's, which may not know it.
    const Flags flags =
        kernel_heap_->either_caching ? request.flags : WithoutCaching(request.flags);
    if (Error error = AskFor(request, flags, block); !error.ok()) return error;
    if (kContiguous) block.contiguous = true;
    VouchFor(block, kSpec);
    rounding_.Add(request.bytes, block.bytes);
    return {};
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }

  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    if (properties_.cpu_mappable.no()) {
      return Error(EACCES, "the heap's spec says that the CPU may not map its memory",
                   {B::kName, Operation::kMap, name(), bytes});
    }
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

  Segment SegmentAt(const Block& block, uint64_t offset) const noexcept
    requires kContiguous
  {
    return {.offset = offset, .bytes = block.bytes - offset};
  }

 private:
  Error AskFor(const Request& request, Flags flags, Block& block) noexcept {
    if constexpr (B::kCaps.frames) {
      if (!request.frame.empty() && MakesFrames()) {
        Request frame = request;
        frame.flags = flags;
        return backend_->AllocateFrame(index_, frame, block);
      }
    }
    return backend_->Allocate(index_, Classes::RoundUp(request.bytes), flags, request.name, block);
  }
  Error Admit(const Request& request) const noexcept {
    if (Error error =
            CheckAlignment(request.alignment, properties_.alignment,
                           {backend_->name(), Operation::kAllocate, name(), request.bytes});
        !error.ok()) {
      return error;
    }
    const bool cached = Has(request.flags, Flags::kCached);
    const bool uncached = Has(request.flags, Flags::kUncached);
    if (kernel_heap_->either_caching) {
      return cached && uncached ? Refuse("kCached and kUncached at once", request) : Error();
    }
    if (properties_.cached.unknown() && (cached || uncached)) {
      return Refuse("the caching of its memory is not known", request, kHowToVouch);
    }
    if (uncached && properties_.cached.yes()) {
      return Refuse("kUncached, but its memory is cached", request);
    }
    if (cached && properties_.cached.no()) {
      return Refuse("kCached, but its memory is uncached", request);
    }
    return {};
  }
  Error Refuse(const char* why, const Request& request, const char* hint = nullptr) const noexcept {
    return Error(EINVAL, why, {backend_->name(), Operation::kAllocate, name(), request.bytes},
                 hint);
  }
  KernelHeapPolicy(B& backend, uint32_t index) noexcept
      : backend_(&backend),
        index_(index),
        kernel_heap_(&backend.heaps()[index]),
        properties_(kernel_heap_->properties) {
    // The spec's type vouches for contiguity even if the backend does not know the kernel heap.
    if (kContiguous) properties_.contiguous = true;
    VouchFor(properties_, kSpec);
  }

  B* backend_;
  uint32_t index_;
  const KernelHeap* kernel_heap_;
  Properties properties_;
  RoundingCounter rounding_;
};

}  // namespace ion

#endif  // ION_POLICIES_KERNEL_HEAP_H_
