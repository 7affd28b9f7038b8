// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/watched_syscalls.h
//
// A kernel, by default the real one, with a record of its ioctls, and a refusal to name dma-bufs
// where a test wants one. (FIOQSIZE is none: Linux answers it and asks no driver.) For one thread.

#ifndef ION_TESTS_SUPPORT_WATCHED_SYSCALLS_H_
#define ION_TESTS_SUPPORT_WATCHED_SYSCALLS_H_

#include <linux/dma-buf.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "ion/base/syscalls.h"

namespace ion::testing {

struct Watch {
  int ioctls = 0;
  std::vector<unsigned long> requests = {};  // their numbers
  std::vector<uint64_t> syncs = {};          // the flags of each DMA_BUF_IOCTL_SYNC
  bool refuse_names = false;
};

template <Syscalls Kernel = LinuxSyscalls>
class WatchedSyscalls : public Kernel {
 public:
  WatchedSyscalls() = default;
  explicit WatchedSyscalls(Watch* watch) noexcept : watch_(watch) {}
  WatchedSyscalls(Watch* watch, const Kernel& kernel) noexcept : Kernel(kernel), watch_(watch) {}

  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (request != FIOQSIZE) {
      ++watch_->ioctls;
      watch_->requests.push_back(request);
    }
    if (request == DMA_BUF_IOCTL_SYNC) {
      watch_->syncs.push_back(static_cast<const dma_buf_sync*>(argument)->flags);
    }
    if (watch_->refuse_names && request == DMA_BUF_SET_NAME) return -EPERM;
    return Kernel::Ioctl(fd, request, argument);
  }

 private:
  Watch* watch_ = nullptr;
};
static_assert(Syscalls<WatchedSyscalls<>>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_WATCHED_SYSCALLS_H_
