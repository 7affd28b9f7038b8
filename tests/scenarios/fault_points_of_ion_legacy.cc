// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

TEST_CASE_TEMPLATE_INVOKE(opening, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(allocating, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(mapping, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(sharing, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(releasing, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(carveouts, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(pools, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(signals, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, IonLegacy);
TEST_CASE_TEMPLATE_INVOKE(shortage, IonLegacy);

}  // namespace ion::testing::faults
