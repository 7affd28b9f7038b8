// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Memory chosen from an open Manager's heaps, and allocated from the chosen one: over a fake board
// with a system heap and a CMA region, over memfds, and over the heaps of this machine.

#include "ion/heap_offers.h"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/allocate_chosen.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/memory_top.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/client.h"
#include "ion/constraints.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/device_table.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

constexpr HeapId kSystem{0}, kCma{4};

template <Syscalls Sys>
using Heaps = Manager<DmaHeapBackend<Sys>, System, Dma>;

FakeMachine Board() {
  FakeMachine machine;
  machine.dma_heaps = {{.name = "system"}, {.name = "linux,cma", .type = 4}};
  return machine;
}

// Parties by the names of platforms/device_table.h.
std::vector<Party> Named(const std::vector<std::string>& names) {
  std::vector<Party> parties;
  for (const std::string& name : names) {
    const Party* const party = platforms::FindDevice(name);
    REQUIRE(party != nullptr);
    parties.push_back(*party);
  }
  return parties;
}

// A device that takes one run, and the CPU that reads what it wrote.
constexpr Constraints kOneRun{.segments_max = 1};
constexpr Constraints kReader{.cpu_read = CpuUse::kOften};
constexpr Party kCodecAndCpu[] = {{"codec", kOneRun}, {"cpu", kReader}};

TEST_CASE(
    "OffersOf: each heap with memory, with the values of the kernel, its type and its interface") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  const HeapOffers offers = OffersOf(*manager);
  REQUIRE(offers.span().size() == 2);
  const HeapOffer& system = offers.span()[0];
  const HeapOffer& cma = offers.span()[1];
  CHECK(system.id == kSystem);
  CHECK(system.name.view() == "system");
  CHECK_FALSE(system.guarantees.segments.has_value());
  CHECK(system.guarantees.exportable.yes());
  CHECK(system.guarantees.vmap.yes());
  CHECK(system.guarantees.ram.yes());
  CHECK(system.guarantees.mappable.yes());
  CHECK_FALSE(system.guarantees.top.has_value());
  CHECK(cma.id == kCma);
  CHECK(cma.guarantees.segments == 1);
}

TEST_CASE("OffersOf: a caller vouches for values that are not known, and contradicts none") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  const HeapOffer known[] = {
      {kCma, {}, {.segments = 7, .top = uint64_t{0x7fffffff}, .exportable = false}}};
  const HeapOffers offers =
      OffersOf(*manager, MemoryTops{.memory = 0x1ffffffff, .cma = 0xffffffff}, known);
  const Guarantees& cma = offers.span()[1].guarantees;
  CHECK(cma.top == uint64_t{0x7fffffff});
  CHECK(cma.segments == 1);
  CHECK(cma.exportable.yes());
  CHECK(offers.span()[0].guarantees.top == uint64_t{0x1ffffffff});
  // Without a lower one of the caller's, the kernel's counts.
  const HeapOffers told = OffersOf(*manager, MemoryTops{.memory = 0x1ffffffff, .cma = 0xffffffff});
  CHECK(told.span()[1].guarantees.top == uint64_t{0xffffffff});
}

TEST_CASE("OffersOf: a heap that the kernel does not document promises neither pages nor vmap") {
  const LeakCheck leaks;
  FakeMachine machine = Board();
  machine.dma_heaps.push_back({.name = "vendor,secure"});
  constexpr HeapId kVendor{9};
  static constexpr HeapSpec kSecure{.type = HeapType::kCustom, .id = 9, .name = "vendor,secure"};
  using M = Manager<DmaHeapBackend<FakeSyscalls>, System,
                    KernelHeapPolicy<DmaHeapBackend<FakeSyscalls>, kSecure, HeapType::kCustom>>;
  auto manager = M::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(manager.ok());
  const HeapOffers offers = OffersOf(*manager);
  REQUIRE(offers.span().size() == 2);
  const HeapOffer& vendor = offers.span()[1];
  CHECK(vendor.id == kVendor);
  CHECK(vendor.guarantees.exportable.yes());
  CHECK(vendor.guarantees.pages.unknown());
  CHECK(vendor.guarantees.vmap.unknown());
  CHECK(vendor.guarantees.ram.unknown());
}

