// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/platform_backend.h
//
// PlatformBackend: the backend that the build was made for. A build for one includes and contains
// none of the others; `any`, the default, chooses when the program runs (platforms/any_backend.h).
// With Bazel: --//platforms:backend=NAME. With another build: -DION_PLATFORM=NAME, the same in
// every file of a program.
//
// Example:
//   auto manager = ion::platforms::Heaps<ion::PlatformBackend>::Open();
#ifndef ION_PLATFORMS_PLATFORM_BACKEND_H_
#define ION_PLATFORMS_PLATFORM_BACKEND_H_

#ifndef ION_PLATFORM
#define ION_PLATFORM any
#endif

// The preprocessor compares numbers, not names; a name that is none of these is 0.
#define ION_INTERNAL_PLATFORM_any 1
#define ION_INTERNAL_PLATFORM_dma_heap 2
#define ION_INTERNAL_PLATFORM_ion 3
#define ION_INTERNAL_PLATFORM_ion_legacy 4
#define ION_INTERNAL_PLATFORM_udmabuf 5
#define ION_INTERNAL_PLATFORM_memfd 6
#define ION_INTERNAL_PASTE(a, b) a##b
#define ION_INTERNAL_NUMBER_OF(name) ION_INTERNAL_PASTE(ION_INTERNAL_PLATFORM_, name)
#define ION_INTERNAL_PLATFORM ION_INTERNAL_NUMBER_OF(ION_PLATFORM)

#if ION_INTERNAL_PLATFORM == 0
#error "ion: ION_PLATFORM is any, dma_heap, ion, ion_legacy, udmabuf or memfd"
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_any
#include "ion/platforms/any_backend.h"
namespace ion {
using PlatformBackend = AnyBackend<>;
}
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_dma_heap
#include "ion/backends/dma_heap.h"
namespace ion {
using PlatformBackend = DmaHeapBackend<>;
}
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_ion
#include "ion/backends/ion.h"
namespace ion {
using PlatformBackend = IonBackend<>;
}
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_ion_legacy
#include "ion/backends/ion_legacy.h"
namespace ion {
using PlatformBackend = IonLegacyBackend<>;
}
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_udmabuf
#include "ion/backends/udmabuf.h"
namespace ion {
using PlatformBackend = UdmabufBackend<>;
}
#elif ION_INTERNAL_PLATFORM == ION_INTERNAL_PLATFORM_memfd
#include "ion/backends/memfd.h"
namespace ion {
using PlatformBackend = MemfdBackend<>;
}
#endif

#endif  // ION_PLATFORMS_PLATFORM_BACKEND_H_
