// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/wiped_pages.h
//
// Memory by mmap that reads as zero in a forked child (MADV_WIPEONFORK), so that inherited pools
// are empty there, without a fork handler and without asking for the process id. Pages that are not
// touched cost address space only.
//
// Linux before 4.14 has no MADV_WIPEONFORK. There a forked child must leave inherited pools alone.
//
// Cost: two system calls. Thread-safe. Takes no lock and no heap memory of the C library.
#ifndef ION_ION_BASE_WIPED_PAGES_H_
#define ION_ION_BASE_WIPED_PAGES_H_

#include <sys/mman.h>

#include <cstddef>

namespace ion::internal {

inline constexpr int kWipeOnFork = 18;  // MADV_WIPEONFORK, which an old SDK's headers lack

// Zero pages; nullptr where the kernel has none (ENOMEM), or its policy forbids it.
inline void* MapWiped(size_t bytes) noexcept {
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return nullptr;
  ::madvise(at, bytes, kWipeOnFork);
  return at;
}

inline void UnmapWiped(void* at, size_t bytes) noexcept { ::munmap(at, bytes); }

}  // namespace ion::internal

#endif  // ION_ION_BASE_WIPED_PAGES_H_
