// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/udmabuf.h"
#include "tests/heap_conformance.h"

namespace {

using System = ion::testing::SystemUnderTest<ion::UdmabufBackend<>>;
using SystemContig = ion::testing::SystemContigUnderTest<ion::UdmabufBackend<>>;
using Carveout = ion::testing::CarveoutUnderTest<ion::UdmabufBackend<>>;
using Dma = ion::testing::DmaUnderTest<ion::UdmabufBackend<>>;

}  // namespace

TYPE_TO_STRING_AS("system over udmabuf", System);
TYPE_TO_STRING_AS("system-contig over udmabuf", SystemContig);
TYPE_TO_STRING_AS("carveout over udmabuf", Carveout);
TYPE_TO_STRING_AS("dma over udmabuf", Dma);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma);
