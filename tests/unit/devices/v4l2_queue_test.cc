// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/devices/v4l2_queue.h"

#include <linux/videodev2.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_v4l2.h"
#include "tests/support/fault_new.h"
#include "tests/support/leak_check.h"
#include "tests/support/temp_dir.h"
#include "third_party/ion_uapi/v4l2.h"

namespace ion::testing {
namespace {

using Q = V4l2Queue<FakeV4l2Syscalls>;
using Verdict = Acceptance::Verdict;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kFrameBytes = 2 * 320 * 240;

// Memory of its own inode.
class Memory {
 public:
  explicit Memory(uint64_t bytes = *RoundUpToPages(kFrameBytes))
      : fd_(::memfd_create("frame", MFD_CLOEXEC)), bytes_(bytes) {
    REQUIRE(::ftruncate(fd_.get(), static_cast<off_t>(bytes)) == 0);
  }
  DeviceMemory all() const { return {.range = {fd_.borrow(), 0, bytes_}}; }

 private:
  UniqueFd fd_;
  uint64_t bytes_;
};

// A device, and what it must not hold at the end.
class Machine {
 public:
  Machine() {
    device.path = directory.File("video0");
    options.sys = FakeV4l2Syscalls(&device);
    options.errors = errors;
    options.node = device.path;
    options.slots = 3;
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() {
    CHECK(device.nodes.empty());
    CHECK(device.held() == 0);
  }
  Q Open() {
    Result<Q> queue = Q::Open(options);
    REQUIRE(Told(queue.error()) == "ok");
    return *std::move(queue);
  }
  Error Refused() { return Q::Open(options).error(); }

  const LeakCheck leaks;
  FakeV4l2 device;
  TempDir directory;
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();
  Q::Options options;
};

Imported Mapped(Q& queue, const Memory& memory) {
  const Result<Imported> mapped = queue.Map(memory.all());
  REQUIRE(Told(mapped.error()) == "ok");
  CHECK(mapped->kind == Imported::Kind::kQueueSlot);
  return *mapped;
}

Clock::time_point Soon() { return Clock::now() + std::chrono::seconds(10); }

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("V4l2Queue: its constraints are the driver's word over the caller's") {
  Machine machine;
  machine.device.pitch_multiple = 256;
  machine.device.least_buffers = 2;
  machine.options.width = 100;
  machine.options.constraints = {.size_min = 1,
                                 .held = 4,
                                 .buffers_max = 100,
                                 .segments_max = 1,
                                 .exporter_needs = ExporterNeeds::kVmap,
                                 .stride_exact = 200};
  const Q queue = machine.Open();
  const Party party = queue.party();
  REQUIRE(party.alternatives.size() == 1);
  const Constraints& c = party.alternatives[0];
  CHECK(c.size_min == Stated<uint64_t>(FromKernel(256 * 240)));
  CHECK(c.stride_exact == Stated<uint64_t>(FromKernel(256)));
  CHECK(c.held == Stated<uint64_t>(4));
  CHECK(c.buffers_max == Stated<uint64_t>(3));
  CHECK(c.segments_max == Stated<uint64_t>(1));
  CHECK(c.exporter_needs.value() == (ExporterNeeds::kVmap | ExporterNeeds::kExportByUs));
  CHECK(c.planes.value() == PlaneFds::kOne);
  CHECK(c.formats.source().how == How::kKernel);
  REQUIRE(c.formats.formats().size() == 1);
  CHECK(c.formats.formats()[0].id == DrmCodeOf(PixelFormat::kYuyv));
  CHECK_FALSE(c.address_limit.stated());
  CHECK(queue.traits().maps_at_import.yes());
  CHECK(queue.stride() == 256);
}

TEST_CASE("V4l2Queue: a driver's larger number of held buffers goes before the caller's") {
  Machine machine;
  machine.device.least_buffers = 5;
  machine.options.constraints.held = 4;
  const Q queue = machine.Open();
  CHECK(queue.party().alternatives[0].held == Stated<uint64_t>(FromKernel(5)));
}

TEST_CASE("V4l2Queue: it tells the driver's names, and is named by its node or the caller") {
  Machine machine;
  const Q queue = machine.Open();
  CHECK(queue.driver() == "fake");
  CHECK(queue.card() == std::string(32, 'c'));
  CHECK(queue.party().name == PartyName::From(machine.device.path));
  machine.options.name = "camera";
  machine.options.need = Party::Kind::kDispensable;
  const Q named = machine.Open();
  CHECK(named.party().name.view() == "camera");
  CHECK(named.party().kind == Party::Kind::kDispensable);
}

TEST_CASE("V4l2Queue: without a wish no format is set, and a set one that changes is EINVAL") {
  Machine machine;
  (void)machine.Open();
  CHECK(std::ranges::count(machine.device.requests, VIDIOC_S_FMT) == 0);
  machine.options.width = 101;
  CHECK(Kind(machine.Refused()) == "EINVAL open");
  machine.options.width = 0;
  machine.options.format = V4L2_PIX_FMT_RGB24;
  CHECK(Contains(machine.Refused().hint(), "VIDIOC_ENUM_FMT"));
  machine.options.format = V4L2_PIX_FMT_NV12;
  machine.options.width = 320;
  CHECK(machine.Open().frame_bytes() == 320 * 240 * 3 / 2);
}

TEST_CASE(
    "V4l2Queue: a node without such a queue is ENODEV, and one of another kind gets no ioctl") {
  Machine machine;
  for (const uint32_t caps : {0u, uint32_t{V4L2_CAP_STREAMING}, uint32_t{V4L2_CAP_VIDEO_CAPTURE},
                              uint32_t{V4L2_CAP_VIDEO_OUTPUT | V4L2_CAP_STREAMING}}) {
    machine.device.caps = caps;
    CHECK(Kind(machine.Refused()) == "ENODEV open");
  }
  machine.device.caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
  machine.options.kind = V4l2QueueKind::kOutput;
  CHECK(Kind(machine.Refused()) == "ENODEV open");
  machine.device.requests.clear();
  machine.device.major = 10;
  CHECK(Kind(machine.Refused()) == "ENODEV open");
  machine.device.major = ion_uapi::kV4l2Major;
  machine.device.type = S_IFREG;
  CHECK(Kind(machine.Refused()) == "ENODEV open");
  CHECK(machine.device.requests.empty());
  machine.options.node = machine.directory.At("video7");
  CHECK(Kind(machine.Refused()) == "ENOENT open");
  CHECK(machine.Refused().hint() != nullptr);
}

TEST_CASE("V4l2Queue: a queue of another program, or one that imports nothing, is an error") {
  Machine machine;
  machine.device.other_owner = true;
  CHECK(Kind(machine.Refused()) == "EBUSY open");
  machine.options.width = 100;
  CHECK(Kind(machine.Refused()) == "EBUSY open");
  machine.device.other_owner = false;
  machine.device.imports = false;
  CHECK(Kind(machine.Refused()) == "EINVAL open");
  CHECK(Contains(machine.Refused().hint(), "v4l2_export"));
  machine.options.slots = 0;
  CHECK(Kind(machine.Refused()) == "EINVAL open");
}

TEST_CASE("V4l2Queue: memory that it takes is let go, over PREPARE_BUF and over QBUF") {
  for (const bool prepares : {true, false}) {
    Machine machine;
    machine.device.prepares = prepares;
    Q queue = machine.Open();
    const Memory memory;
    const Acceptance answer = queue.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kTakes);
    CHECK(answer.error.ok());
    CHECK(machine.device.slots.empty());
    CHECK_FALSE(machine.device.streaming);
  }
}

TEST_CASE("V4l2Queue: a refusal of the memory is told apart from one of the queue") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  for (const int code : {EINVAL, EFAULT, ENOMEM}) {
    machine.device.maps = -code;
    const Acceptance answer = queue.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kRefuses);
    CHECK(answer.error.code() == code);
    CHECK(answer.error.hint() != nullptr);
    CHECK(machine.device.slots.empty());
  }
  for (const int code : {ENODEV, EIO, EBUSY, EBADR}) {
    machine.device.maps = -code;
    const Acceptance answer = queue.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kCannotAsk);
    CHECK(answer.error.code() == code);
    CHECK(machine.device.slots.empty());
  }
  machine.device.maps = 0;
  machine.device.other_owner = true;
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kCannotAsk);
  machine.device.other_owner = false;
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
}