TEST_CASE("OffersOf: heaps with size classes, and with pools, give more than was asked for") {
  const LeakCheck leaks;
  constexpr PoolSpec kClassOnly{.most_percent = 100};
  static constexpr HeapSpec kRounding{.id = 2};
  using M = Manager<DmaHeapBackend<FakeSyscalls>, Pooled<System, kClassOnly>,
                    SystemOf<kRounding, QuarterSteps>, Dma>;
  FakeMachine machine = Board();
  machine.dma_heaps.push_back({.name = "system-uncached"});
  auto manager = M::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(manager.ok());
  const HeapOffers offers = OffersOf(*manager);
  REQUIRE(offers.span().size() == 3);
  for (const HeapOffer& heap : offers.span()) {
    CAPTURE(heap.id.value());
    CHECK(heap.guarantees.most_percent == (heap.id == kSystem ? 125
                                           : heap.id == kCma  ? 100
                                                              : Guarantees::kAnySize));
  }
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  for (const uint64_t pages : {1, 8, 9, 17, 33, 65, 129, 4097}) {
    auto buffer = client->Allocate({.bytes = pages * PageBytes(), .heaps = kSystem});
    REQUIRE(buffer.ok());
    CHECK(buffer->bytes() <= pages * PageBytes() * 125 / 100);
  }
}

TEST_CASE("OffersOf: a memfd goes to no device") {
  const LeakCheck leaks;
  auto manager = Manager<MemfdBackend<>, System>::Open();
  REQUIRE(manager.ok());
  const HeapOffers offers = OffersOf(*manager);
  REQUIRE(offers.span().size() == 1);
  CHECK(offers.span()[0].guarantees.exportable.no());
  constexpr Constraints kImporter{.exporter_needs = ExporterNeeds::kExportByUs};
  const Party importer[] = {{"gpu", kImporter}};
  CHECK_FALSE(Supports(importer, offers.span()));
  const Party reader[] = {{"cpu", kReader}};
  CHECK(Supports(reader, offers.span()));
}

TEST_CASE(
    "AllocateChosen: the least scarce heap that suits all, and contiguous memory where asked") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  const HeapOffers offers = OffersOf(*manager);
  const std::vector<Party> easy = Named({"camera", "software read"});
  const Choice choice = Choose(easy, offers.span());
  REQUIRE(choice.ok());
  auto buffer = AllocateChosen(*client, choice, {.bytes = 4096});
  REQUIRE(buffer.ok());
  CHECK(manager->HeapOf(*buffer) == kSystem);

  const Choice contiguous = Choose(kCodecAndCpu, offers.span());
  REQUIRE(contiguous.ok());
  CHECK(contiguous.heaps().size() == 1);
  auto run = AllocateChosen(*client, contiguous, {.bytes = 4096});
  REQUIRE(run.ok());
  CHECK(manager->HeapOf(*run) == kCma);
  CHECK(run->properties().contiguous.yes());
}

TEST_CASE("AllocateChosen: a heap that is full is followed by the next, and the reasons are kept") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  // The quota of the client stands for a heap without room: it is met in each heap.
  auto poor = manager->CreateClient({.quota_bytes = 4096, .exact_quota = true});
  auto rich = manager->CreateClient({});
  REQUIRE(poor.ok());
  REQUIRE(rich.ok());
  const HeapOffers offers = OffersOf(*manager);
  const Party cpu[] = {{"cpu", kReader}};
  const HeapId prefer[] = {kCma};
  const Choice choice = Choose(cpu, offers.span(), {.prefer = prefer});
  REQUIRE(choice.ok());
  REQUIRE(choice.heaps().size() == 2);
  CHECK(choice.best() == kCma);
  const auto refused = AllocateChosen(*poor, choice, {.bytes = 65536});
  REQUIRE_FALSE(refused.ok());
  CHECK(ErrnoOf(refused.status()) == EDQUOT);
  const std::string text(refused.status().message());
  CHECK(text.find("; ") != text.npos);
  // More than the region has: the system heap serves it.
  auto served = AllocateChosen(*rich, choice, {.bytes = 512 << 20});
  REQUIRE(served.ok());
  CHECK(manager->HeapOf(*served) == kSystem);
}

TEST_CASE("AllocateChosen: no choice, and no heap in the mask, are refused with advice") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  const HeapOffers offers = OffersOf(*manager);
  constexpr Constraints kProtected{.protection = Protection::kRequired};
  const Party impossible[] = {{"drm", kProtected}, {"cpu", kReader}};
  const Choice none = Choose(impossible, offers.span());
  CHECK_FALSE(none.ok());
  CHECK(ErrnoOf(AllocateChosen(*client, none, {.bytes = 4096}).status()) == EINVAL);
  const Choice contiguous = Choose(kCodecAndCpu, offers.span());
  CHECK(ErrnoOf(AllocateChosen(*client, contiguous, {.bytes = 4096, .heaps = kSystem}).status()) ==
        ENODEV);
}

