// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/magazine.h
//
// Deprecated: include "ion/policies/pool/magazine.h". Until 0.3.
#ifndef ION_POLICIES_MAGAZINE_H_
#define ION_POLICIES_MAGAZINE_H_

#include "ion/policies/pool/magazine.h"

#endif  // ION_POLICIES_MAGAZINE_H_