TEST_CASE("V4l2Queue: memory that no driver has to see is refused without a call") {
  Machine machine;
  Q queue = machine.Open();
  machine.device.requests.clear();
  const Memory memory;
  DeviceMemory part = memory.all();
  part.range.offset = PageBytes();
  part.range.bytes -= PageBytes();
  for (const DeviceMemory& wrong :
       {part, DeviceMemory{.range = {memory.all().range.fd, 0, kFrameBytes - 1}},
        DeviceMemory{.range = {memory.all().range.fd, 0, uint64_t{1} << 32}}}) {
    const Acceptance answer = queue.Accepts(wrong);
    CHECK(answer.verdict == Verdict::kRefuses);
    CHECK(Kind(answer.error) == "EINVAL attach");
    CHECK(Kind(queue.Map(wrong).error()) == "EINVAL attach");
  }
  CHECK(machine.device.requests.empty());
}

TEST_CASE("V4l2Queue: an image of another layout than the queue's is refused") {
  Machine machine;
  machine.options.format = V4L2_PIX_FMT_NV12;
  Q queue = machine.Open();
  const Memory memory;
  ImageSpec spec{.format = PixelFormat::kNv12, .width = 320, .height = 240};
  const auto takes = [&] {
    ImageLayout image;
    REQUIRE(ComputeLayout(spec, image).ok());
    DeviceMemory of_image = memory.all();
    of_image.image = &image;
    return queue.Accepts(of_image).verdict == Verdict::kTakes;
  };
  CHECK(takes());
  spec.limits.tail_rows = 8;
  CHECK(takes());
  spec.limits.stride_multiple = 256;
  CHECK_FALSE(takes());
  spec.limits = {.height_multiple = 128};  // its second plane begins later
  CHECK_FALSE(takes());
  spec = {.format = PixelFormat::kYuyv, .width = 160, .height = 240};
  CHECK_FALSE(takes());
}

