// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/signals_blocked.h
//
// SignalsBlocked: while one lives, this thread takes no signal from outside, so that no handler runs
// inside the emulation, whose locks it could wait for without end. Signals of the thread's own doing
// stay: blocked, a fault would end the process, and so would a system call that a sandbox answers by
// SIGSYS and serves in the handler.
//
// Cost: two system calls. Thread-safe.
#ifndef ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_
#define ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_

#include <signal.h>

namespace ion::compat {

// All signals but those that an instruction raises.
inline sigset_t SignalsFromOutside() noexcept {
  sigset_t all;
  ::sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
    ::sigdelset(&all, own);
  }
  return all;
}

class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    const sigset_t all = SignalsFromOutside();
    ::pthread_sigmask(SIG_BLOCK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_
