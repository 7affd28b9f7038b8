// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_groups.h
//
// FakeGroups: a machine of 1 GiB whose cgroups are files of a test's own directory.
//
// Example:
//   FakeGroups machine;
//   machine.Proc("cgroup", "0::/a\n");
//   machine.Proc("mountinfo", machine.V2("/", "/cg"));
//   machine.Group("/cg/a", "memory.max", "134217728\n");
//   auto limit = MemoryLimit::Read("test", machine.sys());

#ifndef ION_TESTS_SUPPORT_FAKE_GROUPS_H_
#define ION_TESTS_SUPPORT_FAKE_GROUPS_H_

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "ion/base/error.h"
#include "ion/base/memory_limit.h"
#include "tests/support/moved_files.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {

class FakeGroups {
 public:
  static constexpr uint64_t kRam = uint64_t{1} << 30;

  FakeGroups() {
    moved_.ram = kRam;
    Proc("cgroup", "0::/\n");
    Proc("mountinfo", "");
  }

  const std::string& root() const { return dir_.path(); }
  MovedFiles sys() { return MovedFiles(&moved_); }
  void Proc(const std::string& name, std::string_view text) {
    // Not the map: a reclaimer may look at it.
    const std::string to = dir_.At("proc " + name);
    std::ofstream(to + ".new") << text;
    std::filesystem::rename(to + ".new", to);
    if (!moved_.to.contains("/proc/self/" + name)) Move("/proc/self/" + name, to);
  }
  void Move(const std::string& from, const std::string& to) { moved_.to[from] = to; }
  void NoProc(const std::string& name) { Move("/proc/self/" + name, ""); }
  // A file of the group in this directory. A reader sees all of the old text, or of the new.
  void Group(const std::string& group, const std::string& file, std::string_view text) {
    std::filesystem::create_directories(dir_.path() + group);
    const std::string at = dir_.path() + group + "/" + file;
    std::ofstream(at + ".new") << text;
    std::filesystem::rename(at + ".new", at);
  }
  // A line of mountinfo: `root` of a hierarchy of version 2 is seen at `at`.
  std::string V2(const std::string& root, const std::string& at) const {
    return "30 23 0:26 " + root + " " + dir_.path() + at +
           " rw,nosuid,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
  }
  std::string V1(const std::string& root, const std::string& at) const {
    return "31 23 0:27 " + root + " " + dir_.path() + at + " rw,nosuid - cgroup cgroup rw,memory\n";
  }
  uint64_t Limit() {
    const Result<MemoryLimit> limit = MemoryLimit::Read("test", sys());
    return limit.ok() ? limit->bytes : 0;
  }

 private:
  TempDir dir_;
  Moved moved_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_GROUPS_H_
