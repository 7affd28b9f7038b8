// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/chart.h"

#include "bench/exchange_chart.h"
#include "bench/lease_chart.h"

namespace ion::bench {

std::string DrawChart(const Results& results) {
  const std::string exchanges = DrawExchanges(results);
  return exchanges.empty() ? DrawLeases(results) : exchanges;
}

}  // namespace ion::bench
