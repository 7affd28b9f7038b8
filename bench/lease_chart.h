// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/lease_chart.h
//
// The figures of bench/pool_path.cc as lines by size, both axes logarithmic; a panel for each kind
// of memory, all to one scale.
#ifndef ION_BENCH_LEASE_CHART_H_
#define ION_BENCH_LEASE_CHART_H_

#include <string>

#include "bench/results.h"

namespace ion::bench {

// Empty: no lease was measured.
std::string DrawLeases(const Results& results);

}  // namespace ion::bench

#endif  // ION_BENCH_LEASE_CHART_H_
