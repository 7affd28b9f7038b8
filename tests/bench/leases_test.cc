// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iomanip>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/chart.h"
#include "bench/lease_chart.h"
#include "bench/lease_names.h"
#include "bench/results.h"
#include "bench/table.h"
#include "bench/text.h"
#include "bench/units.h"
#include "doctest/doctest.h"

namespace ion::bench {
namespace {

constexpr uint64_t kSizes[] = {4096, 65536, 1048576, 8388608};

Figure Named(std::string name, double ns) {
  Figure figure;
  figure.name = std::move(name);
  figure.ns = ns;
  return figure;
}

Figure Of(std::string_view what, uint64_t bytes, double ns) {
  return Named(Text("BM_", what, "/", bytes), ns);
}

Results With(Figure figure) {
  Results results;
  results.figures.push_back(std::move(figure));
  return results;
}

// `first` ns at 4 KiB, `factor` times that at each next size.
void AddLine(Results& results, std::string_view what, double first, double factor) {
  for (const uint64_t bytes : kSizes) {
    results.figures.push_back(Of(what, bytes, first));
    first *= factor;
  }
}

// As it is over memfd, where what was shared comes from the kernel again.
Results Memfd() {
  Results results;
  results.context["cpu_model"] = "A & B <C>";
  AddLine(results, "MemfdKernel", 8000, 8);
  AddLine(results, "MemfdHit", 6, 1);
  AddLine(results, "MemfdHitUsed", 53, 6);
  AddLine(results, "MemfdScrubbed", 140, 13);
  AddLine(results, "MemfdShared", 7000, 7);
  AddLine(results, "MemfdScrubbedOnFree", 60, 13);
  results.figures.push_back(Of("MemfdCamera", 3110400, 5000));
  results.figures.push_back(Of("MemfdCameraKernel", 3110400, 900000));
  return results;
}

size_t Count(std::string_view text, std::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

bool Contains(std::string_view text, std::string_view part) { return Count(text, part) != 0; }

// What stands before `mark` in its element, since `from`: the value of an attribute.
std::string_view Before(std::string_view chart, std::string_view from, std::string_view mark) {
  const size_t end = chart.find(mark);
  REQUIRE(end != std::string_view::npos);
  const size_t begin = chart.rfind(from, end);
  REQUIRE(begin != std::string_view::npos);
  return chart.substr(begin + from.size(), end - begin - from.size());
}

// Where a line's dots are, from the least size on; the value of `attribute`, cx or cy.
std::vector<int> Dots(std::string_view chart, std::string_view style, std::string_view attribute) {
  std::vector<int> dots;
  const std::string from = Text(" ", attribute, "='");
  const std::string mark = Text("' r='3.5' class='", style, "'");
  for (size_t at = chart.find(mark); at != std::string_view::npos; at = chart.find(mark, at + 1)) {
    const size_t begin = chart.rfind(from, at) + from.size();
    dots.push_back(std::atoi(std::string(chart.substr(begin, at - begin)).c_str()));
  }
  return dots;
}

std::vector<int> Heights(std::string_view chart, std::string_view style) {
  return Dots(chart, style, "cy");
}

int EndHeight(std::string_view chart, std::string_view style) {
  const std::string mark = Text("' class='end ", style, "'");
  return std::atoi(std::string(Before(chart, "y='", mark)).c_str());
}

void Fail(Results& results, std::string_view name) {
  for (Figure& figure : results.figures) {
    if (figure.name == name) figure.error = "ENOMEM: no memory";
  }
}

TEST_CASE("LeaseName: memory, case and bytes") {
  const auto name = ParseLeaseName("BM_DmaHeapContiguousScrubbedBefore/65536/iterations:4096");
  REQUIRE(name.has_value());
  CHECK(name->memory == "dma-heap, contiguous");
  CHECK(name->lease == "ScrubbedBefore");
  CHECK(name->bytes == 65536);
  CHECK(ParseLeaseName("BM_MemfdCameraKernel/3110400/threads:4")->lease == "CameraKernel");
  CHECK(ParseLeaseName("BM_OtherHit/1")->memory == "Other");
  for (const std::string_view other : {"BM_PoolHot/threads:1", "BM_Hit/4096", "BM_MemfdHit",
                                       "BM_MemfdHit/", "BM_MemfdAllocate/system/4096", "Hit/1"}) {
    CAPTURE(other);
    CHECK_FALSE(ParseLeaseName(other).has_value());
  }
}

TEST_CASE("Table: leases by size, a line for each case") {
  Results results = Memfd();
  results.figures.push_back(Named("BM_MemfdScrubbedBefore/4096/iterations:65536", 56));
  Fail(results, "BM_MemfdHitUsed/65536");
  for (Figure& figure : results.figures) {
    if (figure.name == "BM_MemfdShared/4096") figure.label = "recycled";
  }
  const std::string table = FormatTable(results);
  const auto line = [&](std::string_view lease, const std::vector<std::string_view>& cells) {
    std::ostringstream text;
    text << "\n" << std::left << std::setw(28) << lease << std::right;
    for (const std::string_view cell : cells) text << std::setw(18) << cell;
    text << "\n";
    return text.str();
  };
  CHECK(Contains(table, line("memfd", {"4 KiB", "64 KiB", "1 MiB", "8 MiB"})));
  CHECK(Contains(table, line("Hit", {"6.0 ns", "6.0 ns", "6.0 ns", "6.0 ns"})));
  CHECK(Contains(table, line("HitUsed", {"53 ns", "-", "1.9 us", "11 us"})));
  CHECK(Contains(table, line("ScrubbedBefore", {"56 ns", "-", "-", "-"})));
  CHECK(Contains(table, line("Shared", {"7.0 us recycled", "49 us", "340 us", "2.4 ms"})));
  CHECK(Contains(table, "BM_MemfdCamera/3110400"));
  CHECK_FALSE(Contains(table, "BM_MemfdHit"));
}

TEST_CASE("Units: two figures, and the unit that they want") {
  CHECK(TimeText(5.44) == "5.4 ns");
  CHECK(TimeText(9.96) == "10 ns");
  CHECK(TimeText(0.123) == "0.1 ns");
  CHECK(TimeText(994) == "990 ns");
  CHECK(TimeText(996) == "1.0 us");
  CHECK(TimeText(15e9) == "15 s");
  CHECK(DecadeText(0) == "1 ns");
  CHECK(DecadeText(5) == "100 us");
  CHECK(DecadeText(-1) == "0.1 ns");
  CHECK(DecadeText(10) == "10 s");
  CHECK(SizeText(4096) == "4 KiB");
  CHECK(SizeText(3110400) == "3110400 B");
}

TEST_CASE("LeaseChart: a line for each kind, with its name and its last figure") {
  const std::string chart = DrawLeases(Memfd());
  CHECK(Contains(chart, ">memfd</text>"));
  CHECK(Contains(chart, ">kernel, touched <tspan class='value'>4.1 ms</tspan>"));
  CHECK(Contains(chart, ">hit, zeroed <tspan class='value'>310 us</tspan>"));
  CHECK(Contains(chart, ">hit, touched <tspan class='value'>11 us</tspan>"));
  CHECK(Contains(chart, ">hit <tspan class='value'>6.0 ns</tspan>"));
  CHECK(Count(chart, "class='line ") == 4);
  CHECK(Count(chart, "<circle") == 16);
  for (const std::string_view size : {"4 KiB", "64 KiB", "1 MiB", "8 MiB"}) {
    CHECK(Count(chart, Text(">", size, "<")) == 1);
  }
  CHECK(Contains(chart, "A &amp; B &lt;C>"));
  CHECK(chart.ends_with("</svg>\n"));
}

TEST_CASE("LeaseChart: ten times as long is a decade higher, at every size") {
  Results results;
  AddLine(results, "MemfdKernel", 20, 10);
  AddLine(results, "MemfdHit", 20, 1);
  const std::string chart = DrawLeases(results);
  const std::vector<int> heights = Heights(chart, "kernel");
  REQUIRE(heights.size() == 4);
  const int decade = heights[0] - heights[1];
  CHECK(decade > 0);
  CHECK(heights[1] - heights[2] == decade);
  CHECK(heights[2] - heights[3] == decade);
  CHECK(Heights(chart, "hit") == std::vector<int>(4, heights[0]));
  for (const std::string_view grid : {"10 ns", "100 ns", "1 us", "10 us", "100 us"}) {
    CHECK(Contains(chart, Text("class='label note'>", grid, "<")));
  }
}

TEST_CASE("LeaseChart: sixteen times as large is as far to the right, at every size") {
  const std::vector<int> at = Dots(DrawLeases(Memfd()), "hit", "cx");
  REQUIRE(at.size() == 4);
  CHECK(at[1] - at[0] > 100);
  CHECK(std::abs((at[2] - at[1]) - (at[1] - at[0])) <= 1);
  CHECK(std::abs(4 * (at[3] - at[2]) - 3 * (at[1] - at[0])) <= 8);
}

TEST_CASE("LeaseChart: a panel for each memory that was measured, to one scale") {
  Results results = Memfd();
  CHECK(Count(DrawLeases(results), "class='head'") == 1);
  AddLine(results, "UdmabufKernel", 100000, 10);
  AddLine(results, "UdmabufHit", 6, 1);
  results.context["missing DmaHeap"] = "ENOENT";
  const std::string chart = DrawLeases(results);
  CHECK(Count(chart, "class='head'") == 2);
  CHECK(Contains(chart, ">udmabuf</text>"));
  CHECK_FALSE(Contains(chart, "dma-heap"));
  CHECK(Count(chart, "class='label note'>100 ms<") == 2);
  const std::vector<int> hits = Heights(chart, "hit");
  CHECK(hits == std::vector<int>(8, hits.front()));
}

TEST_CASE("LeaseChart: a kind without figures has no line") {
  Results results;
  AddLine(results, "MemfdKernel", 8000, 8);
  const std::string chart = DrawLeases(results);
  CHECK(Count(chart, "class='line ") == 1);
  CHECK(Count(chart, "class='end ") == 1);
}

TEST_CASE("LeaseChart: a line is broken where a size could not be measured") {
  Results results = Memfd();
  CHECK(Count(Before(DrawLeases(results), "d='", "' class='line used'"), "M") == 1);
  Fail(results, "BM_MemfdHitUsed/65536");
  const std::string chart = DrawLeases(results);
  CHECK(Count(Before(chart, "d='", "' class='line used'"), "M") == 2);
  CHECK(Heights(chart, "used").size() == 3);
  CHECK_FALSE(Contains(chart, "ENOMEM"));
}

TEST_CASE("LeaseChart: a memory of which all failed has no panel") {
  Results results = Memfd();
  results.figures.push_back(Of("UdmabufHit", 4096, 6));
  CHECK(Contains(DrawLeases(results), "udmabuf"));
  Fail(results, "BM_UdmabufHit/4096");
  CHECK_FALSE(Contains(DrawLeases(results), "udmabuf"));
}

TEST_CASE("LeaseChart: what was shared has a line where it was recycled") {
  Results results = Memfd();
  CHECK_FALSE(Contains(DrawLeases(results), "shared, recycled"));
  AddLine(results, "UdmabufShared", 20000, 1);
  for (Figure& figure : results.figures) {
    if (figure.name.starts_with("BM_UdmabufShared/")) figure.label = "recycled";
  }
  CHECK(Count(DrawLeases(results), "class='line shared'") == 1);
  CHECK(Contains(DrawLeases(results), ">shared, recycled <tspan class='value'>20 us</tspan>"));
}

TEST_CASE("LeaseChart: names at the ends do not cover each other") {
  Results results;
  AddLine(results, "MemfdKernel", 100, 2);
  AddLine(results, "MemfdScrubbed", 100, 2);
  AddLine(results, "MemfdHitUsed", 100, 2);
  const std::string chart = DrawLeases(results);
  const int first = EndHeight(chart, "kernel");
  CHECK(EndHeight(chart, "zeroed") - first >= 12);
  CHECK(EndHeight(chart, "used") - EndHeight(chart, "zeroed") >= 12);
}

TEST_CASE("LeaseChart: figures that would cover another are left out") {
  Results results;
  AddLine(results, "MemfdKernel", 100, 2);
  CHECK(Count(DrawLeases(results), "class='middle value'>") == 3);
  AddLine(results, "MemfdScrubbed", 100, 2);
  AddLine(results, "MemfdHitUsed", 100, 2);
  CHECK(Count(DrawLeases(results), "class='middle value'>") == 6);
}

TEST_CASE("LeaseChart: one size is enough") {
  const std::string chart = DrawLeases(With(Of("MemfdHit", 4096, 6)));
  CHECK(Contains(chart, ">hit <tspan class='value'>6.0 ns</tspan>"));
  const std::vector<int> at = Dots(chart, "hit", "cx");
  REQUIRE(at.size() == 1);
  CHECK((at[0] > 200 && at[0] < 640));  // somewhere in the middle
}

TEST_CASE("Chart: leases are lines, exchanges are bars, all else is no chart") {
  CHECK(DrawChart(Memfd()) == DrawLeases(Memfd()));
  CHECK(DrawChart(With(Named("BM_ClientPath", 6))).empty());
  const Results exchanges = With(Named("BM_PoolHot/threads:1", 2));
  CHECK(DrawLeases(exchanges).empty());
  CHECK(Contains(DrawChart(exchanges), ">ion::Pool</text>"));
}

}  // namespace
}  // namespace ion::bench
