// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

[[maybe_unused]] static const bool documented =
    Document("any", {"openat", "close", "read", "getdents64", "fstat", "uname", "sysinfo"});

TEST_CASE_TEMPLATE_INVOKE(opening, Any);

}  // namespace ion::testing::faults