TEST_CASE("AllocateChosen: the buffer is as large as the parties need together") {
  const LeakCheck leaks;
  auto manager = Heaps<FakeSyscalls>::Open({.sys = FakeSyscalls(Board())});
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  const HeapOffers offers = OffersOf(*manager);
  constexpr Constraints kLarge{.size_min = 100'000, .size_multiple = 65'536};
  const Party parties[] = {{"encoder", kLarge}, {"cpu", kReader}};
  const Choice choice = Choose(parties, offers.span());
  REQUIRE(choice.ok());
  auto buffer = AllocateChosen(*client, choice, {.bytes = 1});
  REQUIRE(buffer.ok());
  CHECK(buffer->bytes() == 131'072);
}

// On a real kernel: a guest's, or the machine's own.

TEST_CASE(
    "AllocateChosen: on this machine's dma-heaps, contiguous memory only where it is needed") {
  const LeakCheck leaks;
  auto manager = Manager<DmaHeapBackend<>, System, Dma>::Open();
  if (!manager.ok()) return Skip(std::string(manager.status().message()));
  if (!manager->heaps().contains(kCma)) return Skip("no contiguous heap");
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  const Result<MemoryTops> tops = ReadMemoryTops();
  REQUIRE(tops.ok());
  const HeapOffers offers = OffersOf(*manager);
  const ChoiceOptions options{.memory_top = tops->memory};

  const std::vector<Party> easy = Named({"camera", "software read"});
  const Choice scattered = Choose(easy, offers.span(), options);
  REQUIRE_MESSAGE(scattered.ok(), Describe(scattered, easy, offers.span(), options));
  auto frame = AllocateChosen(*client, scattered, {.bytes = 1920 * 1080 * 3 / 2});
  REQUIRE_MESSAGE(frame.ok(), frame.status().message());
  CHECK(manager->HeapOf(*frame) == kSystem);

  const Choice contiguous = Choose(kCodecAndCpu, offers.span(), options);
  REQUIRE_MESSAGE(contiguous.ok(), Describe(contiguous, kCodecAndCpu, offers.span(), options));
  auto run = AllocateChosen(*client, contiguous, {.bytes = 1 << 20});
  REQUIRE_MESSAGE(run.ok(), run.status().message());
  CHECK(manager->HeapOf(*run) == kCma);

  // A region that is used up is told, as no other heap is contiguous.
  std::vector<Buffer> held;
  absl::Status full;
  while (full.ok() && held.size() < 4096) {
    absl::StatusOr<Buffer> more = AllocateChosen(*client, contiguous, {.bytes = 4 << 20});
    full = more.status();
    if (more.ok()) held.push_back(*std::move(more));
  }
  CHECK(ErrnoOf(full) == ENOMEM);
  // Those who need no run get on without it.
  const HeapId prefer[] = {kCma};
  const Choice either = Choose(easy, offers.span(), {.memory_top = tops->memory, .prefer = prefer});
  REQUIRE(either.ok());
  CHECK(either.best() == kCma);
  auto other = AllocateChosen(*client, either, {.bytes = 4 << 20});
  REQUIRE_MESSAGE(other.ok(), other.status().message());
  CHECK(manager->HeapOf(*other) == kSystem);
}

TEST_CASE("Choose: a 32-bit device takes memory of this machine only if it lies low enough") {
  const LeakCheck leaks;
  auto manager = Manager<DmaHeapBackend<>, System, Dma>::Open();
  if (!manager.ok()) return Skip(std::string(manager.status().message()));
  const Result<MemoryTops> tops = ReadMemoryTops();
  REQUIRE(tops.ok());
  const HeapOffers offers = OffersOf(*manager, tops);
  constexpr Constraints k32Bits{.address_limit = AddressOfBits(32)};
  const Party device[] = {{"capture card", k32Bits}};
  const ChoiceOptions options{.memory_top = tops->memory};
  const Choice choice = Choose(device, offers.span(), options);
  const bool low_cma = tops->cma.has_value() && *tops->cma <= 0xffffffff;
  const bool all_low = tops->memory <= 0xffffffff;
  CHECK(choice.mask().contains(kSystem) == all_low);
  if (manager->heaps().contains(kCma)) CHECK(choice.mask().contains(kCma) == (low_cma || all_low));
  if (choice.ok()) return;
  const std::string text(ToStatus(choice, device, offers.span(), options).message());
  CHECK_MESSAGE(text.find("address_limit") != text.npos, text);
  CHECK_MESSAGE(text.find("capture card") != text.npos, text);
}

}  // namespace
}  // namespace ion::testing
