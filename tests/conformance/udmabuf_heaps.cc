// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/udmabuf.h"
#include "tests/conformance/heap_conformance.h"

namespace {

using TestedSystem = ion::testing::SystemUnderTest<ion::UdmabufBackend<>>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<ion::UdmabufBackend<>>;
using TestedCarveout = ion::testing::CarveoutUnderTest<ion::UdmabufBackend<>>;
using TestedDma = ion::testing::DmaUnderTest<ion::UdmabufBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over udmabuf", TestedSystem);
TYPE_TO_STRING_AS("system-contig over udmabuf", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over udmabuf", TestedCarveout);
TYPE_TO_STRING_AS("dma over udmabuf", TestedDma);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma);
