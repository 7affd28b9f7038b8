// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/bytes.h
//
// Deprecated: include "ion/base/bytes.h". Until 0.3.
#ifndef ION_ION_BYTES_H_
#define ION_ION_BYTES_H_

#include "ion/base/bytes.h"

#endif  // ION_ION_BYTES_H_
