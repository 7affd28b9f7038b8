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

namespace internal {

// `comparison`: with which of BPF's jumps a call's number is compared with `number`.
inline bool Refuse(uint16_t comparison, uint32_t number, int code) {
  const sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(static_cast<uint16_t>(BPF_JMP | BPF_K | comparison), number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<uint32_t>(code)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program = {.len = 4, .filter = const_cast<sock_filter*>(rules)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
}

}  // namespace internal

// Every call `number` of the process fails with `code` from here on. False: no filter can be made.
inline bool RefuseCall(uint32_t number, int code) {
  return internal::Refuse(BPF_JEQ, number, code);
}
// The same of this number and all above, which on a kernel that is older have no meaning yet.
inline bool RefuseCallsFrom(uint32_t number, int code) {
  return internal::Refuse(BPF_JGE, number, code);
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_REFUSE_CALL_H_
