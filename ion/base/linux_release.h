// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/linux_release.h
//
// LinuxRelease: the version of the running kernel, for advice that differs between versions. Never
// for a decision: distributions port features back, and a sandbox may hide the version.
//
// Example:
//   if (ion::LinuxRelease::Read(sys).IsBefore(5, 6)) return;   // no kernel that old has dma-heaps
//
// Cost: one system call. Thread-safe.
#ifndef ION_ION_BASE_LINUX_RELEASE_H_
#define ION_ION_BASE_LINUX_RELEASE_H_

#include <sys/utsname.h>

#include <charconv>
#include <compare>
#include <cstring>
#include <system_error>

#include "ion/base/syscalls.h"

namespace ion {

struct LinuxRelease {
  unsigned major_number = 0;  // 0: not known
  unsigned minor_number = 0;

  constexpr bool known() const noexcept { return major_number != 0; }
  // False where the version is not known.
  constexpr bool IsBefore(unsigned major, unsigned minor) const noexcept {
    return known() && *this < LinuxRelease{major, minor};
  }
  // False where the version is not known.
  constexpr bool IsSince(unsigned major, unsigned minor) const noexcept {
    return known() && !IsBefore(major, minor);
  }
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy finds the 0 of a comparison here.
  friend constexpr auto operator<=>(const LinuxRelease&, const LinuxRelease&) = default;

  template <Syscalls Sys = LinuxSyscalls>
  static LinuxRelease Read(const Sys& sys = {}) noexcept {
    struct utsname name {};
    if (Failed(sys.Uname(&name))) return {};
    const char* const end = name.release + strnlen(name.release, sizeof(name.release));
    LinuxRelease release;
    const auto [dot, no_major] = std::from_chars(name.release, end, release.major_number);
    if (no_major != std::errc{} || dot == end || *dot != '.') return {};
    if (std::from_chars(dot + 1, end, release.minor_number).ec != std::errc{}) return {};
    return release;
  }
};

}  // namespace ion

#endif  // ION_ION_BASE_LINUX_RELEASE_H_
