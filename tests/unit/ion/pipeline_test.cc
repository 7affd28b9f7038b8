// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pipelines that compile, and their choices. Those that do not are in
// tests/concepts/pipeline_nocompile.cc.

#include "ion/pipeline.h"

#include <array>
#include <cstdint>
#include <span>

#include "doctest/doctest.h"
#include "ion/archetypes.h"
#include "ion/choice.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/image_constraints.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"

namespace ion::testing {
namespace {

struct Camera {
  static constexpr PartyName kName = "camera";
  static constexpr Constraints kConstraints{.held = 4, .segments_max = 1, .stride_multiple = 48};
};
struct Npu {
  static constexpr PartyName kName = "npu";
  static constexpr Constraints kConstraints{.held = 1, .stride_multiple = 64, .translated = true};
};
// Prefers rows without padding, and takes others.
struct Display {
  static constexpr PartyName kName = "display";
  static constexpr Constraints kConstraints[] = {{.held = 2, .stride_exact = 1920},
                                                 {.held = 2, .stride_max = 16384}};
};
struct Cpu {
  static constexpr PartyName kName = "cpu";
  static constexpr Constraints kConstraints{.cpu_read = CpuUse::kOften};
};

constexpr HeapSpec kSpecs[] = {
    {.type = HeapType::kSystem, .id = 0, .cpu_mappable = true},
    {.type = HeapType::kDma, .id = 4, .name = "linux,cma", .cpu_mappable = true}};
constexpr HeapOffer kOffers[] = {
    {HeapId{1}, "system", {.ram = true, .mappable = true}},
    {HeapId{2}, "vendor", {.segments = 1, .top = 0x3fffffff, .mappable = false}},
    {HeapId{3}, "reserved", {.segments = 1, .top = 0x3fffffff, .mappable = true}}};

// A camera and an NPU: contiguous memory for the camera, one stride for both.
using Preview = Pipeline<Camera, Npu>;
static_assert(Preview::Over<kSpecs>::kHeap == HeapId{4});
static_assert(Preview::Over<kSpecs>::kHeaps == HeapMask(HeapId{4}));
static_assert(Preview::Over<kSpecs>::kImage.stride_multiple == 192);
static_assert(Preview::Over<kSpecs>::kBuffers == 5);
static_assert(Preview::Over<kOffers>::kHeaps == (HeapId{2} | HeapId{3}));

// With a display, whose first set does: 1920 is a multiple of 192.
using Screen = Pipeline<Camera, Npu, Display>;
static_assert(Screen::Over<kSpecs>::kHeap == HeapId{4});
static_assert(Screen::Over<kSpecs>::kImage.stride_exact == 1920);
static_assert(Screen::Over<kSpecs>::kChoice.picks[2] == 0);

// With the CPU, over heap types: ordinary memory if nobody needs other.
using Software = Pipeline<Npu, Display, Cpu>;
using System = SystemHeap<BackendArchetype, kSpecs[0]>;
using Cma = DmaHeap<BackendArchetype, kSpecs[1]>;
static_assert(Software::On<System, Cma>::kHeap == HeapId{0});
static_assert(Software::On<System, Cma>::kHeaps == (HeapId{0} | HeapId{4}));
static_assert(Pipeline<Camera, Cpu>::Over<kOffers>::kHeap == HeapId{3});

// A heap type with guarantees of its own.
struct Sram {
  static constexpr HeapOffer kOffer{HeapId{9}, "sram", {.segments = 1, .mappable = true}};
};
static_assert(Pipeline<Camera, Cpu>::On<Sram>::kHeap == HeapId{9});

struct Wide {
  static constexpr PartyName kName = "wide";
  static constexpr Constraints kConstraints{.stride_min = 2048};
};
TEST_CASE("Pipeline: the second set of a device is taken if the first one does not suit") {
  using Chosen = Pipeline<Display, Wide>::Over<kSpecs>;
  static_assert(Chosen::kChoice.picks[0] == 1);
  CHECK(Chosen::kImage.stride_max == 16384);
}

// With options: a heap that goes first, and the machine's highest address.
constexpr HeapId kFirst[] = {HeapId{4}};
constexpr ChoiceOptions kPreferred{.prefer = kFirst};
static_assert(Pipeline<Cpu>::Over<kSpecs>::kHeap == HeapId{0});
static_assert(Pipeline<Cpu>::Over<kSpecs, kPreferred>::kHeap == HeapId{4});
struct Low {
  static constexpr PartyName kName = "low";
  static constexpr Constraints kConstraints{.address_limit = AddressOfBits(32)};
};
constexpr ChoiceOptions kSmallMachine{.memory_top = 0x7fffffff};
static_assert(Pipeline<Low>::Over<kSpecs, kSmallMachine>::kHeap == HeapId{0});

TEST_CASE("Pipeline: the compiler's choice is the one at run time") {
  constexpr std::array<HeapOffer, 2> kHeaps = {OfferOf(kSpecs[0]), OfferOf(kSpecs[1])};
  const Choice choice = Choose(Screen::kParties, kHeaps);
  CHECK(choice.best() == Screen::Over<kSpecs>::kHeap);
  CHECK(choice.merged == Screen::Over<kSpecs>::kChoice.merged);
  CHECK(choice.verdict_list == Screen::Over<kSpecs>::kChoice.verdict_list);
}

TEST_CASE("Pipeline: a program that has another way asks, and compiles") {
  constexpr std::array<HeapOffer, 1> kHeaps = {OfferOf(kSpecs[0])};
  constexpr Choice kNone = Preview::Among(kHeaps);
  static_assert(kNone.outcome == Choice::Outcome::kNoHeap);
  CHECK(kNone.conflict.a.party.view() == "camera");
}

}  // namespace
}  // namespace ion::testing
