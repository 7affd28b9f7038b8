// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/format_text.h
//
// As absl::StrAppendFormat and absl::StrFormat, but without memory for the text these throw
// bad_alloc: Abseil's append to a string in a destructor, which ends the process.
//
// Not for users.
//
// Cost: 256 bytes of stack; a longer text is formatted twice. Thread-safe.
#ifndef ION_ION_BASE_FORMAT_TEXT_H_
#define ION_ION_BASE_FORMAT_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/str_format.h"

namespace ion::internal {

template <class... Args>
void AppendFormat(std::string* text, const absl::FormatSpec<Args...>& format, const Args&... args) {
  char some[256];
  const int length = absl::SNPrintF(some, sizeof(some), format, args...);
  if (length < 0) return;
  const auto bytes = static_cast<size_t>(length);
  if (bytes < sizeof(some)) {
    text->append(some, bytes);
    return;
  }
  std::string all(bytes + 1, '\0');
  (void)absl::SNPrintF(all.data(), all.size(), format, args...);
  text->append(all, 0, bytes);
}
template <class... Args>
std::string Format(const absl::FormatSpec<Args...>& format, const Args&... args) {
  std::string text;
  AppendFormat(&text, format, args...);
  return text;
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_FORMAT_TEXT_H_
