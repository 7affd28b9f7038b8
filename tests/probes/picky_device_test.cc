// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What is chosen for a device, and what the device says of it: a device of tests/guest/probe, whose
// limits are drawn by lot, is asked about the memory of every heap of the guest.

#include "tests/support/picky_device.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/allocate_chosen.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/memory_top.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/client.h"
#include "ion/constraint_text.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/platforms/all_backend.h"
#include "ion/platforms/linux.h"
#include "ion/platforms/pooled.h"
#include "tests/support/attached_devices.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/scatter_probe.h"
#include "tests/support/segment_model.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

constexpr uint64_t kPage = 4096;  // of the guest, which is x86

bool Here() {
  if (!PickyDevice::Here()) Skip(PickyDevice::kAbsent);
  return PickyDevice::Here();
}

ion_picky_answer Asked(const PickyDevice& device, FdRef dma_buf) {
  const Result<ion_picky_answer> answer = device.Try(dma_buf);
  REQUIRE(Told(answer.error()) == "ok");
  return *answer;
}
ion_picky_answer Asked(const Constraints& set, const UniqueFd& dma_buf) {
  const PickyDevice device;
  REQUIRE(Told(device.Set(PickyLimits(set))) == "ok");
  return Asked(device, dma_buf.borrow());
}

