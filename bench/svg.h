// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/svg.h
//
// What the charts share: words in an SVG, a heading, and colours for light and dark pages.
#ifndef ION_BENCH_SVG_H_
#define ION_BENCH_SVG_H_

#include <ostream>
#include <sstream>
#include <string>
#include <string_view>

#include "bench/results.h"
#include "bench/text.h"

namespace ion::bench::svg {

inline constexpr int kWidth = 840;
inline constexpr int kHead = 46;  // below it, what is charted

inline std::string Escape(std::string_view text) {
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

// `style`: classes of the page below, or of the chart's own style.
inline void DrawText(std::ostream& svg, int x, int y, std::string_view style,
                     std::string_view text) {
  svg << "<text x='" << x << "' y='" << y << "' class='" << style << "'>" << Escape(text)
      << "</text>\n";
}

inline constexpr std::string_view kLight =
    R"(text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.head { font-weight: 600 }
.label { text-anchor: end }
.note, .value { fill: #59636e }
)";
inline constexpr std::string_view kDark = R"(  text { fill: #f0f6fc }
  .note, .value { fill: #9198a1 }
)";

// A whole document: title, the machine, and `body`, which begins at kHead. `light` and `dark` are
// the chart's own rules.
inline std::string Page(std::string_view title, const Results& results, std::string_view body,
                        int height, std::string_view light, std::string_view dark) {
  std::ostringstream page;
  page << "<svg xmlns='http://www.w3.org/2000/svg' width='" << kWidth << "' height='" << height
       << "' viewBox='0 0 " << kWidth << " " << height << "'>\n<style>\n"
       << kLight << light << "@media (prefers-color-scheme: dark) {\n"
       << kDark << dark << "}\n</style>\n";
  DrawText(page, 12, 20, "title", title);
  const auto model = results.context.find("cpu_model");
  DrawText(page, 12, 38, "note", model == results.context.end() ? "" : model->second);
  page << body << "</svg>\n";
  return page.str();
}

}  // namespace ion::bench::svg

#endif  // ION_BENCH_SVG_H_
