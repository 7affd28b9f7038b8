// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/scrubber.h
//
// Deprecated: include "ion/policies/recycling/scrubber.h". Until 0.3.
#ifndef ION_POLICIES_SCRUBBER_H_
#define ION_POLICIES_SCRUBBER_H_

#include "ion/policies/recycling/scrubber.h"

#endif  // ION_POLICIES_SCRUBBER_H_
