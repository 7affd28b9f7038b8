// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("udmabuf",
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
              "memfd_create MFD_NOEXEC_SEAL",
              "memfd_create",
              "ftruncate",
              "fcntl F_DUPFD_CLOEXEC",
              "fcntl F_GETFL",
              "ioctl FIOQSIZE",
              "fcntl F_GETPIPE_SZ",
              "kcmp",
              "fcntl F_ADD_SEALS",
              "lseek",
              "fstat",
              "fstatfs",
              "uname",
              "sysinfo",
              "ioctl DMA_BUF_IOCTL_SYNC",
              "ioctl DMA_BUF_SET_NAME"},
             {
                 {"ioctl UDMABUF_CREATE",
                  {EBADF, EBADFD, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
                 {"ioctl UDMABUF_CREATE_LIST",
                  {EBADF, EBADFD, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(allocating, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(mapping, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(naming, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(sharing, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(releasing, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(carveouts, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(pools, Udmabuf, FakeUdmabuf);
TEST_CASE_TEMPLATE_INVOKE(signals, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(shortage, Udmabuf);

TEST_CASE("Faults: composing<udmabuf>") {
  Rig<Udmabuf> rig;
  if (Opened(rig)) Cover(rig, ComposeScenarios<Udmabuf>());
}

}  // namespace ion::testing::faults
