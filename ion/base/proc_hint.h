// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/proc_hint.h
//
// NoProcHint: the advice where a file of /proc is missing because there is no /proc, as in a chroot
// or a container that has none. Else the file is what the kernel lacks.
//
// Not for users.
//
// Cost: two system calls, after a failure only. Thread-safe.
#ifndef ION_ION_BASE_PROC_HINT_H_
#define ION_ION_BASE_PROC_HINT_H_

#include <fcntl.h>

#include <cerrno>
#include <string_view>

#include "ion/base/syscalls.h"

namespace ion {

// nullptr: `path`, whose open answered `answer`, is missing for another reason.
template <Syscalls Sys>
const char* NoProcHint(const Sys& sys, const char* path, long answer) noexcept {
  if (answer != -ENOENT || !std::string_view(path).starts_with("/proc/")) return nullptr;
  const long proc = OpenRetrying(sys, "/proc/self", O_PATH);
  if (!Failed(proc)) {
    (void)sys.Close(static_cast<int>(proc));
    return nullptr;
  }
  return "there is no /proc here: mount it (mount -t proc proc /proc), or give it to the container";
}

}  // namespace ion

#endif  // ION_ION_BASE_PROC_HINT_H_
