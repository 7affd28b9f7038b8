// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/units.h
//
// Bytes and times for people.
#ifndef ION_BENCH_UNITS_H_
#define ION_BENCH_UNITS_H_

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>

#include "bench/text.h"

namespace ion::bench {

inline constexpr std::string_view kTimeUnits[] = {"ns", "us", "ms", "s"};

// 4 KiB.
inline std::string SizeText(uint64_t bytes) {
  constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
  if (bytes % kMiB == 0) return Text(bytes / kMiB, " MiB");
  return bytes % kKiB == 0 ? Text(bytes / kKiB, " KiB") : Text(bytes, " B");
}

// Two figures: 5.4 ns, 160 ns, 2.8 ms. `ns` > 0.
inline std::string TimeText(double ns) {
  const double unit_of_two = std::pow(10, std::floor(std::log10(ns)) - 1);
  double value = std::round(ns / unit_of_two) * unit_of_two;
  size_t unit = 0;
  for (; value > 999.5 && unit + 1 < std::size(kTimeUnits); ++unit) value /= 1000;
  return Text(Fixed(value, value < 9.95 ? 1 : 0), " ", kTimeUnits[unit]);
}

// 10^decade ns: 100 us.
inline std::string DecadeText(int decade) {
  const int unit = std::clamp(decade / 3, 0, 3);
  return Text(Fixed(std::pow(10, decade - 3 * unit), std::max(0, -decade)), " ", kTimeUnits[unit]);
}

}  // namespace ion::bench

#endif  // ION_BENCH_UNITS_H_
