// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What must not compile of a PooledHeap and its PoolSpec, and the sentence with which it does not.

#include "ion/archetypes.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "policies/carveout_heap.h"
#include "policies/pool_spec.h"
#include "policies/pooled_heap.h"
#include "policies/system_heap.h"

namespace ion {

// EXPECT pool_watermarks: ion: the watermarks of a PoolSpec are the wrong way round
#if defined(CASE_pool_watermarks)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.high_bytes = 1, .low_bytes = 2}>;
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT pool_capacity: ion: the watermarks of a PoolSpec are the wrong way round
#if defined(CASE_pool_capacity)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.capacity_bytes = 1}>;
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT pool_age: ion: age_ticks of a PoolSpec is 0
#if defined(CASE_pool_age)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.age_ticks = 0}>;
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT pool_percent: ion: most_percent of a PoolSpec is at least 100
#if defined(CASE_pool_percent)
using Bad = PooledHeap<SystemHeap<BackendArchetype>, PoolSpec{.most_percent = 99}>;
static_assert(HeapCheck<Bad, BackendArchetype>::kOk);
#endif

// EXPECT pool_of_ranges: ion: a PooledHeap keeps whole buffers
#if defined(CASE_pool_of_ranges)
constexpr HeapSpec kCarveout{.type = HeapType::kCarveout, .id = 2, .bytes = 4096};
using Bad = PooledHeap<CarveoutHeap<BackendArchetype, kCarveout>, PoolSpec{}>;
static_assert(Bad::kCaps.recycles);
#endif

}  // namespace ion
