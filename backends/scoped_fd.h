// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/scoped_fd.h
//
// ScopedFd: a descriptor that a backend holds for itself (a heap's node, a memfd on its way to a
// dma-buf), closed through the backend's Syscalls; a failed close goes to the error sink. For users
// there is UniqueFd.
//
// Cost: an int, two pointers and the policy. Thread-compatible.
#ifndef ION_BACKENDS_SCOPED_FD_H_
#define ION_BACKENDS_SCOPED_FD_H_

#include <utility>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/syscalls.h"

namespace ion {

template <Syscalls Sys>
class [[nodiscard]] ScopedFd {
 public:
  // `backend` is static text, `errors` outlives this.
  ScopedFd(int fd, const Sys& sys, ErrorSink& errors, const char* backend) noexcept
      : fd_(fd), sys_(sys), errors_(&errors), backend_(backend) {}
  ScopedFd(ScopedFd&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)),
        sys_(std::move(other.sys_)),
        errors_(other.errors_),
        backend_(other.backend_) {}
  ScopedFd& operator=(ScopedFd&&) = delete;
  ~ScopedFd() {
    if (fd_ < 0) return;
    // Never tried again: Linux has released the number, whatever close answers.
    if (const long answer = sys_.Close(fd_); Failed(answer)) {
      errors_->Report(Error(ErrnoFrom(answer), "close", {backend_, Operation::kRelease}));
    }
  }

  int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

 private:
  int fd_;
  [[no_unique_address]] Sys sys_;
  ErrorSink* errors_;
  const char* backend_;
};

}  // namespace ion

#endif  // ION_BACKENDS_SCOPED_FD_H_
