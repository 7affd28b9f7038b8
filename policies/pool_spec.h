// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool_spec.h
//
// Deprecated: include "ion/policies/recycling/pool_spec.h". Until 0.3.
#ifndef ION_POLICIES_POOL_SPEC_H_
#define ION_POLICIES_POOL_SPEC_H_

#include "ion/policies/recycling/pool_spec.h"

#endif  // ION_POLICIES_POOL_SPEC_H_
