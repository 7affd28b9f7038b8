// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/exchange_chart.h
//
// The figures of bench/exchanges.h as bars.
#ifndef ION_BENCH_EXCHANGE_CHART_H_
#define ION_BENCH_EXCHANGE_CHART_H_

#include <string>

#include "bench/results.h"

namespace ion::bench {

// Empty: none was measured.
std::string DrawExchanges(const Results& results);

}  // namespace ion::bench

#endif  // ION_BENCH_EXCHANGE_CHART_H_
