// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A stream: memory that is taken late, chosen by all its devices, and moved for a late one.

#include "ion/stream.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/constraints.h"
#include "ion/cpu_copy.h"
#include "ion/devices/declared.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "ion/sync_counts.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_device.h"
#include "tests/support/scripted_heap.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

template <Syscalls Sys>
using Heaps = Manager<DmaHeapBackend<Sys>, System, Dma>;

constexpr HeapId kCma{4};
constexpr Constraints kScattered{.cpu_read = CpuUse::kOften, .cpu_write = CpuUse::kOften};
constexpr Constraints kContiguous{.segments_max = 1};

FakeMachine Board(uint64_t cma = 4_MiB) {
  FakeMachine machine = Linux612Machine();
  for (FakeHeap& heap : machine.dma_heaps) {
    if (heap.name == "reserved") heap.bytes = cma;
  }
  return machine;
}

// A Manager over a fake kernel whose calls can fail, one client, and the offers of its heaps.
template <Syscalls Sys>
struct Rig {
  explicit Rig(const Sys& on)
      : sys(on),
        manager(Heaps<Sys>::Open({.sys = on})),
        client(manager->CreateClient({})),
        offers(OffersOf(*manager)) {}

  absl::StatusOr<BasicStream<Sys>> Reserve(const StreamOptions& options) {
    return BasicStream<Sys>::Reserve(*client, offers, options, sys);
  }
  HeapId Id(std::string_view name) const {
    for (const HeapOffer& offer : offers.span()) {
      if (offer.name.view() == name) return offer.id;
    }
    return kCma;
  }

  Sys sys;
  absl::StatusOr<Heaps<Sys>> manager;
  absl::StatusOr<typename Heaps<Sys>::Client> client;
  HeapOffers offers;
};
using FakeRig = Rig<FakeSyscalls>;

// A kernel of its own for each that is made; copies share it.
class BoardSyscalls : public FakeSyscalls {
 public:
  BoardSyscalls() : FakeSyscalls(Board()) {}
};
using FaultRig = Rig<FaultSyscallsOver<BoardSyscalls>>;

std::string Text(const absl::Status& status) { return std::string(status.message()); }
bool Has(const absl::Status& status, std::string_view part) {
  return Text(status).find(part) != std::string::npos;
}

std::vector<std::byte> Pattern(size_t bytes, unsigned seed = 1) {
  std::vector<std::byte> pattern(bytes);
  for (std::byte& one : pattern) one = std::byte((seed = seed * 1664525 + 1013904223) >> 24);
  return pattern;
}
template <Syscalls Sys>
void Fill(BasicStream<Sys>& stream, uint32_t buffer, unsigned seed) {
  auto mapping = stream.Map(buffer);
  REQUIRE_MESSAGE(mapping.ok(), Text(mapping.status()));
  auto cpu = mapping->Write();
  REQUIRE(cpu.ok());
  const auto pattern = Pattern(cpu->bytes().size(), seed);
  std::ranges::copy(pattern, cpu->bytes().begin());
  REQUIRE(std::move(*cpu).End().ok());
}
template <Syscalls Sys>
bool HasPattern(BasicStream<Sys>& stream, uint32_t buffer, unsigned seed) {
  auto mapping = stream.Map(buffer);
  REQUIRE_MESSAGE(mapping.ok(), Text(mapping.status()));
  auto cpu = mapping->Read();
  REQUIRE(cpu.ok());
  return std::ranges::equal(cpu->bytes(), Pattern(cpu->bytes().size(), seed));
}

