// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/platforms/heap_table.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "doctest/doctest.h"
#include "ion/archetypes.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/buffer_region.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"

namespace ion::platforms {
namespace {

using testing::FakeMachine;
using testing::FakeSyscalls;
using testing::LeakCheck;

constexpr HeapType kSystem = HeapType::kSystem, kContig = HeapType::kSystemContig,
                   kCarveout = HeapType::kCarveout, kDma = HeapType::kDma,
                   kCustom = HeapType::kCustom;

// "ok", or what is said of a table.
std::string Told(const std::vector<HeapSpec>& table) {
  const absl::Status status = CheckHeapTable(table);
  if (status.ok()) return "ok";
  CHECK(ErrnoOf(status) == EINVAL);
  return std::string(status.message());
}
bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

TEST_CASE("CheckHeapTable: a table of several heaps of a type is good, and so is an empty one") {
  CHECK(Told({}) == "ok");
  CHECK(Told({{.type = kSystem, .id = 0, .name = "system"},
              {.type = kSystem, .id = 1, .name = "system-uncached"},
              {.type = kContig, .id = 2, .name = "system"},
              {.type = kCarveout, .id = 3, .base = 0x30000000, .bytes = 0x1000000},
              {.type = kCarveout, .id = 4, .base = 0x31000000, .bytes = 0x1000000},
              {.type = kCarveout, .id = 5, .bytes = 4096},
              {.type = kCarveout, .id = 6, .bytes = 4096},
              {.type = kDma, .id = 30, .ordinal = 0},
              {.type = kDma, .id = 31, .ordinal = 1}}) == "ok");
}

TEST_CASE("CheckHeapTable: the entry that breaks a rule is named, with the rule") {
  CHECK(Told({{.type = kSystem, .id = 3}, {.type = kDma, .id = 3, .name = "cma"}}) ==
        "platform data, entry 1 (cma): two heaps have the same id: give one of them another");
  CHECK(Contains(Told({{.type = static_cast<HeapType>(6)}}), "one of HeapType"));
  CHECK(Contains(Told({{.type = kCarveout}}), "a carveout needs its size"));
  CHECK(Contains(Told({{.alignment = 0}}), "power of two"));
  CHECK(Contains(Told({{.alignment = 12288}}), "power of two"));
  CHECK(
      Contains(Told({{.type = kCarveout, .base = 0x1000, .bytes = 0x1001}}), "multiples of 4096"));
  CHECK(
      Contains(Told({{.type = kCarveout, .base = 0x1001, .bytes = 0x1000}}), "multiples of 4096"));
  CHECK(Contains(Told({{.type = kCarveout, .base = 0x1000, .bytes = 0x1000, .alignment = 0x2000}}),
                 "a multiple of its alignment"));
  CHECK(Contains(Told({{.type = kCarveout, .base = UINT64_MAX - 4095, .bytes = 8192}}),
                 "past 64 bits"));
}

TEST_CASE("CheckHeapTable: carveouts may touch, and not overlap") {
  const auto two = [](uint64_t base, uint64_t bytes) {
    return Told({{.type = kCarveout, .id = 0, .base = 0x10000, .bytes = 0x4000},
                 {.type = kCarveout, .id = 1, .base = base, .bytes = bytes}});
  };
  CHECK(two(0x14000, 0x1000) == "ok");
  CHECK(two(0xf000, 0x1000) == "ok");
  for (const uint64_t base : {0xf000, 0x10000, 0x11000, 0x13000}) {
    CHECK(Contains(two(base, 0x2000), "two heaps overlap in physical memory"));
  }
  CHECK(Contains(two(0x8000, 0x10000), "two heaps overlap in physical memory"));
}

TEST_CASE("CheckHeapTable: two heaps of a type never mean the same kernel heap") {
  const auto two = [](HeapSpec one, HeapSpec other) {
    other.id = 1;
    return Contains(Told({one, other}), "may mean the same kernel heap");
  };
  CHECK(two({.type = kSystem}, {.type = kSystem}));
  CHECK(two({.type = kSystem}, {.type = kSystem, .name = "system-uncached"}));
  CHECK(two({.type = kDma, .name = "vpu"}, {.type = kDma, .name = "vpu"}));
  CHECK(two({.type = kDma, .name = "linux,cma"}, {.type = kDma, .name = "default_cma_region"}));
  CHECK_FALSE(two({.type = kDma, .name = "cma"}, {.type = kDma, .name = "cma-uncached"}));
  CHECK_FALSE(two({.type = kDma, .name = "cma"}, {.type = kContig, .name = "cma"}));
  CHECK(two({.type = kDma, .name = "qcom,*"}, {.type = kDma, .name = "qcom,*"}));
  CHECK_FALSE(
      two({.type = kDma, .name = "qcom,*"}, {.type = kDma, .name = "qcom,*", .ordinal = 1}));
  CHECK(two({.type = kDma, .name = "qcom,*"}, {.type = kDma, .name = "qcom,display"}));
  CHECK(two({.type = kDma, .name = "qcom,display"}, {.type = kDma, .name = "*display"}));
  CHECK(two({.type = kDma, .name = "linux,*"}, {.type = kDma, .name = "reserved"}));
  CHECK_FALSE(two({.type = kDma, .name = "qcom,*"}, {.type = kDma, .name = "mtk_*"}));
  CHECK_FALSE(two({.type = kSystem, .interface = "ion"}, {.type = kSystem, .interface = "memfd"}));
  CHECK(two({.type = kSystem, .interface = "ion"}, {.type = kSystem, .interface = "ion"}));
  CHECK_FALSE(two({.type = kSystem, .interface = "ion"},
                  {.type = kSystem, .interface = "ion", .ordinal = 1}));
  // An interface that is not named may be any.
  CHECK(two({.type = kSystem}, {.type = kSystem, .interface = "ion", .ordinal = 1}));
  CHECK(two({.type = kDma, .name = "cma"}, {.type = kDma, .name = "cma", .interface = "ion"}));
  CHECK(Contains(Told({{.type = kDma, .name = "a*b*"}}), "the name of a heap has one * at most"));
}

constexpr auto kBoard =
    Join(std::array{HeapSpec{.type = kSystem, .id = 0, .name = "system"},
                    HeapSpec{.type = kContig, .id = 1},
                    HeapSpec{.type = kCustom, .id = 20, .name = "qcom,display"}},
         HeapArray<3>({.type = kDma, .id = 8}));

TEST_CASE("TableManager: one policy for each entry, by its type") {
  using B = BackendArchetype;
  static_assert(std::is_same_v<TableManager<B, kBoard>,
                               Manager<B, SystemOf<kBoard[0]>, SystemContigOf<kBoard[1]>,
                                       KernelHeapPolicy<B, kBoard[2], HeapType::kCustom>,
                                       DmaOf<kBoard[3]>, DmaOf<kBoard[4]>, DmaOf<kBoard[5]>>>);
  CHECK(kBoard[5] == HeapSpec{.type = kDma, .id = 10, .ordinal = 2});
}

TEST_CASE(
    "TableManager: the kernel's heaps under the ids of the table; what is not there stays away") {
  const LeakCheck leaks;
  FakeMachine machine;
  for (const char* name :
       {"reserved", "system", "system-uncached", "vidbuf_cached", "secret", "qcom,display"}) {
    machine.dma_heaps.push_back({.name = name});
  }
  auto board =
      TableManager<DmaHeapBackend<FakeSyscalls>, kBoard>::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(board.ok());
  CHECK(board->HeapName(HeapId{0}) == "system");
  CHECK(board->HeapName(HeapId{1}) == "system");
  CHECK(board->HeapName(HeapId{8}) == "reserved");
  CHECK(board->HeapName(HeapId{9}) == "vidbuf_cached");
  CHECK(board->HeapName(HeapId{20}) == "qcom,display");
  CHECK_FALSE(board->heaps().contains(HeapId{10}));

  std::vector<std::string> unclaimed;
  for (const KernelHeap* heap : UnclaimedKernelHeaps(board->backend().heaps(), kBoard)) {
    unclaimed.push_back(heap->name);
  }
  CHECK(unclaimed == std::vector<std::string>{"secret", "system-uncached"});
}

TEST_CASE(
    "UnclaimedKernelHeaps: a heap that is claimed and cannot be used is claimed all the same") {
  const KernelHeap heaps[] = {{.name = "system",
                               .type = kSystem,
                               .properties = {},
                               .unusable = Error(EACCES, "open", {"test", Operation::kOpen})},
                              {.name = "x", .type = kCustom, .properties = {}, .unusable = {}}};
  const auto unclaimed = UnclaimedKernelHeaps(heaps, kBoard);
  REQUIRE(unclaimed.size() == 1);
  CHECK(unclaimed[0]->name == "x");
}

constexpr HeapSpec kCarveouts[] = {{.type = kCarveout, .id = 1, .base = 0x30000000, .bytes = 4096},
                                   {.type = kCarveout, .id = 2, .bytes = 4096}};

TEST_CASE("TableManager: a carveout with a base lies there, one without is a buffer") {
  using B = BackendArchetype;
  static_assert(
      std::is_same_v<TableManager<B, kCarveouts>,
                     Manager<B, Carveout<kCarveouts[0], Physical>, Carveout<kCarveouts[1]>>>);
  CHECK(CheckHeapTable(kCarveouts).ok());
}

struct InQuarterSteps {
  template <Backend B, HeapSpec kSpec>
  static constexpr auto Choose() {
    return std::type_identity<SystemHeap<B, kSpec, QuarterSteps>>();
  }
};
constexpr HeapSpec kOneHeap[] = {{.type = kSystem, .id = 7}};

TEST_CASE("TableManager: a platform chooses policies of its own") {
  const LeakCheck leaks;
  auto manager = TableManager<MemfdBackend<>, kOneHeap, InQuarterSteps>::Open();
  REQUIRE(manager.ok());
  const auto buffer = manager->Allocate({.bytes = 33 * PageBytes() / 4, .heaps = HeapId{7}});
  REQUIRE(buffer.ok());
  CHECK(buffer->bytes() == 10 * PageBytes());
}

}  // namespace
}  // namespace ion::platforms
