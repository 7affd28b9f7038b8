// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// ION's overview, name by name: a case for each that tests/unit/ion/client_test.cc has not
// (ion/README.md has the table of both).

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/buffer_of.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/heap_table.h"
#include "ion/platforms/linux.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/leak_check.h"
#include "tests/support/physical_memory.h"
#include "tests/support/scatter_probe.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using B = MemfdBackend<>;

template <class M>
struct Setting {
  // `missing`: why there may be none here.
  explicit Setting(const char* missing = nullptr) {
    absl::StatusOr<M> opened = M::Open();
    if (!opened.ok() && missing != nullptr) {
      Skip(missing);
      return;
    }
    REQUIRE(opened.ok());
    manager.emplace(*std::move(opened));
    auto made = manager->CreateClient({.name = "names"});
    REQUIRE(made.ok());
    client.emplace(*std::move(made));
  }
  std::optional<M> manager;
  std::optional<typename M::Client> client;
};

// ---- Heaps ----

TEST_CASE("ION_HEAP_TYPE_SYSTEM: scattered memory, of which no layout is promised") {
  const LeakCheck leaks;
  Setting<Manager<B, SystemHeap<B>>> s;
  const auto lease = s.client->Allocate<HeapId{0}>({.bytes = 1_MiB});
  REQUIRE(lease.ok());
  static_assert(SystemHeap<B>::kType == HeapType::kSystem);
  static_assert(!SystemHeap<B>::kCaps.knows_layout && !SystemHeap<B>::kCaps.knows_phys);
  CHECK_FALSE(lease->properties().contiguous);
}

TEST_CASE("ION_HEAP_TYPE_SYSTEM_CONTIG: contiguous for sure, or refused") {
  const LeakCheck leaks;
  using Heap = SystemContigHeap<B>;
  Setting<Manager<B, Heap>> s;
  static_assert(Heap::kType == HeapType::kSystemContig);
  const auto page = s.client->Allocate({.bytes = PageBytes(), .heaps = Heap::kId});
  REQUIRE(page.ok());
  CHECK(page->properties().contiguous);
  const auto more = s.client->Allocate({.bytes = PageBytes() + 1, .heaps = Heap::kId});
  CHECK_FALSE(more.ok());
}

TEST_CASE("ION_HEAP_TYPE_CARVEOUT: a reserved region, in one piece") {
  const LeakCheck leaks;
  using Heap = CarveoutHeap<B, HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB}>;
  Setting<Manager<B, Heap>> s;
  auto one = s.client->Allocate<HeapId{2}>({.bytes = 512_KiB});
  const auto two = s.client->Allocate({.bytes = 512_KiB, .heaps = HeapId{2}});
  REQUIRE((one.ok() && two.ok()));
  CHECK(one->heap().figures().free_bytes == 0);
  CHECK(ErrnoOf(s.client->Allocate({.bytes = 1, .heaps = HeapId{2}}).status()) == ENOMEM);
}

TEST_CASE("ION_HEAP_TYPE_DMA: contiguous memory of CMA, in one physical run") {
  const LeakCheck leaks;
  using D = DmaHeapBackend<>;
  Setting<Manager<D, DmaHeap<D>>> s("no CMA heap in /dev/dma_heap");
  if (!s.client) return;
  for (const uint64_t bytes : {4_KiB, 64_KiB, 1_MiB, 8_MiB}) {
    const auto lease = s.client->Allocate<HeapId{4}>({.bytes = bytes});
    REQUIRE(lease.ok());
    CHECK(lease->properties().contiguous);
    if (!ScatterProbe::Here()) continue;
    const auto list = ScatterProbe::List(lease->fd());
    REQUIRE(list.ok());
    CHECK(Runs(*list) == 1);
    CHECK(TotalBytes(*list) == lease->bytes());
  }
}

// ---- Platform data ----

inline constexpr HeapSpec kTable[] = {
    {.type = HeapType::kSystem, .id = 0, .name = "memfd"},
    {.type = HeapType::kSystem, .id = 5},
    {.type = HeapType::kCarveout, .id = 2, .name = "vpu", .bytes = 1_MiB, .alignment = 4096},
};

TEST_CASE("ion_platform_heap: type, id, name, base, size, align of a heap, as data") {
  static_assert(kTable[2].type == HeapType::kCarveout && kTable[2].id == HeapId{2});
  static_assert(kTable[2].bytes == 1_MiB && kTable[2].alignment == 4096);
  CHECK(kTable[2].name.view() == "vpu");
}

TEST_CASE("ion_platform_data: several heaps of a type, told apart by their ids") {
  const LeakCheck leaks;
  using M = Manager<B, SystemHeap<B, kTable[0]>, SystemHeap<B, kTable[1]>>;
  Setting<M> s;
  CHECK(s.manager->heaps() == (HeapId{0} | HeapId{5}));
  const auto high = s.client->Allocate({.bytes = 1});
  const auto low = s.client->Allocate({.bytes = 1, .heaps = HeapId{0}});
  REQUIRE((high.ok() && low.ok()));
  CHECK(s.manager->HeapOf(*high) == HeapId{5});
  CHECK(s.manager->HeapOf(*low) == HeapId{0});
}