TEST_CASE("V4l2Queue: a queue with a mapped slot, or one that streams, is not asked") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  machine.device.requests.clear();
  Acceptance answer = queue.Accepts(memory.all());
  CHECK(answer.verdict == Verdict::kCannotAsk);
  CHECK(Kind(answer.error) == "EBUSY attach");
  REQUIRE(queue.Unmap(slot).ok());
  REQUIRE(queue.Start().ok());
  answer = queue.Accepts(memory.all());
  CHECK(answer.verdict == Verdict::kCannotAsk);
  CHECK(Kind(answer.error) == "EBUSY attach");
  REQUIRE(queue.Stop().ok());
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
}

TEST_CASE("V4l2Queue: it streams through mapped slots, of which one that is queued is in use") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory[2];
  const Imported slots[] = {Mapped(queue, memory[0]), Mapped(queue, memory[1])};
  CHECK(slots[0] != slots[1]);
  for (const Imported& slot : slots) {
    CHECK_FALSE(queue.InUse(slot));
    REQUIRE(Told(queue.Queue(slot)) == "ok");
    CHECK(queue.InUse(slot));
    CHECK(Kind(queue.Queue(slot)) == "EBUSY stream");
    CHECK(Kind(queue.Unmap(slot)) == "EBUSY detach");
  }
  REQUIRE(Told(queue.Start()) == "ok");
  CHECK(queue.streaming());
  for (uint32_t i = 0; i < 6; ++i) {
    const Result<V4l2Done> done = queue.Dequeue(Soon());
    REQUIRE(Told(done.error()) == "ok");
    CHECK(done->slot == slots[i % 2]);
    CHECK(done->bytes_used == kFrameBytes);
    CHECK(done->sequence == i);
    CHECK(done->timestamp == std::chrono::seconds(7) + std::chrono::microseconds(5));
    CHECK_FALSE(done->spoilt);
    CHECK_FALSE(queue.InUse(done->slot));
    REQUIRE(Told(queue.Queue(done->slot)) == "ok");
  }
  // Memory stays where it was: no slot was imported twice.
  CHECK(machine.device.held() == 2);
  REQUIRE(Told(queue.Stop()) == "ok");
  for (const Imported& slot : slots) {
    CHECK_FALSE(queue.InUse(slot));
    CHECK(Told(queue.Unmap(slot)) == "ok");
  }
  CHECK(machine.device.slots.empty());
}

