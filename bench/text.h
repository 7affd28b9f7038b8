// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/text.h
//
// Words and numbers into strings. (Debian's Abseil has a string_view of its own, which its
// functions for strings do not take for the standard's.)
#ifndef ION_BENCH_TEXT_H_
#define ION_BENCH_TEXT_H_

#include <iomanip>
#include <sstream>
#include <string>
#include <string_view>

namespace ion::bench {

template <class... T>
std::string Text(const T&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

inline std::string Fixed(double value, int digits) {
  return Text(std::fixed, std::setprecision(digits), value);
}

template <class Range>
std::string Join(const Range& range, std::string_view separator) {
  std::ostringstream text;
  std::string_view before;
  for (const auto& item : range) {
    text << before << item;
    before = separator;
  }
  return text.str();
}

}  // namespace ion::bench

#endif  // ION_BENCH_TEXT_H_
