// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/bars.h
//
// A panel of a chart: horizontal bars of ns, each with its name and its figure.
#ifndef ION_BENCH_BARS_H_
#define ION_BENCH_BARS_H_

#include <algorithm>
#include <cstddef>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "bench/svg.h"
#include "bench/text.h"

namespace ion::bench::svg {

struct Bar {
  std::string label;
  double ns;
  bool ours;  // of the library
};

inline constexpr int kBarsHead = 34;
inline constexpr int kBarRow = 20;
inline constexpr int kBarLabels = 152;
inline constexpr int kBarLength = 190;

// The longest bar that is drawn to scale: one bar that dwarfs the others is cut. Requires: `bars`
// is not empty.
inline double ScaleOf(const std::vector<Bar>& bars) {
  std::vector<double> lengths;
  for (const Bar& bar : bars) lengths.push_back(bar.ns);
  std::sort(lengths.begin(), lengths.end());
  const double longest = lengths.back();
  if (lengths.size() < 2) return longest;
  const double next = lengths[lengths.size() - 2];
  return longest > 3 * next ? 1.2 * next : longest;
}

inline void DrawBar(std::ostream& out, int x, int y, int labels, double scale, const Bar& bar) {
  const int length = std::max(1, static_cast<int>(std::min(bar.ns / scale, 1.0) * kBarLength));
  const int left = x + labels + 8;
  DrawText(out, x + labels, y + 12, "label", bar.label);
  out << "<rect x='" << left << "' y='" << y << "' width='" << length << "' height='14' class='"
      << (bar.ours ? "ours" : "bar") << "'/>\n";
  if (bar.ns > scale) {
    out << "<path d='M" << left + length - 24 << " " << y + 16
        << "l6 -18m5 18l6 -18' class='cut'/>\n";
  }
  DrawText(out, left + length + 5, y + 12, "value", Fixed(bar.ns, bar.ns < 10 ? 1 : 0));
}

// `labels`: the width that the names get.
inline void DrawBars(std::ostream& out, int x, int y, std::string_view title,
                     const std::vector<Bar>& bars, int labels = kBarLabels) {
  DrawText(out, x + 12, y + 20, "head", title);
  y += kBarsHead;
  for (const Bar& bar : bars) {
    DrawBar(out, x, y, labels, ScaleOf(bars), bar);
    y += kBarRow;
  }
}
inline int BarsHeight(const std::vector<Bar>& bars) {
  return kBarsHead + static_cast<int>(bars.size()) * kBarRow;
}

inline constexpr std::string_view kBarsLight = R"(.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.cut { stroke: #ffffff; stroke-width: 2; fill: none }
)";
inline constexpr std::string_view kBarsDark = R"(  .bar { fill: #656c76 }
  .ours { fill: #4493f8 }
  .cut { stroke: #0d1117 }
)";

}  // namespace ion::bench::svg

#endif  // ION_BENCH_BARS_H_
