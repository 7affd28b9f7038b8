// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/process_state.h
//
// ProcessState: what this process holds of the kernel and a test must leave as it found it: its
// descriptors, and its mappings of dma-bufs and memfds.
//
// Example:
//   const ProcessState before = ProcessState::Now();
//   …
//   CHECK(before.DifferenceTo(ProcessState::Now()) == "");
#ifndef ION_TESTS_SUPPORT_PROCESS_STATE_H_
#define ION_TESTS_SUPPORT_PROCESS_STATE_H_

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

namespace ion::testing {

class ProcessState {
 public:
  static ProcessState Now() {
    ProcessState state;
    // The numbers first: the listing's own descriptor has gone when the links are read.
    std::vector<std::string> numbers;
    {
      struct Close {
        void operator()(DIR* folder) const { ::closedir(folder); }
      };
      const std::unique_ptr<DIR, Close> folder(::opendir("/proc/self/fd"));
      while (const dirent* entry = ::readdir(folder.get())) {
        if (entry->d_name[0] != '.' && std::atoi(entry->d_name) != ::dirfd(folder.get())) {
          numbers.emplace_back(entry->d_name);
        }
      }
    }
    for (const std::string& number : numbers) {
      char target[256] = {};
      const ssize_t got =
          ::readlink(("/proc/self/fd/" + number).c_str(), target, sizeof(target) - 1);
      state.held_.push_back("fd " + number + " -> " + (got < 0 ? "closed meanwhile" : target));
    }
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      if (line.find("/dmabuf:") != std::string::npos || line.find("/memfd:") != std::string::npos) {
        state.held_.push_back("mapping " + line);
      }
    }
    std::ranges::sort(state.held_);
    return state;
  }

  // One line for each thing that is here or `later`, but not both; empty where there is none.
  std::string DifferenceTo(const ProcessState& later) const {
    std::string text;
    for (const auto& [from, to, word] :
         {std::tuple(this, &later, "leaked "), std::tuple(&later, this, "lost ")}) {
      std::vector<std::string> more;
      std::ranges::set_difference(to->held_, from->held_, std::back_inserter(more));
      for (const std::string& what : more) text += word + what + "\n";
    }
    return text;
  }

 private:
  std::vector<std::string> held_;  // sorted
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_PROCESS_STATE_H_
