// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/first_fit.h
//
// Deprecated: include "ion/policies/carveout/first_fit.h". Until 0.3.
#ifndef ION_POLICIES_FIRST_FIT_H_
#define ION_POLICIES_FIRST_FIT_H_

#include "ion/policies/carveout/first_fit.h"

#endif  // ION_POLICIES_FIRST_FIT_H_
