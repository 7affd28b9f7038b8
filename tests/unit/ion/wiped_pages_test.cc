// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/wiped_pages.h"

#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <span>
#include <string>

#include "doctest/doctest.h"
#include "tests/support/child.h"
#include "tests/support/refuse_call.h"

namespace {

using ion::internal::MapWiped;
using ion::internal::UnmapWiped;
using ion::testing::RunInChild;

constexpr size_t kBytes = 3 * 4096;

struct Pages {
  Pages() : at(static_cast<char*>(MapWiped(kBytes))) { REQUIRE(at != nullptr); }
  ~Pages() { UnmapWiped(at, kBytes); }
  bool Are(char value) const {
    return std::ranges::all_of(std::span(at, kBytes), [value](char c) { return c == value; });
  }
  char* at;
};

// The line of /proc/self/smaps that begins with `key`, of the mapping that begins at `at`.
std::string Smaps(const void* at, const std::string& key) {
  char begin[32];
  std::snprintf(begin, sizeof(begin), "%08lx-",
                static_cast<unsigned long>(reinterpret_cast<uintptr_t>(at)));
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') < line.find(' ')) here = line.rfind(begin, 0) == 0;
    if (here && line.rfind(key, 0) == 0) return line;
  }
  return "";
}

TEST_CASE("WipedPages: zero at first, and they keep what is written") {
  Pages pages;
  CHECK(pages.Are(0));
  std::memset(pages.at, 7, kBytes);
  CHECK(pages.Are(7));
}

TEST_CASE("WipedPages: zero again in a forked child, and as they were in the parent") {
  Pages pages;
  std::memset(pages.at, 7, kBytes);
  CHECK(RunInChild([&] {
          if (!pages.Are(0)) return "not wiped";
          std::memset(pages.at, 8, kBytes);
          return "";
        }).text == "");
  CHECK(pages.Are(7));
}

TEST_CASE("WipedPages: a child's child finds zero, too") {
  Pages pages;
  CHECK(RunInChild([&] {
          std::memset(pages.at, 8, kBytes);
          const pid_t child = ::fork();
          if (child == 0) ::_exit(pages.Are(0) ? 0 : 1);
          int status = 0;
          ::waitpid(child, &status, 0);
          return status == 0 ? "" : "not wiped";
        }).text == "");
}

TEST_CASE("WipedPages: where the kernel cannot wipe, they are pages all the same") {
  CHECK(RunInChild([] {
          if (!ion::testing::RefuseCall(SYS_madvise, EINVAL)) return "no filter";
          auto* at = static_cast<char*>(MapWiped(kBytes));
          if (at == nullptr) return "no pages";
          at[kBytes - 1] = 1;
          UnmapWiped(at, kBytes);
          return "";
        }).text == "");
}

TEST_CASE("WipedPages: what is not touched costs address space only") {
  constexpr size_t kMany = size_t{1} << 30;
  auto* at = static_cast<char*>(MapWiped(kMany));
  REQUIRE(at != nullptr);
  at[kMany / 2] = 1;
  const std::string resident = Smaps(at, "Rss:");
  UnmapWiped(at, kMany);
  REQUIRE(resident.size() > 4);
  CHECK(std::stol(resident.substr(4)) <= 2048);  // KiB: one page, and it may be a huge one
}

TEST_CASE("WipedPages: unmapped, they are gone") {
  void* at = MapWiped(kBytes);
  REQUIRE(at != nullptr);
  CHECK_FALSE(Smaps(at, "Rss:").empty());
  UnmapWiped(at, kBytes);
  CHECK(Smaps(at, "Rss:").empty());
}

TEST_CASE("WipedPages: where there is no memory, nullptr") {
  CHECK(MapWiped(~size_t{0} - 8191) == nullptr);
  CHECK(MapWiped(0) == nullptr);
}

}  // namespace
