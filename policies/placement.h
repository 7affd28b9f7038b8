// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/placement.h
//
// Deprecated: include "ion/policies/carveout/placement.h". Until 0.3.
#ifndef ION_POLICIES_PLACEMENT_H_
#define ION_POLICIES_PLACEMENT_H_

#include "ion/policies/carveout/placement.h"

#endif  // ION_POLICIES_PLACEMENT_H_
