// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a Pipeline assumed of its heaps, compared with those of an open Manager: over a fake board,
// and over memfds.

#include "ion/check_pipeline.h"

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/known.h"
#include "ion/base/status.h"
#include "ion/choice.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/pipeline.h"
#include "ion/platforms/heap_table.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

struct Camera {
  static constexpr PartyName kName = "camera";
  static constexpr Constraints kConstraints{.segments_max = 1};
};
struct Cpu {
  static constexpr PartyName kName = "cpu";
  static constexpr Constraints kConstraints{.cpu_read = CpuUse::kOften};
};
struct Anybody {
  static constexpr PartyName kName = "anybody";
  static constexpr Constraints kConstraints{};
};

constexpr HeapSpec kBoard[] = {
    {.type = HeapType::kSystem, .id = 0, .cpu_mappable = true},
    {.type = HeapType::kDma, .id = 4, .name = "linux,cma", .cpu_mappable = true}};
template <const auto& kTable>
using Board = platforms::TableManager<DmaHeapBackend<FakeSyscalls>, kTable>;

FakeMachine Machine() {
  FakeMachine machine;
  machine.dma_heaps = {{.name = "system"}, {.name = "linux,cma", .type = 4}};
  return machine;
}
template <class M>
M OpenOn(const FakeMachine& machine) {
  auto manager = M::Open({.sys = FakeSyscalls(machine)});
  REQUIRE_MESSAGE(manager.ok(), manager.status().message());
  return *std::move(manager);
}
// The status's errno and text; "ok".
template <class Chosen, class M>
std::string Told(M&& manager) {
  const absl::Status status = CheckPipeline<Chosen>(manager);
  CHECK(ErrnoOf(status) == (status.ok() ? 0 : EINVAL));
  return status.ok() ? "ok" : std::string(status.message());
}

TEST_CASE("CheckPipeline: a board that is as described") {
  const LeakCheck leaks;
  CHECK(Told<Pipeline<Camera, Cpu>::Over<kBoard>>(OpenOn<Board<kBoard>>(Machine())) == "ok");
  using Types = Pipeline<Camera, Cpu>::On<SystemHeap<DmaHeapBackend<FakeSyscalls>, kBoard[0]>,
                                          DmaHeap<DmaHeapBackend<FakeSyscalls>, kBoard[1]>>;
  CHECK(Told<Types>(OpenOn<Board<kBoard>>(Machine())) == "ok");
}

constexpr HeapSpec kSwapped[] = {{.type = HeapType::kDma, .id = 0},
                                 {.type = HeapType::kSystem, .id = 4}};

TEST_CASE("CheckPipeline: a heap of another type is named, with both types") {
  const LeakCheck leaks;
  CHECK(Told<Pipeline<Camera>::Over<kBoard>>(OpenOn<Board<kSwapped>>(Machine())) ==
        "pipeline, heap 0 (linux,cma): type is dma, and was assumed to be system: EINVAL: correct "
        "the description that it was chosen by");
}

constexpr HeapOffer kUncached[] = {
    {HeapId{4}, "linux,cma", {.segments = 1, .cached = false, .mappable = true}}};
constexpr HeapOffer kUnmappable[] = {{HeapId{0}, "system", {.mappable = false}}};
constexpr HeapOffer kAligned[] = {{HeapId{4}, "linux,cma", {.segments = 1, .alignment = 1 << 20}}};
constexpr HeapOffer kCoarse[] = {{HeapId{0}, "system", {.granule = 1 << 20}}};

TEST_CASE("CheckPipeline: memory that is known to be other is an error with heap and field") {
  const LeakCheck leaks;
  CHECK(Told<Pipeline<Camera>::Over<kUncached>>(OpenOn<Board<kBoard>>(Machine())) ==
        "pipeline, heap 4 (linux,cma): cached is yes, and was assumed to be no: EINVAL: correct "
        "the description that it was chosen by");
  CHECK(Told<Pipeline<Anybody>::Over<kUnmappable>>(OpenOn<Board<kBoard>>(Machine()))
            .starts_with("pipeline, heap 0 (system): mappable is yes, and was assumed to be no"));
  CHECK(Told<Pipeline<Camera>::Over<kAligned>>(OpenOn<Board<kBoard>>(Machine()))
            .find("(linux,cma): alignment is ") != std::string::npos);
  CHECK(Told<Pipeline<Anybody>::Over<kCoarse>>(OpenOn<Board<kBoard>>(Machine()))
            .find("(system): granule is ") != std::string::npos);
}

constexpr HeapOffer kOneRun[] = {{HeapId{0}, "udmabuf", {.segments = 1}}};
constexpr HeapSpec kSystemOnly[] = {{.type = HeapType::kSystem, .id = 0}};

TEST_CASE("CheckPipeline: memory that is scattered was not contiguous") {
  const LeakCheck leaks;
  using M = platforms::TableManager<UdmabufBackend<FakeSyscalls>, kSystemOnly>;
  FakeMachine machine;
  machine.udmabuf = true;
  CHECK(Told<Pipeline<Camera>::Over<kOneRun>>(OpenOn<M>(machine)) ==
        "pipeline, heap 0 (udmabuf): segments is more than 1, and was assumed to be 1: EINVAL: "
        "correct the description that it was chosen by");
}

