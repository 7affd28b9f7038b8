// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/linux.h
//
// Compositions for Linux: a backend and its heaps, under a name. Heap ids are ION's type numbers:
// 0 scattered memory, 1 contiguous memory of the ordinary allocator, 4 contiguous of the DMA one.
//
// Example:
//   absl::StatusOr<ion::platforms::DmaHeaps> manager = ion::platforms::DmaHeaps::Open();
#ifndef ION_PLATFORMS_LINUX_H_
#define ION_PLATFORMS_LINUX_H_

#include "backends/dma_heap.h"
#include "backends/ion.h"
#include "backends/ion_legacy.h"
#include "backends/memfd.h"
#include "backends/udmabuf.h"
#include "ion/backend.h"
#include "ion/manager.h"
#include "policies/dma_heap.h"
#include "policies/system_contig_heap.h"
#include "policies/system_heap.h"

namespace ion::platforms {

// The heaps of this platform over any backend; one for which the backend has no memory stays away.
template <Backend B>
using Heaps = Manager<B, SystemHeap<B>, DmaHeap<B>>;

// Android since 12, and most boards with Linux 5.6 or later.
using DmaHeaps = Heaps<DmaHeapBackend<>>;
// ION, whatever ids its heaps have there: each heap takes the kernel's of its type. Linux 4.12 to
// 5.10, and before.
template <Backend B>
using IonHeaps = Manager<B, SystemHeap<B>, SystemContigHeap<B>, DmaHeap<B>>;
using Ion = IonHeaps<IonBackend<>>;
using IonLegacy = IonHeaps<IonLegacyBackend<>>;
// A desktop kernel without dma-heaps.
using Udmabuf = Heaps<UdmabufBackend<>>;
// No device at all.
using Memfd = Heaps<MemfdBackend<>>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_LINUX_H_
