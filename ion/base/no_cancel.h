// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/no_cancel.h
//
// NoCancel: while one lives, pthread_cancel does not end this thread: a request waits for the next
// cancellation point after it. Almost all functions of this library are noexcept, and cancelling a
// thread inside one would end the process.
//
// Not for users.
//
// Cost: two calls of the C library, and no system call. Thread-safe.
#ifndef ION_ION_BASE_NO_CANCEL_H_
#define ION_ION_BASE_NO_CANCEL_H_

#include <pthread.h>

namespace ion::internal {

#if defined(__BIONIC__)  // has no pthread_cancel
class [[maybe_unused]] NoCancel {
 public:
  NoCancel() noexcept {}
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;
  ~NoCancel() {}
};
#else
class NoCancel {
 public:
  NoCancel() noexcept { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
  NoCancel(const NoCancel&) = delete;
  NoCancel& operator=(const NoCancel&) = delete;
  ~NoCancel() {
    int ours;
    ::pthread_setcancelstate(before_, &ours);
  }

 private:
  int before_;
};
#endif

}  // namespace ion::internal

#endif  // ION_ION_BASE_NO_CANCEL_H_
