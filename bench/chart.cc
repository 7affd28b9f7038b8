// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/chart.h"

#include "bench/exchange_chart.h"
#include "bench/frame_chart.h"
#include "bench/lease_chart.h"

namespace ion::bench {

std::string DrawChart(const Results& results) {
  for (const auto draw : {DrawExchanges, DrawFrames, DrawLeases}) {
    std::string chart = draw(results);
    if (!chart.empty()) return chart;
  }
  return "";
}

}  // namespace ion::bench
