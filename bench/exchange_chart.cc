// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/exchange_chart.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/exchange_names.h"
#include "bench/svg.h"
#include "bench/text.h"

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

struct Bar {
  std::string label;
  double ns;
};

constexpr int kPanelWidth = svg::kWidth / 2;
constexpr int kPanelHead = 34;
constexpr int kRow = 20;
constexpr int kLabels = 152;
constexpr int kBars = 190;

// Shortest first.
std::vector<Bar> BarsOf(const Results& results, const Panel& panel) {
  std::vector<Bar> bars;
  for (const Figure& figure : results.figures) {
    const auto name = ParseExchangeName(figure.name);
    if (!name || name->exchange != panel.exchange || name->threads != panel.threads) continue;
    if (figure.error.empty()) bars.push_back({name->contender, figure.ns});
  }
  std::sort(bars.begin(), bars.end(), [](const Bar& a, const Bar& b) { return a.ns < b.ns; });
  return bars;
}

// The longest that is drawn to scale: one bar that dwarfs the others is cut.
double ScaleOf(const std::vector<Bar>& bars) {
  const double longest = bars.back().ns;
  if (bars.size() < 2) return longest;
  const double next = bars[bars.size() - 2].ns;
  return longest > 3 * next ? 1.2 * next : longest;
}

void DrawBar(std::ostream& out, int x, int y, double scale, const Bar& bar) {
  const int length = std::max(1, static_cast<int>(std::min(bar.ns / scale, 1.0) * kBars));
  const int left = x + kLabels + 8;
  svg::DrawText(out, x + kLabels, y + 12, "label", bar.label);
  out << "<rect x='" << left << "' y='" << y << "' width='" << length << "' height='14' class='"
      << (bar.label == "ion::Pool" ? "ours" : "bar") << "'/>\n";
  if (bar.ns > scale) {
    out << "<path d='M" << left + length - 24 << " " << y + 16
        << "l6 -18m5 18l6 -18' class='cut'/>\n";
  }
  svg::DrawText(out, left + length + 5, y + 12, "value", Fixed(bar.ns, bar.ns < 10 ? 1 : 0));
}

void DrawPanel(std::ostream& out, int x, int y, std::string_view title,
               const std::vector<Bar>& bars) {
  svg::DrawText(out, x + 12, y + 20, "head", title);
  y += kPanelHead;
  for (const Bar& bar : bars) {
    DrawBar(out, x, y, ScaleOf(bars), bar);
    y += kRow;
  }
}

constexpr std::string_view kLight = R"(.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.cut { stroke: #ffffff; stroke-width: 2; fill: none }
)";
constexpr std::string_view kDark = R"(  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .cut { stroke: #0d1117 }
)";

}  // namespace

std::string DrawExchanges(const Results& results) {
  std::ostringstream body;
  int y = svg::kHead;
  int column = 0;
  int row_height = 0;
  for (const Panel& panel : kPanels) {
    const std::vector<Bar> bars = BarsOf(results, panel);
    if (bars.empty()) continue;
    DrawPanel(body, column * kPanelWidth, y, panel.title, bars);
    row_height = std::max(row_height, kPanelHead + static_cast<int>(bars.size()) * kRow);
    column = 1 - column;
    if (column == 0) y += std::exchange(row_height, 0);
  }
  if (body.str().empty()) return "";
  return svg::Page("A descriptor from the pool and back: ns of CPU time", results, body.str(),
                   y + row_height + 12, kLight, kDark);
}

}  // namespace ion::bench
