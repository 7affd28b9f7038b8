// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/v4l2_export.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
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
#include "ion/frame_shape.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/frames_as_bytes.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "third_party/ion_uapi/v4l2.h"

namespace ion::testing {
namespace {

// A V4L2 device whose buffers are memfds, and which makes YUYV of even widths up to 640 x 480.
struct Device {
  unsigned major = ion_uapi::kV4l2Major;
  mode_t type = S_IFCHR;
  uint32_t caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
  v4l2_pix_format format = {};
  uint32_t pitch_multiple = 1;
  int64_t missing_bytes = 0;  // of the memory
  uint64_t added_bytes = 0;   // to it
  bool removes = true;        // Linux 6.10
  size_t most_buffers = 32;
  std::set<uint32_t> queued = {};
  std::map<unsigned long, long> fails = {};   // an error, of an ioctl by its number
  std::set<int> nodes = {};                   // by descriptor
  std::map<uint32_t, uint32_t> buffers = {};  // the bytes of each
  uint32_t next_index = 0;
  std::vector<unsigned long> requests = {};

  Device() { Adjust(format); }

  void Adjust(v4l2_pix_format& pix) const {
    pix.pixelformat = V4L2_PIX_FMT_YUYV;
    pix.width = pix.width == 0 ? 320 : pix.width > 640 ? 640 : pix.width & ~1u;
    pix.height = pix.height == 0 ? 240 : pix.height > 480 ? 480 : pix.height;
    pix.bytesperline = (2 * pix.width + pitch_multiple - 1) / pitch_multiple * pitch_multiple;
    pix.sizeimage = pix.bytesperline * pix.height;
  }
  long Create(v4l2_create_buffers& create) {
    if (create.format.fmt.pix.sizeimage < format.sizeimage) return -EINVAL;
    if (buffers.size() == most_buffers) return -ENOBUFS;
    create.index = next_index++;
    create.count = 1;
    buffers[create.index] = create.format.fmt.pix.sizeimage;
    return 0;
  }
  long Export(v4l2_exportbuffer& exported) const {
    const auto at = buffers.find(exported.index);
    if (at == buffers.end() || exported.flags != (O_CLOEXEC | O_RDWR)) return -EINVAL;
    const auto bytes = static_cast<int64_t>(*RoundUpToPages(at->second) + added_bytes);
    const int memory = ::memfd_create("frame", MFD_CLOEXEC);
    if (memory < 0 || ::ftruncate(memory, bytes - missing_bytes) != 0) return -ENOMEM;
    exported.fd = memory;
    return 0;
  }
  long Remove(const ion_uapi::v4l2_remove_buffers& remove) {
    if (!removes) return -ENOTTY;
    if (remove.count != 1) return -EINVAL;
    if (queued.contains(remove.index)) return -EBUSY;
    return buffers.erase(remove.index) == 1 ? 0 : -EINVAL;
  }
};

class DeviceSyscalls : public LinuxSyscalls {
 public:
  DeviceSyscalls() = default;
  DeviceSyscalls(Device* device, const std::string* path) noexcept : device_(device), path_(path) {}

