// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/printable.h
//
// Printable: a name as it may stand in a text that leaves the library: a report, a Status, a line
// on stderr. Names come from requests, clients, device nodes, the device tree and the kernel, and a
// name may hold line breaks, a terminal's escape sequences or quotes, by which it would forge lines
// and fields of the text around it.
//
// Characters of valid UTF-8 stay. Each byte of anything else becomes \xNN: control characters (C0,
// DEL, C1), bytes that are no UTF-8, line separators, and the marks that turn the direction of
// text. Quotes do, too, and a backslash is doubled, so that no two names have one text.
//
// Example:
//   text += "client '" + ion::Printable(name) + "'";
//
// Cost: one string. Thread-safe.
#ifndef ION_ION_BASE_PRINTABLE_H_
#define ION_ION_BASE_PRINTABLE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ion {

// The longest printed name, in bytes: 4 for each byte of a path in an Error, or of a buffer's name,
// and some more.
inline constexpr size_t kMostPrintable = 192;

namespace internal {

// Returns the bytes of the character at the start of `text` if that is printable as it is; else 0.
constexpr size_t PrintableAt(std::string_view text) noexcept {
  const auto byte = [&](size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
  };
  const unsigned first = byte(0);
  if (first < 0x80) {
    return first >= 0x20 && first != 0x7f && first != '\'' && first != '"' && first != '\\' ? 1 : 0;
  }
  const size_t bytes = first < 0xc2   ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                       : first < 0xf5 ? 4
                                      : 0;
  if (bytes == 0) return 0;
  uint32_t code = first & (0xffu >> (bytes + 1));
  for (size_t at = 1; at < bytes; ++at) {
    if ((byte(at) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(at) & 0x3f);
  }
  const bool shorter = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  const bool surrogate = code >= 0xd800 && code <= 0xdfff;
  const bool controls = code < 0xa0;
  const bool turns = code == 0x61c || code == 0x200e || code == 0x200f ||
                     (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
  const bool separates = code == 0x2028 || code == 0x2029;
  const bool bad = shorter || surrogate || controls || turns || separates || code > 0x10ffff;
  return bad ? 0 : bytes;
}

}  // namespace internal

// At most `most` bytes, of which the last three are dots where that is not all; no character and no
// \xNN is cut.
[[nodiscard]] inline std::string Printable(std::string_view text, size_t most = kMostPrintable) {
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr std::string_view kCut = "...";
  std::string made;
  size_t fits = 0;  // of `made`, with the dots behind it
  while (!text.empty()) {
    const size_t stays = internal::PrintableAt(text);
    if (stays != 0) {
      made += text.substr(0, stays);
    } else if (text[0] == '\\') {
      made += "\\\\";
    } else {
      const auto byte = static_cast<unsigned char>(text[0]);
      made += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 0xf]};
    }
    if (made.size() > most) {
      made.resize(fits);
      return made += kCut.substr(0, most - fits);
    }
    if (made.size() + kCut.size() <= most) fits = made.size();
    text.remove_prefix(stays != 0 ? stays : 1);
  }
  return made;
}

}  // namespace ion

#endif  // ION_ION_BASE_PRINTABLE_H_
