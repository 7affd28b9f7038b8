// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The conformance suite of heaps over the handle ABI, which only a fake kernel has.

#include "backends/ion_legacy.h"
#include "tests/heap_conformance.h"
#include "tests/support/always_cached.h"
#include "tests/support/fake_platforms.h"

namespace {

using Legacy = ion::IonLegacyBackend<ion::testing::FakeLinux42>;
using Cached = ion::testing::AlwaysCached<Legacy>;
using System = ion::testing::SystemUnderTest<Legacy>;
using SystemContig = ion::testing::SystemContigUnderTest<Legacy>;
using Carveout = ion::testing::CarveoutUnderTest<Legacy>;
using Dma = ion::testing::DmaUnderTest<Legacy>;
using CachedSystem = ion::testing::SystemUnderTest<Cached>;
using CachedSystemContig = ion::testing::SystemContigUnderTest<Cached>;
using CachedCarveout = ion::testing::CarveoutUnderTest<Cached>;

}  // namespace

TYPE_TO_STRING_AS("system over fake ion_legacy", System);
TYPE_TO_STRING_AS("system-contig over fake ion_legacy", SystemContig);
TYPE_TO_STRING_AS("carveout over fake ion_legacy", Carveout);
TYPE_TO_STRING_AS("dma over fake ion_legacy", Dma);
TYPE_TO_STRING_AS("system over fake ion_legacy, cached", CachedSystem);
TYPE_TO_STRING_AS("system-contig over fake ion_legacy, cached", CachedSystemContig);
TYPE_TO_STRING_AS("carveout over fake ion_legacy, cached", CachedCarveout);
ION_HEAP_CONFORMANCE(System, SystemContig, Carveout, Dma, CachedSystem, CachedSystemContig,
                     CachedCarveout);