  long Open(const char* path, int flags) const noexcept {
    const long fd = LinuxSyscalls::Open(path, flags);
    if (fd >= 0 && *path_ == path) device_->nodes.insert(static_cast<int>(fd));
    return fd;
  }
  long Close(int fd) const noexcept {
    device_->nodes.erase(fd);
    return LinuxSyscalls::Close(fd);
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = LinuxSyscalls::Fstat(fd, to);
    if (answer == 0 && device_->nodes.contains(fd)) {
      to->st_mode = device_->type | 0600;
      to->st_rdev = makedev(device_->major, 0);
    }
    return answer;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (!device_->nodes.contains(fd)) return LinuxSyscalls::Ioctl(fd, request, argument);
    device_->requests.push_back(request);
    if (const auto at = device_->fails.find(request); at != device_->fails.end()) {
      return at->second;
    }
    switch (request) {
      case VIDIOC_QUERYCAP:
        static_cast<v4l2_capability*>(argument)->capabilities = V4L2_CAP_DEVICE_CAPS;
        static_cast<v4l2_capability*>(argument)->device_caps = device_->caps;
        return 0;
      case VIDIOC_G_FMT:
        static_cast<v4l2_format*>(argument)->fmt.pix = device_->format;
        return 0;
      case VIDIOC_S_FMT: {
        auto& pix = static_cast<v4l2_format*>(argument)->fmt.pix;
        device_->Adjust(pix);
        device_->format = pix;
        return 0;
      }
      case VIDIOC_CREATE_BUFS:
        return device_->Create(*static_cast<v4l2_create_buffers*>(argument));
      case VIDIOC_EXPBUF:
        return device_->Export(*static_cast<v4l2_exportbuffer*>(argument));
      case ion_uapi::kV4l2RemoveBufs:
        return device_->Remove(*static_cast<ion_uapi::v4l2_remove_buffers*>(argument));
    }
    return -ENOTTY;
  }

 private:
  Device* device_ = nullptr;
  const std::string* path_ = nullptr;
};
using B = V4l2ExportBackend<DeviceSyscalls>;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// A request for an image of the device's first format, or of another size.
Request FrameRequest(std::string_view name = {}, uint32_t width = 320, uint32_t height = 240) {
  return {.name = name, .frame = {.width = width, .height = height}};
}

// A node, and the device behind it.
struct Machine {
  Result<B> Open(uint32_t format = 0, uint32_t width = 0, uint32_t height = 0) {
    B::Options options;
    options.sys = DeviceSyscalls(&device, &path);
    options.budget = budget;
    options.errors = errors;
    options.node = path;
    options.format = format;
    options.width = width;
    options.height = height;
    return B::Open(options);
  }

