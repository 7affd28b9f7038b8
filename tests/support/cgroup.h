// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/cgroup.h
//
// Cgroup: a cgroup of version 2 of a test's own, with a limit of memory, for a child process to
// enter. It is removed at the end, when every process in it has ended.
//
// Example:
//   const Cgroup group("128M");
//   if (!group.ok()) return Skip(group.why());
//   RunInChild([&]() -> std::string { if (!group.Enter()) return "not entered"; … });
//
// Needs root, and a hierarchy of version 2 at /sys/fs/cgroup that has the controller of memory.

#ifndef ION_TESTS_SUPPORT_CGROUP_H_
#define ION_TESTS_SUPPORT_CGROUP_H_

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "ion/base/fd.h"

namespace ion::testing {

class Cgroup {
 public:
  explicit Cgroup(std::string_view limit) {
    const std::string root = "/sys/fs/cgroup";
    struct statfs fs {};
    if (::statfs(root.c_str(), &fs) != 0 || static_cast<uint32_t>(fs.f_type) != kCgroup2 ||
        !Write(root + "/cgroup.subtree_control", "+memory")) {
      why_ = "there is no cgroup of version 2 with a controller of memory, or it is not for us";
      return;
    }
    path_ = root + "/ion-test-" + std::to_string(::getpid());
    if (::mkdir(path_.c_str(), 0755) != 0 || !Write(path_ + "/memory.max", limit)) {
      why_ = "the cgroup cannot be made";
    }
  }
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup() {
    if (!path_.empty()) ::rmdir(path_.c_str());
  }

  bool ok() const { return why_.empty(); }
  const char* why() const { return why_.c_str(); }
  const std::string& path() const { return path_; }
  bool Put(const std::string& file, std::string_view text) const {
    return Write(path_ + "/" + file, text);
  }
  // Moves the calling process into it.
  bool Enter() const { return Put("cgroup.procs", "0"); }

 private:
  static constexpr uint32_t kCgroup2 = 0x63677270;  // statfs.f_type of version 2

  static bool Write(const std::string& file, std::string_view text) {
    const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
    return fd.valid() &&
           ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }

  std::string path_, why_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_CGROUP_H_
