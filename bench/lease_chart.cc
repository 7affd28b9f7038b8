// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/lease_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "bench/lease_names.h"
#include "bench/svg.h"
#include "bench/units.h"

namespace ion::bench {
namespace {

constexpr std::string_view kShared = "Shared";

struct Kind {
  std::string_view lease;
  std::string_view title;
  std::string_view style;
};

constexpr Kind kKinds[] = {
    {"Kernel", "kernel, touched", "kernel"},
    {"Scrubbed", "hit, zeroed", "zeroed"},
    {kShared, "shared, recycled", "shared"},
    {"HitUsed", "hit, touched", "used"},
    {"Hit", "hit", "hit"},
};

using Line = std::map<uint64_t, double>;         // ns by bytes
using Panel = std::map<std::string_view, Line>;  // by lease

struct Chart {
  std::map<std::string, Panel> panels;  // by memory
  std::vector<uint64_t> sizes;
  int first_decade = 0;  // of ns
  int decades = 1;
};

// What was shared, and came from the kernel again as nobody proved it idle, says nothing.
bool SaysNothing(std::string_view lease, const Figure& figure) {
  return lease == kShared && figure.label != "recycled";
}

std::map<std::string, Panel> PanelsOf(const Results& results) {
  std::map<std::string, Panel> panels;
  for (const Figure& figure : results.figures) {
    const auto name = ParseLeaseName(figure.name);
    if (!name || !figure.error.empty() || figure.ns <= 0) continue;
    if (SaysNothing(name->lease, figure)) continue;
    for (const Kind& kind : kKinds) {
      if (kind.lease == name->lease) panels[name->memory][kind.lease][name->bytes] = figure.ns;
    }
  }
  return panels;
}

Chart ChartOf(const Results& results) {
  Chart chart;
  chart.panels = PanelsOf(results);
  std::set<uint64_t> sizes;
  std::set<double> times;
  for (const auto& [memory, panel] : chart.panels) {
    for (const auto& [lease, line] : panel) {
      for (const auto& [bytes, ns] : line) {
        sizes.insert(bytes);
        times.insert(ns);
      }
    }
  }
  chart.sizes.assign(sizes.begin(), sizes.end());
  if (times.empty()) return chart;
  chart.first_decade = static_cast<int>(std::floor(std::log10(*times.begin())));
  const int last = static_cast<int>(std::ceil(std::log10(*times.rbegin())));
  chart.decades = std::max(1, last - chart.first_decade);
  return chart;
}

constexpr int kPanelHead = 34;
constexpr int kPanelFoot = 34;
constexpr int kDecade = 40;
constexpr int kAxis = 60;
constexpr int kInset = 24;  // half of a figure's text
constexpr int kEnds = 176;
constexpr int kLineHeight = 17;
constexpr int kTextHeight = 11;

struct Dot {
  const Kind* kind;
  double ns;
  int y;
  bool last;
};

// Draws a panel, its left and upper corner at (x, y).
class Drawing {
 public:
  Drawing(std::ostream& out, const Chart& chart, int x, int y, int width)
      : out_(out),
        chart_(chart),
        x_(x),
        top_(y + kPanelHead),
        left_(x + kAxis),
        right_(x + width - kEnds) {}

  void Draw(std::string_view memory, const Panel& panel) {
    svg::DrawText(out_, x_ + 12, top_ - 14, "head", memory);
    DrawGrid();
    for (const Kind& kind : kKinds) {
      const auto line = panel.find(kind.lease);
      if (line != panel.end()) DrawLine(kind, line->second);
    }
    for (const uint64_t bytes : chart_.sizes) DrawFigures(X(bytes), DotsAt(panel, bytes));
    DrawEnds(panel);
  }

 private:
  int X(uint64_t bytes) const {
    const double first = std::log2(chart_.sizes.front());
    const double all = std::log2(chart_.sizes.back()) - first;
    const double at = all > 0 ? (std::log2(bytes) - first) / all : 0.5;
    return left_ + kInset + static_cast<int>(std::lround(at * (right_ - left_ - kInset)));
  }
  int Y(double ns) const {
    const double decades = chart_.first_decade + chart_.decades - std::log10(ns);
    return top_ + static_cast<int>(std::lround(decades * kDecade));
  }

  void DrawGrid() {
    for (int i = 0; i <= chart_.decades; ++i) {
      const int y = top_ + (chart_.decades - i) * kDecade;
      out_ << "<path d='M" << left_ << " " << y << "H" << right_ << "' class='grid'/>\n";
      svg::DrawText(out_, left_ - 8, y + 4, "label note", DecadeText(chart_.first_decade + i));
    }
    for (const uint64_t bytes : chart_.sizes) {
      svg::DrawText(out_, X(bytes), top_ + chart_.decades * kDecade + 20, "middle note",
                    SizeText(bytes));
    }
  }