  Device device;
  TempDir directory;
  std::string path = directory.File("video0");
  std::shared_ptr<Budget> budget = std::make_shared<Budget>(uint64_t{4} << 20);
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();
};

TEST_CASE("V4l2ExportBackend: without a wish the format is the device's, and nothing is set") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(machine.device.requests == std::vector<unsigned long>{VIDIOC_QUERYCAP, VIDIOC_G_FMT});
  Block block;
  REQUIRE(Told(backend->AllocateFrame(0, FrameRequest(), block)) == "ok");
  CHECK(backend->StatedOf(block) == StatedFrame{.pitch = 640, .bytes = 640 * 240});
  CHECK(Told(backend->Release(block)) == "ok");
  CHECK(backend->StatedOf(block) == StatedFrame());
}

TEST_CASE("V4l2ExportBackend: a frame has the pitch and the bytes that the driver states") {
  const LeakCheck leaks;
  Machine machine;
  machine.device.pitch_multiple = 256;
  Result<B> backend = machine.Open(V4L2_PIX_FMT_YUYV, 100, 33);
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  Request request = FrameRequest("preview", 100, 33);
  request.frame.format = PixelFormat::kYuyv;
  REQUIRE(Told(backend->AllocateFrame(0, request, block)) == "ok");
  CHECK(backend->StatedOf(block) == StatedFrame{.pitch = 256, .bytes = 256 * 33});
  CHECK(block.bytes == *RoundUpToPages(256 * 33));
  CHECK(machine.budget->held() == block.bytes);
  CHECK(Told(backend->Release(block)) == "ok");
  CHECK(machine.budget->held() == 0);
  CHECK(machine.device.buffers.empty());
}

TEST_CASE("V4l2ExportBackend: a format or a size that the driver changes is EINVAL") {
  const LeakCheck leaks;
  Machine machine;
  CHECK(Kind(machine.Open(V4L2_PIX_FMT_NV12, 100, 32).error()) == "EINVAL open");
  CHECK(Kind(machine.Open(0, 101, 32).error()) == "EINVAL open");
  const Error error = machine.Open(0, 100, 999).error();
  CHECK(Kind(error) == "EINVAL open");
  CHECK(Contains(error.hint(), "VIDIOC_ENUM_FMT"));
  CHECK(machine.Open(0, 100, 32).ok());
}

TEST_CASE("V4l2ExportBackend: a node that is no capture device with a queue is ENODEV") {
  const LeakCheck leaks;
  Machine machine;
  for (const uint32_t caps : {0u, uint32_t{V4L2_CAP_STREAMING}, uint32_t{V4L2_CAP_VIDEO_CAPTURE},
                              uint32_t{V4L2_CAP_VIDEO_OUTPUT | V4L2_CAP_STREAMING}}) {
    machine.device.caps = caps;
    CHECK(Kind(machine.Open().error()) == "ENODEV open");
  }
  machine.device.caps = V4L2_CAP_VIDEO_CAPTURE_MPLANE | V4L2_CAP_STREAMING;
  CHECK(Contains(machine.Open().error().hint(), "multi-planar"));
  machine.device.caps = V4L2_CAP_VIDEO_M2M | V4L2_CAP_STREAMING;
  CHECK(machine.Open().ok());
  machine.device.requests.clear();
  machine.device.major = 10;
  CHECK(Kind(machine.Open().error()) == "ENODEV open");
  machine.device.major = ion_uapi::kV4l2Major;
  machine.device.type = S_IFREG;
  CHECK(Kind(machine.Open().error()) == "ENODEV open");
  CHECK(machine.device.requests.empty());
}

TEST_CASE("V4l2ExportBackend: a driver whose answers do not hold a frame is EINVAL") {
  const LeakCheck leaks;
  Machine machine;
  machine.device.format.sizeimage -= 1;
  CHECK(Kind(machine.Open().error()) == "EINVAL open");
  machine.device.format.bytesperline = machine.device.format.height = UINT32_MAX;
  CHECK(Kind(machine.Open().error()) == "EINVAL open");
  machine.device.format.bytesperline = machine.device.format.sizeimage = 0;
  CHECK(Kind(machine.Open().error()) == "EINVAL open");
}

TEST_CASE("V4l2ExportBackend: bytes are refused, with the call to make as advice") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  const Error error = backend->Allocate(0, 4096, Flags::kNone, {}, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(error.hint(), "Request::frame"));
  CHECK(backend->heaps()[0].frames == MakesFrames::kOnly);
  CHECK(Kind(backend->Allocate(1, 4096, Flags::kNone, {}, block)) == "ENODEV allocate");
  CHECK(machine.device.buffers.empty());
}

TEST_CASE("V4l2ExportBackend: an image that the queue does not make is EINVAL, with what to do") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Request other_format = FrameRequest();
  other_format.frame.format = PixelFormat::kNv12;
  Request flags = FrameRequest();
  flags.flags = HeapPrivate(3);
  Request large = FrameRequest();
  large.bytes = uint64_t{1} << 32;
  for (const Request& request :
       {FrameRequest({}, 322, 240), FrameRequest({}, 320, 242), other_format, flags, large}) {
    Block block;
    CHECK(Kind(backend->AllocateFrame(0, request, block)) == "EINVAL allocate");
    CHECK_FALSE(block.filled());
  }
  Block block;
  CHECK(Contains(backend->AllocateFrame(0, other_format, block).hint(), "Options"));
  CHECK(Kind(backend->AllocateFrame(1, FrameRequest(), block)) == "ENODEV allocate");
  CHECK(machine.device.buffers.empty());
}

TEST_CASE("V4l2ExportBackend: a frame has the request's bytes, if the format has fewer") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Request request = FrameRequest();
  request.bytes = 1_MiB;
  Block block;
  REQUIRE(Told(backend->AllocateFrame(0, request, block)) == "ok");
  CHECK(block.bytes == 1_MiB);
  CHECK(backend->StatedOf(block).bytes == 640 * 240);
  CHECK(Told(backend->Release(block)) == "ok");
}

