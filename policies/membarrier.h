// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/membarrier.h
//
// Deprecated: include "ion/policies/pool/membarrier.h". Until 0.3.
#ifndef ION_POLICIES_MEMBARRIER_H_
#define ION_POLICIES_MEMBARRIER_H_

#include "ion/policies/pool/membarrier.h"

#endif  // ION_POLICIES_MEMBARRIER_H_
