// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool.h
//
// Deprecated: include "ion/policies/pool/pool.h". Until 0.3.
#ifndef ION_POLICIES_POOL_H_
#define ION_POLICIES_POOL_H_

#include "ion/policies/pool/pool.h"

#endif  // ION_POLICIES_POOL_H_