TEST_CASE("CheckPipeline: a memfd is not what a description of a kernel's heap promises") {
  const LeakCheck leaks;
  auto manager = platforms::TableManager<MemfdBackend<>, kSystemOnly>::Open();
  REQUIRE(manager.ok());
  CHECK(Told<Pipeline<Anybody>::Over<kSystemOnly>>(*manager).starts_with(
      "pipeline, heap 0 (memfd): exportable is no, and was assumed to be yes"));
}

constexpr HeapSpec kRegion{.type = HeapType::kCarveout, .id = 3, .name = "memfd", .bytes = 1 << 20};
constexpr HeapOffer kBoundless[] = {{HeapId{3}, "region", {}}};
constexpr HeapOffer kBounded[] = {{HeapId{3}, "region", {.bytes_max = 1 << 20}}};

TEST_CASE("CheckPipeline: a heap that was taken to have no largest buffer has one") {
  const LeakCheck leaks;
  auto manager = Manager<MemfdBackend<>, Carveout<kRegion>>::Open();
  REQUIRE(manager.ok());
  CHECK(Told<Pipeline<Anybody>::Over<kBounded>>(*manager) == "ok");
  CHECK(Told<Pipeline<Anybody>::Over<kBoundless>>(*manager).find("bytes_max is 1048576") !=
        std::string::npos);
}

constexpr HeapOffer kVouched[] = {
    {HeapId{0}, "system", {.mappable = true}},
    {HeapId{4}, "linux,cma", {.segments = 1, .top = uint64_t{0x3fffffff}, .cc_shared = false}}};

TEST_CASE("CheckPipeline: what the kernel does not tell, the description vouches for") {
  const LeakCheck leaks;
  CHECK(Told<Pipeline<Camera>::Over<kVouched>>(OpenOn<Board<kBoard>>(Machine())) == "ok");
}

TEST_CASE("CheckPipeline: no heap that suits is there; a heap that is not needed may be missing") {
  const LeakCheck leaks;
  FakeMachine machine = Machine();
  machine.dma_heaps.pop_back();
  auto board = OpenOn<Board<kBoard>>(machine);
  const absl::Status none = CheckPipeline<Pipeline<Camera>::Over<kBoard>>(board);
  CHECK(ErrnoOf(none) == ENODEV);
  CHECK(std::string(none.message())
            .starts_with("pipeline, heap 4 (linux,cma): the machine has memory of no heap"));
  CHECK(Told<Pipeline<Cpu>::Over<kBoard>>(board) == "ok");
}

TEST_CASE("CheckPipeline: each guarantee is compared, and the first that differs is told") {
  const Guarantees is{.segments = 2,
                      .top = uint64_t{0xffffffff},
                      .bytes_max = uint64_t{8192},
                      .ram = true,
                      .cached = true,
                      .protected_memory = true,
                      .cc_shared = true,
                      .mappable = true,
                      .vmap = true,
                      .pages = true,
                      .exportable = true,
                      .alignment = 4096,
                      .granule = 4096};
  CHECK(internal::DifferenceOf(is, is).empty());
  const auto told = [&](auto change) {
    Guarantees assumed = is;
    change(assumed);
    const std::string text = internal::DifferenceOf(assumed, is);
    return text.substr(0, text.find(','));
  };
  CHECK(told([](Guarantees& was) { was.segments = 1; }) == "segments is 2");
  CHECK(told([](Guarantees& was) { was.top = 0x7fffffff; }) == "top is 4294967295");
  CHECK(told([](Guarantees& was) { was.bytes_max = 8193; }) == "bytes_max is 8192");
  CHECK(told([](Guarantees& was) { was.ram = false; }) == "ram is yes");
  CHECK(told([](Guarantees& was) { was.cached = false; }) == "cached is yes");
  CHECK(told([](Guarantees& was) { was.protected_memory = false; }) == "protected_memory is yes");
  CHECK(told([](Guarantees& was) { was.cc_shared = false; }) == "cc_shared is yes");
  CHECK(told([](Guarantees& was) { was.mappable = false; }) == "mappable is yes");
  CHECK(told([](Guarantees& was) { was.vmap = false; }) == "vmap is yes");
  CHECK(told([](Guarantees& was) { was.pages = false; }) == "pages is yes");
  CHECK(told([](Guarantees& was) { was.exportable = false; }) == "exportable is yes");
  CHECK(told([](Guarantees& was) { was.alignment = 8192; }) == "alignment is 4096");
  CHECK(told([](Guarantees& was) { was.granule = 8192; }) == "granule is 4096");
  // More than was assumed is no difference.
  CHECK(told([](Guarantees& was) { was.segments = 3; }).empty());
  CHECK(told([](Guarantees& was) { was.alignment = 1; }).empty());
  CHECK(told([](Guarantees& was) { was.mappable = Known(); }).empty());
}

}  // namespace
}  // namespace ion::testing
