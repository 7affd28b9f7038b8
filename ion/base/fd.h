// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/fd.h
//
// File descriptors as types: FdRef is borrowed (valid during the call that it is lent for),
// UniqueFd is owned and closed once. Every descriptor that this library makes is close-on-exec from
// birth.
//
// Example:
//   absl::StatusOr<ion::UniqueFd> fd = client.Share(handle);
//   SendOverSocket(socket, fd->borrow());
//
// Cost: an int. Thread-compatible.
#ifndef ION_ION_BASE_FD_H_
#define ION_ION_BASE_FD_H_

#include <unistd.h>

#include <utility>

#include "ion/base/no_cancel.h"

namespace ion {

// A borrowed descriptor. Never closes. It may hold any number, as it comes from the user: functions
// that use it return EBADF for a bad one.
class FdRef {
 public:
  constexpr FdRef() = default;
  constexpr explicit FdRef(int fd) : fd_(fd) {}
  constexpr int get() const noexcept { return fd_; }
  friend constexpr bool operator==(FdRef, FdRef) = default;

 private:
  int fd_ = -1;
};

// An owned descriptor. A failed close cannot be mended (Linux has released the number by then) and
// is ignored here; inside the library descriptors are closed through the backend, which reports it.
class [[nodiscard]] UniqueFd {
 public:
  constexpr UniqueFd() = default;
  constexpr explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  ~UniqueFd() { reset(); }

  bool valid() const noexcept { return fd_ >= 0; }
  int get() const noexcept { return fd_; }
  FdRef borrow() const noexcept { return FdRef(fd_); }
  // Gives the number away; the caller closes it.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept {
    if (fd_ < 0) return;
    const internal::NoCancel guard;
    ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

}  // namespace ion

#endif  // ION_ION_BASE_FD_H_
