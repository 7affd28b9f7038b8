// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/packed_stack.h
//
// Deprecated: include "ion/policies/pool/packed_stack.h". Until 0.3.
#ifndef ION_POLICIES_PACKED_STACK_H_
#define ION_POLICIES_PACKED_STACK_H_

#include "ion/policies/pool/packed_stack.h"

#endif  // ION_POLICIES_PACKED_STACK_H_
