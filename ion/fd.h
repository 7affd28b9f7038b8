// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/fd.h
//
// Deprecated: include "ion/base/fd.h". Until 0.3.
#ifndef ION_ION_FD_H_
#define ION_ION_FD_H_

#include "ion/base/fd.h"

#endif  // ION_ION_FD_H_