TEST_CASE("flags of ion_alloc: the core's are understood by every heap, a heap's own by it alone") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  CHECK(s.client->Allocate({.bytes = 1, .flags = Flags::kCached}).ok());
  for (const Flags flags : {Flags::kUncached, HeapPrivate(0), static_cast<Flags>(1u << 7)}) {
    CHECK(ErrnoOf(s.client->Allocate({.bytes = 1, .flags = flags}).status()) == EINVAL);
  }
}

// ---- The user's interface ----

TEST_CASE("ION_IOC_ALLOC: whole pages, zeroed; nothing of 0 bytes, nothing that wraps") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const auto lease = s.client->Allocate({.bytes = 1});
  REQUIRE(lease.ok());
  CHECK(lease->bytes() == PageBytes());
  const auto mapping = ReadOnlyMapping::Of(*lease);
  REQUIRE(mapping.ok());
  CHECK(LookAtPages(mapping->unsynced(), 0, 0, ZeroByte) == "ok");
  CHECK(ErrnoOf(s.client->Allocate({.bytes = 0}).status()) == EINVAL);
  CHECK(ErrnoOf(s.client->Allocate({.bytes = UINT64_MAX}).status()) == ENOMEM);
}

TEST_CASE("ION_IOC_FREE, ION_IOC_SHARE, ION_IOC_MAP: a handle and its descriptors") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  auto lease = s.client->Allocate({.bytes = 1});
  REQUIRE(lease.ok());
  const auto handle = s.client->MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  // MAP and SHARE were one operation.
  const auto fd = s.client->Share(*handle);
  REQUIRE(fd.ok());
  const auto again = s.client->Import(fd->borrow());
  REQUIRE(again.ok());
  CHECK(*again == *handle);
  CHECK(s.client->Free(*handle).ok());
  CHECK(s.client->Free(*handle).ok());
  CHECK(ErrnoOf(s.client->Free(*handle)) == EINVAL);
}

TEST_CASE("ION_IOC_SYNC: a scope of CPU access, with its end") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  const auto lease = s.client->Allocate({.bytes = 1});
  REQUIRE(lease.ok());
  const auto mapping = WritableMapping::Of(*lease);
  REQUIRE(mapping.ok());
  auto cpu = CpuReadWrite::Begin(*mapping);
  REQUIRE(cpu.ok());
  CHECK(std::move(*cpu).End().ok());
}

// ---- Where memory lies ----

inline constexpr uint64_t kReservedBase = 0x30000000;

TEST_CASE("ion_phys: a carveout's block lies where it says, read through /dev/mem") {
  const LeakCheck leaks;
  const std::optional<PhysicalRange> range = ReservedRange();
  if (!range.has_value()) return Skip(kNoReservedRange);
  REQUIRE(range->base == kReservedBase);
  constexpr HeapSpec kSpec{
      .type = HeapType::kCarveout, .id = 2, .base = kReservedBase, .bytes = 4_MiB};
  using Heap = CarveoutHeap<B, kSpec, SegregatedFit, PhysRegion<B>>;
  Setting<Manager<B, Heap>> s;
  const auto neighbour = s.client->Allocate<HeapId{2}>({.bytes = 8_KiB});
  const auto lease = s.client->Allocate<HeapId{2}>({.bytes = 64_KiB});
  REQUIRE((neighbour.ok() && lease.ok()));
  CHECK(Phys(*lease) >= kReservedBase);
  CHECK(Phys(*lease) + lease->bytes() <= kReservedBase + 4_MiB);
  CHECK(Phys(*lease) != Phys(*neighbour));
  const auto mapping = WritableMapping::Of(*lease);
  REQUIRE(mapping.ok());
  auto cpu = CpuWrite::Begin(*mapping);
  REQUIRE(cpu.ok());
  FillPages(cpu->bytes(), 9);
  CHECK(std::move(*cpu).End().ok());
  const PhysicalMapping there({Phys(*lease), lease->bytes()});
  REQUIRE(there.ok());
  CHECK(LookAtPages(there.bytes(), 9) == "ok");
}

TEST_CASE("ion_map_dma, ion_unmap_dma: the runs of a buffer, where its heap knows them") {
  const LeakCheck leaks;
  using Heap = SystemContigHeap<B>;
  Setting<Manager<B, Heap>> s;
  const auto lease = s.client->Allocate<Heap::kId>({.bytes = 1});
  REQUIRE(lease.ok());
  std::vector<Segment> runs;
  ForEachSegment(*lease, [&](const Segment& run) { runs.push_back(run); });
  REQUIRE(runs.size() == 1);
  CHECK(runs[0] == Segment{.offset = 0, .bytes = PageBytes()});
}

}  // namespace
}  // namespace ion::testing
