// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/byte_socket.h
//
// Bytes between a test and its child (tests/support/child.h), each with a descriptor where there is
// one.

#ifndef ION_TESTS_SUPPORT_BYTE_SOCKET_H_
#define ION_TESTS_SUPPORT_BYTE_SOCKET_H_

#include <cstddef>
#include <span>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"

namespace ion::testing {

// False: it could not be sent.
inline bool SendByte(FdRef socket, char byte, FdRef fd = {}) {
  return SendFds(socket, std::as_bytes(std::span(&byte, 1)),
                 std::span(&fd, fd == FdRef() ? size_t{0} : size_t{1}))
      .ok();
}
// 0: none came.
inline char ReceiveByte(FdRef socket, UniqueFd* fd = nullptr) {
  char byte = 0;
  const Result<size_t> count = ReceiveFds(socket, std::as_writable_bytes(std::span(&byte, 1)),
                                          std::span(fd, fd == nullptr ? size_t{0} : size_t{1}));
  return count.ok() ? byte : '\0';
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_BYTE_SOCKET_H_
