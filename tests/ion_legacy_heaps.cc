// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/ion_legacy.h"
#include "tests/heap_conformance.h"
#include "tests/support/always_cached.h"

namespace {

using Cached = ion::testing::AlwaysCached<ion::IonLegacyBackend<>>;
using System = ion::testing::SystemUnderTest<ion::IonLegacyBackend<>>;
using SystemContig = ion::testing::SystemContigUnderTest<ion::IonLegacyBackend<>>;
using Carveout = ion::testing::CarveoutUnderTest<ion::IonLegacyBackend<>>;
using Dma = ion::testing::DmaUnderTest<ion::IonLegacyBackend<>>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;
using CachedDma = ion::testing::DmaUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over ion_legacy", System);
TYPE_TO_STRING_AS("system-contig over ion_legacy", SystemContig);
TYPE_TO_STRING_AS("carveout over ion_legacy", Carveout);
TYPE_TO_STRING_AS("dma over ion_legacy", Dma);
TYPE_TO_STRING_AS("system over ion_legacy, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over ion_legacy, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over ion_legacy, cached", CachedCarveout);
TYPE_TO_STRING_AS("dma over ion_legacy, cached", CachedDma);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma, CachedSystem, CachedSystemContig,
                     CachedCarveout, CachedDma);
