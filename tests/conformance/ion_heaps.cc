// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/ion.h"
#include "tests/conformance/heap_conformance.h"
#include "tests/support/always_cached.h"

namespace {

using Cached = ion::testing::AlwaysCached<ion::IonBackend<>>;
using TestedSystem = ion::testing::SystemUnderTest<ion::IonBackend<>>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<ion::IonBackend<>>;
using TestedCarveout = ion::testing::CarveoutUnderTest<ion::IonBackend<>>;
using TestedDma = ion::testing::DmaUnderTest<ion::IonBackend<>>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;
using CachedDma = ion::testing::DmaUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over ion", TestedSystem);
TYPE_TO_STRING_AS("system-contig over ion", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over ion", TestedCarveout);
TYPE_TO_STRING_AS("dma over ion", TestedDma);
TYPE_TO_STRING_AS("system over ion, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over ion, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over ion, cached", CachedCarveout);
TYPE_TO_STRING_AS("dma over ion, cached", CachedDma);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma, CachedSystem,
                     CachedSystemContig, CachedCarveout, CachedDma);