TEST_CASE("Stream: attaching makes no call, and memory is taken at Commit, for all buffers") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera"), cpu("cpu", kScattered);
  auto stream = rig.Reserve({.buffers = 3, .bytes = 100'000});
  REQUIRE_MESSAGE(stream.ok(), Text(stream.status()));
  auto a = stream->Attach(camera);
  auto b = stream->Attach(cpu);
  REQUIRE(a.ok());
  REQUIRE_MESSAGE(b.ok(), Text(b.status()));
  CHECK_FALSE(stream->committed());
  CHECK(stream->generation() == 0);
  CHECK(camera.asked == 0);
  CHECK(rig.client->held_bytes() == 0);
  REQUIRE_MESSAGE(stream->Commit().ok(), Text(stream->Commit()));
  CHECK(stream->generation() == 1);
  CHECK(stream->heap() == rig.Id("system"));
  CHECK(stream->bytes() == 100'000);
  CHECK(camera.asked == 3);
  CHECK(rig.client->held_bytes() == 3 * *RoundUpToPages(100'000));
  CHECK(stream->Commit().ok());
  CHECK(stream->generation() == 1);
}

TEST_CASE("Stream: the first descriptor, mapping, or device mapping takes the memory") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera");
  for (int way = 0; way < 3; ++way) {
    auto stream = rig.Reserve({.buffers = 2, .bytes = 4096});
    REQUIRE(stream.ok());
    auto attachment = stream->Attach(camera);
    REQUIRE(attachment.ok());
    if (way == 0) CHECK(stream->fd(1).ok());
    if (way == 1) CHECK(stream->Map(1).ok());
    if (way == 2) CHECK(attachment->Map(1).ok());
    CHECK(stream->generation() == 1);
  }
  CHECK(camera.held.empty());
}

TEST_CASE("Stream: bad options are refused") {
  FakeRig rig{FakeSyscalls(Board())};
  CHECK(ErrnoOf(rig.Reserve({.buffers = 0, .bytes = 4096}).status()) == EINVAL);
  CHECK(ErrnoOf(rig.Reserve({.buffers = 1025, .bytes = 4096}).status()) == EINVAL);
  CHECK(ErrnoOf(rig.Reserve({.buffers = 1}).status()) == EINVAL);
  CHECK(ErrnoOf(rig.Reserve({.bytes = 4096, .image = ImageSpec{}}).status()) == EINVAL);
  auto stream = rig.Reserve({.bytes = 4096});
  REQUIRE(stream.ok());
  CHECK(ErrnoOf(stream->fd(1).status()) == EINVAL);
  CHECK(ErrnoOf(stream->Map(1).status()) == EINVAL);
  CHECK_FALSE(stream->committed());
}

TEST_CASE("Stream: a heap with room for 7 buffers gives none of 8") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board(7 * 64_KiB))};
  ScriptedDevice codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 8, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(codec);
  REQUIRE(attachment.ok());
  const absl::Status status = stream->Commit();
  CHECK(ErrnoOf(status) == ENOMEM);
  CHECK(Has(status, "8 buffers of 65536 bytes"));
  CHECK(Has(status, "reserved"));
  CHECK(Has(status, "segments_max 1 of codec"));
  CHECK(rig.client->held_bytes() == 0);
  CHECK_FALSE(stream->committed());
}

TEST_CASE("Stream: a device that refuses the memory makes the next heap be tried") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice picky("picky");
  const HeapId system = rig.Id("system");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(picky);
  REQUIRE(attachment.ok());
  // Nothing is known of the device: it is asked.
  size_t asked = 0;
  picky.refuses = [&](const DeviceMemory&) { return ++asked == 1; };
  REQUIRE_MESSAGE(stream->Commit().ok(), Text(stream->Commit()));
  CHECK(stream->heap() != system);
  CHECK(stream->generation() == 1);

  auto other = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(other.ok());
  ScriptedDevice never("never");
  never.refuses = [](const DeviceMemory&) { return true; };
  auto refused = other->Attach(never);
  REQUIRE(refused.ok());
  const absl::Status status = other->Commit();
  CHECK(ErrnoOf(status) == EFAULT);
  CHECK(Has(status, "system"));
  CHECK(Has(status, "reserved"));
  CHECK(Has(status, "the script refuses"));
  CHECK(rig.client->held_bytes() == 2 * 64_KiB);
}

