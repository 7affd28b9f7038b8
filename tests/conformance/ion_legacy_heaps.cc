// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/ion_legacy.h"
#include "tests/conformance/heap_conformance.h"
#include "tests/support/always_cached.h"

namespace {

using Cached = ion::testing::AlwaysCached<ion::IonLegacyBackend<>>;
using TestedSystem = ion::testing::SystemUnderTest<ion::IonLegacyBackend<>>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<ion::IonLegacyBackend<>>;
using TestedCarveout = ion::testing::CarveoutUnderTest<ion::IonLegacyBackend<>>;
using TestedDma = ion::testing::DmaUnderTest<ion::IonLegacyBackend<>>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;
using CachedDma = ion::testing::DmaUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over ion_legacy", TestedSystem);
TYPE_TO_STRING_AS("system-contig over ion_legacy", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over ion_legacy", TestedCarveout);
TYPE_TO_STRING_AS("dma over ion_legacy", TestedDma);
TYPE_TO_STRING_AS("system over ion_legacy, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over ion_legacy, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over ion_legacy, cached", CachedCarveout);
TYPE_TO_STRING_AS("dma over ion_legacy, cached", CachedDma);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma, CachedSystem,
                     CachedSystemContig, CachedCarveout, CachedDma);
