// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("memfd",
             {"openat", "close", "read", "mmap", "munmap", "madvise MADV_DONTFORK",
              "madvise MADV_POPULATE_WRITE", "memfd_create MFD_NOEXEC_SEAL", "memfd_create",
              "ftruncate", "fcntl F_DUPFD_CLOEXEC", "fcntl F_GETFL", "kcmp", "fcntl F_ADD_SEALS",
              "fstat", "uname", "sysinfo"},
             {
                 {"fcntl F_GET_SEALS", {EBADF, EINVAL}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, Memfd);
TEST_CASE_TEMPLATE_INVOKE(allocating, Memfd);
TEST_CASE_TEMPLATE_INVOKE(mapping, Memfd);
TEST_CASE_TEMPLATE_INVOKE(sharing, Memfd);
TEST_CASE_TEMPLATE_INVOKE(releasing, Memfd);
TEST_CASE_TEMPLATE_INVOKE(carveouts, Memfd);
TEST_CASE_TEMPLATE_INVOKE(pools, Memfd);
TEST_CASE_TEMPLATE_INVOKE(signals, Memfd);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, Memfd);
TEST_CASE_TEMPLATE_INVOKE(shortage, Memfd);

}  // namespace ion::testing::faults
