// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/pool/membarrier.h
//
// Membarrier: makes each running thread of the process pass a full memory barrier, so that the
// other threads need only a compiler fence on their hot path. Linux 4.14.
//
// Cost: Fence is one system call and an interrupt for each other processor that runs this process:
// about 0.3 us here. Thread-safe, async-signal-safe; errno is kept. Takes no lock.
#ifndef ION_POLICIES_POOL_MEMBARRIER_H_
#define ION_POLICIES_POOL_MEMBARRIER_H_

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace ion::internal {

struct Membarrier {
  // Of enum membarrier_cmd, which headers before Linux 4.14 have without these.
  static constexpr int kExpedite = 1 << 3;  // PRIVATE_EXPEDITED
  static constexpr int kRegister = 1 << 4;  // REGISTER_PRIVATE_EXPEDITED

  // Must have succeeded once in the process before Fence can. False: the kernel is too old, or a
  // seccomp filter refuses.
  static bool Register() noexcept { return Call(kRegister); }
  // False: no barrier was made (a filter that came later).
  static bool Fence() noexcept { return Call(kExpedite); }

 private:
  static bool Call(int command) noexcept {
    const int saved = errno;
    const long answer = ::syscall(SYS_membarrier, command, 0, 0);
    errno = saved;
    return answer == 0;
  }
};

}  // namespace ion::internal

#endif  // ION_POLICIES_POOL_MEMBARRIER_H_
