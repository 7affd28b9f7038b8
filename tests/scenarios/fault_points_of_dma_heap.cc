// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("dma_heap",
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
                 {"ioctl DMA_HEAP_IOCTL_ALLOC",
                  {EBADF, EFAULT, EINTR, EINVAL, EMFILE, ENFILE, ENOMEM, ENOTTY}},
             });

TEST_CASE_TEMPLATE_INVOKE(opening, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(allocating, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(mapping, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(naming, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(sharing, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(releasing, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(carveouts, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(pools, DmaHeap, FakeDmaHeap);
TEST_CASE_TEMPLATE_INVOKE(signals, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(shortage, DmaHeap);

}  // namespace ion::testing::faults
