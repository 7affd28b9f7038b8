// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/dma_heap.h"
#include "tests/heap_conformance.h"

namespace {

using System = ion::testing::SystemUnderTest<ion::DmaHeapBackend<>>;
using SystemContig = ion::testing::SystemContigUnderTest<ion::DmaHeapBackend<>>;
using Carveout = ion::testing::CarveoutUnderTest<ion::DmaHeapBackend<>>;
using Dma = ion::testing::DmaUnderTest<ion::DmaHeapBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over dma_heap", System);
TYPE_TO_STRING_AS("system-contig over dma_heap", SystemContig);
TYPE_TO_STRING_AS("carveout over dma_heap", Carveout);
TYPE_TO_STRING_AS("dma over dma_heap", Dma);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma);
