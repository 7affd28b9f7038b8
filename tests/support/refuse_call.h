// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/refuse_call.h
//
// RefuseCall: a kernel, or a container, that answers one system call with an error.
//
// Example, in a child process, as it stays so:
//   if (!RefuseCall(SYS_membarrier, ENOSYS)) return "no filter";

#ifndef ION_TESTS_SUPPORT_REFUSE_CALL_H_
#define ION_TESTS_SUPPORT_REFUSE_CALL_H_

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

namespace ion::testing {

// Every call `number` of the process fails with `code` from here on. False: no filter can be made.
inline bool RefuseCall(uint32_t number, int code) {
  const sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(code)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = 4, .filter = const_cast<sock_filter*>(rules)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_REFUSE_CALL_H_
