// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_v4l2.h
//
// FakeV4l2: a V4L2 device with one queue that imports dma-bufs, as videobuf2 of Linux 6.12 has it,
// and the kernel around it: a slot keeps its memory, which may be any file, until it is prepared
// with other memory, removed or freed, or the last file of the node is closed. For one thread.

#ifndef ION_TESTS_SUPPORT_FAKE_V4L2_H_
#define ION_TESTS_SUPPORT_FAKE_V4L2_H_

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "ion/base/syscalls.h"
#include "third_party/ion_uapi/v4l2.h"

namespace ion::testing {

struct FakeV4l2 {
  enum class State : uint8_t { kDequeued, kPrepared, kQueued };
  struct Slot {
    State state = State::kDequeued;
    uint64_t memory = 0;  // the number of its inode; 0: none
  };

  // The driver's ways.
  std::string path = {};
  unsigned major = ion_uapi::kV4l2Major;
  mode_t type = S_IFCHR;
  uint32_t caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
  uint32_t buffer_type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  uint32_t planes = 0;  // of the multi-planar interface
  uint32_t pitch_multiple = 1;
  uint32_t most_slots = 32;
  int32_t least_buffers = 0;  // 0: it does not tell
  bool imports = true;
  bool prepares = true;  // VIDIOC_PREPARE_BUF
  bool removes = true;   // Linux 6.10
  bool fills = true;     // a queued slot
  uint32_t flags = 0;    // of a filled one
  long maps = 0;         // its answer to memory
  bool vanished = false;
  bool other_owner = false;
  std::map<unsigned long, long> fails = {};  // an error, of an ioctl by its number
  // From there the call of this number fails, once.
  size_t fails_at = SIZE_MAX;
  int fails_with = 0;
  std::string failed = {};  // that call

  // Its state.
  v4l2_pix_format format = {};
  std::map<uint32_t, Slot> slots = {};
  std::vector<uint32_t> queue = {};
  uint32_t next_index = 0;
  uint32_t sequence = 0;
  bool streaming = false;
  v4l2_buffer last = {};  // the last that came with QBUF or PREPARE_BUF
  v4l2_plane last_plane = {};
  std::vector<int> nodes = {};  // by descriptor
  std::vector<unsigned long> requests = {};
  size_t calls = 0;

  // To open a queue it then allocates nothing.
  FakeV4l2() {
    Adjust(format);
    nodes.reserve(16);
    requests.reserve(4096);
  }

  bool multi() const { return V4L2_TYPE_IS_MULTIPLANAR(buffer_type); }
  // Memory that is held.
  size_t held() const {
    return static_cast<size_t>(
        std::ranges::count_if(slots, [](const auto& slot) { return slot.second.memory != 0; }));
  }

  // The error of this call, or 0.
  long Next(const char* call) {
    const size_t n = calls++;
    if (n != fails_at) return 0;
    failed = call;
    return -fails_with;
  }

