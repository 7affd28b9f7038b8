// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/error_sink.h
//
// Deprecated: include "ion/base/error_sink.h". Until 0.3.
#ifndef ION_ION_ERROR_SINK_H_
#define ION_ION_ERROR_SINK_H_

#include "ion/base/error_sink.h"

#endif  // ION_ION_ERROR_SINK_H_
