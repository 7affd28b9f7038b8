// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/all.h
//
// Everything, for programs that do not mind: the compositions with a name, and what is done with
// their buffers.
#ifndef ION_PLATFORMS_ALL_H_
#define ION_PLATFORMS_ALL_H_

#include "ion/buffer.h"
#include "ion/bytes.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/fd.h"
#include "ion/heap_spec.h"
#include "ion/request.h"
#include "ion/status.h"
#include "ion/version.h"
#include "platforms/device_tree.h"
#include "platforms/heap_table.h"
#include "platforms/linux.h"
#include "platforms/named.h"
#include "platforms/platform_backend.h"

#endif  // ION_PLATFORMS_ALL_H_
