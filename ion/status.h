// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/status.h
//
// Deprecated: include "ion/base/status.h". Until 0.3.
#ifndef ION_ION_STATUS_H_
#define ION_ION_STATUS_H_

#include "ion/base/status.h"

#endif  // ION_ION_STATUS_H_
