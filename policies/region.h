// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/region.h
//
// Deprecated: include "ion/policies/carveout/region.h". Until 0.3.
#ifndef ION_POLICIES_REGION_H_
#define ION_POLICIES_REGION_H_

#include "ion/policies/carveout/region.h"

#endif  // ION_POLICIES_REGION_H_
