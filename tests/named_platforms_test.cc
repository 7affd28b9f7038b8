// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The platforms with a name, over what this machine has, and over a directory like a phone's (links
// to /dev/null: nothing is allocated from them).

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "backends/dma_heap.h"
#include "backends/memfd.h"
#include "backends/udmabuf.h"
#include "doctest/doctest.h"
#include "ion/buffer.h"
#include "ion/buffer_of.h"
#include "ion/bytes.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/status.h"
#include "platforms/named.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace ion::platforms {
namespace {

using testing::LeakCheck;
using testing::Skip;
using testing::TempDir;

template <class M>
std::optional<HeapId> Serving(M& manager, const Request& request) {
  const absl::StatusOr<Buffer> buffer = manager.Allocate(request);
  return buffer.ok() ? manager.HeapOf(*buffer) : std::nullopt;
}

TEST_CASE_TEMPLATE("Desktop: scattered memory unless contiguous memory is named, over any backend",
                   B, MemfdBackend<>, UdmabufBackend<>, DmaHeapBackend<>) {
  const LeakCheck leaks;
  auto desktop = Desktop<B>::Open();
  if (ErrnoOf(desktop.status()) == ENOENT) return Skip(std::string("no ") + B::kName);
  REQUIRE(desktop.ok());
  CHECK(Serving(*desktop, {.bytes = 1}) == HeapId{0});
  CHECK(Serving(*desktop, {.bytes = 1, .heaps = HeapId{1}}) == HeapId{1});
  CHECK(Serving(*desktop, {.bytes = 3 * PageBytes(), .heaps = HeapId{1}}) == std::nullopt);
  const auto named = HeapId{0} | HeapId{4};
  const bool has_cma = std::is_same_v<B, DmaHeapBackend<>> && desktop->heaps().contains(HeapId{4});
  CHECK(Serving(*desktop, {.bytes = 1, .heaps = named}) == (has_cma ? HeapId{4} : HeapId{0}));
}

TEST_CASE("Desktop: a buffer of contiguous memory tells its one physical run") {
  const LeakCheck leaks;
  auto desktop = Desktop<MemfdBackend<>>::Open();
  REQUIRE(desktop.ok());
  auto client = desktop->CreateClient({.name = "rings"});
  REQUIRE(client.ok());
  const auto rings = client->Allocate<HeapId{1}>({.bytes = 1});
  REQUIRE(rings.ok());
  std::vector<Segment> runs;
  ForEachSegment(*rings, [&](const Segment& run) { runs.push_back(run); });
  CHECK(runs == std::vector{Segment{.offset = 0, .bytes = PageBytes()}});
}

TEST_CASE("Android: a phone's heaps have their ids, and each CMA heap one of its own") {
  const LeakCheck leaks;
  const TempDir phone;
  for (const char* name :
       {"linux,cma", "qcom,display", "system", "system-uncached", "vidbuf_cached"}) {
    phone.Link(name, "/dev/null");
  }
  DmaHeapBackend<>::Options options;
  options.directory = phone.path();
  auto android = Android::Open(options);
  REQUIRE(android.ok());
  CHECK(android->heaps() == (HeapMask(HeapId{1}) | HeapId{2} | HeapId{9} | HeapId{10}));
  CHECK(android->default_heaps() == (HeapId{9} | HeapId{10}));
  CHECK(android->HeapName(HeapId{1}) == "linux,cma");
  CHECK(android->HeapName(HeapId{2}) == "vidbuf_cached");
  CHECK(android->HeapName(HeapId{9}) == "system-uncached");
  CHECK(android->HeapName(HeapId{10}) == "system");
  const auto unclaimed = UnclaimedKernelHeaps(android->backend().heaps(), kAndroidHeaps);
  REQUIRE(unclaimed.size() == 1);
  CHECK(unclaimed[0]->name == "qcom,display");
}

TEST_CASE("Android: on a kernel with dma-heaps it gives cached memory, and CMA where it is named") {
  const LeakCheck leaks;
  auto android = Android::Open();
  if (ErrnoOf(android.status()) == ENOENT) return Skip("no dma_heap");
  REQUIRE(android.ok());
  CHECK(Serving(*android, {.bytes = 1}) == HeapId{10});
  if (!android->heaps().contains(HeapId{1})) return Skip("the kernel has no CMA heap");
  CHECK(Serving(*android, {.bytes = 1, .heaps = HeapId{1}}) == HeapId{1});
  CHECK(android->Guarantees(HeapId{1}).contiguous);
}

TEST_CASE("Board: its carveout serves who names it, and a full one leaves it to the next heap") {
  const LeakCheck leaks;
  auto board = Board::Open();
  if (ErrnoOf(board.status()) == ENOENT) return Skip("no dma_heap");
  REQUIRE(board.ok());
  if (!board->heaps().contains(HeapId{4})) return Skip("the kernel has no CMA heap");
  CHECK(board->heaps() == (HeapId{0} | HeapId{1} | HeapId{2} | HeapId{4}));
  CHECK(Serving(*board, {.bytes = 1}) == HeapId{0});
  const auto frames = board->Allocate({.bytes = 15 << 20, .heaps = HeapId{2}});
  REQUIRE(frames.ok());
  CHECK(frames->properties().contiguous);
  CHECK(Serving(*board, {.bytes = 2 << 20, .heaps = HeapId{2}}) == std::nullopt);
  CHECK(Serving(*board, {.bytes = 2 << 20, .heaps = HeapId{0} | HeapId{2}}) == HeapId{0});
  CHECK(Serving(*board, {.bytes = 1 << 20, .heaps = HeapId{2}}) == HeapId{2});
}

}  // namespace
}  // namespace ion::platforms
