// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/counting_sockets.h
//
// CountingSockets: the kernel's calls for sockets (ion/base/fd_socket.h), and a count of them,
// which belongs to the caller.
//
// Cost: one addition a call. Not thread-safe: for one thread.
#ifndef ION_BENCH_COUNTING_SOCKETS_H_
#define ION_BENCH_COUNTING_SOCKETS_H_

#include <sys/socket.h>

#include <cstdint>

#include "ion/base/fd_socket.h"

namespace ion::bench {

class CountingSockets {
 public:
  explicit CountingSockets(uint64_t& calls) : calls_(&calls) {}

  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    ++*calls_;
    return LinuxSocketCalls().Sendmsg(fd, message, flags);
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    ++*calls_;
    return LinuxSocketCalls().Recvmsg(fd, message, flags);
  }

 private:
  uint64_t* calls_;
};
static_assert(SocketCalls<CountingSockets>);

}  // namespace ion::bench

#endif  // ION_BENCH_COUNTING_SOCKETS_H_
