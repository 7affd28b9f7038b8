// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/drm_dumb.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/allocate_frame.h"
#include "ion/backend.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/frame_shape.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/leak_check.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "third_party/ion_uapi/drm.h"

namespace ion::testing {
namespace {

// A DRM driver whose buffers are memfds, with a record of its ioctls.
struct Driver {
  // By the path of its node: its answers to fstat and to the question for dumb buffers.
  struct Card {
    unsigned major = ion_uapi::kDrmMajor;
    unsigned minor = 0;
    long asked = 0;      // of DRM_IOCTL_GET_CAP
    uint64_t makes = 1;  // its value
    mode_t type = S_IFCHR;
    long opened = 0;  // an error of open
  };
  std::map<std::string, Card> cards;
  // A line's bytes are a multiple of it; the memory is whole granules.
  uint64_t pitch_multiple = 1, granule = 4096;
  bool states_frame_bytes = false;                   // the frame's alone, not whole pages
  int64_t misstated_pitch = 0, misstated_bytes = 0;  // added to the statement
  uint64_t missing_bytes = 0;                        // of the memory
  std::map<unsigned long, long> fails;               // an error, of an ioctl by its number
  std::map<int, const Card*> nodes = {};             // by descriptor
  std::map<uint32_t, uint64_t> handles = {};         // and the bytes of each
  uint32_t last_handle = 0;
  std::vector<unsigned long> requests = {};
  ion_uapi::drm_mode_create_dumb created = {};

  long Create(ion_uapi::drm_mode_create_dumb& create) {
    created = create;
    if (create.width == 0 || create.height == 0 || create.bpp == 0) return -EINVAL;
    // As drm_mode_create_dumb does, in 32 bits.
    const uint64_t pixel = (create.bpp + 7) / 8;
    if (pixel > UINT32_MAX / create.width) return -EINVAL;
    if (create.height > UINT32_MAX / (pixel * create.width)) return -EINVAL;
    // As drm_gem_shmem_dumb_create does, which checks nothing.
    const uint32_t bits = create.width * create.bpp;
    const uint64_t line = (uint64_t{bits} + 7) / 8;
    const uint64_t pitch = (line + pitch_multiple - 1) / pitch_multiple * pitch_multiple;
    const uint64_t frame = pitch * create.height;
    const uint64_t whole = (frame + granule - 1) / granule * granule;
    create.handle = ++last_handle;
    create.pitch = static_cast<uint32_t>(static_cast<int64_t>(pitch) + misstated_pitch);
    create.size = (states_frame_bytes ? frame : whole) + static_cast<uint64_t>(misstated_bytes);
    handles[create.handle] = whole - missing_bytes;
    return 0;
  }
  long Export(ion_uapi::drm_prime_handle& prime) {
    const auto at = handles.find(prime.handle);
    if (at == handles.end()) return -ENOENT;
    if (prime.flags != (O_CLOEXEC | O_RDWR)) return -EINVAL;
    const int memory = ::memfd_create("dumb", MFD_CLOEXEC);
    if (memory < 0 || ::ftruncate(memory, static_cast<off_t>(at->second)) != 0) return -ENOMEM;
    prime.fd = memory;
    return 0;
  }
};

class DriverSyscalls : public LinuxSyscalls {
 public:
  DriverSyscalls() = default;
  explicit DriverSyscalls(Driver* driver) noexcept : driver_(driver) {}

