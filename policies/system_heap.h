// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/system_heap.h
//
// SystemHeap: scattered pages, enough of them, and no promise of where they lie: what the CPU and
// devices behind an IOMMU need. Its size classes are a policy.
//
// Example:
//   template <ion::Backend B>
//   using Camera = ion::Manager<B, ion::SystemHeap<B>>;
//
// Cost and thread-safety: as policies/kernel_heap.h.
#ifndef ION_POLICIES_SYSTEM_HEAP_H_
#define ION_POLICIES_SYSTEM_HEAP_H_

#include "ion/archetypes.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "policies/kernel_heap.h"
#include "policies/size_classes.h"

namespace ion {

template <Backend B, HeapSpec kSpec = HeapSpec{}, SizeClasses Classes = WholePages>
using SystemHeap = KernelHeapPolicy<B, kSpec, HeapType::kSystem, Classes>;
static_assert(HeapCheck<SystemHeap<BackendArchetype>, BackendArchetype>::kOk);

}  // namespace ion

#endif  // ION_POLICIES_SYSTEM_HEAP_H_
