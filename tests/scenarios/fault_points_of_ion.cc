// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

TEST_CASE_TEMPLATE_INVOKE(opening, Ion);
TEST_CASE_TEMPLATE_INVOKE(allocating, Ion);
TEST_CASE_TEMPLATE_INVOKE(mapping, Ion);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, Ion);
TEST_CASE_TEMPLATE_INVOKE(naming, Ion);
TEST_CASE_TEMPLATE_INVOKE(sharing, Ion);
TEST_CASE_TEMPLATE_INVOKE(releasing, Ion);
TEST_CASE_TEMPLATE_INVOKE(carveouts, Ion);
TEST_CASE_TEMPLATE_INVOKE(pools, Ion, FakeIon);
TEST_CASE_TEMPLATE_INVOKE(signals, Ion);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, Ion);
TEST_CASE_TEMPLATE_INVOKE(shortage, Ion);

}  // namespace ion::testing::faults
