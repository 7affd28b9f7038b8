// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

struct Line {
  bool called = false;
  Count real, fake;
};

// Stands last, as it counts what the others did: cases run in the order of their files' names.
TEST_CASE("Faults: every call of every backend here was covered") {
  Count sum;
  // Backends whose tables have the same line are one: not each has a real kernel here.
  std::map<std::pair<std::string_view, std::vector<int>>, Line> lines;
  for (const DocumentedCall& documented : Documented()) {
    Line& line = lines[{documented.call, documented.errnos}];
    line.called |= opened_backends.contains(documented.backend);
    line.real += counts[&documented];
    line.fake += counts_on_fakes[&documented];
  }
  for (const auto& [documented, line] : lines) {
    const std::string_view call = documented.first;
    // Where a mapping's pages may be lent the proof ends before these.
    const bool after_lending = call == "madvise MADV_DODUMP" || call == "poll";
    // Where the kernel knows MFD_NOEXEC_SEAL no memfd is made without it.
    const bool without_seal = call == "memfd_create";
    if (!line.called || !(after_lending || without_seal))
      CHECK_MESSAGE((line.real.covered > 0) == line.called, call);
    Count count = line.real;
    count += line.fake;
    if (count.covered == 0) continue;
    std::printf("fault points %s: %zu covered, %zu survived, of these %zu on fakes\n",
                std::string(call).c_str(), count.covered, count.survived, line.fake.survived);
    sum += count;
  }
  std::printf("fault points: %zu covered, %zu survived\n", sum.covered, sum.survived);
  CHECK(sum.covered > 0);
  CHECK(sum.survived == sum.covered);
}

}  // namespace ion::testing::faults
