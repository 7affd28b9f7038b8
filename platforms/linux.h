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

#include "backends/dma_heap.h"
#include "backends/memfd.h"
#include "backends/udmabuf.h"
#include "platforms/any_backend.h"
#include "platforms/heaps.h"

namespace ion::platforms {

// Android since 12, and most boards with Linux 5.6 or later.
using DmaHeaps = Heaps<DmaHeapBackend<>>;
// A desktop kernel without dma-heaps.
using Udmabuf = Heaps<UdmabufBackend<>>;
// No device at all.
using Memfd = Heaps<MemfdBackend<>>;
// The first of these that the machine has.
using Any = Heaps<AnyBackend<>>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_LINUX_H_
