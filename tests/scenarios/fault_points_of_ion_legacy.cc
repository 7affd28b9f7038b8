// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("ion_legacy",
             {"openat", "openat of fdinfo", "close", "read", "mmap", "munmap",
              "madvise MADV_DONTFORK", "madvise MADV_POPULATE_WRITE", "poll",
              "fcntl F_DUPFD_CLOEXEC", "fcntl F_GETFL", "ioctl FIOQSIZE", "fcntl F_GETPIPE_SZ",
              "fstat", "fstatfs", "uname", "sysinfo", "ioctl ION_IOC_HEAP_QUERY"},
             {
                 // The other two tell dma-bufs from other anonymous files.
                 {"lseek", {EBADF, ENXIO, EOVERFLOW}},
                 {"ioctl ION_IOC_FREE of no handle", {EBADF, EFAULT, EINTR, EINVAL, ENOTTY, EPERM}},
                 {"ioctl ION_IOC_FREE", {EBADF, EFAULT, EINTR, EINVAL}},
                 // ENODEV says that there is no heap of an id.
                 {"ioctl ION_IOC_ALLOC", {EBADF, EFAULT, EINTR, EINVAL, ENOMEM, ENOTTY, EPERM}},
                 {"ioctl ION_IOC_SHARE", {EBADF, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM}},
                 // EINVAL says that it is another driver's.
                 {"ioctl ION_IOC_IMPORT", {EBADF, EFAULT, EINTR, ENOMEM}},
                 {"ioctl ION_IOC_SYNC", {EBADF, EFAULT, EINTR, EINVAL}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(allocating, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(mapping, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(sharing, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(releasing, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(carveouts, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(pools, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(signals, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(shortage, IonLegacy);

}  // namespace ion::testing::faults
