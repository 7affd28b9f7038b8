// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/memory_limit.h
//
// MemoryLimit: the most memory that this process can have: the machine's RAM, or the smallest limit
// of a cgroup that applies (a container's), as far as the kernel tells.
//
// Cost: about 20 system calls, 35 KiB of stack. Thread-safe.
#ifndef ION_ION_BASE_MEMORY_LIMIT_H_
#define ION_ION_BASE_MEMORY_LIMIT_H_

#include <sys/sysinfo.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>

#include "ion/base/error.h"
#include "ion/base/memory_groups.h"
#include "ion/base/syscalls.h"

namespace ion {

struct MemoryLimit {
  uint64_t bytes = 0;

  // Fails where sysinfo does. A limit that cannot be read counts as none.
  template <Syscalls Sys = LinuxSyscalls>
  static Result<MemoryLimit> Read(const char* backend, const Sys& sys = {}) noexcept {
    struct sysinfo info {};
    if (const long answer = sys.Sysinfo(&info); Failed(answer)) {
      const bool refused = answer == -EPERM || answer == -EACCES || answer == -ENOSYS;
      return Error(ErrnoFrom(answer), "sysinfo", {backend, Operation::kOpen},
                   refused ? "a sandbox (seccomp) refuses to tell how much memory there is: allow "
                             "sysinfo there, or give the backend a Budget (Options::budget)"
                           : nullptr);
    }
    MemoryGroups groups;
    groups.Find(sys);
    return MemoryLimit{
        std::min(uint64_t{info.totalram} * info.mem_unit, groups.SmallestLimit(sys))};
  }
};

}  // namespace ion

#endif  // ION_ION_BASE_MEMORY_LIMIT_H_
