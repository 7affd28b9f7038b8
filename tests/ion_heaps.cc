// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/ion.h"
#include "tests/heap_conformance.h"
#include "tests/support/always_cached.h"

namespace {

using Cached = ion::testing::AlwaysCached<ion::IonBackend<>>;
using System = ion::testing::SystemUnderTest<ion::IonBackend<>>;
using SystemContig = ion::testing::SystemContigUnderTest<ion::IonBackend<>>;
using Carveout = ion::testing::CarveoutUnderTest<ion::IonBackend<>>;
using Dma = ion::testing::DmaUnderTest<ion::IonBackend<>>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;
using CachedDma = ion::testing::DmaUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over ion", System);
TYPE_TO_STRING_AS("system-contig over ion", SystemContig);
TYPE_TO_STRING_AS("carveout over ion", Carveout);
TYPE_TO_STRING_AS("dma over ion", Dma);
TYPE_TO_STRING_AS("system over ion, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over ion, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over ion, cached", CachedCarveout);
TYPE_TO_STRING_AS("dma over ion, cached", CachedDma);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma, CachedSystem, CachedSystemContig,
                     CachedCarveout, CachedDma);