TEST_CASE("Stream: a device that says yes and does not reach the memory is found by its pixels") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera"), bouncing("bouncing");
  const HeapId system = rig.Id("system");
  size_t looks = 0;
  // What the device writes to the system heap's memory goes to a copy.
  auto check = [&](DeviceRef device, const DeviceMemory& memory, const Buffer& buffer) noexcept {
    ++looks;
    const bool lost = device == DeviceRef(bouncing) && rig.manager->HeapOf(buffer) == system;
    if (!lost) return Error();
    return Error(EFAULT, "the pattern did not arrive",
                 {"pixels", Operation::kAttach, {}, memory.range.bytes});
  };
  {
    auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB, .pixels = check});
    REQUIRE(stream.ok());
    auto first = stream->Attach(camera);
    Fill(*stream, 0, 7);
    CHECK(stream->heap() == system);
    CHECK(looks == 2);
    // A late one is tried on other memory of the heap, so that the content stays.
    auto late = stream->Attach(bouncing);
    REQUIRE_MESSAGE(late.ok(), Text(late.status()));
    CHECK(stream->generation() == 2);
    CHECK(stream->heap() == rig.Id("reserved"));
    CHECK(HasPattern(*stream, 0, 7));
    auto mapping = late->Map(0);
    REQUIRE(mapping.ok());
    CHECK(mapping->segments() == uint64_t{1});
    const std::string text = stream->Describe();
    CHECK(text.find("generation 2, 2 buffers of 65536 bytes") != text.npos);
    CHECK(text.find("device bouncing: 1 buffers mapped, 0 in use") != text.npos);
    CHECK(text.find("buffer 0: ") != text.npos);
  }
  auto stream = rig.Reserve({.buffers = 1, .bytes = 64_KiB, .pixels = check});
  REQUIRE(stream.ok());
  CHECK(stream->Describe() == "stream : 1 buffers, no memory yet\n");
  auto only = stream->Attach(bouncing);
  REQUIRE(stream->Commit().ok());
  CHECK(stream->heap() == rig.Id("reserved"));
}

TEST_CASE("Stream: a late device moves the memory, with its content, to a new generation") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(first.ok());
  Fill(*stream, 0, 7);
  Fill(*stream, 1, 8);
  auto mapping = stream->Map(0);
  REQUIRE(mapping.ok());
  const std::byte* before = nullptr;
  {
    auto scope = mapping->Read();
    REQUIRE(scope.ok());
    before = scope->bytes().data();
  }
  auto device = first->Map(0);
  REQUIRE(device.ok());
  const Imported old = *device->imported();
  CHECK(stream->heap() == rig.Id("system"));

  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(stream->heap() == rig.Id("reserved"));
  CHECK(stream->moves().moves == 1);
  CHECK(stream->moves().bytes == 2 * 64_KiB);
  CHECK(HasPattern(*stream, 0, 7));
  CHECK(HasPattern(*stream, 1, 8));
  {
    auto scope = mapping->Read();
    REQUIRE(scope.ok());
    CHECK(scope->bytes().data() == before);
    CHECK(std::ranges::equal(scope->bytes(), Pattern(64_KiB, 7)));
  }
  // The device's mapping was dropped, and is made again.
  CHECK(cpu.held.empty());
  CHECK(*device->imported() != old);
  CHECK(cpu.held.size() == 1);
  CHECK(rig.client->held_bytes() == 2 * 64_KiB);
}

TEST_CASE("Stream: a late device that can use the memory moves nothing") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), gpu("gpu");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(first.ok());
  REQUIRE(stream->Commit().ok());
  auto late = stream->Attach(gpu);
  REQUIRE(late.ok());
  CHECK(gpu.asked == 2);
  CHECK(stream->generation() == 1);
  CHECK(stream->moves().moves == 0);
}

TEST_CASE("Stream: whoever uses the memory prevents a move, and is named") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 1, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(first.ok());
  Fill(*stream, 0, 3);
  const auto refused = [&](std::string_view why) {
    const auto late = stream->Attach(codec);
    CHECK(late.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK_MESSAGE(Has(late.status(), why), Text(late.status()));
    CHECK(stream->generation() == 1);
    CHECK(HasPattern(*stream, 0, 3));
  };
  {
    auto mapping = stream->Map(0);
    REQUIRE(mapping.ok());
    auto scope = mapping->Read();
    REQUIRE(scope.ok());
    refused("a CPU scope of a buffer is open");
  }
  {
    auto mapping = first->Map(0);
    REQUIRE(mapping.ok());
    REQUIRE(mapping->BeginUse(Direction::kRead).ok());
    CHECK(ErrnoOf(mapping->BeginUse(Direction::kRead)) == EBUSY);
    refused("stream cpu: move 65536 bytes (the device uses a buffer)");
    CHECK(mapping->EndUse().ok());
    CHECK(ErrnoOf(mapping->EndUse()) == EINVAL);
    cpu.busy.insert(mapping->imported()->number);
    refused("the device has a buffer in use");
    cpu.busy.clear();
  }
  CHECK(stream->moves().refused == 3);
  {
    auto moved = stream->Attach(codec);
    CHECK_MESSAGE(moved.ok(), Text(moved.status()));
    CHECK(stream->generation() == 2);
    CHECK(HasPattern(*stream, 0, 3));
  }
}

