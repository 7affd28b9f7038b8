// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/leak_check.h
//
// LeakCheck fails the running test case where descriptors, or mappings of device memory, are not at
// its end what they were at its start. Not for cases whose threads outlive it.
//
// Example:
//   ion::testing::LeakCheck leaks;  // before everything else of the case

#ifndef ION_TESTS_SUPPORT_LEAK_CHECK_H_
#define ION_TESTS_SUPPORT_LEAK_CHECK_H_

#include <dirent.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "doctest/doctest.h"

namespace ion::testing {

// The descriptors of this process, and what each is.
inline std::map<int, std::string> OpenDescriptors() {
  std::map<int, std::string> open;
  DIR* directory = ::opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  while (const dirent* entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == ::dirfd(directory)) continue;
    char target[512] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (::readlink(link.c_str(), target, sizeof(target) - 1) < 0) continue;
    open[fd] = target;
  }
  ::closedir(directory);
  return open;
}

// The same as text, a line each: for a comparison that shows what differs.
inline std::string DescriptorLines() {
  std::string lines;
  for (const auto& [fd, target] : OpenDescriptors()) {
    lines += std::to_string(fd) + " -> " + target + "\n";
  }
  return lines;
}

// The lines of /proc/self/maps that name device memory.
inline std::string DeviceMappings() {
  std::ifstream maps("/proc/self/maps");
  std::string line, found;
  while (std::getline(maps, line)) {
    if (line.find("/dmabuf:") != std::string::npos || line.find("/memfd:") != std::string::npos) {
      found += line + "\n";
    }
  }
  return found;
}

class LeakCheck {
 public:
  LeakCheck() = default;
  LeakCheck(const LeakCheck&) = delete;
  LeakCheck& operator=(const LeakCheck&) = delete;
  ~LeakCheck() {
    CHECK(DescriptorLines() == descriptors_);
    CHECK(DeviceMappings() == mappings_);
  }

 private:
  const std::string descriptors_ = DescriptorLines();
  const std::string mappings_ = DeviceMappings();
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_LEAK_CHECK_H_
