// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Properties that nobody has told: never a promise, and never the opposite of one. Over a dma-heap
// whose name nobody knows, and over ION heaps of a vendor's type.

#include "ion/base/known.h"

#include <linux/dma-buf.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

constexpr Known kYes = true, kNo = false, kUnknown;
template <Known kValue>
struct InATemplateArgument {
  static constexpr bool kYes = kValue;
};
static_assert(InATemplateArgument<true>::kYes && !InATemplateArgument<Known{}>::kYes);
static_assert(kYes && kYes.yes() && kNo.no() && kUnknown.unknown());
static_assert(kYes == true && kNo == false && kUnknown != true && kUnknown != false);

TEST_CASE("Known: of two only what both say; a voucher fills in what is unknown, and no more") {
  CHECK(Common(kYes, kYes).yes());
  CHECK(Common(kNo, kNo).no());
  CHECK(Common(kYes, kNo).unknown());
  CHECK(Common(kUnknown, kYes).unknown());
  CHECK(kUnknown.Or(kNo).no());
  CHECK(kYes.Or(kNo).yes());
  CHECK(kUnknown.Or(kUnknown).unknown());
  CHECK(kYes.Contradicts(kNo));
  CHECK_FALSE(kYes.Contradicts(kUnknown));
  CHECK_FALSE(kUnknown.Contradicts(kNo));
  CHECK(Known::YesIf(false).unknown());
}

using Sys = WatchedSyscalls<FakeSyscalls>;
using B = DmaHeapBackend<Sys>;
constexpr HeapSpec kNpu{.type = HeapType::kDma, .id = 5, .name = "npu-region"};
constexpr HeapSpec With(HeapSpec spec, Known cached) {
  spec.cached = cached;
  return spec;
}

// A board with a heap that is named by its device tree, and what it was told.
struct Board {
  static FakeMachine Machine() {
    FakeMachine machine;
    machine.linux = Linux(6, 12);
    machine.dma_heaps = {{.name = "npu-region", .type = 4}, {.name = "system"}};
    return machine;
  }

  Watch watch;
  B::Options options{.sys = Sys(&watch, FakeSyscalls(Machine()))};

  template <class... Hs>
  Manager<B, Hs...> Open() {
    auto manager = Manager<B, Hs...>::Open(options);
    REQUIRE(manager.ok());
    return *std::move(manager);
  }
};

constexpr uint64_t kBeginWrite = DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE;
constexpr uint64_t kEndWrite = DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE;

// What the kernel is told of one write to a buffer.
std::vector<uint64_t> SyncsOfAWrite(Watch& watch, const Buffer& buffer) {
  const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(buffer);
  REQUIRE(mapping.ok());
  watch.syncs.clear();
  absl::StatusOr<CpuWrite> write = CpuWrite::Begin(*mapping);
  REQUIRE(write.ok());
  REQUIRE(std::move(*write).End().ok());
  return watch.syncs;
}

TEST_CASE("DmaHeapBackend: of a heap whose name nobody knows, nothing is promised") {
  const LeakCheck leaks;
  Board board;
  Result<B> backend = B::Open(board.options);
  REQUIRE(backend.ok());
  REQUIRE(backend->heaps()[0].name == "npu-region");
  const Properties& is = backend->heaps()[0].properties;
  CHECK(is.cached.unknown());
  CHECK(is.contiguous.unknown());
  CHECK(is.zeroed.unknown());
  CHECK(is.cpu_mappable.unknown());
  CHECK(backend->heaps()[1].properties.contiguous.no());
}

TEST_CASE("CpuAccess: memory whose caching is unknown is announced, as cached memory is") {
  const LeakCheck leaks;
  Board board;
  auto manager = board.Open<DmaHeap<B, kNpu>>();
  const absl::StatusOr<Buffer> buffer = manager.Allocate({.bytes = 4096, .heaps = HeapId{5}});
  REQUIRE(buffer.ok());
  CHECK(buffer->properties().cached.unknown());
  CHECK(buffer->properties().contiguous.yes());
  CHECK(SyncsOfAWrite(board.watch, *buffer) == std::vector{kBeginWrite, kEndWrite});
}

TEST_CASE("CpuAccess: a spec may vouch for caching, and its word counts") {
  const LeakCheck leaks;
  Board board;
  auto cached = board.Open<DmaHeap<B, With(kNpu, true)>>();
  auto uncached = board.Open<DmaHeap<B, With(kNpu, false)>>();
  const Request request{.bytes = 4096, .heaps = HeapId{5}};
  const absl::StatusOr<Buffer> one = cached.Allocate(request), other = uncached.Allocate(request);
  REQUIRE(one.ok());
  REQUIRE(other.ok());
  CHECK(one->properties().cached.yes());
  CHECK(other->properties().cached.no());
  CHECK(cached.Guarantees(HeapId{5}).cached.yes());
  CHECK(SyncsOfAWrite(board.watch, *one) == std::vector{kBeginWrite, kEndWrite});
  CHECK(SyncsOfAWrite(board.watch, *other).empty());
}

TEST_CASE(
    "Manager: caching that nobody knows can be neither wanted nor refused; a vouched one can") {
  const LeakCheck leaks;
  Board board;
  auto manager = board.Open<DmaHeap<B, kNpu>>();
  for (const Flags flags : {Flags::kCached, Flags::kUncached}) {
    const absl::Status status =
        manager.Allocate({.bytes = 1, .heaps = HeapId{5}, .flags = flags}).status();
    CHECK(ErrnoOf(status) == EINVAL);
    CHECK(status.message().find("the caching of its memory is not known): EINVAL: declare it "
                                "in the heap's spec") != std::string_view::npos);
  }
  auto cached = board.Open<DmaHeap<B, With(kNpu, true)>>();
  CHECK(cached.Allocate({.bytes = 1, .heaps = HeapId{5}, .flags = Flags::kCached}).ok());
  CHECK(ErrnoOf(cached.Allocate({.bytes = 1, .heaps = HeapId{5}, .flags = Flags::kUncached})
                    .status()) == EINVAL);
}

