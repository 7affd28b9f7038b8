// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A Manager's list of heaps: descriptions, which name no backend, and heaps over its backend.

#include "ion/heap_list.h"

#include <type_traits>

#include "doctest/doctest.h"
#include "ion/archetypes.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

using internal::BoundTo;
using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

constexpr PoolSpec kBounds{.age_ticks = 10, .scrub = Scrub::kOnFree};
constexpr HeapSpec kNpu{.id = 2, .base = 0x3000'0000, .bytes = 1_MiB};
constexpr HeapSpec kPart{.id = 3, .bytes = 1_MiB};

template <Backend B>
using Composition = Manager<B, Pooled<System, kBounds>, Dma, Carveout<kNpu, Physical>>;

TEST_CASE("Manager: one list of descriptions opens over any backend") {
  const LeakCheck leaks;
  auto memfd = Composition<MemfdBackend<>>::Open();
  REQUIRE(memfd.ok());
  CHECK(memfd->heaps().contains(HeapId{0}));
  CHECK(memfd->Allocate({.bytes = 4096}).ok());
  static_assert(std::is_class_v<Composition<DmaHeapBackend<>>>);
  static_assert(Composition<DmaHeapBackend<>>::kBackendName == DmaHeapBackend<>::kName);
}

TEST_CASE("Manager: a list may have descriptions and heaps beside each other") {
  using B = MemfdBackend<>;
  auto manager = ManagerWith<LowestFirst, B, System,
                             CarveoutHeap<B, WithType(kPart, HeapType::kCarveout)>>::Open();
  REQUIRE(manager.ok());
  auto range = manager->Allocate({.bytes = 4096, .heaps = HeapId{3}});
  REQUIRE(range.ok());
  CHECK(manager->HeapOf(*range) == HeapId{3});
}

TEST_CASE("Description: each stands for its heap, and an element that is a heap for itself") {
  using B = BackendArchetype;
  using U = UdmabufBackend<>;
  static_assert(std::is_same_v<BoundTo<System, B>, SystemHeap<B>>);
  static_assert(std::is_same_v<BoundTo<SystemContig, B>, SystemContigHeap<B>>);
  static_assert(std::is_same_v<BoundTo<Dma, B>, DmaHeap<B>>);
  static_assert(std::is_same_v<BoundTo<HeapArchetype, B>, HeapArchetype>);
  constexpr HeapSpec kCarveout = WithType(kNpu, HeapType::kCarveout);
  static_assert(std::is_same_v<BoundTo<Carveout<kNpu>, B>, CarveoutHeap<B, kCarveout>>);
  static_assert(std::is_same_v<BoundTo<Carveout<kNpu, Physical, FirstFit>, B>,
                               CarveoutHeap<B, kCarveout, FirstFit, PhysRegion<B>>>);
  static_assert(
      std::is_same_v<BoundTo<Carveout<kNpu, Composed<MemfdBackend<>>>, U>,
                     CarveoutHeap<U, kCarveout, SegregatedFit, ComposedRegion<U, MemfdBackend<>>>>);
  static_assert(
      std::is_same_v<BoundTo<Pooled<Dma>, MemfdBackend<>>, PooledHeap<DmaHeap<MemfdBackend<>>>>);
  CHECK(BoundTo<DmaOf<HeapSpec{.id = 5}>, B>::kSpec.type == HeapType::kDma);
}

}  // namespace
}  // namespace ion::testing
