// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/frame_chart.h"

#include <sstream>
#include <string_view>
#include <vector>

#include "bench/bars.h"
#include "bench/svg.h"
#include "bench/text.h"

namespace ion::bench {
namespace {

struct Frame {
  std::string_view benchmark;
  std::string_view title;
  bool ours;
};

// A plain one before ours of the same kind.
constexpr Frame kFrames[] = {
    {"BM_FrameRing", "plain ring, index", false},
    {"BM_FrameKept", "kept, index", true},
    {"BM_FrameRingFd", "plain ring, descriptor", false},
    {"BM_FrameFd", "kept, descriptor", true},
    {"BM_FrameRingMapped", "plain ring, mapped each time", false},
    {"BM_FrameHandle", "a handle each, not read", true},
    {"BM_FrameHandleRead", "a handle each", true},
};

std::string Label(const Frame& frame, const Figure& figure) {
  const auto calls = figure.counters.find("calls");
  if (calls == figure.counters.end()) return std::string(frame.title);
  return Text(frame.title, ": ", Fixed(calls->second, 0), " calls");
}

}  // namespace

std::string DrawFrames(const Results& results) {
  constexpr int kLabels = 280;
  std::vector<svg::Bar> bars;
  for (const Frame& frame : kFrames) {
    const Figure* figure = results.Find(Text(frame.benchmark, "/manual_time"));
    if (figure == nullptr || !figure->error.empty()) continue;
    bars.push_back({Label(frame, *figure), figure->ns, frame.ours});
  }
  if (bars.empty()) return "";
  std::ostringstream body;
  svg::DrawBars(body, 0, svg::kHead, "written, handed to a process, read, taken back", bars,
                kLabels);
  return svg::Page("A frame of 64 KiB: ns of CPU time, and system calls", results, body.str(),
                   svg::kHead + svg::BarsHeight(bars) + 12, svg::kBarsLight, svg::kBarsDark);
}

}  // namespace ion::bench
