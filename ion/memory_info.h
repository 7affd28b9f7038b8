// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/memory_info.h
//
// Deprecated: include "ion/base/memory_info.h". Until 0.3.
#ifndef ION_ION_MEMORY_INFO_H_
#define ION_ION_MEMORY_INFO_H_

#include "ion/base/memory_info.h"

#endif  // ION_ION_MEMORY_INFO_H_
