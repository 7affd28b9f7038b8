// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/check.h
//
// Deprecated: include "ion/base/check.h". Until 0.3.
#ifndef ION_ION_CHECK_H_
#define ION_ION_CHECK_H_

#include "ion/base/check.h"

#endif  // ION_ION_CHECK_H_
