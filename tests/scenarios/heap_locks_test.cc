// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a heap does under its lock: no system call, however a request, a release or the reclaimer comes
// to it, and no more work for one call than for another, however much a peer keeps.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/handle.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/leak_check.h"
#include "tests/support/onlooker.h"
#include "tests/support/pooled.h"

namespace ion::testing {
namespace {

using Kernel = OnlookedSyscalls<FakeLinux612>;
const uint64_t kPage = PageBytes();

// Little may lie idle, and less may wait.
template <Scrub kScrub>
constexpr PoolSpec kTight{.capacity_bytes = 4 << 20,
                          .high_bytes = 2 << 20,
                          .low_bytes = 0,
                          .age_ticks = 2,
                          .quarantine_blocks = 2,
                          .scrub = kScrub};

template <Scrub kScrub>
void CallsWithoutTheLock() {
  using B = DmaHeapBackend<Kernel>;
  using M = Manager<B, PooledHeap<SystemHeap<B>, kTight<kScrub>>>;
  const LeakCheck leaks;
  auto manager = Open<M>();
  auto client = Make(manager), other = Make(manager);
  const auto shared = [&] { return client.MakeHandle(Take(client, kPage)).value(); };
  const auto share = [&](const Handle& handle) { return client.Share(handle).value(); };
  const auto leave = [&](uint64_t bytes, int count) {
    std::vector<Buffer> taken;
    for (int i = 0; i < count; ++i) taken.push_back(Take(client, bytes));
  };

  size_t seen = 0;  // buffers in a report, at most
  Onlooker onlooker([&] { seen = std::max(seen, manager.MakeReport().buffers.size()); });
  const auto free_of_locks = [&](const char* what) {
    CAPTURE(std::string(what));
    CHECK(onlooker.calls() > 0);
    CHECK(onlooker.locked() == "");
  };
  leave(kPage, 2);
  leave(kPage, 2);
  free_of_locks("leases");
  REQUIRE(client.Free(shared()).ok());
  free_of_locks("what was shared, and is not held");
  std::vector<UniqueFd> held;
  for (int i = 0; i < 3; ++i) {
    const Handle handle = shared();
    held.push_back(share(handle));
    REQUIRE(client.Free(handle).ok());
  }
  free_of_locks("what was shared and is held, more than may wait");
  held.clear();
  leave(kPage, 6);
  free_of_locks("requests that ask after what waits");
  {
    const Handle handle = shared();
    const UniqueFd fd = share(handle);
    REQUIRE(client.Free(handle).ok());
    manager.Tick();
    free_of_locks("a tick that asks after what waits");
  }
  seen = 0;
  for (int i = 0; i < 5; ++i) manager.Tick();
  free_of_locks("ticks that give back what is old");
  CHECK(seen == 0);
  leave(1 << 20, 8);
  free_of_locks("what goes back past the capacity");
  leave(kPage, 2);
  (void)manager.Trim(0);
  { const Buffer moved = Take(other, kPage); }
  free_of_locks("what comes from another domain");
  leave(kPage, 20);
  seen = 0;
  CHECK(manager.Trim() > 0);
  free_of_locks("a trim");
  CHECK(seen == 0);  // memory on its way to the kernel is nobody's
}

TEST_CASE("PooledHeap: no system call is made under its lock") {
  CallsWithoutTheLock<Scrub::kOnAllocate>();
}
TEST_CASE("PooledHeap: no system call is made under its lock, where it zeroes on free") {
  CallsWithoutTheLock<Scrub::kOnFree>();
}
TEST_CASE("PooledHeap: no system call is made under its lock, where it zeroes in the background") {
  CallsWithoutTheLock<Scrub::kBackground>();
}

using U = UdmabufBackend<Kernel>;
constexpr uint64_t kPages = 64;
constexpr HeapSpec kSpec{.type = HeapType::kCarveout, .id = 2, .bytes = kPages * 65536};
using Composed =
    CarveoutHeap<U, kSpec, SegregatedFit, ComposedRegion<U, MemfdBackend<Kernel>, Kernel>>;
const uint64_t kPiece = kSpec.bytes / kPages;

TEST_CASE("CarveoutHeap: no system call is made under its lock") {
  const LeakCheck leaks;
  auto backend = U::Open({});
  REQUIRE(backend.ok());
  auto heap = Composed::Bind(*backend);
  REQUIRE(heap.ok());
  Onlooker onlooker([&] { (void)heap->figures(); });
  Block one, two;
  REQUIRE(heap->Allocate({.bytes = kPiece}, one).ok());
  REQUIRE(heap->Allocate({.bytes = kPiece}, two).ok());
  CHECK(onlooker.calls() > 0);
  Result<UniqueFd> theirs = heap->Share(one);
  REQUIRE((theirs.ok() && heap->Share(two).ok()));
  CHECK(onlooker.calls() > 0);
  CHECK(heap->Free(one).ok());
  CHECK(heap->Free(two).ok());
  CHECK(onlooker.calls() > 0);
  Block large;
  CHECK_FALSE(heap->Allocate({.bytes = kSpec.bytes}, large).ok());
  CHECK(onlooker.calls() > 0);
  theirs = UniqueFd();
  CHECK(heap->Allocate({.bytes = kSpec.bytes}, large).ok());
  CHECK(heap->Free(large).ok());
  CHECK(onlooker.locked() == "");
}

TEST_CASE("CarveoutHeap: what a peer keeps costs each release the same, and nothing is lost") {
  const LeakCheck leaks;
  auto backend = U::Open({});
  REQUIRE(backend.ok());
  auto heap = Composed::Bind(*backend);
  REQUIRE(heap.ok());
  std::vector<Block> blocks(kPages);
  std::vector<UniqueFd> theirs;
  for (Block& block : blocks) {
    REQUIRE(heap->Allocate({.bytes = kPiece}, block).ok());
    Result<UniqueFd> share = heap->Share(block);
    REQUIRE(share.ok());
    theirs.push_back(*std::move(share));
  }
  Onlooker onlooker([] {});
  uint64_t most = 0;
  for (Block& block : blocks) {
    CHECK(heap->Free(block).ok());
    most = std::max(most, onlooker.calls());
  }
  CHECK(most <= 16);
  Block none;
  CHECK(heap->Allocate({.bytes = kPiece}, none).code() == ENOMEM);
  theirs.clear();
  for (Block& block : blocks) CHECK(heap->Allocate({.bytes = kPiece}, block).ok());
  for (Block& block : blocks) CHECK(heap->Free(block).ok());
}

}  // namespace
}  // namespace ion::testing
