// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The probe on real drivers: vivid's queue of vmalloc memory, its queue of contiguous memory, and
// two DRM drivers that import without mapping.

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/local_file.h"
#include "ion/backends/own_device_memory.h"
#include "ion/backends/page_memory.h"
#include "ion/backends/v4l2_export.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/client.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/devices/drm_node.h"
#include "ion/devices/v4l2_queue.h"
#include "ion/dma_buf_holders.h"
#include "ion/heap_offers.h"
#include "ion/pixel_format.h"
#include "ion/platforms/linux.h"
#include "ion/probe.h"
#include "ion/probe_heaps.h"
#include "ion/probe_text.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/setting.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it
using Kind = ProbeAnswer::Kind;

constexpr int kTimes = 20;

// A source, and a look at each of its dma-bufs after the device was asked: nobody else holds it.
template <ProbeSource S>
class Watched {
 public:
  static constexpr auto kSamples = std::to_array(S::kSamples);

  Watched(S& source, uint64_t references) : source_(source), references_(references) {}

  template <class Use>
  Error Lend(Sample which, uint64_t bytes, Use use) noexcept {
    return source_.Lend(which, bytes, [&](const LentMemory& memory) noexcept {
      use(memory);
      if (references_ == 0) return;
      const Origin origin{"test", Operation::kProve};
      ErrorSink errors;
      const Result<FdInfo> info =
          ReadFdInfo(LinuxSyscalls(), errors, memory.range.fd.get(), origin);
      REQUIRE(info.ok());
      const Result<uint64_t> count = DmaBufCountIn(info->view(), origin);
      REQUIRE(count.ok());
      CHECK(*count == references_);
    });
  }

 private:
  S& source_;
  uint64_t references_;  // 0: not looked at
};

// The memory of this machine; not complete where it lacks some.
struct Memory {
  explicit Memory(uint64_t references = 1)
      : opened(platforms::DmaHeaps::Open()), pages(PageMemory<>::Open()) {
    if (!opened.ok() || !pages.ok()) return;
    auto made = opened->CreateClient({.name = "probe"});
    REQUIRE(Told(made.status()) == "ok");
    client.emplace(*std::move(made));
    offers = OffersOf(*opened);
    for (const HeapOffer& offer : offers.span()) {
      if (offer.guarantees.segments == 1) contiguous.emplace(*client, offer.id);
    }
    if (!contiguous.has_value()) return;
    watched_pages.emplace(*pages, references);
    watched_contiguous.emplace(*contiguous, references);
  }
  bool complete() const { return watched_contiguous.has_value(); }

  absl::StatusOr<platforms::DmaHeaps> opened;
  Result<PageMemory<>> pages;
  std::optional<platforms::DmaHeaps::Client> client;
  HeapOffers offers;
  std::optional<HeapMemory> contiguous;
  std::optional<Watched<PageMemory<>>> watched_pages;
  std::optional<Watched<HeapMemory>> watched_contiguous;
};

// A buffer of the queue's own, which it forgets.
Result<UniqueFd> ExportOf(const std::string& node) {
  V4l2ExportBackend<>::Options options;
  options.node = node;
  Result<V4l2ExportBackend<>> queue = V4l2ExportBackend<>::Open(options);
  if (!queue.ok()) return queue.error();
  Block block;
  const Request request{.name = "own", .frame = queue->frame()};
  if (Error error = queue->AllocateFrame(0, request, block); !error.ok()) return error;
  Result<UniqueFd> fd = queue->Share(block);
  if (const Error error = queue->Release(block); !error.ok()) return error;
  return fd;
}

// The exporter that the kernel names of the queue's own memory: which of vivid's two it is.
std::string ExporterOf(const std::string& node) {
  std::string name;
  OwnDeviceMemory own([&](uint64_t) noexcept { return ExportOf(node); });
  const Error error = own.Lend(Sample::kOwn, 1, [&](const LentMemory& memory) noexcept {
    name = std::string(memory.exporter);
  });
  CHECK(error.code() == 0);
  return name;
}

