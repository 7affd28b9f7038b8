// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/chart.h
//
// The figures of a run as an SVG, for light and dark pages: exchanges, frames or leases.
#ifndef ION_BENCH_CHART_H_
#define ION_BENCH_CHART_H_

#include <string>

#include "bench/results.h"

namespace ion::bench {

// Empty: none of them was measured.
std::string DrawChart(const Results& results);

}  // namespace ion::bench

#endif  // ION_BENCH_CHART_H_
