// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/fd_socket.h
//
// Deprecated: include "ion/base/fd_socket.h". Until 0.3.
#ifndef ION_ION_FD_SOCKET_H_
#define ION_ION_FD_SOCKET_H_

#include "ion/base/fd_socket.h"

#endif  // ION_ION_FD_SOCKET_H_
