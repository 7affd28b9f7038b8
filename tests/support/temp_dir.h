// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/temp_dir.h
//
// TempDir: a directory for one test case, that every user may enter, gone with all in it at the
// end.

#ifndef ION_TESTS_SUPPORT_TEMP_DIR_H_
#define ION_TESTS_SUPPORT_TEMP_DIR_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "doctest/doctest.h"

namespace ion::testing {

// A path as an Error tells it.
inline std::string AsNode(const std::string& path) {
  return path.size() <= 42 ? path : "..." + path.substr(path.size() - 39);
}

class TempDir {
 public:
  TempDir() {
    path_ = std::filesystem::temp_directory_path() / "ion-test-XXXXXX";
    REQUIRE(::mkdtemp(path_.data()) != nullptr);
    std::filesystem::permissions(path_, std::filesystem::perms{0755});
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string At(const std::string& name) const { return path_ + "/" + name; }
  // A file that only its owner may read.
  std::string File(const std::string& name, std::string_view text = {}) const {
    std::ofstream(At(name)) << text;
    std::filesystem::permissions(At(name), std::filesystem::perms{0600});
    return At(name);
  }
  std::string Link(const std::string& name, const std::string& target) const {
    std::filesystem::create_symlink(target, At(name));
    return At(name);
  }

 private:
  std::string path_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_TEMP_DIR_H_
