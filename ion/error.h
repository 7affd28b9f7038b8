// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/error.h
//
// Deprecated: include "ion/base/error.h". Until 0.3.
#ifndef ION_ION_ERROR_H_
#define ION_ION_ERROR_H_

#include "ion/base/error.h"

#endif  // ION_ION_ERROR_H_
