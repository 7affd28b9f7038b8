// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/all_backend.h
//
// AllBackend: all interfaces that this machine's kernel has, in one Manager; and AllHeaps, a table
// of their heaps by which a request falls from one to the next. If one interface is enough, take
// AnyBackend (platforms/any_backend.h).
//
// Example:
//   auto manager = ion::platforms::AllHeaps<>::Open();
//   auto frame = manager->Allocate(
//       {.bytes = 8 << 20, .heaps = ion::platforms::kAllContiguous | manager->default_heaps()});
//
// Cost: backends/all_of.h; the program contains all of them. Thread-safe but for Open.
#ifndef ION_PLATFORMS_ALL_BACKEND_H_
#define ION_PLATFORMS_ALL_BACKEND_H_

#include "ion/backend.h"
#include "ion/backends/all_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/platforms/heap_table.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
using AllBackend = AllOf<DmaHeapBackend<Sys>, IonBackend<Sys>, IonLegacyBackend<Sys>,
                         UdmabufBackend<Sys>, MemfdBackend<Sys>>;
static_assert(BackendCheck<AllBackend<>>::kOk);

namespace platforms {

// Tried from the highest id: contiguous memory, then scattered memory of dma-heap, ION and udmabuf.
// A request without a mask gets scattered memory; one that can do without any device may name
// memfd, id 0, which is in the default mask if it is the only interface.
inline constexpr HeapSpec kAllHeaps[] = {
    {.type = HeapType::kDma, .id = 18, .interface = "dma_heap"},
    {.type = HeapType::kDma, .id = 17, .interface = "ion"},
    {.type = HeapType::kDma, .id = 16, .interface = "ion_legacy"},
    {.type = HeapType::kSystem, .id = 11, .interface = "dma_heap"},
    {.type = HeapType::kSystem, .id = 10, .interface = "ion"},
    {.type = HeapType::kSystem, .id = 9, .interface = "ion_legacy"},
    {.type = HeapType::kSystem, .id = 8, .interface = "udmabuf"},
    {.type = HeapType::kSystem, .id = 0, .interface = "memfd"},
};
inline constexpr HeapMask kAllContiguous = HeapId{18} | HeapId{17} | HeapId{16};
template <Backend B = AllBackend<>>
using AllHeaps = TableManager<B, kAllHeaps>;

}  // namespace platforms

}  // namespace ion

#endif  // ION_PLATFORMS_ALL_BACKEND_H_
