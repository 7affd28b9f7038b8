// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/chart.h"

#include <algorithm>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/exchange_names.h"
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

constexpr int kWidth = 840;
constexpr int kHead = 46;
constexpr int kPanelWidth = kWidth / 2;
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

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

void DrawText(std::ostream& svg, int x, int y, std::string_view style, std::string_view text) {
  svg << "<text x='" << x << "' y='" << y << "' class='" << style << "'>" << Escape(text)
      << "</text>\n";
}

void DrawBar(std::ostream& svg, int x, int y, double scale, const Bar& bar) {
  const int length = std::max(1, static_cast<int>(std::min(bar.ns / scale, 1.0) * kBars));
  const int left = x + kLabels + 8;
  DrawText(svg, x + kLabels, y + 12, "label", bar.label);
  svg << "<rect x='" << left << "' y='" << y << "' width='" << length << "' height='14' class='"
      << (bar.label == "ion::Pool" ? "ours" : "bar") << "'/>\n";
  if (bar.ns > scale) {
    svg << "<path d='M" << left + length - 24 << " " << y + 16
        << "l6 -18m5 18l6 -18' class='cut'/>\n";
  }
  DrawText(svg, left + length + 5, y + 12, "value", Fixed(bar.ns, bar.ns < 10 ? 1 : 0));
}

void DrawPanel(std::ostream& svg, int x, int y, std::string_view title,
               const std::vector<Bar>& bars) {
  DrawText(svg, x + 12, y + 20, "head", title);
  y += kPanelHead;
  for (const Bar& bar : bars) {
    DrawBar(svg, x, y, ScaleOf(bars), bar);
    y += kRow;
  }
}

constexpr std::string_view kStyle = R"(<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.head { font-weight: 600 }
.label { text-anchor: end }
.note, .value { fill: #59636e }
.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.cut { stroke: #ffffff; stroke-width: 2; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .note, .value { fill: #9198a1 }
  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .cut { stroke: #0d1117 }
}
</style>
)";

}  // namespace

std::string DrawChart(const Results& results) {
  std::ostringstream body;
  const auto model = results.context.find("cpu_model");
  DrawText(body, 12, 20, "title", "A descriptor from the pool and back: ns of CPU time");
  DrawText(body, 12, 38, "note", model == results.context.end() ? "" : model->second);

  int y = kHead;
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
  const int height = y + row_height + 12;
  return Text("<svg xmlns='http://www.w3.org/2000/svg' width='", kWidth, "' height='", height,
              "' viewBox='0 0 ", kWidth, " ", height, "'>\n", kStyle, body.str(), "</svg>\n");
}

}  // namespace ion::bench
