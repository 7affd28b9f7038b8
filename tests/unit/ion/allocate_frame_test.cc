// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/allocate_frame.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/all_of.h"
#include "ion/backends/any_of.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/frame_shape.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/heap_spec.h"
#include "ion/image_layout.h"
#include "ion/layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

// A driver that makes frames, whose pitch is a multiple of 256 bytes, and bytes, over memfds.
class Framer : public MemfdBackend<> {
  using Base = MemfdBackend<>;

 public:
  static constexpr const char* kName = "framer";
  static constexpr BackendCaps kCaps = {.compares = true, .inspects = true, .frames = true};

  struct Options : Base::Options {};

  static Result<Framer> Open(const Options& options) noexcept {
    Result<Base> opened = Base::Open(options);
    if (!opened.ok()) return opened.error();
    return Framer(*std::move(opened));
  }
  const char* name() const noexcept { return kName; }
  std::span<const KernelHeap> heaps() const noexcept { return heaps_; }

  Error AllocateFrame(uint32_t kernel_heap, const Request& request, Block& block) noexcept {
    const uint64_t pitch = (request.frame.stride + 255) / 256 * 256;
    const uint64_t lines = (request.bytes - 1) / request.frame.stride + 1;
    Error error = Allocate(kernel_heap, pitch * lines, request.flags, request.name, block);
    if (error.ok()) block.cookie = pitch | lines << 32;
    return error;
  }
  StatedFrame StatedOf(const Block& block) const noexcept {
    const auto pitch = static_cast<uint32_t>(block.cookie);
    return {.pitch = pitch, .bytes = pitch * (block.cookie >> 32)};
  }

 private:
  explicit Framer(Base&& opened) : Base(std::move(opened)) {
    heaps_.assign(Base::heaps().begin(), Base::heaps().end());
    heaps_[0].name = kName;
    heaps_[0].interface = kName;
    heaps_[0].frames = MakesFrames::kAlso;
    heaps_[0].smallest = 8192;
    heaps_[0].largest = uint64_t{1} << 30;
    heaps_[0].most_buffers = 4;
  }

  std::vector<KernelHeap> heaps_;
};
static_assert(BackendCheck<Framer>::kOk);

using Frames = Manager<Framer, Pooled<System>>;

constexpr ImageSpec Image(PixelFormat format, uint64_t width, uint64_t height) {
  return {.format = format, .width = width, .height = height};
}

template <class M>
M Opened() {
  auto manager = M::Open();
  REQUIRE(manager.ok());
  return *std::move(manager);
}

TEST_CASE("AllocateFrame: the layout has the pitch and the size that the driver stated") {
  const LeakCheck leaks;
  Frames manager = Opened<Frames>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  const auto frame = AllocateFrame(*client, Image(PixelFormat::kNv12, 100, 34));
  REQUIRE(frame.ok());
  CHECK(frame->buffer.stated() == StatedFrame{.pitch = 256, .bytes = 256 * 51});
  CHECK(frame->layout.plane[0].stride == 256);
  CHECK(frame->layout.plane[1].stride == 256);
  CHECK(frame->layout.plane[1].offset == 256 * 34);
  CHECK(frame->layout.total_bytes == 256 * 51);
  CHECK(frame->buffer.bytes() >= frame->layout.total_bytes);
}

TEST_CASE("AllocateFrame: where no driver states anything the layout is arithmetic") {
  const LeakCheck leaks;
  using Bytes = Manager<MemfdBackend<>, Pooled<System>>;
  Bytes manager = Opened<Bytes>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  const auto frame = AllocateFrame(*client, Image(PixelFormat::kNv12, 100, 34));
  REQUIRE(frame.ok());
  CHECK(frame->buffer.stated() == StatedFrame());
  CHECK(frame->layout.plane[0].stride == 100);
  CHECK(frame->layout.total_bytes == 100 * 51);
}

TEST_CASE("AllocateFrame: no pool gives or takes a driver's frame, and bytes are pooled as ever") {
  const LeakCheck leaks;
  Frames manager = Opened<Frames>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  const Request bytes{.bytes = 64_KiB};
  uint64_t pooled = 0;
  {
    const auto buffer = client->Allocate(bytes);
    REQUIRE(buffer.ok());
    pooled = buffer->generation();
    CHECK(buffer->stated() == StatedFrame());
  }
  uint64_t framed = 0;
  {
    const auto frame = AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 64, 256));
    REQUIRE(frame.ok());
    framed = frame->buffer.generation();
    CHECK(framed != pooled);
    CHECK(frame->buffer.stated().pitch == 256);
  }
  const auto buffer = client->Allocate(bytes);
  REQUIRE(buffer.ok());
  CHECK(buffer->generation() == pooled);
  const auto other = client->Allocate(bytes);
  REQUIRE(other.ok());
  CHECK(other->generation() != framed);
  CHECK(other->stated() == StatedFrame());
}

