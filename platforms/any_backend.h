// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/any_backend.h
//
// AnyBackend: whatever this machine's kernel has, chosen when it is opened. The order in which the
// interfaces are tried: memory of the kernel's heaps, dma-bufs of ordinary pages, and, as it is
// always there, memory that only the CPU can use.
//
// Example:
//   auto manager = ion::platforms::Heaps<ion::AnyBackend<>>::Open();
//   std::puts(manager->backend().name());                                     // "udmabuf"
//   std::puts(ion::DescribeEach(manager->backend().refusals()).c_str());      // why not the others
//
// Cost: platforms/any_of.h; the program contains all of them. Thread-safe but for Open.
#ifndef ION_PLATFORMS_ANY_BACKEND_H_
#define ION_PLATFORMS_ANY_BACKEND_H_

#include "backends/dma_heap.h"
#include "backends/ion.h"
#include "backends/ion_legacy.h"
#include "backends/memfd.h"
#include "backends/udmabuf.h"
#include "ion/backend.h"
#include "ion/syscalls.h"
#include "platforms/any_of.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
using AnyBackend = AnyOf<DmaHeapBackend<Sys>, IonBackend<Sys>, IonLegacyBackend<Sys>,
                         UdmabufBackend<Sys>, MemfdBackend<Sys>>;
static_assert(BackendCheck<AnyBackend<>>::kOk);

}  // namespace ion

#endif  // ION_PLATFORMS_ANY_BACKEND_H_
