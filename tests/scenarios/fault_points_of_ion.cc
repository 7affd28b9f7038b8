// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("ion",
             {"openat",
              "openat of fdinfo",
              "close",
              "read",
              "pread",
              "mmap",
              "munmap",
              "madvise MADV_DONTFORK",
              "madvise MADV_POPULATE_WRITE",
              "madvise MADV_DONTNEED",
              "madvise MADV_DODUMP",
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
              "ioctl DMA_BUF_SET_NAME",
              "ioctl ION_IOC_HEAP_QUERY"},
             {
                 {"ioctl ION_IOC_FREE of no handle", {EBADF, EFAULT, EINTR, EINVAL, EPERM}},
                 {"ioctl ION_IOC_ABI_VERSION", {EBADF, EFAULT, EINTR, EINVAL, ENOTTY}},
                 {"ioctl ION_IOC_ALLOC",
                  {EBADF, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENODEV, ENOMEM, ENOTTY, EPERM}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, Ion);
TEST_CASE_TEMPLATE_INVOKE(allocating, Ion);
TEST_CASE_TEMPLATE_INVOKE(mapping, Ion);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, Ion);
TEST_CASE_TEMPLATE_INVOKE(naming, Ion);
TEST_CASE_TEMPLATE_INVOKE(sharing, Ion);
TEST_CASE_TEMPLATE_INVOKE(releasing, Ion);
TEST_CASE_TEMPLATE_INVOKE(carveouts, Ion);
TEST_CASE_TEMPLATE_INVOKE(pools, Ion, FakeIon);
TEST_CASE_TEMPLATE_INVOKE(signals, Ion);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, Ion);
TEST_CASE_TEMPLATE_INVOKE(shortage, Ion);

}  // namespace ion::testing::faults
