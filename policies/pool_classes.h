// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool_classes.h
//
// Deprecated: include "ion/policies/recycling/pool_classes.h". Until 0.3.
#ifndef ION_POLICIES_POOL_CLASSES_H_
#define ION_POLICIES_POOL_CLASSES_H_

#include "ion/policies/recycling/pool_classes.h"

#endif  // ION_POLICIES_POOL_CLASSES_H_