  // Broken where a size has no figure.
  void DrawLine(const Kind& kind, const Line& line) {
    std::ostringstream path;
    bool drawing = false;
    for (const uint64_t bytes : chart_.sizes) {
      const auto point = line.find(bytes);
      if (point != line.end()) {
        path << (drawing ? "L" : "M") << X(bytes) << " " << Y(point->second);
        out_ << "<circle cx='" << X(bytes) << "' cy='" << Y(point->second) << "' r='3.5' class='"
             << kind.style << "'/>\n";
      }
      drawing = point != line.end();
    }
    out_ << "<path d='" << path.str() << "' class='line " << kind.style << "'/>\n";
  }

  // From above to below.
  std::vector<Dot> DotsAt(const Panel& panel, uint64_t bytes) const {
    std::vector<Dot> dots;
    for (const Kind& kind : kKinds) {
      const auto line = panel.find(kind.lease);
      if (line == panel.end()) continue;
      const auto point = line->second.find(bytes);
      if (point == line->second.end()) continue;
      const bool last = line->second.rbegin()->first == bytes;
      dots.push_back({&kind, point->second, Y(point->second), last});
    }
    std::sort(dots.begin(), dots.end(), [](const Dot& a, const Dot& b) { return a.y < b.y; });
    return dots;
  }

  // Above its dot, or below, or left out: wherever it covers nothing. A line's last one is with its
  // name.
  void DrawFigures(int x, const std::vector<Dot>& dots) {
    constexpr int kDot = 5;
    std::vector<int> baselines;
    const auto is_free = [&](int baseline) {
      return std::none_of(dots.begin(), dots.end(),
                          [&](const Dot& dot) {
                            return dot.y + kDot > baseline - kTextHeight && dot.y - kDot < baseline;
                          }) &&
             std::none_of(baselines.begin(), baselines.end(),
                          [&](int taken) { return std::abs(taken - baseline) < kLineHeight; });
    };
    for (const Dot& dot : dots) {
      if (dot.last) continue;
      for (const int baseline : {dot.y - 8, dot.y + 18}) {
        if (!is_free(baseline)) continue;
        svg::DrawText(out_, x, baseline, "middle value", TimeText(dot.ns));
        baselines.push_back(baseline);
        break;
      }
    }
  }

  void DrawEnds(const Panel& panel) {
    std::vector<Dot> ends;
    for (const uint64_t bytes : chart_.sizes) {
      for (const Dot& dot : DotsAt(panel, bytes)) {
        if (dot.last) ends.push_back(dot);
      }
    }
    std::sort(ends.begin(), ends.end(), [](const Dot& a, const Dot& b) { return a.y < b.y; });
    int free = top_ - kDecade;
    for (const Dot& end : ends) {
      const int y = std::max(end.y + 4, free);
      free = y + kLineHeight;
      out_ << "<text x='" << right_ + 12 << "' y='" << y << "' class='end " << end.kind->style
           << "'>" << end.kind->title << " <tspan class='value'>" << TimeText(end.ns)
           << "</tspan></text>\n";
    }
  }

  std::ostream& out_;
  const Chart& chart_;
  const int x_;
  const int top_;
  const int left_;
  const int right_;
};

constexpr std::string_view kLight = R"(.middle { text-anchor: middle }
.end { font-weight: 600; fill: currentColor }
.end .value { font-weight: 400 }
.value { paint-order: stroke; stroke: #ffffff; stroke-width: 3px; stroke-linejoin: round }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.line { stroke: currentColor; stroke-width: 2; fill: none }
circle { fill: currentColor }
.kernel { color: #bc4c00 }
.zeroed { color: #8250df }
.shared { color: #bf3989 }
.used { color: #1a7f37 }
.hit { color: #0969da }
)";
constexpr std::string_view kDark = R"(  .value { stroke: #0d1117 }
  .grid { stroke: #3d444d }
  .kernel { color: #f0883e }
  .zeroed { color: #ab7df8 }
  .shared { color: #db61a2 }
  .used { color: #3fb950 }
  .hit { color: #4493f8 }
)";

}  // namespace

std::string DrawLeases(const Results& results) {
  const Chart chart = ChartOf(results);
  if (chart.panels.empty()) return "";
  const int columns = chart.panels.size() == 1 ? 1 : 2;
  const int width = svg::kWidth / columns;
  const int height = kPanelHead + chart.decades * kDecade + kPanelFoot;
  std::ostringstream body;
  int at = 0;
  for (const auto& [memory, panel] : chart.panels) {
    Drawing(body, chart, at % columns * width, svg::kHead + at / columns * height, width)
        .Draw(memory, panel);
    ++at;
  }
  const int rows = (at + columns - 1) / columns;
  return svg::Page("A buffer allocated and released, by size: CPU time", results, body.str(),
                   svg::kHead + rows * height, kLight, kDark);
}

}  // namespace ion::bench
