// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The physical range that the guest's kernel leaves alone, as a carveout finds it.

#include "tests/support/physical_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

std::optional<PhysicalRange> Reserved() {
  const std::optional<PhysicalRange> range = ReservedRange();
  if (!range.has_value()) Skip(kNoReservedRange);
  return range;
}

TEST_CASE("ReservedRange: is what the kernel leaves alone, and of whole pages") {
  const auto range = Reserved();
  if (!range.has_value()) return;
  CHECK(range->bytes >= 8_MiB);
  CHECK(range->base % PageBytes() == 0);
  CHECK(range->bytes % PageBytes() == 0);
  std::ostringstream line;
  line << std::hex << range->base << "-" << range->base + range->bytes - 1 << " : Reserved";
  std::ifstream map("/proc/iomem");
  const std::string text(std::istreambuf_iterator<char>(map), {});
  CHECK(text.find(line.str()) != std::string::npos);
}

TEST_CASE("PhysicalMapping: two mappings of one range show the same memory, and it stays") {
  const LeakCheck leaks;
  const auto range = Reserved();
  if (!range.has_value()) return;
  {
    const PhysicalMapping one(*range), other(*range);
    REQUIRE(one.ok());
    REQUIRE(other.ok());
    CHECK(one.bytes().data() != other.bytes().data());
    FillPages(one.bytes(), 11);
    CHECK(LookAtPages(other.bytes(), 11) == "ok");
    FillPages(other.bytes(), 12);
    CHECK(LookAtPages(one.bytes(), 12) == "ok");
  }
  const PhysicalMapping later(*range);
  REQUIRE(later.ok());
  CHECK(LookAtPages(later.bytes(), 12) == "ok");
}

TEST_CASE("PhysicalMapping: a part of the range is at its offset") {
  const LeakCheck leaks;
  const auto range = Reserved();
  if (!range.has_value()) return;
  const PhysicalMapping whole(*range);
  REQUIRE(whole.ok());
  FillPages(whole.bytes(), 21);
  for (const uint64_t offset : {uint64_t{0}, 64_KiB, range->bytes - 64_KiB}) {
    CAPTURE(offset);
    const PhysicalMapping part({.base = range->base + offset, .bytes = 64_KiB});
    REQUIRE(part.ok());
    CHECK(LookAtPages(part.bytes(), 21, offset / PageBytes()) == "ok");
    // By address instead of by mapping.
    std::vector<std::byte> read(64_KiB);
    const UniqueFd memory = OpenNode("/dev/mem", O_RDONLY);
    REQUIRE(::pread(memory.get(), read.data(), read.size(),
                    static_cast<off_t>(range->base + offset)) == static_cast<ssize_t>(read.size()));
    CHECK(LookAtPages(read, 21, offset / PageBytes()) == "ok");
  }
}

TEST_CASE("PhysicalMapping: what is not of whole pages is refused") {
  const LeakCheck leaks;
  const auto range = Reserved();
  if (!range.has_value()) return;
  const PhysicalMapping off({.base = range->base + 1, .bytes = 4_KiB});
  CHECK(!off.ok());
  CHECK(ErrnoName(off.errno_code()) == "EINVAL");
}

}  // namespace
}  // namespace ion::testing
