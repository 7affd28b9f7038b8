// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/any_of.h
//
// Deprecated: include "ion/backends/any_of.h". Until 0.3.
#ifndef ION_PLATFORMS_ANY_OF_H_
#define ION_PLATFORMS_ANY_OF_H_

#include "ion/backends/any_of.h"

#endif  // ION_PLATFORMS_ANY_OF_H_
