// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/devices/drm_node.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
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
#include "tests/support/fake_drm.h"
#include "tests/support/fault_new.h"
#include "tests/support/leak_check.h"
#include "tests/support/temp_dir.h"
#include "third_party/ion_uapi/drm.h"

namespace ion::testing {
namespace {

using Node = DrmNode<FakeDrmSyscalls>;
using Verdict = Acceptance::Verdict;

constexpr ImageLayout kImage = LayoutOf<ImageSpec{
    .format = PixelFormat::kNv12, .width = 64, .height = 32, .limits = {.stride_multiple = 256}}>();

// Memory of its own inode, with room for the image.
class Memory {
 public:
  Memory() : fd_(::memfd_create("frame", MFD_CLOEXEC)) {}
  DeviceMemory all() const {
    return {.range = {fd_.borrow(), 0, *RoundUpToPages(kImage.total_bytes)}};
  }
  DeviceMemory image() const {
    DeviceMemory memory = all();
    memory.image = &kImage;
    return memory;
  }

 private:
  UniqueFd fd_;
};

// A node; at the end no file of it is open.
class Machine {
 public:
  Machine() {
    device.path = directory.File("card0");
    options.sys = FakeDrmSyscalls(&device);
    options.errors = errors;
    options.node = device.path;
  }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() { CHECK(device.files.empty()); }
  Node Open() {
    Result<Node> node = Node::Open(options);
    REQUIRE(Told(node.error()) == "ok");
    return *std::move(node);
  }
  Error Refused() { return Node::Open(options).error(); }

  const LeakCheck leaks;
  FakeDrm device;
  TempDir directory;
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();
  Node::Options options;
};

Imported Mapped(Node& node, const DeviceMemory& memory) {
  const Result<Imported> mapped = node.Map(memory);
  REQUIRE(Told(mapped.error()) == "ok");
  return *mapped;
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("DrmNode: it tells its driver, its party and its constraints") {
  Machine machine;
  machine.options.constraints = {.segments_max = 1, .exporter_needs = ExporterNeeds::kPages};
  const Node node = machine.Open();
  CHECK(node.driver() == "fake");
  CHECK(node.party().name == PartyName::From(machine.device.path));
  REQUIRE(node.party().alternatives.size() == 1);
  const Constraints& c = node.party().alternatives[0];
  CHECK(c.segments_max == Stated<uint64_t>(1));
  CHECK(c.exporter_needs.value() == (ExporterNeeds::kPages | ExporterNeeds::kExportByUs));
  CHECK(node.traits().maps_at_import.unknown());
}

TEST_CASE("DrmNode: a driver's name that is longer than the room for it is cut") {
  Machine machine;
  machine.device.driver = std::string(40, 'x');
  CHECK(machine.Open().driver() == std::string(32, 'x'));
}

TEST_CASE("DrmNode: it does not stay the card's master, in no file of its own") {
  for (const long answer : {0, -EINVAL, -EACCES}) {
    Machine machine;
    machine.device.dropped = answer;
    Node node = machine.Open();
    CHECK(machine.device.requests.front() == ion_uapi::kDrmIoctlDropMaster);
    machine.device.requests.clear();
    const Memory memory;
    (void)node.Accepts(memory.all());
    CHECK(machine.device.requests.front() == ion_uapi::kDrmIoctlDropMaster);
  }
}

TEST_CASE("DrmNode: a node that is not DRM's gets no ioctl, and one that is absent is told") {
  Machine machine;
  machine.device.major = 10;
  CHECK(Kind(machine.Refused()) == "ENODEV open");
  machine.device.major = ion_uapi::kDrmMajor;
  machine.device.type = S_IFREG;
  CHECK(Kind(machine.Refused()) == "ENODEV open");
  CHECK(machine.device.requests.empty());
  machine.options.node = machine.directory.At("card7");
  CHECK(Kind(machine.Refused()) == "ENOENT open");
  CHECK(machine.Refused().hint() != nullptr);
}

TEST_CASE("DrmNode: a yes is evidence if the driver is declared to map, and it is none of vgem") {
  Machine machine;
  const Memory memory;
  {
    Node node = machine.Open();
    const Acceptance answer = node.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kNoEvidence);
    CHECK(answer.error.ok());
    CHECK(machine.device.handles() == 0);
  }
  machine.options.traits.maps_at_import = true;
  CHECK(machine.Open().Accepts(memory.all()).verdict == Verdict::kTakes);
  for (const char* const driver : {"vgem", "vkms"}) {
    machine.device.driver = driver;
    Node node = machine.Open();
    CHECK(node.traits().maps_at_import.no());
    CHECK(node.Accepts(memory.all()).verdict == Verdict::kNoEvidence);
  }
}

TEST_CASE("DrmNode: the memory is asked for through another file than that of the handles") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory;
  const Imported handle = Mapped(node, memory.all());
  CHECK(machine.device.most_files == 1);
  CHECK(node.Accepts(memory.all()).verdict == Verdict::kNoEvidence);
  CHECK(machine.device.most_files == 2);
  CHECK(machine.device.files.size() == 1);
  CHECK(machine.device.handles() == 1);
  CHECK(Told(node.Unmap(handle)) == "ok");
}

TEST_CASE("DrmNode: a refusal of the memory is told apart from one of the node") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory;
  for (const int code : {EINVAL, ENOMEM, EFAULT}) {
    machine.device.maps = -code;
    const Acceptance answer = node.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kRefuses);
    CHECK(answer.error.code() == code);
  }
  for (const int code : {ENODEV, ENOSYS, EACCES, EOPNOTSUPP, EIO}) {
    machine.device.maps = -code;
    const Acceptance answer = node.Accepts(memory.all());
    CHECK(answer.verdict == Verdict::kCannotAsk);
    CHECK(answer.error.code() == code);
  }
  CHECK(node.Accepts({.range = {FdRef(-1), 0, 4096}}).verdict == Verdict::kCannotAsk);
  CHECK(machine.device.handles() == 0);
}

