// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/memfd.h"
#include "tests/conformance/heap_conformance.h"

namespace {

using TestedSystem = ion::testing::SystemUnderTest<ion::MemfdBackend<>>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<ion::MemfdBackend<>>;
using TestedCarveout = ion::testing::CarveoutUnderTest<ion::MemfdBackend<>>;
using TestedDma = ion::testing::DmaUnderTest<ion::MemfdBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over memfd", TestedSystem);
TYPE_TO_STRING_AS("system-contig over memfd", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over memfd", TestedCarveout);
TYPE_TO_STRING_AS("dma over memfd", TestedDma);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma);