TEST_CASE("Stream: memory whose descriptor was given out does not move") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 1, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(first.ok());
  REQUIRE(stream->fd(0).ok());
  const auto late = stream->Attach(codec);
  CHECK(late.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(Has(late.status(), "the descriptor of a buffer was given out"));
}

TEST_CASE("Stream: moves can be forbidden") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 1, .bytes = 64_KiB, .moves = false});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(stream->Commit().ok());
  const auto late = stream->Attach(codec);
  CHECK(late.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(ErrnoOf(late.status()) == EBUSY);
  CHECK(Has(late.status(), "StreamOptions::moves forbids to move it"));
  CHECK(stream->generation() == 1);
}

TEST_CASE("Stream: a move with nowhere to go names the device, its demand and the heaps") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board(32_KiB))};
  ScriptedDevice cpu("cpu", kScattered), vivid("vivid", kContiguous);
  auto stream = rig.Reserve({.buffers = 1, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  Fill(*stream, 0, 5);
  const auto late = stream->Attach(vivid);
  CHECK(ErrnoOf(late.status()) == ENOMEM);
  CHECK(Has(late.status(), "segments_max 1 of vivid"));
  CHECK(Has(late.status(), "reserved"));
  CHECK(Has(late.status(), "system"));
  CHECK(stream->generation() == 1);
  CHECK(HasPattern(*stream, 0, 5));
}

TEST_CASE("Stream: devices are attached once, and no more than the bound") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  auto stream = rig.Reserve({.bytes = 4096});
  REQUIRE(stream.ok());
  std::vector<DeclaredDevice> devices;
  static constexpr Constraints kNone{};
  for (int i = 0; i < 16; ++i) devices.emplace_back(Party("one of many", kNone));
  std::vector<BasicAttachment<FakeSyscalls>> attachments;
  for (int i = 0; i < 15; ++i) {
    auto attachment = stream->Attach(devices[i]);
    REQUIRE(attachment.ok());
    attachments.push_back(*std::move(attachment));
  }
  CHECK(ErrnoOf(stream->Attach(devices[15]).status()) == E2BIG);
  CHECK(ErrnoOf(stream->Attach(devices[3]).status()) == EEXIST);
  CHECK(attachments[3].Detach().ok());
  CHECK(stream->Attach(devices[3]).ok());
}

TEST_CASE("Stream: demands that exclude each other are told when the device comes") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  constexpr Constraints kNarrow{.stride_max = 1024}, kWide{.stride_min = 2048};
  ScriptedDevice narrow("narrow", kNarrow), wide("wide", kWide);
  auto stream =
      rig.Reserve({.image = ImageSpec{.format = PixelFormat::kR8, .width = 640, .height = 480}});
  REQUIRE(stream.ok());
  auto a = stream->Attach(narrow);
  REQUIRE(a.ok());
  const auto b = stream->Attach(wide);
  CHECK(Has(b.status(), "narrow"));
  CHECK(Has(b.status(), "wide"));
  CHECK(stream->Commit().ok());
}

TEST_CASE("Stream: a device with another stride moves the image, row by row") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  constexpr Constraints kStride{.stride_multiple = 256};
  ScriptedDevice cpu("cpu", kScattered), gpu("gpu", kStride);
  auto stream =
      rig.Reserve({.image = ImageSpec{.format = PixelFormat::kR8, .width = 100, .height = 40}});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  {
    auto mapping = stream->Map(0);
    REQUIRE(mapping.ok());
    CHECK(stream->image()->plane[0].stride == 100);
    auto scope = mapping->Write();
    REQUIRE(scope.ok());
    for (unsigned y = 0; y < 40; ++y) {
      for (unsigned x = 0; x < 100; ++x) scope->bytes()[y * 100 + x] = std::byte(x ^ y * 3);
    }
  }
  {
    auto mapping = stream->Map(0);
    const auto refused = stream->Attach(gpu);
    CHECK(Has(refused.status(), "the new memory has another size"));
    CHECK(stream->generation() == 1);
  }
  auto late = stream->Attach(gpu);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(stream->image()->plane[0].stride == 256);
  auto mapping = stream->Map(0);
  REQUIRE(mapping.ok());
  auto scope = mapping->Read();
  REQUIRE(scope.ok());
  for (unsigned y = 0; y < 40; ++y) {
    for (unsigned x = 0; x < 100; ++x) {
      REQUIRE(scope->bytes()[y * 256 + x] == std::byte(x ^ y * 3));
    }
  }
}

