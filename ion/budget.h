// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/budget.h
//
// Deprecated: include "ion/base/budget.h". Until 0.3.
#ifndef ION_ION_BUDGET_H_
#define ION_ION_BUDGET_H_

#include "ion/base/budget.h"

#endif  // ION_ION_BUDGET_H_