  long Open(const char* path, int flags) const noexcept {
    const auto card = driver_->cards.find(path);
    if (card != driver_->cards.end() && card->second.opened != 0) return card->second.opened;
    const long fd = LinuxSyscalls::Open(path, flags);
    if (card != driver_->cards.end() && fd >= 0 && (flags & O_PATH) == 0) {
      driver_->nodes[static_cast<int>(fd)] = &card->second;
    }
    return fd;
  }
  long Close(int fd) const noexcept {
    driver_->nodes.erase(fd);
    return LinuxSyscalls::Close(fd);
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = LinuxSyscalls::Fstat(fd, to);
    const auto node = driver_->nodes.find(fd);
    if (answer == 0 && node != driver_->nodes.end()) {
      to->st_mode = node->second->type | 0600;
      to->st_rdev = makedev(node->second->major, node->second->minor);
    }
    return answer;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    const auto node = driver_->nodes.find(fd);
    if (node == driver_->nodes.end()) return LinuxSyscalls::Ioctl(fd, request, argument);
    driver_->requests.push_back(request);
    if (const auto at = driver_->fails.find(request); at != driver_->fails.end()) {
      return at->second;
    }
    switch (request) {
      case ion_uapi::kDrmIoctlDropMaster:
        return 0;
      case ion_uapi::kDrmIoctlGetCap:
        static_cast<ion_uapi::drm_get_cap*>(argument)->value = node->second->makes;
        return node->second->asked;
      case ion_uapi::kDrmIoctlModeCreateDumb:
        if (node->second->makes == 0) return -ENOSYS;
        return driver_->Create(*static_cast<ion_uapi::drm_mode_create_dumb*>(argument));
      case ion_uapi::kDrmIoctlPrimeHandleToFd:
        return driver_->Export(*static_cast<ion_uapi::drm_prime_handle*>(argument));
      case ion_uapi::kDrmIoctlModeDestroyDumb: {
        const auto* const destroy = static_cast<ion_uapi::drm_mode_destroy_dumb*>(argument);
        return driver_->handles.erase(destroy->handle) == 1 ? 0 : -EINVAL;
      }
    }
    return -ENOTTY;
  }

 private:
  Driver* driver_ = nullptr;
};
using B = DrmDumbBackend<DriverSyscalls>;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// A folder of nodes, and the driver behind them. At its end no handle is left.
class Machine {
 public:
  Machine() = default;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine() { CHECK(driver.handles.empty()); }

  std::string Add(const std::string& name, const Driver::Card& card = {}) {
    std::string path = directory.File(name);
    driver.cards[path] = card;
    return path;
  }
  Result<B> Open(const std::string& node = {}) {
    B::Options options;
    options.sys = DriverSyscalls(&driver);
    options.budget = budget;
    options.errors = errors;
    options.node = node;
    options.directory = directory.path();
    return B::Open(options);
  }

