// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/all.h
//
// The umbrella header: the compositions with a name, devices with a name, and the functions for
// buffers.
#ifndef ION_PLATFORMS_ALL_H_
#define ION_PLATFORMS_ALL_H_

#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client_ref.h"
#include "ion/cpu_access.h"
#include "ion/cpu_copy.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_spec.h"
#include "ion/platforms/all_backend.h"
#include "ion/platforms/device_table.h"
#include "ion/platforms/device_tree.h"
#include "ion/platforms/heap_table.h"
#include "ion/platforms/linux.h"
#include "ion/platforms/named.h"
#include "ion/platforms/platform_backend.h"
#include "ion/platforms/pooled.h"
#include "ion/request.h"
#include "ion/shared_buffer.h"
#include "ion/version.h"

#endif  // ION_PLATFORMS_ALL_H_