TEST_CASE("Attachment: detach with a live mapping, use after detach, and unmap at the end") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 4096});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(camera);
  REQUIRE(attachment.ok());
  {
    auto mapping = attachment->Map(0);
    REQUIRE(mapping.ok());
    const Imported once = *mapping->imported();
    auto again = attachment->Map(0);
    CHECK(*again->imported() == once);
    CHECK(camera.held.size() == 1);
    CHECK(ErrnoOf(attachment->Detach()) == EBUSY);
    CHECK(ErrnoOf(attachment->Map(2).status()) == EINVAL);
  }
  // Kept for the next one.
  CHECK(camera.held.size() == 1);
  CHECK(attachment->Detach().ok());
  CHECK(camera.held.empty());
  CHECK(ErrnoOf(attachment->Map(0).status()) == EINVAL);
  CHECK(ErrnoOf(attachment->Detach()) == EINVAL);

  auto second = stream->Attach(camera);
  REQUIRE(second.ok());
  auto mapping = second->Map(1);
  REQUIRE(mapping.ok());
  { const auto ended = *std::move(second); }
  CHECK(camera.held.empty());
  CHECK(ErrnoOf(mapping->imported().status()) == EINVAL);
  CHECK(ErrnoOf(mapping->BeginUse(Direction::kWrite)) == EINVAL);
}

TEST_CASE("Attachment: what belongs to a stream may outlive it") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera");
  std::optional<BasicAttachment<FakeSyscalls>> attachment;
  std::optional<BasicMovableMapping<FakeSyscalls>> mapping;
  {
    auto stream = rig.Reserve({.buffers = 1, .bytes = 4096});
    REQUIRE(stream.ok());
    attachment.emplace(*stream->Attach(camera));
    mapping.emplace(*stream->Map(0));
  }
  CHECK(ErrnoOf(attachment->Map(0).status()) == EINVAL);
  auto scope = mapping->Write();
  REQUIRE(scope.ok());
  scope->bytes()[0] = std::byte{1};
}

TEST_CASE("Stream: a device that vanishes leaves nothing behind") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 4096});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(camera);
  REQUIRE(attachment->Map(0).ok());
  camera.map_errno = camera.unmap_errno = ENODEV;
  CHECK(ErrnoOf(attachment->Map(1).status()) == ENODEV);
  CHECK(ErrnoOf(attachment->Detach()) == ENODEV);
  CHECK(ErrnoOf(attachment->Detach()) == EINVAL);
  CHECK(camera.held.empty());
  CHECK(stream->Attach(camera).ok());
}

TEST_CASE("Stream: its buffers can be taken as ordinary ones") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 4096});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(camera);
  auto mapping = stream->Map(0);
  REQUIRE(mapping.ok());
  Fill(*stream, 1, 9);
  auto buffers = std::move(*stream).TakeBuffers();
  REQUIRE(buffers.ok());
  REQUIRE(buffers->size() == 2);
  std::vector<std::byte> bytes(4096);
  REQUIRE(CopyFrom((*buffers)[1], bytes).ok());
  CHECK(std::ranges::equal(bytes, Pattern(4096, 9)));
  CHECK(ErrnoOf(mapping->Read().status()) == EINVAL);
  CHECK(ErrnoOf(attachment->Map(0).status()) == EINVAL);
}

TEST_CASE("Stream: after its buffers were taken, its devices have nothing of it") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice camera("camera"), late("late");
  auto stream = rig.Reserve({.buffers = 2, .bytes = 4096});
  REQUIRE(stream.ok());
  auto attachment = stream->Attach(camera);
  auto mapping = attachment->Map(0);
  REQUIRE(mapping.ok());
  BasicStream<FakeSyscalls>& ended = *stream;
  auto buffers = std::move(*stream).TakeBuffers();
  REQUIRE(buffers.ok());
  CHECK(camera.held.empty());
  CHECK(ErrnoOf(mapping->imported().status()) == EINVAL);
  CHECK(ErrnoOf(mapping->BeginUse(Direction::kWrite)) == EINVAL);
  CHECK(ErrnoOf(ended.Attach(late).status()) == EINVAL);
}