TEST_CASE("V4l2ExportBackend: each frame is a new buffer, and none is handed out again") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  for (int round = 0; round < 3; ++round) {
    machine.device.requests.clear();
    Block one, two;
    REQUIRE(backend->AllocateFrame(0, FrameRequest(), one).ok());
    REQUIRE(backend->AllocateFrame(0, FrameRequest(), two).ok());
    CHECK(machine.device.buffers.contains(B::IndexOf(one)));
    CHECK(machine.device.buffers.contains(B::IndexOf(two)));
    CHECK(B::IndexOf(one) != B::IndexOf(two));
    CHECK(Told(backend->Release(one)) == "ok");
    CHECK(machine.device.buffers.size() == 1);
    CHECK(machine.device.buffers.contains(B::IndexOf(two)));
    CHECK(Told(backend->Release(two)) == "ok");
    CHECK(std::ranges::count(machine.device.requests, VIDIOC_CREATE_BUFS) == 2);
    CHECK(std::ranges::count(machine.device.requests, ion_uapi::kV4l2RemoveBufs) == 2);
  }
}

TEST_CASE("V4l2ExportBackend: a buffer that stays in the queue is charged until the queue goes") {
  const LeakCheck leaks;
  Machine machine;
  machine.device.removes = false;
  std::optional<B> backend(*machine.Open());
  Block block;
  REQUIRE(backend->AllocateFrame(0, FrameRequest(), block).ok());
  const uint64_t bytes = block.bytes;
  CHECK(Told(backend->Release(block)) == "ok");
  CHECK_FALSE(block.filled());
  CHECK(backend->stuck_bytes() == bytes);
  CHECK(machine.budget->held() == bytes);
  backend.reset();
  CHECK(machine.budget->held() == 0);
}

TEST_CASE("V4l2ExportBackend: the release of a buffer that is queued is EBUSY, and charged still") {
  const LeakCheck leaks;
  Machine machine;
  std::optional<B> backend(*machine.Open());
  Block block;
  REQUIRE(backend->AllocateFrame(0, FrameRequest(), block).ok());
  const uint64_t bytes = block.bytes;
  machine.device.queued.insert(B::IndexOf(block));
  const Error error = backend->Release(block);
  CHECK(Kind(error) == "EBUSY release");
  CHECK(Contains(error.hint(), "dequeue"));
  CHECK_FALSE(block.filled());
  CHECK(machine.budget->held() == bytes);
  backend.reset();
  CHECK(machine.budget->held() == 0);
}

TEST_CASE("V4l2ExportBackend: past the bound nothing is asked, and past the queue it is told") {
  const LeakCheck leaks;
  Machine machine;
  machine.device.most_buffers = 2;
  machine.budget = std::make_shared<Budget>(uint64_t{1} << 20);
  Result<B> backend = machine.Open();  // 153,600 bytes each
  REQUIRE(Told(backend.error()) == "ok");
  std::vector<Block> blocks(2);
  for (Block& block : blocks) REQUIRE(backend->AllocateFrame(0, FrameRequest(), block).ok());
  Block block;
  const uint64_t held = machine.budget->held();
  CHECK(Kind(backend->AllocateFrame(0, FrameRequest(), block)) == "ENOBUFS allocate");
  CHECK(machine.budget->held() == held);
  for (Block& one : blocks) CHECK(Told(backend->Release(one)) == "ok");
  machine.budget = std::make_shared<Budget>(4096);
  Result<B> poor = machine.Open();
  REQUIRE(Told(poor.error()) == "ok");
  CHECK(Kind(poor->AllocateFrame(0, FrameRequest(), block)) == "ENOMEM allocate");
  CHECK(machine.device.buffers.empty());
}

