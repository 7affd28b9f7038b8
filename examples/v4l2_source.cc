// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/v4l2_source.h"

#include <fcntl.h>
#include <linux/videodev2.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/cpu_access.h"

namespace ion::demo {
namespace {

constexpr LinuxSyscalls kSys;

// Non-blocking: the demo waits in one place, for the device and for the consumer together.
UniqueFd OpenNode(const std::string& path, int& code) {
  const long fd = OpenRetrying(kSys, path.c_str(), O_RDWR | O_NONBLOCK);
  code = Failed(fd) ? ErrnoFrom(fd) : 0;
  return UniqueFd(Failed(fd) ? -1 : static_cast<int>(fd));
}

bool Capabilities(int fd, v4l2_capability& caps) {
  return !Failed(IoctlRetrying(kSys, fd, VIDIOC_QUERYCAP, &caps));
}

bool Captures(const v4l2_capability& caps) {
  constexpr uint32_t kWanted = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
  return (caps.device_caps & kWanted) == kWanted;
}

std::string_view DriverOf(const v4l2_capability& caps) {
  return reinterpret_cast<const char*>(caps.driver);
}

const char* QueueHint(long answer) {
  switch (-answer) {
    case EFAULT:
      return ": the device cannot follow this memory (scattered, where it wants one run), or "
             "cannot "
             "reach it";
    case EINVAL:
      return ": not a dma-buf, or smaller than a frame";
    default:
      return "";
  }
}

v4l2_buffer DmaBuf(uint32_t index, int fd) {
  v4l2_buffer buffer{};
  buffer.index = index;
  buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  buffer.memory = V4L2_MEMORY_DMABUF;
  buffer.m.fd = fd;
  return buffer;
}

}  // namespace

std::vector<std::string> FindVividNodes() {
  std::vector<std::pair<int, std::string>> nodes;
  std::error_code ignored;  // no /dev is no device
  for (const auto& entry : std::filesystem::directory_iterator("/dev", ignored)) {
    const std::string file = entry.path().filename();
    int number = 0;
    if (!file.starts_with("video") || !absl::SimpleAtoi(file.substr(5), &number)) continue;
    int code = 0;
    const UniqueFd fd = OpenNode(entry.path(), code);
    v4l2_capability caps{};
    if (!fd.valid() || !Capabilities(fd.get(), caps)) continue;
    if (DriverOf(caps) == "vivid" && Captures(caps)) nodes.emplace_back(number, entry.path());
  }
  std::ranges::sort(nodes);
  std::vector<std::string> paths;
  paths.reserve(nodes.size());
  for (auto& [number, path] : nodes) paths.push_back(std::move(path));
  return paths;
}

absl::StatusOr<std::unique_ptr<V4l2Source>> V4l2Source::Open(const std::string& path,
                                                             uint32_t width, uint32_t height) {
  int code = 0;
  UniqueFd fd = OpenNode(path, code);
  if (!fd.valid()) {
    return MakeStatus(code, absl::StrCat(path, ": open: ", ErrnoName(code),
                                         code == EACCES ? ": join the group `video`" : ""));
  }
  v4l2_capability caps{};
  if (!Capabilities(fd.get(), caps) || !Captures(caps)) {
    return MakeStatus(ENOTTY, absl::StrCat(path, ": not a V4L2 device that captures into buffers"));
  }
  std::string name = absl::StrCat(std::string(DriverOf(caps)), " ", path);
  std::unique_ptr<V4l2Source> source(new V4l2Source(std::move(fd), std::move(name)));
  if (absl::Status status = source->Negotiate(width, height); !status.ok()) return status;
  return source;
}

absl::Status V4l2Source::Negotiate(uint32_t width, uint32_t height) {
  v4l2_format format{};
  format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  format.fmt.pix.width = width;
  format.fmt.pix.height = height;
  format.fmt.pix.pixelformat = V4L2_PIX_FMT_RGB24;
  format.fmt.pix.field = V4L2_FIELD_NONE;
  if (absl::Status status = Ioctl(VIDIOC_S_FMT, &format, "VIDIOC_S_FMT"); !status.ok()) {
    return status;
  }
  const v4l2_pix_format& pix = format.fmt.pix;
  format_ = {
      .width = pix.width, .height = pix.height, .stride = pix.bytesperline, .bytes = pix.sizeimage};
  if (pix.pixelformat != V4L2_PIX_FMT_RGB24 || !format_.Valid()) {
    return Refusal(EINVAL, "VIDIOC_S_FMT: the device gives no RGB24; take another with --device");
  }
  // As fast as it can; a device that has one pace only refuses, and keeps it.
  v4l2_streamparm pace{};
  pace.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  pace.parm.capture.timeperframe = {.numerator = 1, .denominator = 1000};
  const absl::Status ignored = Ioctl(VIDIOC_S_PARM, &pace, "VIDIOC_S_PARM");
  return absl::OkStatus();
}

absl::Status V4l2Source::RequestBuffers(uint32_t count) {
  v4l2_requestbuffers request{};
  request.count = count;
  request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  request.memory = V4L2_MEMORY_DMABUF;
  if (absl::Status status = Ioctl(VIDIOC_REQBUFS, &request, "VIDIOC_REQBUFS"); !status.ok()) {
    return status;
  }
  if (request.count == count) return absl::OkStatus();
  return Refusal(EINVAL, absl::StrCat("VIDIOC_REQBUFS: it wants ", request.count,
                                      " buffers: say --buffers ", request.count));
}

absl::Status V4l2Source::Start(std::span<const FrameBuffer> buffers) {
  buffers_ = buffers;
  absl::Status status = QueueAllAndStream();
  if (!status.ok()) Stop();
  return status;
}

absl::Status V4l2Source::QueueAllAndStream() {
  const auto count = static_cast<uint32_t>(buffers_.size());
  if (absl::Status status = RequestBuffers(count); !status.ok()) return status;
  for (uint32_t i = 0; i < count; ++i) {
    if (absl::Status status = Queue(i); !status.ok()) return status;
  }
  int type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  return Ioctl(VIDIOC_STREAMON, &type, "VIDIOC_STREAMON");
}

void V4l2Source::Stop() {
  if (buffers_.empty()) return;
  // Ends the stream as well. Where the device refuses, closing it does the same.
  if (!RequestBuffers(0).ok()) fd_.reset();
  buffers_ = {};
}

absl::Status V4l2Source::Queue(uint32_t buffer) {
  v4l2_buffer queued = DmaBuf(buffer, buffers_[buffer].memory.fd().get());
  const long answer = IoctlRetrying(kSys, fd_.get(), VIDIOC_QBUF, &queued);
  if (!Failed(answer)) return absl::OkStatus();
  return Refusal(ErrnoFrom(answer), "VIDIOC_QBUF", QueueHint(answer));
}

absl::StatusOr<std::optional<Frame>> V4l2Source::Dequeue() {
  v4l2_buffer filled = DmaBuf(0, -1);
  if (absl::Status status = Ioctl(VIDIOC_DQBUF, &filled, "VIDIOC_DQBUF"); !status.ok()) {
    return status;
  }
  if ((filled.flags & V4L2_BUF_FLAG_ERROR) != 0 || filled.index >= buffers_.size()) {
    return Refusal(EIO, "VIDIOC_DQBUF: the device says that it spoilt the frame");
  }
  // vivid, when it is late, makes a frame twice, and numbers both alike.
  if (std::exchange(sequence_, filled.sequence) == filled.sequence) {
    if (absl::Status status = Queue(filled.index); !status.ok()) return status;
    return std::nullopt;
  }
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(buffers_[filled.index].mapping);
  if (!cpu.ok()) return cpu.status();
  const Frame frame{.buffer = filled.index, .checksum = ChecksumOf(format_, cpu->bytes())};
  if (absl::Status status = std::move(*cpu).End(); !status.ok()) return status;
  return frame;
}

absl::Status V4l2Source::Ioctl(unsigned long request, void* argument, std::string_view what) const {
  const long answer = IoctlRetrying(kSys, fd_.get(), request, argument);
  return Failed(answer) ? Refusal(ErrnoFrom(answer), what) : absl::OkStatus();
}

absl::Status V4l2Source::Refusal(int code, std::string_view what, const char* hint) const {
  return MakeStatus(code,
                    absl::StrCat(name_, ": ", std::string(what), ": ", ErrnoName(code), hint));
}

}  // namespace ion::demo
