// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/dma_heap.h
//
// DmaHeap: physically contiguous memory of the DMA allocator (CMA), for devices that can follow no
// scatter list. It is scarce: a request gets it only by naming it in its mask.
//
// Example:
//   using Camera = ion::Manager<ion::DmaHeapBackend<>, ion::Dma>;
//
// Cost and thread-safety: as policies/kernel_heap.h.
#ifndef ION_POLICIES_DMA_HEAP_H_
#define ION_POLICIES_DMA_HEAP_H_

#include "ion/archetypes.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/policies/kernel_heap.h"

namespace ion {

template <Backend B, HeapSpec kSpec = HeapSpec{.type = HeapType::kDma, .id = 4}>
using DmaHeap = KernelHeapPolicy<B, kSpec, HeapType::kDma>;
static_assert(HeapCheck<DmaHeap<BackendArchetype>, BackendArchetype>::kOk);

// DmaHeap, described without a backend. The spec need not say its type.
template <HeapSpec kSpec>
struct DmaOf {
  template <Backend B>
  using On = DmaHeap<B, WithType(kSpec, HeapType::kDma)>;
};
struct Dma : DmaOf<HeapSpec{.id = 4}> {};
static_assert(Description<Dma, BackendArchetype>);

}  // namespace ion

#endif  // ION_POLICIES_DMA_HEAP_H_
