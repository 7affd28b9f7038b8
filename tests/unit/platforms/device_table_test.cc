// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The table of known devices and uses.

#include "ion/platforms/device_table.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <string>

#include "doctest/doctest.h"
#include "ion/choice.h"
#include "ion/constraint_text.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/merge.h"
#include "ion/pipeline.h"

namespace ion::platforms {
namespace {

// The heaps of a board with 8 GiB of memory: CMA below 1 GiB, ordinary memory, a part below 4 GiB.
constexpr HeapOffer kBoard[] = {
    {HeapId{0},
     "system",
     {.ram = true, .cached = true, .mappable = true, .vmap = true, .exportable = true}},
    {HeapId{1},
     "system-dma32",
     {.top = 0xffffffff,
      .ram = true,
      .cached = true,
      .mappable = true,
      .vmap = true,
      .exportable = true}},
    {HeapId{4},
     "linux,cma",
     {.segments = 1,
      .top = 0x3fffffff,
      .ram = true,
      .cached = true,
      .mappable = true,
      .vmap = true,
      .exportable = true}}};

TEST_CASE("kDevices: each is sound, has a name of its own and survives its text") {
  std::set<std::string> names;
  for (const Party& device : kDevices) {
    CAPTURE(device.name.view());
    CHECK(names.insert(std::string(device.name.view())).second);
    CHECK(FindDevice(device.name.view()) == &device);
    REQUIRE(device.alternatives.size() == 1);
    const Constraints& set = device.alternatives[0];
    CHECK(CheckAlone(set).kind == Problem::Kind::kNone);
    CHECK(*ConstraintsFromText(ToText(set)) == set);
    const Party alone[] = {device};
    CHECK(Supports(alone, kBoard));
  }
  CHECK(FindDevice("none") == nullptr);
}

TEST_CASE("kDevices: the memory of well-known devices is that of their boards") {
  static_assert(Pipeline<devices::RpiUnicam, devices::RpiHvs>::Over<kBoard>::kHeap == HeapId{4});
  static_assert(Pipeline<devices::RockchipRga2>::Over<kBoard>::kHeap == HeapId{1});
  // 40 bits: enough only if somebody tells how high the memory of the system heap is.
  using Converter = Pipeline<devices::RockchipVpu, devices::RockchipRga3>;
  constexpr auto kSystem = std::span(kBoard).first(1);
  static_assert(!Converter::Among(kSystem).ok());
  static_assert(Converter::Among(kSystem, {.memory_top = 0x1ffffffff}).ok());
  static_assert(Pipeline<devices::Uvc, uses::SoftwareRead>::Over<kBoard>::kHeap == HeapId{0});
  static_assert(Pipeline<devices::VividDmaContig>::Over<kBoard>::kHeap == HeapId{4});
  // The limits of two makers together.
  constexpr auto kImage =
      Pipeline<devices::QualcommVenus, devices::AmdGpu>::Among(kBoard).merged.image();
  CHECK(kImage.stride_multiple == 256);
  CHECK(kImage.height_multiple == 32);
  CHECK(kImage.tail_bytes == 8192);
  CHECK(kImage.size_multiple == 4096);
}

TEST_CASE("kDevices: memory that has no descriptor for others suits the CPU alone") {
  constexpr HeapOffer kMemfd[] = {{HeapId{0},
                                   "memfd",
                                   {.segments = 1,
                                    .top = 0xffff,
                                    .ram = true,
                                    .cached = true,
                                    .protected_memory = false,
                                    .mappable = true,
                                    .vmap = true,
                                    .pages = true,
                                    .exportable = false}}};
  for (const Party& device : kDevices) {
    CAPTURE(device.name.view());
    const Party alone[] = {device};
    const bool software = device.name.view().starts_with("software");
    CHECK(Supports(alone, kMemfd) == software);
  }
}

TEST_CASE("kDevices: uses add up the buffers that they hold") {
  const Party parties[] = {PartyOf<uses::Camera>(), PartyOf<uses::Encoder>(),
                           PartyOf<uses::ScanOut>(Party::Kind::kDispensable)};
  const Choice choice = Choose(parties, kBoard);
  REQUIRE(choice.ok());
  CHECK(choice.merged.buffers() == 7);
}

}  // namespace
}  // namespace ion::platforms
