// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/system_contig_heap.h
//
// SystemContigHeap: physically contiguous memory of limited size, for a device that can follow no
// scatter list and wants little: descriptor rings, command queues. For frames: DmaHeap.
//
// Its source is declared, never guessed:
//
//   kernel heap claimed          what it gives
//   type kSystemContig           any size up to the spec's bytes (modern ION had such a heap)
//   type kDma, by its name       the same, of the CMA region
//   type kSystem                 single pages: one page is contiguous, two are by luck only
//
// Without a name in its spec it takes the first kernel heap of type kSystemContig, else of kSystem.
// It touches no CMA region that it was not given.
//
// A hugetlb memfd would be a run of 2 MiB, but Linux 6.12 writes through an importer's vmap of its
// udmabuf into the first 4 KiB only: it is not used.
//
// Example:
//   constexpr ion::HeapSpec kRings{.type = ion::HeapType::kSystemContig, .id = 1};
//   using Rings = ion::Manager<ion::DmaHeapBackend<>, ion::SystemContigOf<kRings>>;
//
// Cost and thread-safety: as policies/kernel_heap.h.
#ifndef ION_POLICIES_SYSTEM_CONTIG_HEAP_H_
#define ION_POLICIES_SYSTEM_CONTIG_HEAP_H_

#include <cerrno>
#include <cstdint>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/policies/kernel_heap.h"
#include "ion/request.h"

namespace ion {

template <Backend B, HeapSpec kHeapSpec = HeapSpec{.type = HeapType::kSystemContig, .id = 1}>
class SystemContigHeap : public KernelHeapPolicy<B, kHeapSpec, HeapType::kSystemContig> {
  using Base = KernelHeapPolicy<B, kHeapSpec, HeapType::kSystemContig>;

 public:
  static Result<SystemContigHeap> Bind(B& backend) noexcept {
    Result<Base> base = Base::Bind(backend);
    if (!base.ok()) return base.error();
    return SystemContigHeap(*std::move(base));
  }

  // As KernelHeapPolicy; and ENOTSUP: more than a page of a kernel heap that promises no more than
  // pages. EINVAL: more than the spec's bytes.
  Error Allocate(const Request& request, Block& block) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, this->name(), request.bytes};
    if (single_pages_ && request.bytes > PageBytes()) {
      return Error(ENOTSUP, "only single pages of its memory are contiguous", origin,
                   "give the heap's spec the name of a kernel heap that is contiguous (of CMA), or "
                   "ask for a page at a time");
    }
    if (kHeapSpec.bytes != 0 && request.bytes > kHeapSpec.bytes) {
      return Error(EINVAL, "more than the largest buffer of its spec", origin,
                   "ask for less, or raise the spec's bytes");
    }
    return Base::Allocate(request, block);
  }

 private:
  explicit SystemContigHeap(Base&& base) noexcept
      : Base(std::move(base)), single_pages_(this->kernel_heap().type == HeapType::kSystem) {}

  bool single_pages_;
};
static_assert(HeapCheck<SystemContigHeap<BackendArchetype>, BackendArchetype>::kOk);

// SystemContigHeap, described without a backend. The spec need not say its type.
template <HeapSpec kSpec>
struct SystemContigOf {
  template <Backend B>
  using On = SystemContigHeap<B, WithType(kSpec, HeapType::kSystemContig)>;
};
struct SystemContig : SystemContigOf<HeapSpec{.id = 1}> {};
static_assert(Description<SystemContig, BackendArchetype>);

}  // namespace ion

#endif  // ION_POLICIES_SYSTEM_CONTIG_HEAP_H_
