// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Usage: linux_3_10 PROGRAM [ARGUMENT]...
// Runs a program without the system calls that Linux has had since 3.10 (finit_module, of 3.8, is
// the last before). Exits with 77 where that cannot be done.

#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "tests/support/refuse_call.h"

int main(int argc, char** argv) {
#if defined(__x86_64__)
  if (argc > 1 && ion::testing::RefuseCallsFrom(SYS_finit_module + 1, ENOSYS)) {
    ::execv(argv[1], argv + 1);
  }
#endif
  std::fprintf(stderr, "linux_3_10: cannot run %s\n", argc > 1 ? argv[1] : "nothing");
  return 77;
}
