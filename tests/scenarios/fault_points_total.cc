// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

// Stands last, as it counts what the others did: cases run in the order of their files' names.
TEST_CASE("Faults: every call of every backend here was covered") {
  Count sum;
  for (const DocumentedCall& documented : Documented()) {
    const bool called = std::ranges::any_of(documented.backends, [](std::string_view backend) {
      return opened_backends.contains(backend);
    });
    const Count real = counts[&documented], fake = counts_on_fakes[&documented];
    // Where a mapping's pages may be lent the proof ends before these.
    const bool after_lending =
        documented.call == "madvise MADV_DODUMP" || documented.call == "poll";
    // Where the kernel knows MFD_NOEXEC_SEAL no memfd is made without it.
    const bool without_seal = documented.call == "memfd_create";
    if (!called || !(after_lending || without_seal))
      CHECK_MESSAGE((real.covered > 0) == called, documented.call);
    const Count count{real.covered + fake.covered, real.survived + fake.survived};
    if (count.covered == 0) continue;
    std::printf("fault points %s: %zu covered, %zu survived, of these %zu on fakes\n",
                std::string(documented.call).c_str(), count.covered, count.survived, fake.survived);
    sum.covered += count.covered;
    sum.survived += count.survived;
  }
  std::printf("fault points: %zu covered, %zu survived\n", sum.covered, sum.survived);
  CHECK(sum.covered > 0);
  CHECK(sum.survived == sum.covered);
}

}  // namespace ion::testing::faults
