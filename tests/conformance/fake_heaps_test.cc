// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The conformance suite of heaps over the handle ABI, which only a fake kernel has.

#include "ion/backends/ion_legacy.h"
#include "tests/conformance/heap_conformance.h"
#include "tests/support/always_cached.h"
#include "tests/support/fake_platforms.h"

namespace {

using Legacy = ion::IonLegacyBackend<ion::testing::FakeLinux42>;
using Cached = ion::testing::AlwaysCached<Legacy>;
using TestedSystem = ion::testing::SystemUnderTest<Legacy>;
using TestedSystemContig = ion::testing::SystemContigUnderTest<Legacy>;
using TestedCarveout = ion::testing::CarveoutUnderTest<Legacy>;
using TestedDma = ion::testing::DmaUnderTest<Legacy>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over fake ion_legacy", TestedSystem);
TYPE_TO_STRING_AS("system-contig over fake ion_legacy", TestedSystemContig);
TYPE_TO_STRING_AS("carveout over fake ion_legacy", TestedCarveout);
TYPE_TO_STRING_AS("dma over fake ion_legacy", TestedDma);
TYPE_TO_STRING_AS("system over fake ion_legacy, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over fake ion_legacy, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over fake ion_legacy, cached", CachedCarveout);
ION_HEAP_CONFORMANCE(TestedSystem, TestedSystemContig, TestedCarveout, TestedDma, CachedSystem,
                     CachedSystemContig, CachedCarveout);
