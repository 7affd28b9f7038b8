// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/heaps.h
//
// The usual Manager over a backend. Heap ids are ION's type numbers: 0 scattered memory, 4
// contiguous.
//
// Example:
//   auto manager = ion::platforms::Heaps<ion::PlatformBackend>::Open();
#ifndef ION_PLATFORMS_HEAPS_H_
#define ION_PLATFORMS_HEAPS_H_

#include "ion/backend.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"

namespace ion::platforms {

// A heap for which the backend has no memory is not bound.
template <Backend B>
using Heaps = Manager<B, System, Dma>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_HEAPS_H_
