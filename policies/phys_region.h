// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/phys_region.h
//
// Deprecated: include "ion/policies/carveout/phys_region.h". Until 0.3.
#ifndef ION_POLICIES_PHYS_REGION_H_
#define ION_POLICIES_PHYS_REGION_H_

#include "ion/policies/carveout/phys_region.h"

#endif  // ION_POLICIES_PHYS_REGION_H_