struct Frame {
  uint32_t format, width, height;
};
constexpr Frame kSmall{FourccOf("YUYV"), 320, 180};    // 115,200 bytes
constexpr Frame kLarge{FourccOf("XR24"), 1920, 1080};  // 8,294,400 bytes

Result<V4l2Queue<>> OpenQueue(const std::string& node, const Frame& frame) {
  V4l2Queue<>::Options options;
  options.node = node;
  options.format = frame.format;
  options.width = frame.width;
  options.height = frame.height;
  return V4l2Queue<>::Open(options);
}

struct VividQueue {
  std::string node;
  std::string exporter;  // of its own memory
};
// Those of vivid's capture devices.
std::vector<VividQueue> VividQueues() {
  std::vector<VividQueue> found;
  for (int i = 0; i < 16; ++i) {
    const std::string node = "/dev/video" + std::to_string(i);
    Result<V4l2Queue<>> queue = OpenQueue(node, kSmall);
    if (!queue.ok() || queue->driver() != "vivid") continue;
    found.push_back({node, ExporterOf(node)});
  }
  return found;
}

TEST_CASE("Probe: it tells vivid's queue of contiguous memory from that of vmalloc memory") {
  const LeakCheck leaks;
  Memory memory;
  const auto queues = VividQueues();
  if (queues.empty()) return Skip("no capture device of vivid");
  if (!memory.complete()) return Skip("no udmabuf, or no heap of contiguous memory");
  struct Size {
    Frame frame;
    uint64_t bytes;
  };
  size_t scattered = 0, contiguous = 0;
  for (const VividQueue& each : queues) {
    const std::string& node = each.node;
    for (const Size& size : {Size{kSmall, 115'200}, {kSmall, 1_MiB}, {kLarge, 8_MiB}}) {
      CAPTURE(node);
      CAPTURE(size.bytes);
      Result<V4l2Queue<>> queue = OpenQueue(node, size.frame);
      REQUIRE(Told(ToStatus(queue.error())) == "ok");
      int right = 0;
      const bool is_contiguous = each.exporter == "videobuf2_dma_contig";
      for (int i = 0; i < kTimes; ++i) {
        OwnDeviceMemory own([&](uint64_t) noexcept { return ExportOf(node); });
        Watched watched_own(own, 1);
        const ProbeResult result = Probe(*queue, {.bytes = size.bytes}, *memory.watched_pages,
                                         *memory.watched_contiguous, watched_own);
        if (i == 0) MESSAGE(node, ": ", ToText(result));
        Constraints to;
        (void)AddProbed(result, to);
        const bool says_contiguous = result.verdict == ProbeVerdict::kContiguousOnly &&
                                     to.segments_max.stated() && result.needs_vmap.unknown();
        const bool says_scattered = result.verdict == ProbeVerdict::kScatteredOk &&
                                    !to.segments_max.stated() && result.needs_vmap.yes();
        if (is_contiguous ? says_contiguous : says_scattered) {
          ++right;
        } else {
          FAIL_CHECK(ToText(result));
        }
        CHECK(result.At(Question::kOwn).takes());
      }
      CHECK(right == kTimes);
      (is_contiguous ? contiguous : scattered) += static_cast<size_t>(right);
    }
  }
  MESSAGE(scattered, " times scattered, ", contiguous, " times contiguous");
  CHECK(scattered == 3 * kTimes);
  CHECK(contiguous == 3 * kTimes);
}

TEST_CASE("Probe: one yes of a heap's buffer would deceive it") {
  const LeakCheck leaks;
  Memory memory;
  const auto queues = VividQueues();
  if (queues.empty()) return Skip("no capture device of vivid");
  if (!memory.complete()) return Skip("no udmabuf, or no heap of contiguous memory");
  for (const VividQueue& each : queues) {
    const std::string& node = each.node;
    CAPTURE(node);
    const bool is_contiguous = each.exporter == "videobuf2_dma_contig";
    Result<V4l2Queue<>> queue = OpenQueue(node, kSmall);
    REQUIRE(Told(ToStatus(queue.error())) == "ok");
    int lucky = 0;
    for (int i = 0; i < kTimes; ++i) {
      const HeapAnswers answers =
          ProbeHeaps(*queue, {.bytes = 1_MiB}, *memory.client, memory.offers.span());
      for (const HeapAnswer& heap : answers.span()) {
        if (heap.answer.takes() && heap.name.view() == "system") ++lucky;
      }
    }
    MESSAGE(node, ": 1 MiB of the system heap was taken ", lucky, " times");
    // Linux 6.12 makes it of one block.
    if (is_contiguous && !IsAs510()) CHECK(lucky > 0);
  }
  CHECK(memory.client->held_bytes() == 0);
}

TEST_CASE("Probe: a yes of vgem and of vkms is no evidence") {
  const LeakCheck leaks;
  size_t asked = 0;
  for (int i = 0; i < 8; ++i) {
    DrmNode<>::Options options;
    options.node = "/dev/dri/card" + std::to_string(i);
    Result<DrmNode<>> card = DrmNode<>::Open(options);
    if (!card.ok() || (card->driver() != "vgem" && card->driver() != "vkms")) continue;
    const std::string driver(card->driver());
    CAPTURE(driver);
    // Linux 5.10's vkms keeps all that it imported.
    Memory memory(driver == "vkms" && IsAs510() ? 0 : 1);
    if (!memory.complete()) return Skip("no udmabuf, or no heap of contiguous memory");
    for (const uint64_t bytes : {uint64_t{115'200}, 8_MiB}) {
      const ProbeResult result =
          Probe(*card, {.bytes = bytes}, *memory.watched_pages, *memory.watched_contiguous);
      CAPTURE(ToText(result));
      CHECK(result.verdict == ProbeVerdict::kNoEvidence);
      for (const Question each : {Question::kForward, Question::kReversed, Question::kContiguous}) {
        CHECK(result.At(each).kind == Kind::kNoEvidence);
      }
      const HeapAnswers answers =
          ProbeHeaps(*card, {.bytes = bytes}, *memory.client, memory.offers.span());
      for (const HeapAnswer& each : answers.span()) {
        CHECK(each.answer.kind == Kind::kNoEvidence);
      }
    }
    ++asked;
  }
  if (asked == 0) return Skip("no card of vgem or vkms");
}

TEST_CASE("Probe: a queue that is in use cannot be asked") {
  const LeakCheck leaks;
  Memory memory;
  const auto queues = VividQueues();
  if (queues.empty()) return Skip("no capture device of vivid");
  if (!memory.complete()) return Skip("no udmabuf, or no heap of contiguous memory");
  Result<V4l2Queue<>> queue = OpenQueue(queues[0].node, kSmall);
  Result<V4l2Queue<>> other = OpenQueue(queues[0].node, kSmall);
  REQUIRE(queue.ok());
  REQUIRE(other.ok());
  std::optional<Result<Imported>> slot;
  const Error lent =
      memory.contiguous->Lend(Sample::kContiguous, 115'200, [&](const LentMemory& lends) noexcept {
        slot = other->Map({.range = lends.range});
        REQUIRE(slot->ok());
        const ProbeResult result =
            Probe(*queue, {.bytes = 115'200}, *memory.pages, *memory.contiguous);
        CHECK(result.verdict == ProbeVerdict::kCannotAsk);
        CHECK(result.At(Question::kForward).code == EBUSY);
        CHECK(other->Unmap(**slot).code() == 0);
        CHECK(Probe(*queue, {.bytes = 115'200}, *memory.pages, *memory.contiguous)
                  .At(Question::kContiguous)
                  .takes());
      });
  CHECK(lent.code() == 0);
}

}  // namespace
}  // namespace ion::testing