TEST_CASE("V4l2Queue: a spoilt frame and the last one are told") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  machine.device.flags = V4L2_BUF_FLAG_ERROR | V4L2_BUF_FLAG_LAST;
  REQUIRE(queue.Queue(slot).ok());
  REQUIRE(queue.Start().ok());
  const Result<V4l2Done> done = queue.Dequeue(Soon());
  REQUIRE(done.ok());
  CHECK(done->spoilt);
  CHECK(done->last);
  machine.device.fails[VIDIOC_DQBUF] = -EPIPE;
  REQUIRE(queue.Queue(slot).ok());
  CHECK(Kind(queue.Dequeue(Soon()).error()) == "EPIPE stream");
}

TEST_CASE("V4l2Queue: no slot before the deadline is ETIMEDOUT, and one that passed only looks") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  CHECK(Kind(queue.Dequeue(Soon()).error()) == "EINVAL stream");
  const Imported slot = Mapped(queue, memory);
  REQUIRE(queue.Queue(slot).ok());
  CHECK(Kind(queue.Dequeue(Soon()).error()) == "EINVAL stream");
  REQUIRE(queue.Start().ok());
  machine.device.fills = false;
  const auto begin = Clock::now();
  CHECK(Kind(queue.Dequeue(begin + std::chrono::milliseconds(20)).error()) == "ETIMEDOUT stream");
  CHECK(Clock::now() - begin >= std::chrono::milliseconds(20));
  CHECK(Kind(queue.Dequeue(Clock::time_point::min()).error()) == "ETIMEDOUT stream");
  machine.device.fills = true;
  CHECK(queue.Dequeue(Clock::time_point::min()).ok());
  REQUIRE(queue.Queue(slot).ok());
  CHECK(queue.Dequeue(Clock::time_point::max()).ok());
}

TEST_CASE("V4l2Queue: more buffers than slots are ENOBUFS, and the others stay mapped") {
  Machine machine;
  machine.device.most_slots = 2;
  Q queue = machine.Open();
  const Memory memory[3];
  const Imported first = Mapped(queue, memory[0]);
  (void)Mapped(queue, memory[1]);
  CHECK(Kind(queue.Map(memory[2].all()).error()) == "ENOBUFS attach");
  CHECK(machine.device.held() == 2);
  REQUIRE(queue.Unmap(first).ok());
  CHECK(queue.Map(memory[2].all()).ok());
}

