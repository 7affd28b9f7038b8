// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/pooled.h
//
// The Managers of platforms/linux.h with pools behind their heaps (policies/pooled_heap.h): a
// release keeps the memory, and the next allocation of its size takes it again.
//
// Example:
//   auto manager = ion::platforms::PooledDmaHeaps::Open();
//   auto client = manager->CreateClient({.name = "isp", .domain = "camera", .recycle_as_is = true});
//   auto reclaimer = manager->StartReclaimer();   // else idle memory goes back by Tick and Trim only
//
// Zeroing: memory is zeroed when it is allocated, so that no client reads what another left, and
// that costs more than the rest of the allocation. A client with `.recycle_as_is` takes memory of
// its own trust domain as it was left, without zeroing and without a system call. A composition
// that is to zero at the release, or in the background, gives Pooled a PoolSpec with a `.scrub` of
// its own (policies/recycling/pool_spec.h); the bounds here are kUsualPools, of contiguous memory
// kScarcePools, or smaller ones that the program passes to Open (ManagerOptions::pools).
#ifndef ION_PLATFORMS_POOLED_H_
#define ION_PLATFORMS_POOLED_H_

#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/manager.h"
#include "ion/platforms/any_backend.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"

namespace ion::platforms {

// Heaps<B> with pools.
template <Backend B>
using PooledHeaps = Manager<B, Pooled<System>, Pooled<Dma>>;

using PooledDmaHeaps = PooledHeaps<DmaHeapBackend<>>;
using PooledUdmabuf = PooledHeaps<UdmabufBackend<>>;
using PooledMemfd = PooledHeaps<MemfdBackend<>>;
// The first of the backends that the machine has.
using PooledAny = PooledHeaps<AnyBackend<>>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_POOLED_H_