TEST_CASE("Stream: a late device that takes only smaller buffers moves the memory") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  constexpr Constraints kLarge{.size_min = 256_KiB}, kSmall{.size_max = 128_KiB};
  ScriptedDevice large("large", kLarge), small("small", kSmall), any("any");
  auto stream = rig.Reserve({.bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(large);
  REQUIRE(stream->Commit().ok());
  CHECK(stream->bytes() == 256_KiB);
  REQUIRE(first->Detach().ok());
  auto second = stream->Attach(any);
  REQUIRE(second.ok());
  CHECK(stream->generation() == 1);
  auto third = stream->Attach(small);
  REQUIRE_MESSAGE(third.ok(), Text(third.status()));
  CHECK(stream->generation() == 2);
  CHECK(stream->bytes() == 64_KiB);
}

TEST_CASE("Stream: what the CPU wrote is in memory before a device lets go of it, or is asked") {
  const LeakCheck leaks;
  for (int way = 0; way < 6; ++way) {
    CAPTURE(way);
    FakeRig rig{FakeSyscalls(Board())};
    uint64_t ends = 0;
    ScriptedDevice camera("camera"), late("late"), snoops("snoops");
    snoops.told.coherent = true;
    auto stream = rig.Reserve({.bytes = 64_KiB});
    REQUIRE(stream.ok());
    auto attachment = stream->Attach(camera);
    auto coherent = stream->Attach(snoops);
    REQUIRE(attachment->Map(0).ok());
    REQUIRE(coherent->Map(0).ok());
    Fill(*stream, 0, 1);
    CHECK(stream->cpu_counts(0).ends == 0);
    // Nothing is sent for a device that sees the caches.
    CHECK(coherent->Detach().ok());
    CHECK(stream->cpu_counts(0).ends == 0);
    late.at_kernel = camera.at_kernel = [&] { ends = stream->cpu_counts(0).ends; };
    if (way == 0) CHECK(attachment->Detach().ok());
    if (way == 1) {
      attachment = absl::CancelledError("dropped");
    }
    if (way == 2) CHECK(stream->Attach(late).ok());
    if (way == 3) CHECK(std::move(*stream).TakeBuffers().ok());
    if (way == 4) {
      // Also what an open scope wrote, which is sent once more when it ends.
      auto mapping = stream->Map(0);
      auto scope = mapping->Write();
      CHECK(attachment->Detach().ok());
      CHECK(std::move(*scope).End().ok());
    }
    if (way == 5) {
      auto mapping = stream->Map(0);
      auto scope = mapping->ReadWrite();
      CHECK(stream->Attach(late).ok());
    }
    // The begin of the last scope, which reads, has sent one before.
    CHECK(ends == (way == 5 ? 2 : 1));
  }
}

TEST_CASE("Stream: memory that a device did not let go of, or whose descriptor left, stays alone") {
  const LeakCheck leaks;
  auto manager = Manager<MemfdBackend<>, Pooled<System>>::Open();
  REQUIRE_MESSAGE(manager.ok(), Text(manager.status()));
  auto client = manager->CreateClient({});
  HeapOffers offers;
  offers.Add({HeapId{0}, "system", Guarantees{.ram = true, .mappable = true}});
  const auto file = [](FdRef fd) {
    struct stat status {};
    CHECK(::fstat(fd.get(), &status) == 0);
    return status.st_ino;
  };
  for (int way = 0; way < 4; ++way) {
    CAPTURE(way);
    ino_t before = 0;
    ScriptedDevice camera("camera");
    camera.refuses = [&](const DeviceMemory& memory) {
      before = file(memory.range.fd);
      return false;
    };
    {
      auto stream = Stream::Reserve(*client, offers, {.bytes = 64_KiB});
      auto attachment = stream->Attach(camera);
      auto mapping = attachment->Map(0);
      REQUIRE(mapping.ok());
      if (way == 0) {
        camera.unmap_errno = EBUSY;
        attachment = absl::CancelledError("dropped");
      }
      if (way == 1) {
        REQUIRE(mapping->BeginUse(Direction::kWrite).ok());
        attachment = absl::CancelledError("dropped");
      }
      if (way == 2) {
        REQUIRE(stream->fd(0).ok());
        CHECK(std::move(*stream).TakeBuffers().ok());
      }
      if (way == 3) CHECK(std::move(*stream).TakeBuffers().ok());
    }
    auto next = Stream::Reserve(*client, offers, {.bytes = 64_KiB});
    const bool recycled = file(*next->fd(0)) == before;
    CHECK(recycled == (way == 3));
  }
}

TEST_CASE("Stream: 300 frames from a camera by the CPU to a display, with the fewest flushes") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  FaultRig rig{FaultSyscallsOver<BoardSyscalls>(faults)};
  ScriptedDevice camera("camera"), display("display"), cpu("cpu", kScattered);
  auto stream = rig.Reserve({.buffers = 3, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto a = stream->Attach(camera);
  auto b = stream->Attach(cpu);
  auto c = stream->Attach(display);
  for (uint32_t frame = 0; frame < 3; ++frame) REQUIRE(stream->Map(frame).ok());
  faults->Begin({});
  for (uint32_t frame = 0; frame < 300; ++frame) {
    auto in = a->Map(frame % 3);
    REQUIRE(in->BeginUse(Direction::kWrite).ok());
    REQUIRE(in->EndUse().ok());
    auto mapping = stream->Map(frame % 3);
    auto scope = mapping->ReadWrite();
    REQUIRE(scope.ok());
    REQUIRE(std::move(*scope).End().ok());
    {
      auto again = mapping->Read();
      REQUIRE(again.ok());
    }
    auto out = c->Map(frame % 3);
    REQUIRE(out->BeginUse(Direction::kRead).ok());
    REQUIRE(out->EndUse().ok());
  }
  faults->End();
  // For each frame one begin, which fetches what the camera wrote and lets the CPU write, and one
  // end, which cleans it for the display.
  CHECK(faults->Count("ioctl DMA_BUF_IOCTL_SYNC") == 600);
  for (uint32_t buffer = 0; buffer < 3; ++buffer) {
    const SyncCounts counts = stream->cpu_counts(buffer);
    CHECK(counts.begins == 100);
    CHECK(counts.ends == 100);
    CHECK(counts.elided_begins == 100);
  }
}

// What a Manager reports of the buffers of streams.
std::vector<SyncCounts> Reported(const Report& report) {
  std::vector<SyncCounts> all;
  for (const BufferReport& buffer : report.buffers) {
    if (buffer.syncs.has_value()) all.push_back(*buffer.syncs);
  }
  return all;
}

TEST_CASE("Stream: a Manager's report has the begins and ends of each buffer, also after a move") {
  const LeakCheck leaks;
  FakeRig rig{FakeSyscalls(Board())};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  const auto plain = rig.client->Allocate({.bytes = 4096});
  REQUIRE(plain.ok());
  auto stream = rig.Reserve({.bytes = 64_KiB, .name = "frame"});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  CHECK(Reported(rig.manager->MakeReport()).empty());
  Fill(*stream, 0, 1);
  CHECK(HasPattern(*stream, 0, 1));
  Fill(*stream, 0, 1);
  const SyncCounts before = stream->cpu_counts(0);
  CHECK(before.begins != 0);
  CHECK(before.elided_ends != 0);
  CHECK(Reported(rig.manager->MakeReport()) == std::vector{before});
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(HasPattern(*stream, 0, 1));
  const SyncCounts after = stream->cpu_counts(0);
  CHECK(after.begins > before.begins);
  CHECK(Reported(rig.manager->MakeReport()) == std::vector{after});
  const std::string text = SyncText(rig.manager->MakeReport());
  CHECK(text.find("           frame        65536 ") != text.npos);
  const auto taken = std::move(*stream).TakeBuffers();
  REQUIRE_MESSAGE(taken.ok(), Text(taken.status()));
  CHECK(rig.manager->MakeReport().buffers.size() == 2);
  CHECK(Reported(rig.manager->MakeReport()).empty());
}

// A stream of two buffers moves for a late device while something fails. Returns true if nothing
// failed.
template <class R, class Begin, class End>
bool MoveWhile(R& rig, Begin begin, End end) {
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(first.ok());
  Fill(*stream, 0, 7);
  Fill(*stream, 1, 8);
  auto mapping = stream->Map(0);
  REQUIRE(mapping.ok());
  REQUIRE(first->Map(0).ok());
  begin();
  auto late = stream->Attach(codec);
  const bool failed = end();
  if (late.ok()) {
    CHECK(stream->generation() == 2);
    CHECK(stream->heap() == rig.Id("reserved"));
  } else {
    CHECK(failed);
    CHECK(ErrnoOf(late.status()) != 0);
    CHECK(stream->generation() == 1);
    CHECK(stream->heap() == rig.Id("system"));
  }
  // The address may be lost with the kernel's word for it; the content is not.
  auto scope = mapping->Read();
  if (scope.ok()) CHECK(std::ranges::equal(scope->bytes(), Pattern(64_KiB, 7)));
  if (!scope.ok()) CHECK(ErrnoOf(scope.status()) == EFAULT);
  CHECK(HasPattern(*stream, 0, 7));
  CHECK(HasPattern(*stream, 1, 8));
  CHECK(first->Map(0).ok());
  CHECK(rig.client->held_bytes() == 2 * 64_KiB);
  return !failed;
}

TEST_CASE("Stream: each system call of a move fails once, and nothing is lost") {
  size_t points = 0;
  for (const unsigned times : {1u, 2u}) {
    for (size_t n = 0;; ++n) {
      const LeakCheck leaks;
      const auto faults = std::make_shared<Faults>();
      FaultRig rig{FaultSyscallsOver<BoardSyscalls>(faults)};
      CAPTURE(n);
      const bool done = MoveWhile(
          rig, [&] { faults->Begin({.n = n, .code = EIO, .times = times}); },
          [&] {
            faults->End();
            return faults->failed().has_value();
          });
      CHECK(rig.client->held_bytes() == 0);
      if (done) break;
      ++points;
    }
  }
  CHECK(points > 20);
}

TEST_CASE("Stream: a mapping that a move lost is there again after the next move") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  FaultRig rig{FaultSyscallsOver<BoardSyscalls>(faults)};
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  Fill(*stream, 0, 7);
  auto mapping = stream->Map(0);
  REQUIRE(mapping.ok());
  faults->Begin({.n = 0, .call = "mmap MAP_FIXED", .code = ENOMEM, .times = 2});
  CHECK(ErrnoOf(stream->Attach(codec).status()) == ENOMEM);
  faults->End();
  CHECK(ErrnoOf(mapping->Read().status()) == EFAULT);
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  auto scope = mapping->Read();
  REQUIRE(scope.ok());
  CHECK(std::ranges::equal(scope->bytes(), Pattern(64_KiB, 7)));
}

// Two heaps of memfds, of which one is said to be contiguous: a fake kernel allocates, too.
struct MemfdRig {
  using B = MemfdBackend<>;
  using M = Manager<B, ScriptedHeap<B, HeapScript{.id = 0}>, ScriptedHeap<B, HeapScript{.id = 4}>>;

  MemfdRig() : manager(M::Open()), client(manager->CreateClient({})) {
    const Guarantees scattered{.ram = true, .mappable = true};
    Guarantees contiguous = scattered;
    contiguous.segments = 1;
    offers.Add({HeapId{0}, "system", scattered});
    offers.Add({HeapId{4}, "reserved", contiguous});
  }
  absl::StatusOr<Stream> Reserve(const StreamOptions& options) {
    return Stream::Reserve(*client, offers, options);
  }
  HeapId Id(std::string_view name) const { return name == "system" ? HeapId{0} : HeapId{4}; }

  absl::StatusOr<M> manager;
  absl::StatusOr<M::Client> client;
  HeapOffers offers;
};

TEST_CASE("Stream: each operator new of a move fails once, and nothing is lost") {
  size_t points = 0;
  for (size_t n = 0;; ++n) {
    const LeakCheck leaks;
    MemfdRig rig;
    CAPTURE(n);
    if (MoveWhile(
            rig, [&] { FaultNew::Begin(n); }, [] { return FaultNew::End(); })) {
      break;
    }
    CHECK(rig.client->held_bytes() == 0);
    ++points;
  }
  CHECK(points > 3);
}

}  // namespace
}  // namespace ion::testing
