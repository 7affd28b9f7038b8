// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/pressure.h
//
// Deprecated: include "ion/base/pressure.h". Until 0.3.
#ifndef ION_ION_PRESSURE_H_
#define ION_ION_PRESSURE_H_

#include "ion/base/pressure.h"

#endif  // ION_ION_PRESSURE_H_