TEST_CASE("Manager: a spec that contradicts what is known of its heap is refused") {
  const LeakCheck leaks;
  Board board;
  constexpr HeapSpec kSystem{.name = "system", .cached = false};
  const absl::Status status = Manager<B, SystemHeap<B, kSystem>>::Open(board.options).status();
  CHECK(ErrnoOf(status) == EINVAL);
  CHECK(status.message().find("known not to be what the spec vouches for") !=
        std::string_view::npos);
  constexpr HeapSpec kTrue{.name = "system", .cached = true, .zeroed = true, .cpu_mappable = true};
  CHECK(Manager<B, SystemHeap<B, kTrue>>::Open(board.options).ok());
}

TEST_CASE(
    "CarveoutHeap: over a kernel heap that nobody knows it announces, unless its spec vouches") {
  const LeakCheck leaks;
  Board board;
  constexpr HeapSpec kPart{
      .type = HeapType::kCarveout, .id = 2, .name = "npu-region", .bytes = 65536};
  auto manager = board.Open<CarveoutHeap<B, kPart>>();
  const Request request{.bytes = 4096, .heaps = HeapId{2}};
  const absl::StatusOr<Buffer> buffer = manager.Allocate(request);
  REQUIRE(buffer.ok());
  CHECK(buffer->properties().cached.unknown());
  CHECK(buffer->properties().zeroed.yes());
  CHECK(SyncsOfAWrite(board.watch, *buffer) == std::vector{kBeginWrite, kEndWrite});
  for (const Flags flags : {Flags::kCached, Flags::kUncached}) {
    const absl::Status status =
        manager.Allocate({.bytes = 1, .heaps = HeapId{2}, .flags = flags}).status();
    CHECK(ErrnoOf(status) == EINVAL);
  }
  auto vouched = board.Open<CarveoutHeap<B, With(kPart, false)>>();
  const absl::StatusOr<Buffer> other = vouched.Allocate(request);
  REQUIRE(other.ok());
  CHECK(SyncsOfAWrite(board.watch, *other).empty());
}

TEST_CASE("PooledHeap: memory of unknown caching has pools of its own, and the report says so") {
  const LeakCheck leaks;
  Board board;
  constexpr HeapSpec kMapped{
      .type = HeapType::kDma, .id = 5, .name = "npu-region", .cpu_mappable = true};
  auto manager = board.Open<PooledHeap<DmaHeap<B, kMapped>>>();
  auto client = manager.CreateClient({.name = "npu"});
  REQUIRE(client.ok());
  const Request request{.bytes = 4096, .heaps = HeapId{5}};
  CHECK(client->Allocate(request)->properties().zeroed.unknown());
  const absl::StatusOr<Buffer> again = client->Allocate(request);
  REQUIRE(again.ok());
  // It was zeroed on its way, so now it is known.
  CHECK(again->properties().zeroed.yes());
  CHECK(again->properties().cached.unknown());
  const Report report = manager.MakeReport();
  REQUIRE(report.pools.size() == 1);
  CHECK(report.pools[0].hits == 1);
  CHECK(report.pools[0].cached.unknown());
  CHECK(PoolText(report).find(std::to_string(PageBytes()) + "  unknown ") != std::string::npos);
}

TEST_CASE("PooledHeap: memory that may not be mappable is neither mapped nor pooled") {
  const LeakCheck leaks;
  Board board;
  auto manager = board.Open<PooledHeap<DmaHeap<B, kNpu>>>();
  auto client = manager.CreateClient({.name = "npu"});
  REQUIRE(client.ok());
  for (int i = 0; i < 2; ++i) {
    CHECK(client->Allocate({.bytes = 4096, .heaps = HeapId{5}})->properties().zeroed.unknown());
  }
  for (const PoolReport& pool : manager.MakeReport().pools) {
    CHECK(pool.hits == 0);
    CHECK(pool.held_bytes == 0);
  }
}

TEST_CASE("IonBackend: of a vendor's type nothing is promised, and its memory is announced") {
  const LeakCheck leaks;
  FakeMachine machine;
  machine.linux = Linux(4, 19);
  machine.ion = {{.name = "vendor", .type = 9, .id = 3}};
  Watch watch;
  using Ion = IonBackend<Sys>;
  constexpr HeapSpec kVendor{.type = HeapType::kCustom, .id = 3, .name = "vendor"};
  auto manager = Manager<Ion, KernelHeapPolicy<Ion, kVendor, HeapType::kCustom>>::Open(
      {.sys = Sys(&watch, FakeSyscalls(machine))});
  REQUIRE(manager.ok());
  const absl::StatusOr<Buffer> buffer = manager->Allocate({.bytes = 4096, .heaps = HeapId{3}});
  REQUIRE(buffer.ok());
  CHECK(buffer->properties() == Properties{.alignment = PageBytes()});
  CHECK(SyncsOfAWrite(watch, *buffer) == std::vector{kBeginWrite, kEndWrite});
  CHECK(ErrnoOf(manager->Allocate({.bytes = 1, .heaps = HeapId{3}, .flags = Flags::kCached})
                    .status()) == EINVAL);
}

}  // namespace
}  // namespace ion::testing
