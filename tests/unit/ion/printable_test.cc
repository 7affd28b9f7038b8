// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/printable.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/any_of.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/platforms/linux.h"
#include "ion/recycling.h"
#include "ion/report.h"

namespace ion::testing {
namespace {

using namespace std::string_view_literals;  // NOLINT(google-build-using-namespace): for NULs

TEST_CASE("Printable: what can be read stays as it is") {
  for (const std::string_view text : {""sv, "camera"sv, "preview #1/left"sv, "ü € 漢 😀"sv}) {
    CHECK(Printable(text) == text);
  }
}

TEST_CASE("Printable: control characters, quotes and what is no UTF-8 are told by their bytes") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"a\nb", "a\\x0ab"},
      {"\033[2J", "\\x1b[2J"},
      {"\0\x7f\t\r"sv, "\\x00\\x7f\\x09\\x0d"},
      {"it's \"it\"", "it\\x27s \\x22it\\x22"},
      {"a\\x0ab", "a\\\\x0ab"},
      {"\xc2\x9b", "\\xc2\\x9b"},  // C1: a terminal's CSI
      {"\xff\xc3", "\\xff\\xc3"},  // no UTF-8, and a character that is cut
      {"\xc0\x8a\xe0\x80\x8a", "\\xc0\\x8a\\xe0\\x80\\x8a"},  // longer forms of a line break
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},                    // a surrogate
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},           // past the last character
      {"\xe2\x80\xae", "\\xe2\\x80\\xae"},                    // turns the direction of what follows
      {"\xe2\x80\xa8", "\\xe2\\x80\\xa8"},                    // a line separator
  };
  for (const auto& [text, wanted] : cases) CHECK(Printable(text) == wanted);
}

TEST_CASE("Printable: no two texts of two bytes look the same") {
  size_t texts = 0;
  std::set<std::string> made;
  for (int one = 0; one < 256; ++one) {
    for (int two = 0; two < 256; ++two, ++texts) {
      made.insert(Printable(std::string{static_cast<char>(one), static_cast<char>(two)}));
    }
  }
  CHECK(made.size() == texts);
}

TEST_CASE("Printable: its length is bounded, and nothing is cut in two") {
  CHECK(Printable("0123456789abcdef", 16) == "0123456789abcdef");
  CHECK(Printable("0123456789abcdefg", 16) == "0123456789abc...");
  CHECK(Printable("01234567890\n\n", 16) == "01234567890...");
  CHECK(Printable("0123456789€€€", 16) == "0123456789€...");
  CHECK(Printable("abc", 2) == "..");
  const std::string long_name(1 << 20, '\n');
  CHECK(Printable(long_name).size() <= kMostPrintable);
}

// How many bytes of a text a terminal or a reader of lines would take for more than text.
size_t Controls(std::string_view text) {
  size_t controls = 0;
  for (const char byte : text) {
    controls += (static_cast<unsigned char>(byte) < 0x20 && byte != '\n') || byte == 0x7f;
  }
  return controls;
}
size_t Lines(std::string_view text) { return static_cast<size_t>(std::ranges::count(text, '\n')); }

constexpr const char* kForged = "x\n          camera             2890         99999999\033[2J'\n";

TEST_CASE("Printable: no name forges a line of a report") {
  Report report;
  report.heaps = {{.id = HeapId{0}, .name = kForged}};
  report.buffers.push_back(
      {.name = kForged, .heap = HeapId{0}, .client = kForged, .file = kForged});
  report.buffers.push_back(
      {.name = kForged, .heap = HeapId{0}, .client = kForged, .orphaned = true});
  report.pools.push_back({.heap = HeapId{0}, .domain = {}});
  for (const std::string& text : {HeapText(report, HeapId{0}), ClientText(report, kForged),
                                  PoolText(report), LeakText(report)}) {
    CAPTURE(text);
    CHECK(Controls(text) == 0);
    CHECK(text.find("\n          camera") == text.npos);
  }
  CHECK(Lines(HeapText(report, HeapId{0})) == 10);
  CHECK(Lines(ClientText(report, kForged)) == 2);
  CHECK(Lines(PoolText(report)) == 2);
  CHECK(Lines(LeakText(report)) == 2);
  CHECK(LeakText(report).find("client 'x\\x0a") != std::string::npos);
}

TEST_CASE("Printable: no name forges a part of an Error, of a list of them, or of a Status") {
  const Error error(EACCES, "open", {"dma_heap", Operation::kOpen, "/dev/a\nroot: well\033[2J"});
  CHECK(Controls(Describe(error)) == 0);
  CHECK(Lines(Describe(error)) == 0);
  CHECK(Describe(error).starts_with("dma_heap /dev/a\\x0aroot: well\\x1b[2J: open"));
  const Error both[] = {error, error};
  CHECK(Lines(DescribeEach(both)) == 1);

  auto manager = platforms::Memfd::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = kForged, .quota_bytes = 0});
  REQUIRE(client.ok());
  const std::string told(client->Allocate({.bytes = 1}).status().message());
  CHECK(told != "");
  CHECK(Controls(told) == 0);
  CHECK(Lines(told) == 0);
}

TEST_CASE("Error: a path that is cut is not cut within a character") {
  for (size_t i = 0; i < 4; ++i) {
    const std::string path = std::string(i, 'a') + "ü€ü€ü€ü€ü€ü€ü€ü€ü€ü€ü€ü€ü€ü€";
    const Error error(ENOENT, "open", {"dma_heap", Operation::kOpen, path});
    CHECK(error.node().starts_with("..."));
    CHECK(Printable(error.node()) == error.node());
  }
}

}  // namespace
}  // namespace ion::testing