TEST_CASE("V4l2Queue: the Unmap of one slot lets go of its memory where the kernel can") {
  for (const bool streams : {false, true}) {
    CAPTURE(streams);
    Machine machine;
    Q queue = machine.Open();
    const Memory memory[3];
    const Imported one = Mapped(queue, memory[0]);
    const Imported two = Mapped(queue, memory[1]);
    if (streams) {
      REQUIRE(queue.Queue(one).ok());
      REQUIRE(queue.Start().ok());
      REQUIRE(queue.Dequeue(Soon()).ok());
    }
    CHECK(Told(queue.Unmap(one)) == "ok");
    CHECK(machine.device.held() == 1);
    CHECK(Kind(queue.Unmap(one)) == "EINVAL detach");
    // As many as before find a place again.
    const Imported three = Mapped(queue, memory[2]);
    (void)Mapped(queue, memory[0]);
    CHECK(queue.streaming() == streams);
    REQUIRE(queue.Queue(two).ok());
    REQUIRE(queue.Queue(three).ok());
    REQUIRE(queue.Start().ok());
    CHECK(queue.Dequeue(Soon())->slot == two);
    CHECK(queue.Dequeue(Soon())->slot == three);
  }
}

TEST_CASE(
    "V4l2Queue: before Linux 6.10 the memory goes when its slot is used again, or with the last") {
  Machine machine;
  machine.device.removes = false;
  Q queue = machine.Open();
  const Memory memory[3];
  const Imported one = Mapped(queue, memory[0]);
  const Imported two = Mapped(queue, memory[1]);
  CHECK(Told(queue.Unmap(one)) == "ok");
  CHECK(machine.device.held() == 2);
  const Imported three = Mapped(queue, memory[2]);
  CHECK(three == one);
  CHECK(machine.device.held() == 2);
  CHECK(Told(queue.Unmap(two)) == "ok");
  CHECK(Told(queue.Unmap(three)) == "ok");
  CHECK(machine.device.held() == 0);
}

TEST_CASE("V4l2Queue: a slot that was never queued is not used again while the device streams") {
  Machine machine;
  machine.options.slots = machine.device.most_slots = 2;
  Q queue = machine.Open();
  const Memory memory[2];
  const Imported one = Mapped(queue, memory[0]);
  const Imported two = Mapped(queue, memory[1]);
  REQUIRE(queue.Queue(two).ok());
  REQUIRE(queue.Start().ok());
  CHECK(Told(queue.Unmap(one)) == "ok");
  CHECK(Kind(queue.Map(memory[0].all()).error()) == "ENOBUFS attach");
  REQUIRE(queue.Stop().ok());
  CHECK(queue.Map(memory[0].all()).ok());
}

TEST_CASE("V4l2Queue: the Unmap of the last slot ends the stream, and a new one can begin") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  REQUIRE(queue.Queue(slot).ok());
  REQUIRE(queue.Start().ok());
  REQUIRE(queue.Dequeue(Soon()).ok());
  CHECK(Told(queue.Unmap(slot)) == "ok");
  CHECK_FALSE(queue.streaming());
  CHECK_FALSE(machine.device.streaming);
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
}

TEST_CASE("V4l2Queue: a failed Map leaves no slot behind") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  machine.device.maps = -EFAULT;
  const Error error = queue.Map(memory.all()).error();
  CHECK(Kind(error) == "EFAULT attach");
  CHECK(Contains(error.hint(), "contiguous"));
  CHECK(machine.device.slots.empty());
  machine.device.maps = 0;
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
}

TEST_CASE("V4l2Queue: without PREPARE_BUF the first Queue maps the memory") {
  Machine machine;
  machine.device.prepares = false;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  CHECK(machine.device.held() == 0);
  machine.device.maps = -EFAULT;
  CHECK(Kind(queue.Queue(slot)) == "EFAULT stream");
  CHECK_FALSE(queue.InUse(slot));
  machine.device.maps = 0;
  REQUIRE(queue.Queue(slot).ok());
  CHECK(machine.device.held() == 1);
  REQUIRE(queue.Stop().ok());
  CHECK(Told(queue.Unmap(slot)) == "ok");
  CHECK(machine.device.held() == 0);
}

