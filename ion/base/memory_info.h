// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/memory_info.h
//
// MemoryInfo: the machine's memory, and the part of it that is available without swapping, as the
// kernel estimates it (Linux 3.14). The estimate does not include idle memory in our pools.
//
// Cost: three system calls. Thread-safe.
#ifndef ION_ION_BASE_MEMORY_INFO_H_
#define ION_ION_BASE_MEMORY_INFO_H_

#include <fcntl.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

#include "ion/base/error.h"
#include "ion/base/proc_hint.h"
#include "ion/base/syscalls.h"

namespace ion {

struct MemoryInfo {
  uint64_t total_bytes = 0;
  uint64_t available_bytes = 0;

  // ENODATA: the kernel gives no estimate.
  template <Syscalls Sys = LinuxSyscalls>
  static Result<MemoryInfo> Read(const Sys& sys = {}) noexcept {
    static constexpr const char* kFile = "/proc/meminfo";
    const Origin origin{"memory", Operation::kOpen, kFile};
    const long opened = OpenRetrying(sys, kFile, O_RDONLY);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", origin, NoProcHint(sys, kFile, opened));
    }
    char text[256];  // both are in its first three lines
    const long got = sys.Read(static_cast<int>(opened), text, sizeof(text));
    (void)sys.Close(static_cast<int>(opened));
    if (Failed(got)) return Error(ErrnoFrom(got), "read", origin);
    const std::string_view lines(text, static_cast<size_t>(got));
    const std::optional<uint64_t> total = BytesAfter(lines, "MemTotal:");
    // 0 where memory is shortest.
    const std::optional<uint64_t> available = BytesAfter(lines, "MemAvailable:");
    if (total.has_value() && available.has_value()) return MemoryInfo{*total, *available};
    return Error(ENODATA, "no MemAvailable", origin, "the kernel is older than Linux 3.14");
  }

  // The figure of a line "MemTotal:  242444 kB"; none: there is no such line.
  static std::optional<uint64_t> BytesAfter(std::string_view lines,
                                            std::string_view name) noexcept {
    const size_t at = lines.find(name);
    if (at == std::string_view::npos) return std::nullopt;
    const size_t digit = lines.find_first_not_of(' ', at + name.size());
    if (digit == std::string_view::npos) return std::nullopt;
    uint64_t kib = 0;
    const auto [end, error] =
        std::from_chars(lines.data() + digit, lines.data() + lines.size(), kib);
    if (error != std::errc{}) return std::nullopt;
    return kib << 10;
  }
};

}  // namespace ion

#endif  // ION_ION_BASE_MEMORY_INFO_H_
