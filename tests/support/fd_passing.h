// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fd_passing.h
//
// A descriptor on its way to another process, over a local socket (SCM_RIGHTS).

#ifndef ION_TESTS_SUPPORT_FD_PASSING_H_
#define ION_TESTS_SUPPORT_FD_PASSING_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>

#include "ion/fd.h"

namespace ion::testing {

// Sends one byte, and a copy of `fd` with it where it is a descriptor.
inline bool Send(FdRef socket, char byte, FdRef fd = {}) {
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (const int number = fd.get(); number >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &number, sizeof(number));
  }
  return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL) == 1;
}

struct Received {
  char byte = 0;  // 0: the other end is gone
  UniqueFd fd;
};

inline Received Receive(FdRef socket) {
  Received received;
  iovec data{&received.byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_LEN(sizeof(int));  // CMSG_SPACE has room for a second one
  if (::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC) != 1) return {};
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof(number));
    received.fd = UniqueFd(number);
  }
  return received;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FD_PASSING_H_
