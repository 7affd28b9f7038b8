// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/kernel_text.h
//
// Reads the small text files in which the kernel tells of itself, in /proc and in /sys, within
// bounds and without heap memory, and takes them apart.
//
// Not for users.
//
// Cost: three system calls for a small file. Thread-safe.
#ifndef ION_ION_BASE_KERNEL_TEXT_H_
#define ION_ION_BASE_KERNEL_TEXT_H_

#include <fcntl.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>

#include "ion/base/syscalls.h"

namespace ion {

namespace internal {

// Reads the begin of a small file. Returns nothing where it cannot be read.
template <Syscalls Sys>
std::optional<std::string_view> ReadBegin(const Sys& sys, const char* path, char* to,
                                          size_t bytes) noexcept {
  const long opened = OpenRetrying(sys, path, O_RDONLY);
  if (Failed(opened)) return std::nullopt;
  const long got = sys.Read(static_cast<int>(opened), to, bytes);
  (void)sys.Close(static_cast<int>(opened));
  if (Failed(got)) return std::nullopt;
  return std::string_view(to, static_cast<size_t>(got));
}

// Calls f(line) for each line of a file of /proc. Leaves out lines of more than 8 KiB and reads at
// most 8 MiB. Returns false if the file cannot be read.
template <Syscalls Sys, class F>
bool ForEachLine(const Sys& sys, const char* path, F f) noexcept {
  constexpr size_t kMostReads = 1024;
  const long opened = OpenRetrying(sys, path, O_RDONLY);
  if (Failed(opened)) return false;
  char text[8192];
  size_t held = 0;
  bool cut = false;  // the line's begin has been dropped
  long got = 0;
  for (size_t reads = 0; reads < kMostReads; ++reads) {
    got = sys.Read(static_cast<int>(opened), text + held, sizeof(text) - held);
    if (Failed(got) || got == 0) break;
    held += static_cast<size_t>(got);
    size_t begin = 0;
    while (const void* end = std::memchr(text + begin, '\n', held - begin)) {
      const auto at = static_cast<size_t>(static_cast<const char*>(end) - text);
      if (!cut) f(std::string_view(text + begin, at - begin));
      cut = false;
      begin = at + 1;
    }
    held -= begin;
    std::memmove(text, text + begin, held);
    if (held == sizeof(text)) {
      held = 0;
      cut = true;
    }
  }
  (void)sys.Close(static_cast<int>(opened));
  return !Failed(got);
}

// Takes what stands before the next `end` off `rest`, and the `end` with it.
constexpr std::string_view TakeUntil(std::string_view& rest, char end) noexcept {
  const size_t at = rest.find(end);
  const std::string_view taken = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return taken;
}
constexpr bool ListHas(std::string_view list, std::string_view word) noexcept {
  while (!list.empty()) {
    if (TakeUntil(list, ',') == word) return true;
  }
  return false;
}

// The number that is all of `text`, but for a final newline.
inline std::optional<uint64_t> WholeNumber(std::string_view text) noexcept {
  if (text.ends_with('\n')) text.remove_suffix(1);
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc{} || stopped != end) return std::nullopt;
  return number;
}
// The number of the line "name 123"; none where there is no such line.
inline std::optional<uint64_t> NumberAfter(std::string_view lines, std::string_view name) noexcept {
  while (!lines.empty()) {
    std::string_view line = TakeUntil(lines, '\n');
    if (TakeUntil(line, ' ') == name) return WholeNumber(line);
  }
  return std::nullopt;
}

}  // namespace internal

}  // namespace ion

#endif  // ION_ION_BASE_KERNEL_TEXT_H_