TEST_CASE("DrmNode: the same memory twice is one handle, which the last Unmap closes") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory, other;
  const Imported one = Mapped(node, memory.all());
  CHECK(one.kind == Imported::Kind::kGemHandle);
  CHECK(Mapped(node, memory.all()) == one);
  const Imported two = Mapped(node, other.all());
  CHECK(two != one);
  CHECK(Told(node.Unmap(one)) == "ok");
  CHECK(machine.device.handles() == 2);
  CHECK(Told(node.Unmap(one)) == "ok");
  CHECK(machine.device.handles() == 1);
  CHECK(Kind(node.Unmap(one)) == "EINVAL detach");
  CHECK(Told(node.Unmap(two)) == "ok");
  CHECK(machine.device.handles() == 0);
}

TEST_CASE("DrmNode: a handle that is taken is in use until it is returned") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory;
  const Imported handle = Mapped(node, memory.all());
  CHECK_FALSE(node.InUse(handle));
  CHECK(Kind(node.Return(handle)) == "EINVAL stream");
  REQUIRE(node.Take(handle).ok());
  REQUIRE(node.Take(handle).ok());
  REQUIRE(node.Return(handle).ok());
  CHECK(node.InUse(handle));
  CHECK(Kind(node.Unmap(handle)) == "EBUSY detach");
  REQUIRE(node.Return(handle).ok());
  CHECK_FALSE(node.InUse(handle));
  CHECK(Told(node.Unmap(handle)) == "ok");
  CHECK(Kind(node.Take(handle)) == "EINVAL stream");
}

