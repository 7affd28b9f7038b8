// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The platforms with a name, over what this machine has, and over a fake kernel like a phone's.

#include <array>
#include <cerrno>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/buffer_of.h"
#include "ion/cpu_mapping.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/platforms/named.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::platforms {
namespace {

using testing::FakeMachine;
using testing::FakeSyscalls;
using testing::LeakCheck;
using testing::Skip;

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
  FakeMachine phone;
  for (const char* name :
       {"linux,cma", "qcom,display", "system", "system-uncached", "vidbuf_cached"}) {
    phone.dma_heaps.push_back({.name = name});
  }
  using Phone = TableManager<DmaHeapBackend<FakeSyscalls>, kAndroidHeaps>;
  auto android = Phone::Open({.sys = FakeSyscalls(phone)});
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

FakeMachine Phone() {
  FakeMachine phone;
  phone.linux = testing::Linux(6, 1);
  phone.dma_heaps = {{.name = "system"},
                     {.name = "system-uncached"},
                     {.name = "qcom,adsp", .type = 4},
                     {.name = "qcom,display", .type = 4},
                     {.name = "qcom,secure-pixel", .type = 4}};
  return phone;
}
using PhoneBackend = DmaHeapBackend<FakeSyscalls>;

TEST_CASE("Android: heaps that nobody declared are named, once for all that could not be bound") {
  const LeakCheck leaks;
  auto android = TableManager<PhoneBackend, kAndroidHeaps>::Open({.sys = FakeSyscalls(Phone())});
  REQUIRE(android.ok());
  CHECK(android->heaps() == (HeapId{9} | HeapId{10}));
  const auto refused = android->Allocate({.bytes = 4096, .heaps = HeapMask::FromBits(0x1fe)});
  CHECK(std::string(refused.status().message()) ==
        "heaps 1 to 8: dma_heap dma: open (the backend has no heap of this type): ENODEV: "
        "contiguous memory comes from dma_heap, with CONFIG_DMABUF_HEAPS_CMA=y and a CMA region "
        "(cma=64M on the kernel's command line); or take the name of a heap that is there; "
        "dma_heap has 'qcom,adsp', 'qcom,display', 'qcom,secure-pixel', 'system' and "
        "'system-uncached'");
}

TEST_CASE("Android: a heap's name forges nothing in the text that names it") {
  const LeakCheck leaks;
  FakeMachine phone;
  phone.linux = testing::Linux(6, 1);
  phone.dma_heaps = {{.name = "system"}, {.name = "x' and\n'y", .type = 4}};
  auto android = TableManager<PhoneBackend, kAndroidHeaps>::Open({.sys = FakeSyscalls(phone)});
  REQUIRE(android.ok());
  const auto refused = android->Allocate({.bytes = 4096, .heaps = HeapId{1}});
  const std::string text(refused.status().message());
  CHECK(text.ends_with("; dma_heap has 'system' and 'x\\x27 and\\x0a\\x27y'"));
}

constexpr std::array kNamed = {
    HeapSpec{.type = HeapType::kDma, .id = 1, .name = "qcom,display", .cached = true},
    HeapSpec{.type = HeapType::kCustom, .id = 3, .name = "*secure-pixel", .cpu_mappable = false}};
constexpr std::array kMatched = HeapArray<4>({.type = HeapType::kDma, .id = 1, .name = "qcom,*"});

TEST_CASE("Android: a vendor's heaps are declared by name, with what is known of them") {
  const LeakCheck leaks;
  auto phone = AndroidWith<kNamed, PhoneBackend>::Open({.sys = FakeSyscalls(Phone())});
  REQUIRE(phone.ok());
  CHECK(phone->heaps() == (HeapMask(HeapId{1}) | HeapId{3} | HeapId{9} | HeapId{10}));
  CHECK(phone->HeapName(HeapId{1}) == "qcom,display");
  CHECK(phone->HeapName(HeapId{3}) == "qcom,secure-pixel");
  CHECK(phone->Guarantees(HeapId{1}).contiguous.yes());
  CHECK(phone->Guarantees(HeapId{1}).cached.yes());
  CHECK(phone->Allocate({.bytes = 4096, .heaps = HeapId{1}}).ok());
  const auto secret = phone->Allocate({.bytes = 4096, .heaps = HeapId{3}});
  REQUIRE(secret.ok());
  CHECK(ErrnoOf(ReadOnlyMapping::Of(*secret).status()) == EACCES);
}

TEST_CASE("Android: a vendor's heaps are declared by a pattern, as many as there may be") {
  const LeakCheck leaks;
  auto phone = AndroidWith<kMatched, PhoneBackend>::Open({.sys = FakeSyscalls(Phone())});
  REQUIRE(phone.ok());
  CHECK(phone->HeapName(HeapId{1}) == "qcom,adsp");
  CHECK(phone->HeapName(HeapId{3}) == "qcom,secure-pixel");
  CHECK_FALSE(phone->heaps().contains(HeapId{4}));
  CHECK(UnclaimedKernelHeaps(phone->backend().heaps(), kAndroidHeapsWith<kMatched>).empty());
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
