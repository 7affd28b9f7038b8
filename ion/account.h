// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/account.h
//
// Deprecated: include "ion/core/account.h". Until 0.3.
#ifndef ION_ION_ACCOUNT_H_
#define ION_ION_ACCOUNT_H_

#include "ion/core/account.h"

#endif  // ION_ION_ACCOUNT_H_