TEST_CASE("V4l2ExportBackend: each refusal leaves no buffer, no bytes and no descriptor") {
  const LeakCheck leaks;
  Machine machine;
  Result<B> backend = machine.Open();
  REQUIRE(Told(backend.error()) == "ok");
  const auto refused = [&](const char* kind) {
    Block block;
    CHECK(Kind(backend->AllocateFrame(0, FrameRequest(), block)) == kind);
    CHECK_FALSE(block.filled());
    CHECK(machine.budget->held() == 0);
    CHECK(machine.device.buffers.empty());
  };
  machine.device.fails = {{VIDIOC_CREATE_BUFS, -ENOMEM}};
  refused("ENOMEM allocate");
  machine.device.fails = {{VIDIOC_EXPBUF, -ENOTTY}};
  refused("ENOTTY allocate");
  machine.device.fails = {{VIDIOC_EXPBUF, -EMFILE}};
  refused("EMFILE allocate");
  machine.device.fails = {};
  machine.device.missing_bytes = 4096;
  refused("EIO allocate");
  machine.device.missing_bytes = 1;
  refused("EIO allocate");
  machine.device.missing_bytes = 0;
  machine.device.added_bytes = 16_MiB;
  refused("ENOMEM allocate");
  CHECK(machine.errors->count() == 0);
  // Then the buffer stays with the queue, and both errors are told.
  machine.device.fails = {{VIDIOC_EXPBUF, -EMFILE}, {ion_uapi::kV4l2RemoveBufs, -EIO}};
  machine.device.added_bytes = 0;
  Block block;
  CHECK(Kind(backend->AllocateFrame(0, FrameRequest(), block)) == "EMFILE allocate");
  CHECK(machine.errors->count() == 1);
  CHECK(machine.budget->held() == backend->stuck_bytes());
  CHECK(backend->stuck_bytes() != 0);
}

TEST_CASE("V4l2ExportBackend: each step of Open that fails is told, and leaves nothing open") {
  const LeakCheck leaks;
  Machine machine;
  for (const unsigned long request : {VIDIOC_QUERYCAP, VIDIOC_G_FMT, VIDIOC_S_FMT}) {
    machine.device.fails = {{request, -EBUSY}};
    CHECK(Kind(machine.Open(0, 100, 32).error()) == "EBUSY open");
  }
  machine.device.fails = {};
  machine.path = machine.directory.At("video7");
  const Error absent = machine.Open().error();
  CHECK(Kind(absent) == "ENOENT open");
  CHECK(absent.hint() != nullptr);
}

// The rest is of real drivers: vivid and vim2m, in a guest.

std::vector<std::string> DevicesHere() {
  std::vector<std::string> nodes = VideoNodesOf("vivid");
  for (const std::string& node : VideoNodesOf("vim2m")) nodes.push_back(node);
  if (nodes.empty()) Skip("neither vivid nor vim2m is here");
  return nodes;
}

TEST_CASE("V4l2ExportBackend: each test driver here holds what was written to a frame of it") {
  const LeakCheck leaks;
  for (const std::string& node : DevicesHere()) {
    CAPTURE(node);
    const auto budget = std::make_shared<Budget>(64_MiB);
    {
      Result<V4l2ExportBackend<>> backend =
          V4l2ExportBackend<>::Open({.budget = budget, .node = node});
      REQUIRE(Told(backend.error()) == "ok");
      const std::optional<v4l2_pix_format> format = FormatOf(backend->node());
      REQUIRE(format.has_value());
      std::vector<Block> blocks(3);
      for (uint8_t i = 0; i < blocks.size(); ++i) {
        const Request request = FrameRequest("frame", format->width, format->height);
        REQUIRE(Told(backend->AllocateFrame(0, request, blocks[i])) == "ok");
        const StatedFrame frame = backend->StatedOf(blocks[i]);
        CHECK(frame == StatedFrame{.pitch = format->bytesperline, .bytes = format->sizeimage});
        CHECK(blocks[i].bytes == *RoundUpToPages(frame.bytes));
        CHECK(Fill(*backend, blocks[i], i) == "ok");
        if (i == 0) {
          std::printf("%s: %u x %u: pitch %u, %llu bytes\n", node.c_str(), format->width,
                      format->height, frame.pitch, static_cast<unsigned long long>(frame.bytes));
        }
      }
      for (uint8_t i = 0; i < blocks.size(); ++i) CHECK(Look(*backend, blocks[i], i) == "ok");
      for (Block& block : blocks) CHECK(Told(backend->Release(block)) == "ok");
      std::printf("%s: %llu bytes stay with the queue\n", node.c_str(),
                  static_cast<unsigned long long>(backend->stuck_bytes()));
      CHECK(budget->held() == backend->stuck_bytes());
    }
    CHECK(budget->held() == 0);
  }
}

