// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/system_heap.h
//
// SystemHeap: scattered pages, enough of them, at any addresses: for the CPU and devices behind an
// IOMMU. Its size classes are a policy.
//
// Example:
//   using Camera = ion::Manager<ion::MemfdBackend<>, ion::System>;
//
// Cost and thread-safety: as policies/kernel_heap.h.
#ifndef ION_POLICIES_SYSTEM_HEAP_H_
#define ION_POLICIES_SYSTEM_HEAP_H_

#include "ion/archetypes.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/size_classes.h"

namespace ion {

template <Backend B, HeapSpec kSpec = HeapSpec{}, SizeClasses Classes = WholePages>
using SystemHeap = KernelHeapPolicy<B, kSpec, HeapType::kSystem, Classes>;
static_assert(HeapCheck<SystemHeap<BackendArchetype>, BackendArchetype>::kOk);

// SystemHeap, described without a backend.
template <HeapSpec kSpec, SizeClasses Classes = WholePages>
struct SystemOf {
  template <Backend B>
  using On = SystemHeap<B, kSpec, Classes>;
};
struct System : SystemOf<HeapSpec{}> {};
static_assert(Description<System, BackendArchetype>);

}  // namespace ion

#endif  // ION_POLICIES_SYSTEM_HEAP_H_
