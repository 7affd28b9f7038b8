// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/sw_sync.h
//
// SwSync: the kernel's own test of fences (CONFIG_SW_SYNC, debugfs): a line of time that moves when
// it is told to. Its fences are sync files.

#ifndef ION_TESTS_SUPPORT_SW_SYNC_H_
#define ION_TESTS_SUPPORT_SW_SYNC_H_

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>

#include "ion/base/fd.h"

namespace ion::testing {

class SwSync {
 public:
  // Returns a fence that is signalled when the line has moved by `steps` in all. Not valid: the
  // kernel has none.
  UniqueFd MakeFence(uint32_t steps = 1) const {
    if (!line_.valid()) return {};
    struct {
      uint32_t value;
      char name[32] = "test";
      int32_t fence = -1;
    } create{.value = steps};
    return UniqueFd(
        ::ioctl(line_.get(), _IOWR('W', 0, decltype(create)), &create) == 0 ? create.fence : -1);
  }
  // Moves the line by one step. Returns false where the kernel refuses.
  bool Signal() const {
    uint32_t by = 1;
    return ::ioctl(line_.get(), _IOW('W', 1, uint32_t), &by) == 0;
  }

 private:
  const UniqueFd line_{::open("/sys/kernel/debug/sync/sw_sync", O_RDWR | O_CLOEXEC)};
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SW_SYNC_H_
