// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The top of the machine's memory, from the text of /proc/zoneinfo.

#include "ion/base/memory_top.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/moved_files.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

std::string Zone(const std::string& name, const std::string& spanned, const std::string& present,
                 const std::string& start) {
  std::string text = "Node 0, zone " + name + "\n  pages free     3840\n        boost    0\n" +
                     "        spanned  " + spanned + "\n        present  " + present +
                     "\n        managed  " + present + "\n        protection: (0, 2992, 23899)\n";
  if (!start.empty()) text += "  node_unreclaimable:  0\n  start_pfn:           " + start + "\n";
  return text;
}
std::optional<uint64_t> TopOf(const std::string& text) { return internal::MemoryTopIn(text, 4096); }

const std::string kDma = Zone("     DMA", "4095", "3998", "1");
const std::string kNormal = Zone("  Normal", "5505024", "1703936", "1048576");
const std::string kEmpty = Zone(" Movable", "0", "0", "");

TEST_CASE("MemoryTop: it is the end of the highest zone that has memory") {
  CHECK(TopOf(kDma) == (uint64_t{4096} << 12) - 1);
  CHECK(TopOf(kDma + kNormal + kEmpty) == 0x63fffffff);
  CHECK(TopOf(kNormal + kDma) == 0x63fffffff);
  // Larger pages, statistics of the node between, and no line break at the end.
  CHECK(internal::MemoryTopIn(kDma, 16384) == (uint64_t{4096} << 14) - 1);
  std::string text = kDma + kNormal;
  text.insert(text.find("  pages free"), "  per-node stats\n      nr_file_pages 984036\n");
  CHECK(TopOf(text.substr(0, text.size() - 1)) == 0x63fffffff);
  // A zone without memory may have a start.
  CHECK(TopOf(kDma + Zone("  Device", "0", "0", "99999999")) == (uint64_t{4096} << 12) - 1);
  // A long line is none of ours.
  CHECK(TopOf(kDma + "        protection: (" + std::string(500, '1') + ")\n" + kNormal) ==
        0x63fffffff);
}

TEST_CASE("MemoryTop: a text that does not tell is no promise") {
  CHECK_FALSE(TopOf("").has_value());
  CHECK_FALSE(TopOf("\n\n").has_value());
  CHECK_FALSE(TopOf("MemTotal: 5 kB\n").has_value());
  CHECK_FALSE(TopOf(kEmpty).has_value());
  // Cut off within a zone, before its start.
  CHECK_FALSE(TopOf(kDma + kNormal.substr(0, kNormal.find("start_pfn"))).has_value());
  CHECK_FALSE(TopOf(kDma + "Node 0, zone   Normal\n").has_value());
  for (const char* bad : {"", "x", "-1", "1x", "0x10", "99999999999999999999", "1 2"}) {
    CAPTURE(bad);
    CHECK_FALSE(TopOf(kDma + Zone("Normal", bad, "1", "7")).has_value());
    CHECK_FALSE(TopOf(kDma + Zone("Normal", "1", bad, "7")).has_value());
    CHECK_FALSE(TopOf(kDma + Zone("Normal", "1", "1", bad)).has_value());
  }
  // More pages than the zone spans, twice a value, a value before any zone.
  CHECK_FALSE(TopOf(Zone("Normal", "5", "6", "7")).has_value());
  CHECK_FALSE(TopOf(kDma + "  start_pfn:  5\n").has_value());
  CHECK_FALSE(TopOf("  start_pfn:  5\n" + kDma).has_value());
  // Numbers that wrap.
  CHECK_FALSE(TopOf(Zone("Normal", "18446744073709551615", "1", "1")).has_value());
  CHECK_FALSE(TopOf(Zone("Normal", "4503599627370496", "1", "4503599627370496")).has_value());
  CHECK(TopOf(Zone("Normal", "1", "1", "4503599627370494")) == UINT64_MAX - 4096);
}

TEST_CASE("ReadMemoryTops: the file is read in parts, and the machine's own tells") {
  const LeakCheck leaks;
  const Result<MemoryTops> own = ReadMemoryTops();
  REQUIRE_MESSAGE(own.ok(), Describe(own.error()));
  CHECK(own->memory > 1_MiB);
  CHECK((own->memory + 1) % PageBytes() == 0);
  const TempDir dir;
  Moved moved;
  // Many zones, over several reads.
  std::string text;
  for (int i = 0; i < 100; ++i) text += Zone("Normal", "16", "16", std::to_string(16 * i + 16));
  moved.to["/proc/zoneinfo"] = dir.File("zoneinfo", text);
  const Result<MemoryTops> top = ReadMemoryTops(MovedFiles(&moved));
  REQUIRE(top.ok());
  CHECK(top->memory == 101 * 16 * PageBytes() - 1);
}

TEST_CASE("ReadMemoryTops: contiguous memory ends with the last zone that has some of it") {
  const auto cma_of = [](const std::string& text) {
    internal::ZoneReader reader;
    reader.Read(text);
    (void)reader.Top(4096);
    return reader.CmaTop(4096);
  };
  const std::string low = Zone("DMA32", "16", "16", "4096");
  const std::string high = Zone("Normal", "16", "16", "1048576");
  const auto with = [](const std::string& zone, const char* pages) {
    return zone + "        cma      " + pages + "\n      nr_free_cma  7\n";
  };
  CHECK(cma_of(with(low, "8") + with(high, "0")) == uint64_t{4112} * 4096 - 1);
  CHECK(cma_of(with(low, "8") + with(high, "1")) == uint64_t{1048592} * 4096 - 1);
  CHECK_FALSE(cma_of(with(low, "0") + with(high, "0")).has_value());
  // A kernel that tells of one zone only tells of none.
  CHECK_FALSE(cma_of(with(low, "8") + high).has_value());
  CHECK_FALSE(cma_of(low + high).has_value());
}

TEST_CASE("ReadMemoryTops: without the file, or with another one, its errno tells") {
  const LeakCheck leaks;
  const TempDir dir;
  Moved moved;
  moved.to["/proc/zoneinfo"] = "";
  CHECK(ReadMemoryTops(MovedFiles(&moved)).error().code() == ENOENT);
  moved.to["/proc/zoneinfo"] = dir.File("zoneinfo", "nothing\n");
  CHECK(ReadMemoryTops(MovedFiles(&moved)).error().code() == ENODATA);
  auto faults = std::make_shared<Faults>();
  faults->Begin({.n = 0, .call = "read", .code = EIO});
  CHECK(ReadMemoryTops(FaultSyscalls(faults)).error().code() == EIO);
  faults->End();
}

}  // namespace
}  // namespace ion::testing
