// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/run_placement.h
//
// Deprecated: include "ion/policies/carveout/run_placement.h". Until 0.3.
#ifndef ION_POLICIES_RUN_PLACEMENT_H_
#define ION_POLICIES_RUN_PLACEMENT_H_

#include "ion/policies/carveout/run_placement.h"

#endif  // ION_POLICIES_RUN_PLACEMENT_H_
