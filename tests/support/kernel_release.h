// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/kernel_release.h
//
// Which of the two kernels that were measured this one is like, for facts in which they differ and
// that cannot be asked for otherwise.

#ifndef ION_TESTS_SUPPORT_KERNEL_RELEASE_H_
#define ION_TESTS_SUPPORT_KERNEL_RELEASE_H_

#include <sys/utsname.h>

#include <cstdio>

namespace ion::testing {

inline bool IsBefore(int major, int minor) {
  utsname name{};
  int here = 0, there = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &here, &there) != 2) return false;
  return here < major || (here == major && there < minor);
}

// Whether this kernel is as 5.10, and not as 6.12. 5.11, which rewrote the dma-heaps, divides them;
// what lies between was not measured.
inline bool IsAs510() { return IsBefore(5, 11); }

// Whether this kernel may be as 7.2, and not as 6.12; what lies between was not measured.
inline bool MayBeAs72() { return !IsBefore(6, 13); }

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_KERNEL_RELEASE_H_