TEST_CASE("AllocateFrame: a handle's Info has what was stated, and an import states nothing") {
  const LeakCheck leaks;
  Frames manager = Opened<Frames>();
  auto client = manager.CreateClient({.name = "camera"});
  auto peer = manager.CreateClient({.name = "peer"});
  REQUIRE(client.ok());
  REQUIRE(peer.ok());
  auto frame = AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 65, 4));
  REQUIRE(frame.ok());
  const auto handle = client->MakeHandle(std::move(frame->buffer));
  REQUIRE(handle.ok());
  const auto info = client->Info(*handle);
  REQUIRE(info.ok());
  CHECK(info->stated == StatedFrame{.pitch = 512, .bytes = 2048});
  auto fd = client->Share(*handle);
  REQUIRE(fd.ok());
  const auto imported = peer->Import(*std::move(fd));
  REQUIRE(imported.ok());
  CHECK(peer->Info(*imported)->stated == StatedFrame());
  CHECK(peer->Free(*imported).ok());
  CHECK(client->Free(*handle).ok());
}

TEST_CASE("AllocateFrame: a stated pitch that breaks the limits is an error, and nothing is held") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(64_MiB);
  Framer::Options options;
  options.budget = budget;
  auto manager = Frames::Open(options);
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  ImageSpec spec = Image(PixelFormat::kXrgb8888, 64, 16);
  spec.limits.stride_multiple = 384;
  const absl::Status multiple = AllocateFrame(*client, spec).status();
  CHECK(ErrnoOf(multiple) == EINVAL);
  CHECK(multiple.message().find("512 is no multiple of 384") != absl::string_view::npos);
  spec.limits.stride_multiple = 1;
  spec.limits.stride_exact = 300;
  const absl::Status exact = AllocateFrame(*client, spec).status();
  CHECK(ErrnoOf(exact) == EINVAL);
  CHECK(exact.message().find("stride_exact") != absl::string_view::npos);
  CHECK(ErrnoOf(AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 0, 16)).status()) == EINVAL);
  CHECK(budget->held() == 0);
}

using Both = AllOf<Framer, MemfdBackend<>>;
inline constexpr HeapSpec kOfFramer{
    .type = HeapType::kSystem, .id = 0, .name = {}, .interface = "framer"};
inline constexpr HeapSpec kOfMemfd{
    .type = HeapType::kSystem, .id = 1, .name = {}, .interface = "memfd"};
using Board = Manager<Both, SystemOf<kOfFramer>, Pooled<SystemOf<kOfMemfd>>>;

TEST_CASE("AllocateFrame: of a choice, a heap whose driver breaks the limits is passed over") {
  const LeakCheck leaks;
  Board manager = Opened<Board>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  constexpr Constraints kDevice{.stride_multiple = 384};
  const Party parties[] = {{"npu", kDevice}};
  const HeapId prefer[] = {HeapId{0}, HeapId{1}};
  const HeapOffers offers = OffersOf(manager);
  const Choice choice = Choose(parties, offers.span(), {.prefer = prefer});
  REQUIRE(choice.ok());
  REQUIRE(choice.best() == HeapId{0});
  const auto frame = AllocateFrame(*client, choice, Image(PixelFormat::kXrgb8888, 64, 16));
  REQUIRE(frame.ok());
  CHECK(frame->layout.plane[0].stride == 384);
  CHECK(frame->buffer.stated() == StatedFrame());
  CHECK(manager.HeapOf(frame->buffer) == HeapId{1});
  const auto refused =
      AllocateFrame(*client, choice, Image(PixelFormat::kXrgb8888, 64, 16), {.heaps = HeapId{0}});
  CHECK(refused.status().message().find("no multiple of 384") != absl::string_view::npos);
}

TEST_CASE("AllocateFrame: a pooled heap beside one that makes frames serves frames from its pool") {
  const LeakCheck leaks;
  Board manager = Opened<Board>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  uint64_t first = 0;
  for (int round = 0; round < 2; ++round) {
    const auto frame =
        AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 64, 16), {.heaps = HeapId{1}});
    REQUIRE(frame.ok());
    if (round == 0) first = frame->buffer.generation();
    CHECK(frame->buffer.generation() == first);
  }
  // The higher id goes first, and finds the same idle memory.
  const auto either = AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 64, 16),
                                    {.heaps = HeapId{0} | HeapId{1}});
  REQUIRE(either.ok());
  CHECK(either->buffer.generation() == first);
  const auto stated =
      AllocateFrame(*client, Image(PixelFormat::kXrgb8888, 65, 16), {.heaps = HeapId{0}});
  REQUIRE(stated.ok());
  CHECK(stated->buffer.stated().pitch == 512);
}

