// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/wiped_pages.h
//
// Deprecated: include "ion/base/wiped_pages.h". Until 0.3.
#ifndef ION_ION_WIPED_PAGES_H_
#define ION_ION_WIPED_PAGES_H_

#include "ion/base/wiped_pages.h"

#endif  // ION_ION_WIPED_PAGES_H_