TEST_CASE("DrmNode: a framebuffer has the image's layout, and goes before its handle") {
  Machine machine;
  machine.options.framebuffers = true;
  Node node = machine.Open();
  const Memory memory;
  CHECK(node.Accepts(memory.image()).verdict == Verdict::kNoEvidence);
  CHECK(machine.device.framebuffers() == 0);
  const Imported one = Mapped(node, memory.image());
  CHECK(one.kind == Imported::Kind::kFramebuffer);
  const ion_uapi::drm_mode_fb_cmd2& added = machine.device.added;
  CHECK(added.width == 64);
  CHECK(added.height == 32);
  CHECK(added.pixel_format == DrmCodeOf(PixelFormat::kNv12));
  CHECK(added.flags == 0);
  CHECK(added.pitches[0] == 256);
  CHECK(added.pitches[1] == 256);
  CHECK(added.offsets[1] == 256 * 32);
  CHECK(added.handles[0] == added.handles[1]);
  CHECK(added.handles[2] == 0);
  // Another of the same memory, at another place.
  DeviceMemory part = memory.image();
  part.range.offset = PageBytes();
  const Imported two = Mapped(node, part);
  CHECK(machine.device.added.offsets[0] == PageBytes());
  CHECK(two != one);
  CHECK(machine.device.handles() == 1);
  machine.device.requests.clear();
  CHECK(Told(node.Unmap(one)) == "ok");
  CHECK(Told(node.Unmap(two)) == "ok");
  CHECK(machine.device.requests == std::vector<unsigned long>{ion_uapi::kDrmIoctlModeRmFb,
                                                              ion_uapi::kDrmIoctlModeRmFb,
                                                              ion_uapi::kDrmIoctlGemClose});
}

TEST_CASE("DrmNode: a tiled image's framebuffer has the modifier") {
  Machine machine;
  machine.options.framebuffers = true;
  Node node = machine.Open();
  const Memory memory;
  ImageLayout tiled = kImage;
  tiled.spec.modifier = 7;
  DeviceMemory of_image = memory.all();
  of_image.image = &tiled;
  (void)Mapped(node, of_image);
  CHECK(machine.device.added.flags == ion_uapi::kDrmModeFbModifiers);
  CHECK(machine.device.added.modifier[1] == 7);
  CHECK(machine.device.added.modifier[2] == 0);
}

TEST_CASE("DrmNode: memory that no driver has to see is refused without a call") {
  Machine machine;
  const Memory memory;
  Node node = machine.Open();
  machine.options.framebuffers = true;
  Node display = machine.Open();
  machine.device.requests.clear();
  DeviceMemory part = memory.all();
  part.range.offset = PageBytes();
  CHECK(node.Accepts(part).verdict == Verdict::kRefuses);
  CHECK(Kind(node.Map(part).error()) == "EINVAL attach");
  CHECK(display.Accepts(memory.all()).verdict == Verdict::kRefuses);
  CHECK(Kind(display.Map(memory.all()).error()) == "EINVAL attach");
  DeviceMemory far = memory.image();
  far.range.offset = UINT32_MAX;
  CHECK(Kind(display.Map(far).error()) == "EINVAL attach");
  CHECK(machine.device.requests.empty());
}

TEST_CASE("DrmNode: a framebuffer that is refused leaves no handle, and takes none from others") {
  Machine machine;
  machine.options.framebuffers = true;
  Node node = machine.Open();
  const Memory memory, other;
  const Imported one = Mapped(node, memory.image());
  machine.device.fails[ion_uapi::kDrmIoctlModeAddFb2] = -EINVAL;
  CHECK(node.Accepts(other.image()).verdict == Verdict::kRefuses);
  CHECK(Kind(node.Map(other.image()).error()) == "EINVAL attach");
  CHECK(Kind(node.Map(memory.image()).error()) == "EINVAL attach");
  CHECK(machine.device.handles() == 1);
  CHECK(Told(node.Unmap(one)) == "ok");
  CHECK(machine.device.handles() == 0);
}