  void Adjust(v4l2_pix_format& pix) const {
    if (pix.pixelformat != V4L2_PIX_FMT_NV12) pix.pixelformat = V4L2_PIX_FMT_YUYV;
    pix.width = pix.width == 0 ? 320 : pix.width > 640 ? 640 : pix.width & ~1u;
    pix.height = pix.height == 0 ? 240 : pix.height > 480 ? 480 : pix.height;
    const bool planar = pix.pixelformat == V4L2_PIX_FMT_NV12;
    const uint32_t line = planar ? pix.width : 2 * pix.width;
    pix.bytesperline = (line + pitch_multiple - 1) / pitch_multiple * pitch_multiple;
    pix.sizeimage = pix.bytesperline * pix.height * (planar ? 3 : 2) / 2;
  }
  long Format(v4l2_format& told, bool set) {
    if (told.type != buffer_type) return -EINVAL;
    if (set) {
      if (other_owner || !slots.empty()) return -EBUSY;
      if (multi()) {
        format.pixelformat = told.fmt.pix_mp.pixelformat;
        format.width = told.fmt.pix_mp.width;
        format.height = told.fmt.pix_mp.height;
      } else {
        format = told.fmt.pix;
      }
      Adjust(format);
    }
    if (!multi()) {
      told.fmt.pix = format;
      return 0;
    }
    v4l2_pix_format_mplane& pix = told.fmt.pix_mp;
    pix.pixelformat = format.pixelformat;
    pix.width = format.width;
    pix.height = format.height;
    pix.num_planes = static_cast<uint8_t>(planes);
    pix.plane_fmt[0].bytesperline = format.bytesperline;
    pix.plane_fmt[0].sizeimage = format.sizeimage;
    return 0;
  }
  long Request(v4l2_requestbuffers& request) {
    if (request.type != buffer_type || request.memory != V4L2_MEMORY_DMABUF || !imports) {
      return -EINVAL;
    }
    if (other_owner || streaming) return -EBUSY;
    slots.clear();
    queue.clear();
    next_index = 0;
    request.count = std::min(request.count, most_slots);
    while (next_index < request.count) slots[next_index++] = {};
    return 0;
  }
  long Create(v4l2_create_buffers& create) {
    if (create.format.type != buffer_type || create.memory != V4L2_MEMORY_DMABUF) return -EINVAL;
    if (slots.size() >= most_slots) return -ENOBUFS;
    create.index = next_index;
    slots[next_index++] = {};
    return 0;
  }
  // Takes the words of QBUF and PREPARE_BUF, and imports.
  long Import(v4l2_buffer& buffer, State to) {
    const auto at = slots.find(buffer.index);
    if (buffer.type != buffer_type || buffer.memory != V4L2_MEMORY_DMABUF || at == slots.end()) {
      return -EINVAL;
    }
    last = buffer;
    if (multi()) {
      if (buffer.length != planes) return -EINVAL;
      last_plane = buffer.m.planes[0];
    }
    Slot& slot = at->second;
    if (slot.state == State::kPrepared && to == State::kQueued) {
      slot.state = to;
      return 0;
    }
    if (slot.state != State::kDequeued) return -EINVAL;
    const int fd = multi() ? last_plane.m.fd : buffer.m.fd;
    const uint32_t length = multi() ? last_plane.length : buffer.length;
    struct stat file {};
    if (::fstat(fd, &file) != 0 || length < format.sizeimage) return -EINVAL;
    if (file.st_ino != slot.memory) {
      slot.memory = 0;
      if (maps != 0) return maps;
      slot.memory = file.st_ino;
    }
    slot.state = to;
    return 0;
  }
  long Queue(v4l2_buffer& buffer) {
    const long answer = Import(buffer, State::kQueued);
    if (answer == 0) queue.push_back(buffer.index);
    return answer;
  }
  long Dequeue(v4l2_buffer& buffer) {
    if (buffer.type != buffer_type || !streaming) return -EINVAL;
    if (!fills || queue.empty()) return -EAGAIN;
    const uint32_t index = queue.front();
    queue.erase(queue.begin());
    slots[index].state = State::kDequeued;
    buffer.index = index;
    buffer.flags = flags;
    buffer.sequence = sequence++;
    buffer.timestamp = {.tv_sec = 7, .tv_usec = 5};
    (multi() ? buffer.m.planes[0].bytesused : buffer.bytesused) = format.sizeimage;
    return 0;
  }
  long Stop() {
    streaming = false;
    queue.clear();
    for (auto& [index, slot] : slots) slot.state = State::kDequeued;
    return 0;
  }
  long Remove(const ion_uapi::v4l2_remove_buffers& remove) {
    if (!removes) return -ENOTTY;
    const auto at = slots.find(remove.index);
    if (remove.count != 1 || remove.type != buffer_type || at == slots.end()) return -EINVAL;
    if (at->second.state != State::kDequeued) return -EBUSY;
    slots.erase(at);
    return 0;
  }
  long Control(v4l2_control& control) const {
    if (least_buffers == 0) return -EINVAL;
    control.value = least_buffers;
    return 0;
  }
  void CloseLast() {
    Stop();
    slots.clear();
  }

