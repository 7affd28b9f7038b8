// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

TEST_CASE_TEMPLATE_INVOKE(opening, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(allocating, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(mapping, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(naming, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(sharing, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(releasing, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(carveouts, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(pools, Udmabuf, FakeUdmabuf);
TEST_CASE_TEMPLATE_INVOKE(signals, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, Udmabuf);
TEST_CASE_TEMPLATE_INVOKE(shortage, Udmabuf);

TEST_CASE("Faults: composing<udmabuf>") {
  Rig<Udmabuf> rig;
  if (Opened(rig)) Cover(rig, ComposeScenarios<Udmabuf>());
}

}  // namespace ion::testing::faults
