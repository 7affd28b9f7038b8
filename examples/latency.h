// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/latency.h
//
// How long a stage took, over all frames: median, 99th percentile, longest.
#ifndef ION_EXAMPLES_LATENCY_H_
#define ION_EXAMPLES_LATENCY_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_format.h"

namespace ion::demo {

// CLOCK_MONOTONIC, which is the same clock in every process.
inline int64_t NowNs() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Latency {
  std::string_view stage;
  std::vector<int64_t> samples_ns = {};

  // The smallest sample that `percent` of all do not pass; 0 where there is none.
  int64_t Percentile(int percent) {
    if (samples_ns.empty()) return 0;
    const size_t rank = (samples_ns.size() * static_cast<size_t>(percent) + 99) / 100;
    const auto at = samples_ns.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
    std::nth_element(samples_ns.begin(), at, samples_ns.end());
    return *at;
  }
};

inline std::string LatencyTable(std::span<Latency> stages) {
  std::string table = absl::StrFormat("%-12s %10s %10s %10s\n", "us", "median", "p99", "max");
  for (Latency& stage : stages) {
    absl::StrAppendFormat(&table, "%-12s %10.1f %10.1f %10.1f\n", std::string(stage.stage),
                          static_cast<double>(stage.Percentile(50)) / 1e3,
                          static_cast<double>(stage.Percentile(99)) / 1e3,
                          static_cast<double>(stage.Percentile(100)) / 1e3);
  }
  return table;
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_LATENCY_H_