TEST_CASE("PickyDevice: names the limit that the memory breaks") {
  const LeakCheck leaks;
  if (!Here()) return;
  // One page again and again: each is a run.
  const UniqueFd memfd = Memfd(kPage);
  const UniqueFd pages = UdmabufOfPages(memfd.borrow(), std::vector<uint64_t>(16, 0));
  const UniqueFd one = HeapDmaBuf(64_KiB, O_RDWR, "/dev/dma_heap/reserved");
  REQUIRE(pages.valid());
  REQUIRE(one.valid());

  const ion_picky_answer all = Asked(Constraints{}, pages);
  CHECK_MESSAGE(all.rule == ION_PICKY_ACCEPTS, PickyText(all));
  CHECK(all.bytes == 64_KiB);
  CHECK(all.runs == 16);
  CHECK(all.segments == 16);
  CHECK(all.bounced == 0);
  CHECK(all.highest_dma == all.highest_physical);
  CHECK(Asked({.segments_max = 16}, pages).rule == ION_PICKY_ACCEPTS);
  const ion_picky_answer fewer = Asked({.segments_max = 15}, pages);
  CHECK_MESSAGE(fewer.rule == ION_PICKY_SEGMENTS, PickyText(fewer));
  CHECK(fewer.value == 16);
  CHECK(fewer.limit == 15);

  const ion_picky_answer run = Asked({.segments_max = 1}, one);
  CHECK_MESSAGE(run.rule == ION_PICKY_ACCEPTS, PickyText(run));
  CHECK(run.runs == 1);
  const uint64_t begin = run.highest_dma + 1 - 64_KiB;
  // Cut by size, then by boundary, then by both; and into whole multiples.
  CHECK(Asked({.segment_size_max = 5000}, one).segments == 14);
  CHECK(Asked({.segment_boundary = 4096}, one).segments == 16);
  for (const SegmentLimits& limits :
       {SegmentLimits{.size_max = 12'288, .boundary = 32_KiB},
        SegmentLimits{.size_max = 15'000, .boundary = 64_KiB, .multiple = 1024},
        SegmentLimits{.size_max = 4_GiB - 1, .boundary = 4_GiB, .multiple = 4096}}) {
    const Constraints set{.segment_size_max = limits.size_max,
                          .segment_boundary = limits.boundary,
                          .segment_multiple = limits.multiple};
    CHECK(Asked(set, one).segments == SegmentsOf(begin, 64_KiB, limits));
  }
  const ion_picky_answer odd = Asked({.segment_multiple = 128_KiB}, one);
  CHECK_MESSAGE(odd.rule == ION_PICKY_MULTIPLE, PickyText(odd));
  CHECK(odd.limit == 128_KiB);

  const unsigned bits = static_cast<unsigned>(std::bit_width(run.highest_dma));
  CHECK(Asked({.address_limit = AddressOfBits(bits)}, one).rule == ION_PICKY_ACCEPTS);
  const ion_picky_answer high = Asked({.address_limit = AddressOfBits(bits - 1)}, one);
  CHECK_MESSAGE(high.rule == ION_PICKY_ADDRESS, PickyText(high));
  CHECK(high.value == run.highest_dma);
  CHECK(high.limit == AddressOfBits(bits - 1));
}

TEST_CASE("PickyDevice: refuses limits that no device has, and what is no dma-buf") {
  const LeakCheck leaks;
  if (!Here()) return;
  const PickyDevice device;
  const ion_picky_limits sound = PickyLimits({});
  const auto refused = [&](auto change) {
    ion_picky_limits limits = sound;
    change(limits);
    return Kind(device.Set(limits));
  };
  CHECK(refused([](auto&) {}) == "ok");
  CHECK(refused([](auto& is) { is.segment_size_max = 4095; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.segment_boundary = 2048; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.segment_boundary = 12'288; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.segment_multiple = 0; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.segment_multiple = 3; }) == "EINVAL import");
  CHECK(refused([](auto& is) {
          is.segment_boundary = 4096;
          is.segment_multiple = 8192;
        }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.segments_max = 0; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.mask_bits = 65; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.mask_bits = 11; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.flags = 2; }) == "EINVAL import");
  CHECK(refused([](auto& is) { is.reserved = 1; }) == "EINVAL import");

  CHECK(Kind(device.Try(FdRef(-1)).error()) == "EBADF import");
  CHECK(Kind(device.Try(Memfd(kPage).borrow()).error()) == "EINVAL import");
  CHECK(Kind(device.Try(device.node()).error()) == "EINVAL import");
  ion_picky_answer answer{};
  answer.fd = HeapDmaBuf(kPage).release();
  const UniqueFd owner(answer.fd);
  answer.reserved = 1;
  CHECK(::ioctl(device.node().get(), ION_PICKY_IOCTL_TRY, &answer) != 0);
  CHECK(errno == EINVAL);
  CHECK(::ioctl(device.node().get(), ION_PICKY_IOCTL_TRY, nullptr) != 0);
  CHECK(errno == EFAULT);
  CHECK(::ioctl(device.node().get(), ION_PICKY_IOCTL_TRY + 1, &answer) != 0);
  CHECK(errno == ENOTTY);
}

TEST_CASE("PickyDevice: leaves nothing attached, and each open file has limits of its own") {
  const LeakCheck leaks;
  if (!Here()) return;
  const UniqueFd fd = HeapDmaBuf(64_KiB);
  const PickyDevice strict, easy;
  REQUIRE(Told(strict.Set(PickyLimits({.address_limit = 4095}))) == "ok");
  CHECK(Asked(strict, fd.borrow()).rule == ION_PICKY_ADDRESS);
  CHECK(Asked(easy, fd.borrow()).rule == ION_PICKY_ACCEPTS);
  CHECK(IsHeldByUsAlone(fd, "ion_picky"));
}

// The random demands of a device, and the size of its buffers.
struct Draw {
  uint64_t bytes;
  Constraints set;
};
class Lot {
 public:
  Draw Next() {
    static constexpr uint64_t kSizes[] = {64_KiB, 115'200, 1_MiB};
    const uint64_t bytes = kSizes[Below(3)];
    // Often about as many segments as pages.
    const uint64_t pages = (bytes - 1) / kPage + 1;
    const uint64_t segments = Below(4) == 0 ? pages + Below(4) - 1 : Spread(1, 2048);
    Constraints set{.address_limit = AddressOfBits(static_cast<unsigned>(20 + Below(21))),
                    .segments_max = segments,
                    .exporter_needs = ExporterNeeds::kExportByUs};
    // A third of the devices has no limit of a kind.
    uint64_t size = UINT64_MAX;
    if (Below(3) != 0) {
      size = Spread(kPage, 4_MiB);
      // Whole pages, or up to the last byte before a power of two, or anything.
      if (Below(2) == 0) size = size / kPage * kPage;
      if (Below(4) == 0) size = std::max(std::bit_ceil(size) - 1, kPage);
      set.segment_size_max = size;
    }
    // A boundary below the longest segment, and a multiple above it, contradict it.
    uint64_t boundary = UINT64_MAX;
    if (Below(3) != 0) {
      const uint64_t least = size == UINT64_MAX ? kPage : std::bit_ceil(size);
      boundary = least << Below(8);
      set.segment_boundary = boundary;
    }
    if (Below(3) != 0) {
      const uint64_t multiple = uint64_t{1} << Below(Below(4) == 0 ? 18 : 13);
      set.segment_multiple = std::min({multiple, std::bit_floor(size), boundary});
      if (Below(2) == 0) set.size_multiple = set.segment_multiple.value();
      if (bytes % set.segment_multiple.value() != 0) set.size_multiple = {};
    }
    return {bytes, set};
  }

 private:
  // Below `end`; the same with each library.
  uint64_t Below(uint64_t end) { return random_() % end; }
  // Each doubling is as likely as another.
  uint64_t Spread(uint64_t least, uint64_t most) {
    const auto doublings = static_cast<uint64_t>(std::bit_width(most / least)) - 1;
    const uint64_t from = least << Below(doublings + 1);
    return std::min(from + Below(from), most);
  }

  std::mt19937_64 random_{20261130};
};

// If the properties that are known of a heap are enough for the device, by the worst memory that
// has them.
bool IsEnough(const Guarantees& is, const Draw& draw) {
  if (is.most_percent != 100) return false;  // the bound of pools is not exact
  const Constraints& set = draw.set;
  if (!is.exportable.yes() || !is.mappable.yes()) return false;
  if (!is.top.has_value() || *is.top > set.address_limit.value()) return false;
  const uint64_t whole = (draw.bytes + kPage - 1) / kPage * kPage;
  const SegmentLimits limits{
      .size_max = set.segment_size_max.stated() ? set.segment_size_max.value() : UINT64_MAX,
      .boundary = set.segment_boundary.stated() ? set.segment_boundary.value() : UINT64_MAX,
      .multiple = set.segment_multiple.stated() ? set.segment_multiple.value() : 1};
  if (limits.multiple > kPage) return false;  // no heap of the guest begins at larger multiples
  const uint64_t worst = is.segments == 1 ? WorstSegments(whole, kPage, limits) : whole / kPage;
  // Segments that end within a page: the library has a bound, which may be larger by one.
  const bool bound = is.segments == 1 && limits.size_max % kPage != 0;
  return worst + (bound ? 1 : 0) <= set.segments_max.value();
}

template <class C>
UniqueFd DescriptorOf(C& client, absl::StatusOr<Buffer> buffer) {
  REQUIRE_MESSAGE(buffer.ok(), buffer.status().message());
  const absl::StatusOr<Handle> handle = client.MakeHandle(*std::move(buffer));
  REQUIRE_MESSAGE(handle.ok(), handle.status().message());
  absl::StatusOr<UniqueFd> fd = client.Share(*handle);
  REQUIRE_MESSAGE(fd.ok(), fd.status().message());
  REQUIRE(client.Free(*handle).ok());
  return *std::move(fd);
}

// One heap of the guest, with a buffer of each size.
struct Sample {
  HeapOffer heap;
  std::vector<std::pair<uint64_t, UniqueFd>> buffers;

  FdRef of(uint64_t bytes) const {
    return std::ranges::find(buffers, bytes, &std::pair<uint64_t, UniqueFd>::first)
        ->second.borrow();
  }
};

// What became of the sets of demands.
struct Tally {
  int sets = 0;
  int chosen = 0;
  int refused_by_all = 0;  // no choice, and the device refuses the memory of every heap
  int by_luck = 0;  // no choice; the device takes memory that is known to be no more than lucky
  int unknown = 0;  // no choice; the device takes memory of which a property is not known
  int buffers = 0;  // that were allocated by a choice, and all taken
};

// If it is known of the property for which the heap is refused how bad it may be. That scattered
// memory has as many pieces as pages is a bound; how many it has is not known.
bool IsKnown(const Choice& choice, const HeapOffer& heap) {
  const auto verdict = std::ranges::find(choice.verdicts(), heap.id, &HeapVerdict::id);
  REQUIRE(verdict != choice.verdicts().end());
  return verdict->has.has_value() &&
         (verdict->field != Field::kSegmentsMax || heap.guarantees.segments.has_value());
}

template <class M>
void AskAboutAll(M& manager, Tally& tally) {
  auto client = manager.CreateClient({.name = "picky"});
  REQUIRE(client.ok());
  const Result<MemoryTops> tops = ReadMemoryTops();
  REQUIRE(Told(tops.error()) == "ok");
  const HeapOffers offers = OffersOf(manager, tops);
  std::vector<Sample> samples;
  for (const HeapOffer& heap : offers.span()) {
    Sample sample{heap, {}};
    for (const uint64_t bytes : {64_KiB, uint64_t{115'200}, 1_MiB}) {
      sample.buffers.emplace_back(
          bytes, DescriptorOf(*client, client->Allocate({.bytes = bytes, .heaps = heap.id})));
    }
    samples.push_back(std::move(sample));
  }

  const PickyDevice device;
  Lot lot;
  for (int i = 0; i < 1000; ++i) {
    const Draw draw = lot.Next();
    const Constraints use{.size_min = draw.bytes,
                          .size_max = draw.bytes,
                          .cpu_read = CpuUse::kOften,
                          .cpu_write = CpuUse::kOften};
    const Party parties[] = {{"picky", draw.set}, {"cpu", use}};
    const Choice choice = Choose(parties, offers.span());
    const std::string told = choice.ok()
                                 ? Describe(choice, parties, offers.span())
                                 : std::string(ToStatus(choice, parties, offers.span()).message());
    INFO("set ", i, ", ", draw.bytes, " bytes: ", ToText(draw.set), "\n", told);
    REQUIRE(choice.outcome != Choice::Outcome::kBadInput);
    REQUIRE(Told(device.Set(PickyLimits(draw.set))) == "ok");
    ++tally.sets;

    bool taken = false, unknown = false;
    for (const Sample& sample : samples) {
      const HeapOffer& heap = sample.heap;
      const bool fits = choice.mask().contains(heap.id);
      const Result<ion_picky_answer> answer = device.Try(sample.of(draw.bytes));
      // A memfd is for no device.
      const bool accepts = answer.ok() && answer->rule == ION_PICKY_ACCEPTS;
      INFO("heap ", std::string(heap.name.view()), ": ",
           answer.ok() ? PickyText(*answer) : Describe(answer.error()));
      if (fits) CHECK(accepts);
      const bool enough = IsEnough(heap.guarantees, draw);
      if (enough) CHECK(accepts);
      if (enough) CHECK(fits);
      taken = taken || accepts;
      unknown = unknown || (accepts && !fits && !IsKnown(choice, heap));
      if (!fits) continue;
      const UniqueFd fd = DescriptorOf(
          *client, AllocateChosen(*client, choice, {.bytes = draw.bytes, .heaps = heap.id}));
      const ion_picky_answer own = Asked(device, fd.borrow());
      CHECK_MESSAGE(own.rule == ION_PICKY_ACCEPTS, PickyText(own));
      ++tally.buffers;
    }
    if (choice.ok()) {
      ++tally.chosen;
    } else {
      ++(!taken ? tally.refused_by_all : unknown ? tally.unknown : tally.by_luck);
      // No memory at all suits demands that exclude each other.
      if (choice.outcome == Choice::Outcome::kConflict) CHECK_FALSE(taken);
    }
  }
}

// The sets of a Manager with many heaps and of one with the usual two are the same.
void Report(const std::string& heaps, const Tally& tally) {
  MESSAGE(
      heaps, ": ", tally.sets, " sets, ", tally.chosen, " choices with ", tally.buffers,
      " buffers that the device took, ", tally.refused_by_all,
      " refusals that it confirms for every heap; it took memory of a heap that was refused in ",
      tally.by_luck, " sets by the luck of its place, and in ", tally.unknown,
      " sets although a property of the heap is not known");
  CHECK(tally.sets >= 500);
  CHECK(tally.chosen >= 150);
  CHECK(tally.refused_by_all >= 150);
}

TEST_CASE("Choose: what it chooses among the machine's heaps, the device takes, and no less") {
  const LeakCheck leaks;
  if (!Here()) return;
  absl::StatusOr<platforms::Any> manager = platforms::Any::Open();
  REQUIRE_MESSAGE(manager.ok(), manager.status().message());
  Tally tally;
  AskAboutAll(*manager, tally);
  Report(manager->backend().name(), tally);
}

TEST_CASE("Choose: and so among the heaps of all interfaces") {
  const LeakCheck leaks;
  if (!Here()) return;
  absl::StatusOr<platforms::AllHeaps<>> manager = platforms::AllHeaps<>::Open();
  REQUIRE_MESSAGE(manager.ok(), manager.status().message());
  Tally tally;
  AskAboutAll(*manager, tally);
  Report("all interfaces", tally);
}

TEST_CASE("Choose: and so among heaps with pools, whose memory is larger than the request") {
  const LeakCheck leaks;
  if (!Here()) return;
  absl::StatusOr<platforms::PooledAny> manager = platforms::PooledAny::Open();
  REQUIRE_MESSAGE(manager.ok(), manager.status().message());
  Tally tally;
  AskAboutAll(*manager, tally);
  Report("with pools", tally);
}

// Pages of a memfd that lie side by side in the machine's memory: of some of them, in this order, a
// contiguous dma-buf is made that begins at any page.
class AdjacentPages {
 public:
  AdjacentPages() : memfd_(Memfd(32_MiB)) {
    const Result<std::vector<DmaSegment>> list =
        ScatterProbe::List(UdmabufOf(memfd_.borrow(), 32_MiB).borrow());
    REQUIRE(Told(list.error()) == "ok");
    std::vector<std::pair<uint64_t, uint64_t>> pages;  // address, and place in the memfd
    for (const auto& [address, bytes] : *list) {
      for (uint64_t at = 0; at < bytes; at += kPage) pages.emplace_back(address + at, pages.size());
    }
    std::ranges::sort(pages);
    std::vector<uint64_t> run;
    for (size_t i = 0; i < pages.size(); ++i) {
      if (i == 0 || pages[i].first != pages[i - 1].first + kPage) run.clear();
      run.push_back(pages[i].second);
      if (run.size() > longest_.size()) longest_ = run;
    }
  }
  // The number of begins of a buffer of so many pages.
  size_t begins(size_t pages) const { return longest_.size() - pages + 1; }
  UniqueFd Buffer(size_t begin, size_t pages) const {
    const auto first = longest_.begin() + static_cast<ptrdiff_t>(begin);
    return UdmabufOfPages(memfd_.borrow(), {first, first + static_cast<ptrdiff_t>(pages)});
  }
  size_t size() const { return longest_.size(); }

 private:
  UniqueFd memfd_;
  std::vector<uint64_t> longest_;
};

TEST_CASE("Choose: the device takes contiguous memory wherever it begins, if it is chosen") {
  const LeakCheck leaks;
  if (!Here()) return;
  const Result<MemoryTops> tops = ReadMemoryTops();
  REQUIRE(Told(tops.error()) == "ok");
  const HeapOffer heap[] = {
      {HeapId{4},
       "contiguous",
       {.segments = 1, .top = tops->memory, .mappable = true, .exportable = true}}};
  const AdjacentPages memory;
  REQUIRE(memory.size() >= 320);
  const PickyDevice device;
  Lot lot;
  std::mt19937_64 random(1);
  int chosen = 0, refused_at_some_begin = 0;
  for (int i = 0; i < 1000; ++i) {
    const Draw draw = lot.Next();
    const Constraints use{.size_min = draw.bytes, .size_max = draw.bytes};
    const Party parties[] = {{"picky", draw.set}, {"cpu", use}};
    const bool fits = Supports(parties, heap);
    INFO("set ", i, ", ", draw.bytes, " bytes: ", ToText(draw.set));
    REQUIRE(Told(device.Set(PickyLimits(draw.set))) == "ok");
    const size_t pages = (draw.bytes - 1) / kPage + 1;
    bool refused = false;
    for (int begin = 0; begin < 8; ++begin) {
      const UniqueFd fd = memory.Buffer(random() % memory.begins(pages), pages);
      const ion_picky_answer answer = Asked(device, fd.borrow());
      CHECK(answer.runs == 1);
      const bool accepts = answer.rule == ION_PICKY_ACCEPTS;
      if (fits) CHECK_MESSAGE(accepts, PickyText(answer));
      refused = refused || !accepts;
    }
    if (IsEnough(heap[0].guarantees, draw)) CHECK(fits);
    chosen += fits ? 1 : 0;
    refused_at_some_begin += !fits && refused ? 1 : 0;
  }
  MESSAGE("a run of ", memory.size(), " pages: ", chosen, " sets fit, ", refused_at_some_begin,
          " are refused and the device refuses some begin");
  CHECK(chosen >= 150);
  CHECK(refused_at_some_begin >= 150);
}

TEST_CASE("PickyDevice: where the kernel copies for a 32-bit device, the device says so") {
  const LeakCheck leaks;
  if (!Here()) return;
  const Result<MemoryTops> tops = ReadMemoryTops();
  REQUIRE(Told(tops.error()) == "ok");
  if (tops->memory <= UINT32_MAX) return Skip("no memory above 4 GiB");
  constexpr Constraints k32Bits{.address_limit = AddressOfBits(32)};
  const PickyDevice told, untold;
  REQUIRE(Told(told.Set(PickyLimits(k32Bits, ION_PICKY_TELLS_KERNEL))) == "ok");
  REQUIRE(Told(untold.Set(PickyLimits(k32Bits))) == "ok");

  // Memory of both kinds: the kernel fills the upper zone first.
  int above = 0, below = 0;
  std::vector<UniqueFd> held;
  for (int i = 0; i < 64; ++i) {
    held.push_back(HeapDmaBuf(64_KiB));
    const ion_picky_answer answer = Asked(untold, held.back().borrow());
    const bool is_above = answer.highest_physical > UINT32_MAX;
    ++(is_above ? above : below);
    CHECK_MESSAGE(answer.bounced == 0, PickyText(answer));
    CHECK_MESSAGE((answer.rule == ION_PICKY_ADDRESS) == is_above, PickyText(answer));
    const ion_picky_answer copied = Asked(told, held.back().borrow());
    CHECK(copied.highest_physical == answer.highest_physical);
    CHECK_MESSAGE(copied.highest_dma <= UINT32_MAX, PickyText(copied));
    CHECK_MESSAGE((copied.bounced > 0) == is_above, PickyText(copied));
    CHECK_MESSAGE((copied.rule == ION_PICKY_BOUNCED) == is_above, PickyText(copied));
  }
  MESSAGE(above, " buffers above 4 GiB, ", below, " below");
  CHECK(above > 0);

  // The choice knows: no heap is known to lie below.
  absl::StatusOr<platforms::Any> manager = platforms::Any::Open();
  REQUIRE_MESSAGE(manager.ok(), manager.status().message());
  const Party parties[] = {{"picky", k32Bits}};
  const Choice choice = Choose(parties, OffersOf(*manager, tops).span());
  CHECK_FALSE(choice.mask().contains(HeapId{0}));
}

}  // namespace
}  // namespace ion::testing