TEST_CASE("DrmNode: of a device that has vanished each Unmap is without error, and drops all") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory, other;
  const Imported one = Mapped(node, memory.all());
  const Imported two = Mapped(node, other.all());
  REQUIRE(node.Take(two).ok());
  machine.device.vanished = true;
  CHECK(Told(node.Unmap(one)) == "ok");
  CHECK(machine.device.files.empty());
  CHECK(node.file() == FdRef());
  CHECK_FALSE(node.InUse(two));
  CHECK(Told(node.Unmap(two)) == "ok");
  CHECK(Kind(node.Map(memory.all()).error()) == "ENODEV attach");
  CHECK(node.Accepts(memory.all()).verdict == Verdict::kCannotAsk);
  machine.device.vanished = false;
  CHECK(node.Map(memory.all()).ok());
}

TEST_CASE(
    "DrmNode: a handle that a driver does not close goes with the file, when it is the last") {
  Machine machine;
  Node node = machine.Open();
  const Memory memory, other;
  const Imported one = Mapped(node, memory.all());
  const Imported two = Mapped(node, other.all());
  machine.device.fails[ion_uapi::kDrmIoctlGemClose] = -EIO;
  const Error error = node.Unmap(one);
  CHECK(Kind(error) == "EIO detach");
  CHECK(Contains(error.hint(), "until nothing is mapped"));
  CHECK(machine.device.handles() == 2);
  CHECK(Kind(node.Unmap(two)) == "EIO detach");
  CHECK(machine.device.handles() == 0);
  machine.device.fails = {};
  CHECK(node.Map(memory.all()).ok());
}

TEST_CASE("DrmNode: each operator new that fails is ENOMEM, and leaves nothing") {
  Machine machine;
  machine.options.errors = nullptr;
  size_t failed = 0;
  for (;; ++failed) {
    FaultNew::Begin(failed);
    Result<Node> node = Node::Open(machine.options);
    if (!FaultNew::End()) {
      REQUIRE(Told(node.error()) == "ok");
      const Memory memory;
      FaultNew::Begin(0);
      const Error error = node->Map(memory.all()).error();
      CHECK(FaultNew::End());
      CHECK(Kind(error) == "ENOMEM attach");
      CHECK(machine.device.handles() == 0);
      break;
    }
    CHECK(Kind(node.error()) == "ENOMEM open");
    CHECK(machine.device.files.empty());
  }
  CHECK(failed >= 2);
}

// The life of a node, as a program leads it: at the first error it unmaps, and ends.
Error Live(Machine& machine, const Memory (&memory)[2]) {
  machine.options.framebuffers = true;
  Result<Node> node = Node::Open(machine.options);
  if (!node.ok()) return node.error();
  Error first = node->Accepts(memory[0].image()).error;
  std::vector<Imported> mapped;
  for (const Memory& one : memory) {
    if (!first.ok()) break;
    const Result<Imported> framebuffer = node->Map(one.image());
    if (framebuffer.ok()) mapped.push_back(*framebuffer);
    first = framebuffer.error();
  }
  for (const Imported& framebuffer : mapped) {
    const Error error = node->Unmap(framebuffer);
    if (first.ok()) first = error;
  }
  CHECK(machine.device.handles() == 0);
  CHECK(machine.device.framebuffers() == 0);
  return first;
}

TEST_CASE("DrmNode: each call fails once: its errno is told, and nothing stays") {
  const Memory memory[2];
  size_t calls = 0;
  {
    Machine machine;
    REQUIRE(Told(Live(machine, memory)) == "ok");
    calls = machine.device.calls;
  }
  CHECK(calls > 15);
  for (const int code : {EIO, ENODEV, ENOMEM, EINVAL, EACCES}) {
    for (size_t n = 0; n < calls; ++n) {
      CAPTURE(code);
      CAPTURE(n);
      Machine machine;
      machine.device.fails_at = n;
      machine.device.fails_with = code;
      const Error error = Live(machine, memory);
      const std::string& failed = machine.device.failed;
      CAPTURE(failed);
      const bool no_master = failed == "drop master" && (code == EINVAL || code == EACCES);
      CHECK((error.code() == code || machine.errors->count() != 0 || no_master));
    }
  }
}

}  // namespace
}  // namespace ion::testing
