// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/signals_blocked.h
//
// SignalsBlocked: while one lives, this thread takes no signal, so that no handler runs inside the
// emulation, whose locks it could wait for without end.
//
// Cost: two system calls. Thread-safe.
#ifndef ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_
#define ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_

#include <signal.h>

namespace ion::compat {

class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_;
};

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_SIGNALS_BLOCKED_H_
