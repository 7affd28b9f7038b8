// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/memfd.h"
#include "tests/heap_conformance.h"

namespace {

using System = ion::testing::SystemUnderTest<ion::MemfdBackend<>>;
using SystemContig = ion::testing::SystemContigUnderTest<ion::MemfdBackend<>>;
using Carveout = ion::testing::CarveoutUnderTest<ion::MemfdBackend<>>;
using Dma = ion::testing::DmaUnderTest<ion::MemfdBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over memfd", System);
TYPE_TO_STRING_AS("system-contig over memfd", SystemContig);
TYPE_TO_STRING_AS("carveout over memfd", Carveout);
TYPE_TO_STRING_AS("dma over memfd", Dma);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma);
