// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"
#include "tests/support/open_files.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented = Document(
    "drm_dumb",
    {"openat",
     "openat of fdinfo",
     "getdents64",
     "close",
     "read",
     "mmap",
     "munmap",
     "madvise MADV_DONTFORK",
     "madvise MADV_POPULATE_WRITE",
     "poll",
     "fcntl F_DUPFD_CLOEXEC",
     "fcntl F_GETFL",
     "ioctl FIOQSIZE",
     "fcntl F_GETPIPE_SZ",
     "kcmp",
     "lseek",
     "fstat",
     "fstatfs",
     "uname",
     "sysinfo",
     "ioctl DMA_BUF_IOCTL_SYNC",
     "ioctl DMA_BUF_SET_NAME"},
    {
        // ENODEV: the device was unplugged. The rest is DRM's own and its drivers'.
        {"ioctl DRM_IOCTL_GET_CAP", {EBADF, EFAULT, EINTR, EINVAL, ENODEV, EOPNOTSUPP}},
        {"ioctl DRM_IOCTL_DROP_MASTER", {EACCES, EBADF, EINTR, EINVAL, ENODEV}},
        {"ioctl DRM_IOCTL_MODE_CREATE_DUMB",
         {EACCES, EBADF, EFAULT, EINTR, EINVAL, ENODEV, ENOMEM, ENOSPC}},
        {"ioctl DRM_IOCTL_PRIME_HANDLE_TO_FD",
         {EACCES, EBADF, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENODEV, ENOENT, ENOMEM, ENOSYS,
          EOPNOTSUPP}},
        {"ioctl DRM_IOCTL_MODE_DESTROY_DUMB", {EACCES, EBADF, EFAULT, EINTR, EINVAL, ENODEV}},
    });
// vgem and vkms of Linux 6.12 map through a node of the card's.
[[maybe_unused]] static const bool named = [] {
  AddDeviceMappingName("/dev/dri/card");
  return true;
}();

TEST_CASE_TEMPLATE_INVOKE(opening, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(allocating, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(mapping, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(naming, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(sharing, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(releasing, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(carveouts, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(pools, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(signals, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, DrmDumb);
TEST_CASE_TEMPLATE_INVOKE(shortage, DrmDumb);

}  // namespace ion::testing::faults
