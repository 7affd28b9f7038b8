// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/exchange_chart.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/bars.h"
#include "bench/exchange_names.h"
#include "bench/svg.h"

namespace ion::bench {
namespace {

struct Panel {
  std::string_view exchange;
  std::string_view threads;
  std::string_view title;
};

constexpr Panel kPanels[] = {
    {"Hot", "1", "acquire + touch + release"},
    {"Hot", "16", "the same, 16 threads"},
    {"Burst/32", "1", "32 acquired, 32 released: each"},
    {"HandOver/read", "2", "from a thread to another, read only"},
};

constexpr int kPanelWidth = svg::kWidth / 2;

// Shortest first.
std::vector<svg::Bar> BarsOf(const Results& results, const Panel& panel) {
  std::vector<svg::Bar> bars;
  for (const Figure& figure : results.figures) {
    const auto name = ParseExchangeName(figure.name);
    if (!name || name->exchange != panel.exchange || name->threads != panel.threads) continue;
    if (!figure.error.empty()) continue;
    bars.push_back({name->contender, figure.ns, name->contender == "ion::Pool"});
  }
  std::sort(bars.begin(), bars.end(),
            [](const svg::Bar& a, const svg::Bar& b) { return a.ns < b.ns; });
  return bars;
}

}  // namespace

std::string DrawExchanges(const Results& results) {
  std::ostringstream body;
  int y = svg::kHead;
  int column = 0;
  int row_height = 0;
  for (const Panel& panel : kPanels) {
    const std::vector<svg::Bar> bars = BarsOf(results, panel);
    if (bars.empty()) continue;
    svg::DrawBars(body, column * kPanelWidth, y, panel.title, bars);
    row_height = std::max(row_height, svg::BarsHeight(bars));
    column = 1 - column;
    if (column == 0) y += std::exchange(row_height, 0);
  }
  if (body.str().empty()) return "";
  return svg::Page("A descriptor from the pool and back: ns of CPU time", results, body.str(),
                   y + row_height + 12, svg::kBarsLight, svg::kBarsDark);
}

}  // namespace ion::bench
