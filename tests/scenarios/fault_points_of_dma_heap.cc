// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "doctest/doctest.h"
#include "tests/scenarios/fault_scenarios.h"

namespace ion::testing::faults {

TEST_CASE_TEMPLATE_INVOKE(opening, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(allocating, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(mapping, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(cpu_access, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(naming, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(sharing, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(releasing, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(carveouts, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(pools, DmaHeap, FakeDmaHeap);
TEST_CASE_TEMPLATE_INVOKE(signals, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(failing_twice, DmaHeap);
TEST_CASE_TEMPLATE_INVOKE(shortage, DmaHeap);

}  // namespace ion::testing::faults
