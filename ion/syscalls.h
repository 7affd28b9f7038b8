// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/syscalls.h
//
// Deprecated: include "ion/base/syscalls.h". Until 0.3.
#ifndef ION_ION_SYSCALLS_H_
#define ION_ION_SYSCALLS_H_

#include "ion/base/syscalls.h"

#endif  // ION_ION_SYSCALLS_H_
