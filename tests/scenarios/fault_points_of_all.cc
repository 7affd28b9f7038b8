// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

// EINVAL of F_GET_SEALS is no fault: it says that a descriptor is no memfd.
[[maybe_unused]] static const bool documented =
    Document("all",
             {"openat",
              "openat of fdinfo",
              "close",
              "read",
              "pread",
              "getdents64",
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
              "sysinfo",
              "ioctl DMA_BUF_IOCTL_SYNC",
              "ioctl DMA_BUF_SET_NAME"},
             {
                 {"fcntl F_GET_SEALS", {EBADF}},
                 {"ioctl DMA_HEAP_IOCTL_ALLOC",
                  {EBADF, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
                 {"ioctl UDMABUF_CREATE",
                  {EBADF, EBADFD, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
                 {"ioctl UDMABUF_CREATE_LIST",
                  {EBADF, EBADFD, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(allocating, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(mapping, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, All);
TEST_CASE_TEMPLATE_INVOKE(naming, All);
TEST_CASE_TEMPLATE_INVOKE(sharing, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(releasing, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(carveouts, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(pools, All);
TEST_CASE_TEMPLATE_INVOKE(signals, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, All, AllMemfdFirst);
TEST_CASE_TEMPLATE_INVOKE(shortage, All, AllMemfdFirst);

TEST_CASE("Faults: composing<all>") {
  Rig<All> rig;
  if (Opened(rig)) Cover(rig, ComposeScenarios<All>());
}

}  // namespace ion::testing::faults
