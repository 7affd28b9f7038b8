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
// Cost: backends/any_of.h; the program contains all of them. Thread-safe but for Open.
#ifndef ION_PLATFORMS_ANY_BACKEND_H_
#define ION_PLATFORMS_ANY_BACKEND_H_

#include "ion/backend.h"
#include "ion/backends/any_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
using AnyBackend = AnyOf<DmaHeapBackend<Sys>, IonBackend<Sys>, IonLegacyBackend<Sys>,
                         UdmabufBackend<Sys>, MemfdBackend<Sys>>;
static_assert(BackendCheck<AnyBackend<>>::kOk);

}  // namespace ion

#endif  // ION_PLATFORMS_ANY_BACKEND_H_
