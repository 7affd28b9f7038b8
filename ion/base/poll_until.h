// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/poll_until.h
//
// Deadline: a point on the steady clock. PollUntil: a wait for one descriptor that ends there.
//
// Cost: a poll, and one more for each signal that interrupts it. Thread-safe.
#ifndef ION_ION_BASE_POLL_UNTIL_H_
#define ION_ION_BASE_POLL_UNTIL_H_

#include <poll.h>

#include <cerrno>
#include <chrono>
#include <climits>

#include "ion/base/syscalls.h"

namespace ion {

// The clock of the kernel's CLOCK_MONOTONIC, by which poll measures its time.
using Deadline = std::chrono::steady_clock::time_point;

// A wait to this deadline has no end.
inline constexpr Deadline kNoDeadline = Deadline::max();

namespace internal {

// The time from `now` to the deadline as poll takes it: rounded up, so that no wait ends early. A
// wait of more than 24 days is several.
constexpr int PollTime(Deadline now, Deadline deadline) noexcept {
  if (deadline == kNoDeadline) return -1;
  if (deadline <= now) return 0;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  return left < INT_MAX ? static_cast<int>(left) : INT_MAX;
}

}  // namespace internal

// Waits until the file of `fd` has one of `events`. Returns 0, or a negative errno: ETIMEDOUT if
// the deadline comes first; EBADF if `fd` is not open; EIO if the file reports an error instead. A
// deadline in the past makes it a look.
template <Syscalls S>
long PollUntil(const S& sys, int fd, short events, Deadline deadline) noexcept {
  for (;;) {
    pollfd polled{.fd = fd, .events = events, .revents = 0};
    const Deadline now = std::chrono::steady_clock::now();
    const long answer = sys.Poll(&polled, 1, internal::PollTime(now, deadline));
    if (answer == -EINTR) continue;
    if (Failed(answer)) return answer;
    if (answer == 0) {
      if (deadline <= std::chrono::steady_clock::now()) return -ETIMEDOUT;
      continue;
    }
    if ((polled.revents & POLLNVAL) != 0) return -EBADF;
    return (polled.revents & events) != 0 ? 0 : -EIO;
  }
}

}  // namespace ion

#endif  // ION_ION_BASE_POLL_UNTIL_H_
