// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/moved_files.h
//
// MovedFiles: the real kernel, with other files at some paths: what a test's directory holds stands
// for /proc/self/cgroup. What lies below a hidden path is not there.
//
// Example:
//   Moved moved;
//   moved.to["/proc/self/cgroup"] = dir.File("cgroup", "0::/a\n");
//   const MovedFiles sys(&moved);
//
// Thread-compatible: the map does not change while calls are made.

#ifndef ION_TESTS_SUPPORT_MOVED_FILES_H_
#define ION_TESTS_SUPPORT_MOVED_FILES_H_

#include <sys/sysinfo.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <map>
#include <string>

#include "ion/base/syscalls.h"

namespace ion::testing {

struct Moved {
  std::map<std::string, std::string> to = {};  // empty: there is no such file
  uint64_t ram = 0;                            // of the machine; 0: as it is
  std::atomic<int> opens{0};
};

class MovedFiles : public LinuxSyscalls {
 public:
  MovedFiles() = default;
  explicit MovedFiles(Moved* moved) noexcept : moved_(moved) {}

  long Open(const char* path, int flags) const noexcept {
    if (moved_ == nullptr) return LinuxSyscalls::Open(path, flags);
    ++moved_->opens;
    const auto at = moved_->to.find(path);
    if (at == moved_->to.end()) return LinuxSyscalls::Open(path, flags);
    return at->second.empty() ? -ENOENT : LinuxSyscalls::Open(at->second.c_str(), flags);
  }
  long Sysinfo(struct sysinfo* to) const noexcept {
    const long answer = LinuxSyscalls::Sysinfo(to);
    if (moved_ != nullptr && moved_->ram != 0) {
      to->totalram = static_cast<unsigned long>(moved_->ram >> 12);
      to->mem_unit = 1 << 12;
    }
    return answer;
  }

 private:
  Moved* moved_ = nullptr;
};
static_assert(Syscalls<MovedFiles>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_MOVED_FILES_H_