  Driver driver;
  TempDir directory;
  std::shared_ptr<Budget> budget = std::make_shared<Budget>(uint64_t{8} << 30);
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();
};

// One card, open.
struct OneCard : Machine {
  OneCard() : path(Add("card0")), backend(*Open()) {}
  std::string path;
  B backend;
};

TEST_CASE("DrmDumbBackend: it takes the first card, by number, that makes dumb buffers") {
  const LeakCheck leaks;
  Machine machine;
  machine.Add("card0", {.makes = 0});
  machine.Add("card1", {.asked = -EOPNOTSUPP, .makes = 0});
  machine.Add("card10");
  const std::string taken = machine.Add("card2");
  machine.Add("renderD128", {.minor = 128});
  machine.directory.File("cardinal");
  const Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->node() == taken);
}

TEST_CASE("DrmDumbBackend: a driver that does not tell is asked for a buffer, which it gets back") {
  const LeakCheck leaks;
  Machine machine;
  const std::string node = machine.Add("card0", {.asked = -EOPNOTSUPP, .makes = 1});
  const Result<B> backend = machine.Open(node);
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(machine.driver.last_handle == 1);
  CHECK(machine.driver.handles.empty());
}

TEST_CASE("DrmDumbBackend: it does not stay the card's master") {
  for (const long answer : {0, -EINVAL, -EACCES}) {
    const LeakCheck leaks;
    Machine machine;
    machine.Add("card0");
    if (answer != 0) machine.driver.fails[ion_uapi::kDrmIoctlDropMaster] = answer;
    const Result<B> backend = machine.Open();
    REQUIRE(Told(backend.error()) == "ok");
    CHECK(machine.driver.requests.front() == ion_uapi::kDrmIoctlDropMaster);
  }
}

TEST_CASE("DrmDumbBackend: a node that is not DRM's gets no ioctl") {
  const LeakCheck leaks;
  Machine machine;
  for (const Driver::Card& card : {Driver::Card{.major = 10}, Driver::Card{.type = S_IFREG}}) {
    const std::string node = machine.Add("card0", card);
    const Error error = machine.Open(node).error();
    CHECK(Kind(error) == "ENODEV open");
    CHECK(Contains(Describe(error), "major 226"));
  }
  CHECK(machine.driver.requests.empty());
}

TEST_CASE("DrmDumbBackend: a render node is refused, with the card's name as advice") {
  const LeakCheck leaks;
  Machine machine;
  for (const unsigned minor : {128u, 191u}) {
    const std::string node = machine.Add("renderD128", {.minor = minor});
    const Error error = machine.Open(node).error();
    CHECK(Kind(error) == "EACCES open");
    CHECK(Contains(error.hint(), "/dev/dri/card0"));
  }
  CHECK(machine.driver.requests.empty());
  for (const unsigned minor : {0u, 63u, 192u, 300u}) {
    CHECK(machine.Open(machine.Add("card0", {.minor = minor})).ok());
  }
}

TEST_CASE("DrmDumbBackend: an absent or forbidden node is an error with advice") {
  const LeakCheck leaks;
  Machine machine;
  const Error absent = machine.Open(machine.directory.At("card7")).error();
  CHECK(Kind(absent) == "ENOENT open");
  CHECK(absent.hint() != nullptr);
  const Error forbidden = machine.Open(machine.Add("card0", {.opened = -EACCES})).error();
  CHECK(Kind(forbidden) == "EACCES open");
  CHECK(forbidden.hint() != nullptr);
  // The search ends there, too: which card is taken does not depend on a failure.
  machine.Add("card1");
  CHECK(Kind(machine.Open().error()) == "EACCES open");
}

TEST_CASE("DrmDumbBackend: a directory without a card that makes dumb buffers is ENODEV") {
  const LeakCheck leaks;
  Machine machine;
  CHECK(Kind(machine.Open().error()) == "ENODEV open");
  const std::string node = machine.Add("card0", {.makes = 0});
  CHECK(Kind(machine.Open().error()) == "ENODEV open");
  CHECK(Kind(machine.Open(node).error()) == "ENOSYS open");
  machine.driver.fails[ion_uapi::kDrmIoctlGetCap] = -EIO;
  CHECK(Kind(machine.Open().error()) == "EIO open");
}

TEST_CASE("DrmDumbBackend: bytes are one line of 32-bit pixels, whose handle is gone at once") {
  const LeakCheck leaks;
  OneCard card;
  Block block;
  REQUIRE(Told(card.backend.Allocate(0, 5000, Flags::kNone, {}, block)) == "ok");
  CHECK(block.bytes == 8192);
  CHECK(card.budget->held() == 8192);
  CHECK(card.driver.created.height == 1);
  CHECK(card.driver.created.bpp == 32);
  CHECK(card.driver.created.width == 2048);
  CHECK(card.driver.handles.empty());
  CHECK(Told(card.backend.Release(block)) == "ok");
  CHECK(card.budget->held() == 0);
}

TEST_CASE("DrmDumbBackend: more than was asked for is the block's, and is charged") {
  const LeakCheck leaks;
  OneCard card;
  card.driver.granule = 64_KiB;
  Block block;
  REQUIRE(Told(card.backend.Allocate(0, 5000, Flags::kNone, {}, block)) == "ok");
  CHECK(block.bytes == 64_KiB);
  CHECK(card.budget->held() == 64_KiB);
  CHECK(Told(card.backend.Release(block)) == "ok");
  CHECK(card.budget->held() == 0);
}

TEST_CASE("DrmDumbBackend: more than was asked for, past the bound, goes back") {
  const LeakCheck leaks;
  OneCard card;
  card.driver.granule = uint64_t{16} << 30;  // the file has no pages
  Block block;
  CHECK(Kind(card.backend.Allocate(0, 5000, Flags::kNone, {}, block)) == "ENOMEM allocate");
  CHECK_FALSE(block.filled());
  CHECK(card.budget->held() == 0);
  CHECK(card.driver.handles.empty());
}

// A request for lines of so many bytes.
Request Lines(uint64_t stride, uint64_t lines) {
  return {.bytes = stride * lines, .frame = {.width = 1, .height = 1, .stride = stride}};
}

TEST_CASE("DrmDumbBackend: a frame has the pitch and the bytes that the driver states") {
  const LeakCheck leaks;
  OneCard card;
  card.driver.pitch_multiple = 256;
  card.driver.states_frame_bytes = true;
  Block block;
  REQUIRE(Told(card.backend.AllocateFrame(0, Lines(300, 33), block)) == "ok");
  CHECK(card.backend.StatedOf(block) == StatedFrame{.pitch = 512, .bytes = 512 * 33});
  CHECK(card.driver.created.bpp == 32);
  CHECK(card.driver.created.width == 75);
  CHECK(card.driver.created.height == 33);
  // Whole pages, which the descriptor tells and the driver did not.
  CHECK(block.bytes == 20480);
  CHECK(card.budget->held() == 20480);
  CHECK(Told(card.backend.Release(block)) == "ok");
  CHECK(card.backend.StatedOf(block) == StatedFrame());
}

TEST_CASE("DrmDumbBackend: a line is of the largest pixels that it is a whole number of") {
  const LeakCheck leaks;
  OneCard card;
  for (const auto& [stride, bits] : {std::pair{1u, 8u}, {3u, 8u}, {6u, 16u}, {4u, 32u}}) {
    Block block;
    REQUIRE(Told(card.backend.AllocateFrame(0, Lines(stride, 2), block)) == "ok");
    CHECK(card.driver.created.bpp == bits);
    CHECK(card.driver.created.width * bits == 8 * stride);
    CHECK(card.backend.StatedOf(block).pitch == stride);
    CHECK(Told(card.backend.Release(block)) == "ok");
  }
}

TEST_CASE("DrmDumbBackend: bytes that end within a line are for a line more") {
  const LeakCheck leaks;
  OneCard card;
  Request request = Lines(64, 2);
  request.bytes = 129;
  Block block;
  REQUIRE(Told(card.backend.AllocateFrame(0, request, block)) == "ok");
  CHECK(card.backend.StatedOf(block) == StatedFrame{.pitch = 64, .bytes = 192});
  CHECK(Told(card.backend.Release(block)) == "ok");
}

TEST_CASE("DrmDumbBackend: bytes are no frame, though a driver states a pitch") {
  const LeakCheck leaks;
  OneCard card;
  Block block;
  REQUIRE(Told(card.backend.Allocate(0, 5000, Flags::kNone, {}, block)) == "ok");
  CHECK(card.backend.StatedOf(block) == StatedFrame());
  CHECK(Told(card.backend.Release(block)) == "ok");
}

TEST_CASE("DrmDumbBackend: a frame that is empty, or too large for the kernel, is EINVAL") {
  const LeakCheck leaks;
  OneCard card;
  Request flags = Lines(64, 2);
  flags.flags = HeapPrivate(3);
  Request most = Lines(64, 1);
  most.bytes = UINT64_MAX;
  Request longest = Lines(64, 1);
  longest.frame.stride = UINT64_MAX;
  for (const Request& request : {Lines(0, 1), Lines(1, 0), Lines(256_MiB + 1, 1),
                                 Lines(4096, 1 << 20), flags, most, longest}) {
    CAPTURE(request.bytes);
    CAPTURE(request.frame.stride);
    Block block;
    CHECK(Kind(card.backend.AllocateFrame(0, request, block)) == "EINVAL allocate");
    CHECK_FALSE(block.filled());
  }
  Block block;
  CHECK(Kind(card.backend.AllocateFrame(1, Lines(64, 2), block)) == "ENODEV allocate");
  CHECK(card.driver.last_handle == 0);
  CHECK(card.budget->held() == 0);
}

TEST_CASE("DrmDumbBackend: the largest sizes reach the driver as lines that it counts rightly") {
  const LeakCheck leaks;
  OneCard card;
  for (const uint64_t bytes :
       {uint64_t{256_MiB}, 256_MiB + 1, uint64_t{1} << 29, uint64_t{1} << 31, B::kLargestBytes}) {
    CAPTURE(bytes);
    Block block;
    REQUIRE(Told(card.backend.Allocate(0, bytes, Flags::kNone, {}, block)) == "ok");
    CHECK(block.bytes == *RoundUpToPages(bytes));
    CHECK(Told(card.backend.Release(block)) == "ok");
  }
  const uint32_t asked = card.driver.last_handle;
  Block block;
  const Error error = card.backend.Allocate(0, B::kLargestBytes + 1, Flags::kNone, {}, block);
  CHECK(Kind(error) == "EINVAL allocate");
  REQUIRE(error.limit().has_value());
  CHECK(error.limit()->bytes == B::kLargestBytes);
  CHECK(card.driver.last_handle == asked);
  CHECK(card.budget->held() == 0);
}

TEST_CASE("DrmDumbBackend: a pitch or a size that does not hold the frame is EIO") {
  const LeakCheck leaks;
  OneCard card;
  const auto refused = [&] {
    Block block;
    CHECK(Kind(card.backend.AllocateFrame(0, Lines(4096, 4), block)) == "EIO allocate");
    CHECK_FALSE(block.filled());
    CHECK(card.budget->held() == 0);
    CHECK(card.driver.handles.empty());
  };
  card.driver.misstated_pitch = -1;
  refused();
  card.driver.misstated_pitch = 4;  // the last line ends past the frame
  refused();
  card.driver.misstated_pitch = 0;
  card.driver.misstated_bytes = -1;
  refused();
  card.driver.misstated_bytes = 4096;  // past the descriptor's end
  refused();
  card.driver.misstated_bytes = 0;
  card.driver.missing_bytes = 4096;
  refused();
}

TEST_CASE("DrmDumbBackend: each refusal of the driver is told, and leaves no handle") {
  const LeakCheck leaks;
  OneCard card;
  struct Refusal {
    unsigned long request;
    int code;
    const char* what;
    const char* advice;
  };
  for (const Refusal& refusal :
       {Refusal{ion_uapi::kDrmIoctlModeCreateDumb, ENOMEM, "CREATE_DUMB", ""},
        Refusal{ion_uapi::kDrmIoctlModeCreateDumb, EINVAL, "CREATE_DUMB", "32 bits"},
        Refusal{ion_uapi::kDrmIoctlPrimeHandleToFd, ENOSYS, "PRIME_HANDLE_TO_FD", "another card"},
        Refusal{ion_uapi::kDrmIoctlPrimeHandleToFd, EACCES, "PRIME_HANDLE_TO_FD", "master"},
        Refusal{ion_uapi::kDrmIoctlPrimeHandleToFd, EINVAL, "PRIME_HANDLE_TO_FD", "4.6"},
        Refusal{ion_uapi::kDrmIoctlPrimeHandleToFd, EMFILE, "PRIME_HANDLE_TO_FD", ""}}) {
    CAPTURE(refusal.code);
    card.driver.fails = {{refusal.request, -refusal.code}};
    Block block;
    const Error error = card.backend.Allocate(0, 4096, Flags::kNone, {}, block);
    CHECK(Kind(error) == ErrnoName(refusal.code) + " allocate");
    CHECK(Contains(Describe(error), refusal.what));
    CHECK(Contains(Describe(error), refusal.advice));
    CHECK_FALSE(block.filled());
    CHECK(card.budget->held() == 0);
    CHECK(card.driver.handles.empty());
  }
  CHECK(card.errors->count() == 0);
}

TEST_CASE("DrmDumbBackend: a handle that stays is reported, and the buffer is one all the same") {
  const LeakCheck leaks;
  OneCard card;
  card.driver.fails = {{ion_uapi::kDrmIoctlModeDestroyDumb, -EIO}};
  Block block;
  REQUIRE(Told(card.backend.Allocate(0, 4096, Flags::kNone, {}, block)) == "ok");
  CHECK(card.errors->count() == 1);
  CHECK(card.driver.handles.size() == 1);
  card.driver.handles.clear();
  CHECK(Told(card.backend.Release(block)) == "ok");
}

// The rest is of real drivers: each card of this machine.

// In a guest: vgem and vkms.
std::vector<std::string> CardsHere() {
  std::vector<std::string> cards;
  for (int number = 0; number < 16; ++number) {
    std::string path = "/dev/dri/card" + std::to_string(number);
    if (DrmDumbBackend<>::Open({.node = path}).ok()) cards.push_back(std::move(path));
  }
  if (cards.empty()) Skip("no card here makes dumb buffers");
  return cards;
}

TEST_CASE("DrmDumbBackend: each card here holds what was written to a frame of it") {
  AddDeviceMappingName("/dev/dri/card");
  const LeakCheck leaks;
  for (const std::string& card : CardsHere()) {
    CAPTURE(card);
    Result<DrmDumbBackend<>> backend = DrmDumbBackend<>::Open({.node = card});
    REQUIRE(Told(backend.error()) == "ok");
    for (const auto& [width, height] : {std::pair{1u, 1u}, {641u, 479u}, {1920u, 1080u}}) {
      Memory memory(*backend);
      const Request request = Lines(4 * width, height);
      REQUIRE(Told(backend->AllocateFrame(0, request, memory.block)) == "ok");
      const StatedFrame frame = backend->StatedOf(memory.block);
      CHECK(frame.pitch >= 4 * width);
      CHECK(frame.bytes == uint64_t{frame.pitch} * height);
      CHECK(memory.block.bytes >= frame.bytes);
      CHECK(backend->budget().held() == memory.block.bytes);
      std::printf("%s: %u x %u: pitch %u, %llu bytes\n", card.c_str(), width, height, frame.pitch,
                  static_cast<unsigned long long>(frame.bytes));
      CHECK(Fill(*backend, memory.block, 5) == "ok");
      CHECK(Look(*backend, memory.block, 5) == "ok");
    }
  }
}

TEST_CASE("AllocateFrame: each card here states the pitch of an image, and its planes hold bytes") {
  AddDeviceMappingName("/dev/dri/card");
  const LeakCheck leaks;
  for (const std::string& card : CardsHere()) {
    CAPTURE(card);
    auto manager = Manager<DrmDumbBackend<>, Pooled<System>>::Open({.node = card});
    REQUIRE(manager.ok());
    auto client = manager->CreateClient({.name = "display"});
    REQUIRE(client.ok());
    for (const PixelFormat format :
         {PixelFormat::kXrgb8888, PixelFormat::kNv12, PixelFormat::kYuv420}) {
      const auto frame = AllocateFrame(*client, {.format = format, .width = 648, .height = 482});
      REQUIRE_MESSAGE(frame.ok(), frame.status().message());
      const StatedFrame stated = frame->buffer.stated();
      const ImageLayout& layout = frame->layout;
      CHECK(layout.plane[0].stride == stated.pitch);
      CHECK(layout.total_bytes <= stated.bytes);
      CHECK(stated.bytes <= frame->buffer.bytes());
      const PlaneLayout& last = layout.plane[layout.planes - 1];
      CHECK(last.offset + last.bytes() <= layout.total_bytes);
      auto mapping = WritableMapping::Of(frame->buffer);
      REQUIRE(mapping.ok());
      auto scope = CpuWrite::Begin(*mapping);
      REQUIRE(scope.ok());
      scope->bytes()[last.offset + last.bytes() - 1] = std::byte{7};
      CHECK(std::move(*scope).End().ok());
    }
  }
}

// A driver over shmem takes pages when they are touched, so that a large buffer costs nothing.
TEST_CASE("DrmDumbBackend: each card here says no, and nothing worse, to a size that it lacks") {
  const LeakCheck leaks;
  for (const std::string& card : CardsHere()) {
    CAPTURE(card);
    const auto budget = std::make_shared<Budget>(uint64_t{8} << 30);
    Result<DrmDumbBackend<>> backend = DrmDumbBackend<>::Open({.budget = budget, .node = card});
    REQUIRE(Told(backend.error()) == "ok");
    for (const uint64_t bytes : {256_MiB, 256_MiB + 1, uint64_t{1} << 29, uint64_t{1} << 31,
                                 DrmDumbBackend<>::kLargestBytes}) {
      Block block;
      const Error error = backend->Allocate(0, bytes, Flags::kNone, {}, block);
      std::printf("%s: %llu bytes: %s\n", card.c_str(), static_cast<unsigned long long>(bytes),
                  Told(error).c_str());
      if (error.ok()) {
        CHECK(block.bytes >= bytes);
        CHECK(Told(backend->Release(block)) == "ok");
      } else {
        CHECK_FALSE(block.filled());
      }
      CHECK(budget->held() == 0);
    }
  }
}

}  // namespace
}  // namespace ion::testing
