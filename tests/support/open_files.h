// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/open_files.h
//
// What this process has open: its descriptors, and its mappings of device memory.

#ifndef ION_TESTS_SUPPORT_OPEN_FILES_H_
#define ION_TESTS_SUPPORT_OPEN_FILES_H_

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ion/base/check.h"

namespace ion::testing {

// Returns true if a descriptor's target is a file of fdinfo that a backend keeps until it ends
// (backends/fd_info_files.h), or the fake's.
inline bool IsKeptFdInfo(std::string_view target) {
  return (target.starts_with("/proc/") && target.find("/fdinfo/") != target.npos) ||
         target.starts_with("/memfd:fdinfo of ");
}

// The descriptors of this process, and what each is; without the files of fdinfo that are kept.
inline std::map<int, std::string> OpenDescriptors() {
  std::map<int, std::string> open;
  DIR* directory = ::opendir("/proc/self/fd");
  ION_CHECK(directory != nullptr, "/proc/self/fd cannot be read");
  while (const dirent* entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == ::dirfd(directory)) continue;
    char target[512] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (::readlink(link.c_str(), target, sizeof(target) - 1) < 0) continue;
    if (!IsKeptFdInfo(target)) open[fd] = target;
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

// The names of device memory in /proc/self/maps: those of dma-bufs, which have no name of their own
// before Linux 5.3, of the buffers of DRM's drivers (in 5.10 that of the file behind them), and of
// memfds, and those that were added. Not thread-safe.
inline std::vector<std::string_view>& DeviceMappingNames() {
  static std::vector<std::string_view> names = {"/dmabuf:", "anon_inode:dmabuf", "/drm mm object",
                                                "/memfd:"};
  return names;
}

// Adds the name of a backend's mappings, such as "/dev/dri/card0". `name` is static text; nullptr
// adds nothing. Call it before the first mapping that is compared.
inline void AddDeviceMappingName(const char* name) {
  std::vector<std::string_view>& names = DeviceMappingNames();
  if (name != nullptr && std::ranges::find(names, name) == names.end()) names.emplace_back(name);
}

// Returns true if a line of /proc/self/maps is of device memory.
inline bool IsDeviceMapping(std::string_view line) {
  return std::ranges::any_of(DeviceMappingNames(),
                             [&](std::string_view name) { return line.find(name) != line.npos; });
}

// The lines of /proc/self/maps that name device memory.
inline std::string DeviceMappings() {
  std::ifstream maps("/proc/self/maps");
  std::string line, found;
  while (std::getline(maps, line)) {
    if (IsDeviceMapping(line)) found += line + "\n";
  }
  return found;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_OPEN_FILES_H_
