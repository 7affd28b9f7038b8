// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/depot.h
//
// Deprecated: include "ion/policies/pool/depot.h". Until 0.3.
#ifndef ION_POLICIES_DEPOT_H_
#define ION_POLICIES_DEPOT_H_

#include "ion/policies/pool/depot.h"

#endif  // ION_POLICIES_DEPOT_H_