TEST_CASE("AllocateFrame: each test driver here states the layout of its queue's image") {
  const LeakCheck leaks;
  for (const std::string& node : DevicesHere()) {
    CAPTURE(node);
    auto manager = Manager<V4l2ExportBackend<>, System>::Open({.node = node});
    REQUIRE(manager.ok());
    auto client = manager->CreateClient({.name = "camera"});
    REQUIRE(client.ok());
    CHECK(ErrnoOf(client->Allocate({.bytes = 4096}).status()) == EINVAL);
    const FrameShape own = manager->backend().frame();
    const std::optional<v4l2_pix_format> format = FormatOf(manager->backend().node());
    REQUIRE(format.has_value());
    if (own.format == PixelFormat::kNone) continue;
    const ImageSpec spec{.format = own.format, .width = own.width, .height = own.height};
    const auto frame = AllocateFrame(*client, spec);
    REQUIRE_MESSAGE(frame.ok(), frame.status().message());
    CHECK(frame->layout.plane[0].stride == format->bytesperline);
    CHECK(frame->layout.total_bytes == format->sizeimage);
    ImageSpec other = spec;
    other.height -= 2;
    CHECK(ErrnoOf(AllocateFrame(*client, other).status()) == EINVAL);
  }
}

TEST_CASE("V4l2ExportBackend: the device fills a frame that is queued by its index") {
  const LeakCheck leaks;
  const std::vector<std::string> nodes = VideoNodesOf("vivid");
  if (nodes.empty()) return Skip("vivid is not here");
  for (const std::string& node : nodes) {
    CAPTURE(node);
    Result<V4l2ExportBackend<>> backend = V4l2ExportBackend<>::Open({.node = node});
    REQUIRE(Told(backend.error()) == "ok");
    const std::optional<v4l2_pix_format> format = FormatOf(backend->node());
    REQUIRE(format.has_value());
    std::vector<Block> blocks(4);
    for (Block& block : blocks) {
      const Request request = FrameRequest({}, format->width, format->height);
      REQUIRE(Told(backend->AllocateFrame(0, request, block)) == "ok");
      REQUIRE(Fill(*backend, block, 0) == "ok");
      v4l2_buffer queued{};
      queued.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
      queued.memory = V4L2_MEMORY_MMAP;
      queued.index = V4l2ExportBackend<>::IndexOf(block);
      REQUIRE(::ioctl(backend->node().get(), VIDIOC_QBUF, &queued) == 0);
    }
    int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    REQUIRE(::ioctl(backend->node().get(), VIDIOC_STREAMON, &type) == 0);
    pollfd ready{.fd = backend->node().get(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&ready, 1, 20'000) == 1);
    v4l2_buffer done{};
    done.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    done.memory = V4L2_MEMORY_MMAP;
    REQUIRE(::ioctl(backend->node().get(), VIDIOC_DQBUF, &done) == 0);
    REQUIRE(::ioctl(backend->node().get(), VIDIOC_STREAMOFF, &type) == 0);
    const auto filled = std::ranges::find(blocks, done.index, &V4l2ExportBackend<>::IndexOf);
    REQUIRE(filled != blocks.end());
    CHECK(Look(*backend, *filled, 0) != "ok");  // other bytes
    for (Block& block : blocks) CHECK(Told(backend->Release(block)) == "ok");
  }
}

}  // namespace
}  // namespace ion::testing