  long Ioctl(unsigned long request, void* argument) {
    requests.push_back(request);
    if (vanished) return -ENODEV;
    if (const auto at = fails.find(request); at != fails.end()) return at->second;
    switch (request) {
      case VIDIOC_QUERYCAP: {
        auto& told = *static_cast<v4l2_capability*>(argument);
        std::strcpy(reinterpret_cast<char*>(told.driver), "fake");
        std::memset(told.card, 'c', sizeof(told.card));
        told.capabilities = V4L2_CAP_DEVICE_CAPS;
        told.device_caps = caps;
        return 0;
      }
      case VIDIOC_G_FMT:
      case VIDIOC_S_FMT:
        return Format(*static_cast<v4l2_format*>(argument), request == VIDIOC_S_FMT);
      case VIDIOC_G_CTRL:
        return Control(*static_cast<v4l2_control*>(argument));
      case VIDIOC_REQBUFS:
        return Request(*static_cast<v4l2_requestbuffers*>(argument));
      case VIDIOC_CREATE_BUFS:
        return Create(*static_cast<v4l2_create_buffers*>(argument));
      case VIDIOC_PREPARE_BUF:
        return prepares ? Import(*static_cast<v4l2_buffer*>(argument), State::kPrepared) : -ENOTTY;
      case VIDIOC_QBUF:
        return Queue(*static_cast<v4l2_buffer*>(argument));
      case VIDIOC_DQBUF:
        return Dequeue(*static_cast<v4l2_buffer*>(argument));
      case VIDIOC_STREAMON:
        streaming = true;
        return 0;
      case VIDIOC_STREAMOFF:
        return Stop();
      case ion_uapi::kV4l2RemoveBufs:
        return Remove(*static_cast<ion_uapi::v4l2_remove_buffers*>(argument));
    }
    return -ENOTTY;
  }
};

// The kernel of a FakeV4l2.
class FakeV4l2Syscalls : public LinuxSyscalls {
 public:
  FakeV4l2Syscalls() = default;
  explicit FakeV4l2Syscalls(FakeV4l2* device) noexcept : device_(device) {}

  long Open(const char* path, int flags) const noexcept {
    if (const long fails = device_->Next("open"); fails != 0) return fails;
    const long fd = LinuxSyscalls::Open(path, flags);
    const bool node = device_->path == path && (flags & O_PATH) == 0;
    if (fd >= 0 && node) device_->nodes.push_back(static_cast<int>(fd));
    return fd;
  }
  long Close(int fd) const noexcept {
    if (std::erase(device_->nodes, fd) == 1 && device_->nodes.empty()) device_->CloseLast();
    const long fails = device_->Next("close");
    const long answer = LinuxSyscalls::Close(fd);
    return fails != 0 ? fails : answer;
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    if (const long fails = device_->Next("fcntl"); fails != 0) return fails;
    const long answer = LinuxSyscalls::Fcntl(fd, command, argument);
    if (answer >= 0 && command == F_DUPFD_CLOEXEC && IsNode(fd)) {
      device_->nodes.push_back(static_cast<int>(answer));
    }
    return answer;
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    if (const long fails = device_->Next("fstat"); fails != 0) return fails;
    const long answer = LinuxSyscalls::Fstat(fd, to);
    if (answer == 0 && IsNode(fd)) {
      to->st_mode = device_->type | 0600;
      to->st_rdev = makedev(device_->major, 0);
    }
    return answer;
  }
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    if (const long fails = device_->Next("poll"); fails != 0) return fails;
    if (count == 0 || !IsNode(polled->fd)) {
      return LinuxSyscalls::Poll(polled, count, milliseconds);
    }
    polled->revents = polled->events;
    if (device_->fills && !device_->queue.empty()) return 1;
    return LinuxSyscalls::Poll(nullptr, 0, milliseconds);
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (!IsNode(fd)) return LinuxSyscalls::Ioctl(fd, request, argument);
    if (const long fails = device_->Next(NameOf(request)); fails != 0) return fails;
    return device_->Ioctl(request, argument);
  }

 private:
  bool IsNode(int fd) const {
    return std::ranges::find(device_->nodes, fd) != device_->nodes.end();
  }
  static const char* NameOf(unsigned long request) {
    switch (request) {
      case VIDIOC_QUERYCAP:
        return "VIDIOC_QUERYCAP";
      case VIDIOC_G_CTRL:
        return "VIDIOC_G_CTRL";
      case VIDIOC_STREAMOFF:
        return "VIDIOC_STREAMOFF";
      case VIDIOC_PREPARE_BUF:
        return "VIDIOC_PREPARE_BUF";
    }
    return "ioctl";
  }

  FakeV4l2* device_ = nullptr;
};
static_assert(Syscalls<FakeV4l2Syscalls>);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_V4L2_H_
