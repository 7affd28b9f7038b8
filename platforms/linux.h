// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/linux.h
//
// Compositions for Linux: a backend and its heaps (platforms/heaps.h), under a name.
//
// Example:
//   absl::StatusOr<ion::platforms::DmaHeaps> manager = ion::platforms::DmaHeaps::Open();
#ifndef ION_PLATFORMS_LINUX_H_
#define ION_PLATFORMS_LINUX_H_

#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/manager.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/heaps.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"

namespace ion::platforms {

// Android since 12, and most boards with Linux 5.6 or later.
using DmaHeaps = Heaps<DmaHeapBackend<>>;
// ION, whatever ids its heaps have there: each heap takes the kernel's of its type; id 1 is
// contiguous memory of the ordinary allocator. Linux 4.12 to 5.10, and before.
template <Backend B>
using IonHeaps = Manager<B, System, SystemContig, Dma>;
using Ion = IonHeaps<IonBackend<>>;
using IonLegacy = IonHeaps<IonLegacyBackend<>>;
// A desktop kernel without dma-heaps.
using Udmabuf = Heaps<UdmabufBackend<>>;
// No device at all.
using Memfd = Heaps<MemfdBackend<>>;
// The first of these that the machine has.
using Any = Heaps<AnyBackend<>>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_LINUX_H_