TEST_CASE("V4l2Queue: of a device that has vanished each Unmap is without error, and drops all") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory[2];
  const Imported slots[] = {Mapped(queue, memory[0]), Mapped(queue, memory[1])};
  REQUIRE(queue.Queue(slots[0]).ok());
  REQUIRE(queue.Start().ok());
  machine.device.vanished = true;
  CHECK(Kind(queue.Dequeue(Soon()).error()) == "ENODEV stream");
  CHECK(machine.device.held() == 0);
  for (const Imported& slot : slots) {
    CHECK_FALSE(queue.InUse(slot));
    CHECK(Told(queue.Unmap(slot)) == "ok");
  }
  CHECK(Kind(queue.Map(memory[0].all()).error()) == "ENODEV attach");
  const Acceptance answer = queue.Accepts(memory[0].all());
  CHECK(answer.verdict == Verdict::kCannotAsk);
  CHECK(Kind(answer.error) == "ENODEV attach");
}

TEST_CASE("V4l2Queue: an ENODEV of one call alone is no device that has vanished") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  machine.device.fails[VIDIOC_STREAMON] = -ENODEV;
  CHECK(Kind(queue.Start()) == "ENODEV stream");
  CHECK(Told(queue.Queue(slot)) == "ok");
}

TEST_CASE("V4l2Queue: slots that a driver does not free go with the file") {
  Machine machine;
  Q queue = machine.Open();
  const Memory memory;
  const Imported slot = Mapped(queue, memory);
  machine.device.fails[VIDIOC_REQBUFS] = -EIO;
  const Error error = queue.Unmap(slot);
  CHECK(Kind(error) == "EIO detach");
  CHECK(Contains(error.hint(), "closed"));
  CHECK(machine.device.held() == 0);
  CHECK(queue.file() == FdRef());
}

TEST_CASE("V4l2Queue: an output queue's device reads the frame, or as much as is told") {
  Machine machine;
  machine.device.caps = V4L2_CAP_VIDEO_OUTPUT | V4L2_CAP_STREAMING;
  machine.device.buffer_type = V4L2_BUF_TYPE_VIDEO_OUTPUT;
  machine.options.kind = V4l2QueueKind::kOutput;
  Q queue = machine.Open();
  const Memory memory;
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
  CHECK(machine.device.last.bytesused == kFrameBytes);
  const Imported slot = Mapped(queue, memory);
  CHECK(machine.device.last.bytesused == kFrameBytes);
  REQUIRE(queue.Queue(slot, 1000).ok());
  CHECK(machine.device.last.bytesused == 1000);
}

TEST_CASE("V4l2Queue: the multi-planar interface is served with one plane, and refused with two") {
  Machine machine;
  machine.device.caps = V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_STREAMING;
  machine.device.buffer_type = V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE;
  machine.device.planes = 2;
  machine.options.kind = V4l2QueueKind::kOutput;
  CHECK(Kind(machine.Refused()) == "EOPNOTSUPP open");
  machine.device.planes = 1;
  machine.options.width = 100;
  Q queue = machine.Open();
  CHECK(queue.stride() == 200);
  const Memory memory;
  CHECK(queue.Accepts(memory.all()).verdict == Verdict::kTakes);
  const Imported slot = Mapped(queue, memory);
  REQUIRE(queue.Queue(slot, 1000).ok());
  CHECK(machine.device.last_plane.bytesused == 1000);
  REQUIRE(queue.Start().ok());
  const Result<V4l2Done> done = queue.Dequeue(Soon());
  REQUIRE(Told(done.error()) == "ok");
  CHECK(done->slot == slot);
  CHECK(done->bytes_used == 200 * 240);
}

TEST_CASE("V4l2Queue: the two queues of one file") {
  Machine machine;
  machine.device.caps = V4L2_CAP_VIDEO_M2M | V4L2_CAP_STREAMING;
  std::optional<Q> first(machine.Open());
  machine.options.file = first->file();
  machine.options.node = "the same";
  Q second = machine.Open();
  CHECK(second.file() != first->file());
  first.reset();
  const Memory memory;
  CHECK(second.Accepts(memory.all()).verdict == Verdict::kTakes);
}

