// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout_heap.h
//
// Deprecated: include "ion/policies/carveout/carveout_heap.h". Until 0.3.
#ifndef ION_POLICIES_CARVEOUT_HEAP_H_
#define ION_POLICIES_CARVEOUT_HEAP_H_

#include "ion/policies/carveout/carveout_heap.h"

#endif  // ION_POLICIES_CARVEOUT_HEAP_H_
