// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/dma_heap.h"
#include "tests/conformance/heap_conformance.h"

namespace {

using TestedSystem = ion::testing::SystemUnderTest<ion::DmaHeapBackend<>>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<ion::DmaHeapBackend<>>;
using TestedCarveout = ion::testing::CarveoutUnderTest<ion::DmaHeapBackend<>>;
using TestedDma = ion::testing::DmaUnderTest<ion::DmaHeapBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over dma_heap", TestedSystem);
TYPE_TO_STRING_AS("system-contig over dma_heap", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over dma_heap", TestedCarveout);
TYPE_TO_STRING_AS("dma over dma_heap", TestedDma);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma);