TEST_CASE("V4l2Queue: a queue that goes while it streams holds nothing") {
  Machine machine;
  const Memory memory;
  Q queue = machine.Open();
  const Imported slot = Mapped(queue, memory);
  REQUIRE(queue.Queue(slot).ok());
  REQUIRE(queue.Start().ok());
}

TEST_CASE("V4l2Queue: each operator new of Open that fails is ENOMEM, and leaves nothing") {
  Machine machine;
  size_t failed = 0;
  for (;; ++failed) {
    FaultNew::Begin(failed);
    const Result<Q> queue = Q::Open(machine.options);
    if (!FaultNew::End()) {
      CHECK(Told(queue.error()) == "ok");
      break;
    }
    CHECK(Kind(queue.error()) == "ENOMEM open");
    CHECK(machine.device.nodes.empty());
  }
  CHECK(failed >= 2);
}

// The life of a queue, as a program leads it: at the first error it unmaps, and ends. Returns that
// error.
Error Live(Machine& machine, const Memory (&memory)[2]) {
  machine.options.width = 100;
  Result<Q> queue = Q::Open(machine.options);
  if (!queue.ok()) return queue.error();
  const Acceptance answer = queue->Accepts(memory[0].all());
  if (answer.verdict != Verdict::kTakes) return answer.error;
  std::vector<Imported> slots;
  const auto use = [&]() -> Error {
    for (const Memory& one : memory) {
      const Result<Imported> mapped = queue->Map(one.all());
      if (!mapped.ok()) return mapped.error();
      slots.push_back(*mapped);
    }
    for (const Imported& slot : slots) {
      if (const Error error = queue->Queue(slot); !error.ok()) return error;
    }
    if (const Error error = queue->Start(); !error.ok()) return error;
    machine.device.fills = false;
    const Error late = queue->Dequeue(Clock::now() + std::chrono::milliseconds(1)).error();
    machine.device.fills = true;
    if (late.code() != ETIMEDOUT) return late;
    const Result<V4l2Done> done = queue->Dequeue(Soon());
    if (!done.ok()) return done.error();
    return queue->Stop();
  };
  Error first = use();
  if (!first.ok()) (void)queue->Stop();
  for (const Imported& slot : slots) {
    // The fault was Stop's.
    if (queue->InUse(slot)) REQUIRE(queue->Stop().ok());
    const Error error = queue->Unmap(slot);
    if (first.ok()) first = error;
  }
  CHECK(machine.device.held() == 0);
  return first;
}

TEST_CASE("V4l2Queue: each call fails once: its errno is told, and nothing stays") {
  const Memory memory[2];
  size_t calls = 0;
  {
    Machine machine;
    REQUIRE(Told(Live(machine, memory)) == "ok");
    calls = machine.device.calls;
  }
  CHECK(calls > 25);
  for (const int code : {EIO, ENODEV, ENOMEM, EBUSY, ENOTTY}) {
    for (size_t n = 0; n < calls; ++n) {
      CAPTURE(code);
      CAPTURE(n);
      Machine machine;
      machine.device.fails_at = n;
      machine.device.fails_with = code;
      const Error error = Live(machine, memory);
      CAPTURE(machine.device.failed);
      const bool told = error.code() == code || machine.errors->count() != 0;
      // A driver need not tell how many buffers it holds, nor prepare. A stream that does not end
      // keeps its slots, which is told, and a kernel may be older than VIDIOC_REMOVE_BUFS.
      const std::string& failed = machine.device.failed;
      const bool no_fault = failed == "VIDIOC_G_CTRL" || failed == "VIDIOC_STREAMOFF" ||
                            (code == ENOTTY && failed == "VIDIOC_PREPARE_BUF");
      CHECK((told || no_fault || (code == ENOTTY && error.ok())));
    }
  }
}

}  // namespace
}  // namespace ion::testing
