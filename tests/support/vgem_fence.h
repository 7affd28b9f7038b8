// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/vgem_fence.h
//
// VgemFence: a driver's own fence on a dma-buf, on each kernel that has vgem. The kernel signals it
// after 10 s if the test does not.

#ifndef ION_TESTS_SUPPORT_VGEM_FENCE_H_
#define ION_TESTS_SUPPORT_VGEM_FENCE_H_

#include <sys/ioctl.h>

#include <cstdint>

#include "examples/vgem.h"
#include "ion/base/direction.h"
#include "ion/base/fd.h"

namespace ion::testing {

class VgemFence {
 public:
  // Returns false where the kernel has no vgem.
  bool exists() const { return node_.valid(); }
  // Imports the dma-buf and puts a fence on it, as that of an access of this direction. Returns
  // false where the kernel refuses.
  bool PutOn(FdRef dma_buf, Direction direction) {
    drm::PrimeHandle prime{};
    prime.fd = dma_buf.get();
    if (::ioctl(node_.get(), drm::kPrimeFdToHandle, &prime) != 0) return false;
    Attach attach{.handle = prime.handle, .flags = Writes(direction), .fence = 0, .pad = 0};
    if (::ioctl(node_.get(), _IOWR('d', 0x41, Attach), &attach) != 0) return false;
    fence_ = attach.fence;
    return true;
  }
  // Returns false where the kernel refuses: it has signalled the fence before.
  bool Signal() const {
    SignalIt signal{.fence = fence_, .flags = 0};
    return ::ioctl(node_.get(), _IOW('d', 0x42, SignalIt), &signal) == 0;
  }

 private:
  struct Attach {
    uint32_t handle, flags, fence, pad;
  };
  struct SignalIt {
    uint32_t fence, flags;
  };

  const UniqueFd node_ = drm::OpenVgem();
  uint32_t fence_ = 0;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_VGEM_FENCE_H_