TEST_CASE("AllocateFrame: an image that the parties do not take is EINVAL before any memory") {
  const LeakCheck leaks;
  Board manager = Opened<Board>();
  auto client = manager.CreateClient({.name = "camera"});
  REQUIRE(client.ok());
  const HeapOffers offers = OffersOf(manager);
  const auto refused = [&](const Constraints& constraints, PixelFormat format) {
    const Party parties[] = {{"display", constraints}};
    const Choice choice = Choose(parties, offers.span());
    REQUIRE(choice.ok());
    return std::string(AllocateFrame(*client, choice, Image(format, 64, 16)).status().message());
  };
  const Constraints xrgb{
      .formats = {{.id = InfoOf(PixelFormat::kXrgb8888).drm, .modifier = kLinearModifier}}};
  CHECK(refused(xrgb, PixelFormat::kNv12).find("format and modifier") != std::string::npos);
  CHECK(refused(xrgb, PixelFormat::kXrgb8888).empty());
  const Constraints apart{.planes = PlaneFds::kSeparate};
  CHECK(refused(apart, PixelFormat::kNv12).find("buffer of its own") != std::string::npos);
  CHECK(refused(apart, PixelFormat::kXrgb8888).empty());
}

TEST_CASE(
    "OffersOf: memory of a driver that makes frames is not said to lie in the kernel's zones") {
  const LeakCheck leaks;
  Board manager = Opened<Board>();
  const HeapOffers offers = OffersOf(manager);
  REQUIRE(offers.span().size() == 2);
  CHECK(offers.span()[0].guarantees.ram.unknown());
  CHECK(offers.span()[1].guarantees.ram.yes());
}

TEST_CASE("Choose: a heap's smallest and largest buffer and its number of buffers count") {
  const LeakCheck leaks;
  Board manager = Opened<Board>();
  const HeapOffers offers = OffersOf(manager);
  const auto verdict = [&](const Constraints& constraints) {
    const Party parties[] = {{"codec", constraints}};
    const Choice choice = Choose(parties, offers.span());
    REQUIRE(choice.verdicts().size() == 2);
    CHECK(choice.verdicts()[1].fits);
    const std::string text = Describe(choice.verdicts()[0], choice, parties, offers.span());
    return choice.verdicts()[0].fits ? std::string("fits") : text;
  };
  CHECK(verdict({.held = 4}) == "fits");
  CHECK(
      verdict({.held = 5}).find("held 5 of codec (declared), and the number of its buffers is 4") !=
      std::string::npos);
  CHECK(verdict({.slack = 5}).find("slack 5 of codec") != std::string::npos);
  CHECK(verdict({.size_max = 8192}) == "fits");
  CHECK(verdict({.size_max = 4096}).find("its smallest buffer is 8192") != std::string::npos);
  CHECK(verdict({.size_min = uint64_t{1} << 30}) == "fits");
  CHECK(verdict({.size_min = (uint64_t{1} << 30) + 1}).find("its largest buffer is 1073741824") !=
        std::string::npos);
}

TEST_CASE("AnyOf and AllOf: frames are of the interface that makes them") {
  const LeakCheck leaks;
  static_assert(AnyOf<Framer, MemfdBackend<>>::kCaps.frames);
  static_assert(!AnyOf<MemfdBackend<>>::kCaps.frames);
  const Request request{.bytes = 4096, .frame = {.width = 10, .height = 4, .stride = 40}};
  auto any = AnyOf<Framer, MemfdBackend<>>::Open({});
  REQUIRE(any.ok());
  Block block;
  REQUIRE(any->AllocateFrame(0, request, block).ok());
  CHECK(any->StatedOf(block).pitch == 256);
  CHECK(any->Release(block).ok());
  auto all = Both::Open({});
  REQUIRE(all.ok());
  REQUIRE(all->AllocateFrame(0, request, block).ok());
  CHECK(all->StatedOf(block).pitch == 256);
  CHECK(all->Release(block).ok());
  CHECK(all->AllocateFrame(1, request, block).code() == ENOTSUP);
  CHECK(all->AllocateFrame(2, request, block).code() == ENODEV);
  CHECK_FALSE(block.filled());
}

}  // namespace
}  // namespace ion::testing
