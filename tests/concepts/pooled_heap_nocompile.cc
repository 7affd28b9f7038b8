// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What must not compile of a PoolRecycler and its PoolSpec, and the sentence with which it does
// not.

#include "ion/archetypes.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/recycler.h"

namespace ion {

// EXPECT pool_watermarks: ion: the watermarks of a PoolSpec are the wrong way round
#if defined(CASE_pool_watermarks)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.high_bytes = 1, .low_bytes = 2}>;
static_assert(RecyclerCheck<Bad::Recycler, Bad::Heap, BackendArchetype>::kOk);
#endif

// EXPECT pool_capacity: ion: the watermarks of a PoolSpec are the wrong way round
#if defined(CASE_pool_capacity)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.capacity_bytes = 1}>;
static_assert(RecyclerCheck<Bad::Recycler, Bad::Heap, BackendArchetype>::kOk);
#endif

// EXPECT pool_age: ion: age_ticks of a PoolSpec is 0
#if defined(CASE_pool_age)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.age_ticks = 0}>;
static_assert(RecyclerCheck<Bad::Recycler, Bad::Heap, BackendArchetype>::kOk);
#endif

// EXPECT pool_percent: ion: most_percent of a PoolSpec is at least 100
#if defined(CASE_pool_percent)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.most_percent = 99}>;
static_assert(RecyclerCheck<Bad::Recycler, Bad::Heap, BackendArchetype>::kOk);
#endif

// EXPECT pool_of_ranges: ion: a recycler keeps whole buffers
#if defined(CASE_pool_of_ranges)
constexpr HeapSpec kCarveout{.type = HeapType::kCarveout, .id = 2, .bytes = 4096};
using Bad = PooledHeap<CarveoutHeap<BackendArchetype, kCarveout>, PoolSpec{}>;
static_assert(RecyclerCheck<Bad::Recycler, Bad::Heap, BackendArchetype>::kOk);
#endif

}  // namespace ion
