// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/v4l2_export.h
//
// V4l2ExportBackend: the buffers of a V4L2 device's capture queue, exported as dma-bufs (EXPBUF).
// For a device that takes no memory but its own: each buffer is one frame of the queue's format, with
// the pitch and the bytes that the driver states. A request for bytes is refused.
//
// Not for a device that imports dma-bufs: memory of any other backend can be shared, recycled and
// moved, and these buffers cannot. The queue's indices tie a buffer to its queue: the program streams
// through node(), with the index of IndexOf(). Of devices with a buffer for each plane (the
// multi-planar interface) none is opened.
//
// The memory of a released buffer goes back to the kernel at once from Linux 6.10 on
// (VIDIOC_REMOVE_BUFS); before, or if the device still has the buffer queued, it goes with the queue
// when the backend is destroyed, and is charged until then.
//
// Example:
//   ion::Result<ion::V4l2ExportBackend<>> camera = ion::V4l2ExportBackend<>::Open(
//       {.node = "/dev/video0", .format = V4L2_PIX_FMT_YUYV, .width = 640, .height = 360});
//   ion::Block block;
//   const ion::FrameShape image{.width = 640, .height = 360};
//   ion::Error error = camera->AllocateFrame(0, {.name = "capture", .frame = image}, block);
//   const uint32_t pitch = camera->StatedOf(block).pitch;
//
// Cost: three system calls an allocation, one more for a name; two a release; one descriptor in all.
// Thread-safe but for Open.
#ifndef ION_BACKENDS_V4L2_EXPORT_H_
#define ION_BACKENDS_V4L2_EXPORT_H_

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/start_mapped_backend.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/frame_shape.h"
#include "ion/pixel_format.h"
#include "ion/request.h"
#include "ion/uapi/v4l2.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class V4l2ExportBackend : public StartMappedBackend<Sys> {
  using Base = StartMappedBackend<Sys>;

 public:
  static constexpr const char* kName = "v4l2_export";
  // It proves nothing unshared: the queue holds a buffer, and its device writes to it, without a
  // reference to the dma-buf. The queue makes no fences, but an importer of a buffer may.
  static constexpr BackendCaps kCaps = {.fences = true, .compares = true, .frames = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/video0";
    // V4L2's fourcc code, pixels and lines. Each is left as the device has it where it is 0.
    uint32_t format = 0;
    uint32_t width = 0;
    uint32_t height = 0;
  };

  // Opens the node and sets the queue's format. ENODEV: it is no node of V4L2, or no capture device
  // with a streaming queue of whole frames. EINVAL: the driver does not make such a frame, or states
  // none. EBUSY: the device streams, or another program has its buffers.
  static Result<V4l2ExportBackend> Open(const Options& options) noexcept {
    return V4l2ExportBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<V4l2ExportBackend> OpenOrThrow(const Options& options) {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    Result<ScopedFd<Sys>> node = OpenNode(options, *(*shared)->errors);
    if (!node.ok()) return node.error();
    const Result<v4l2_pix_format> format = SetFormat(options, node->get());
    if (!format.ok()) return format.error();
    std::unique_ptr<Queue> queue(new (std::nothrow) Queue(*std::move(node), *(*shared)->budget));
    if (queue == nullptr) return Error(ENOMEM, "operator new: the queue", Opening(options));
    return V4l2ExportBackend(options, std::move(*shared), std::move(queue), *format);
  }

  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }
  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }

  // The image of the queue's frames; a format that ion/pixel_format.h lacks is kNone.
  FrameShape frame() const noexcept {
    const std::optional<V4l2Format> own = FromV4l2(format_.pixelformat);
    return {.format = own.has_value() ? own->format : PixelFormat::kNone,
            .width = format_.width,
            .height = format_.height,
            .stride = format_.bytesperline};
  }
  // The device, through which the buffers are queued: the kernel lets no other file do it.
  FdRef node() const noexcept { return FdRef(queue_->node.get()); }
  // The index of a buffer in the queue. Requires: AllocateFrame filled the block.
  static uint32_t IndexOf(const Block& block) noexcept {
    return static_cast<uint32_t>(block.cookie);
  }
  // Bytes of released buffers that the queue still has.
  uint64_t stuck_bytes() const noexcept {
    return queue_->stuck_bytes.load(std::memory_order_relaxed);
  }

  // Always refused.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags, std::string_view, Block&) noexcept {
    const Origin origin{kName, Operation::kAllocate, path_, bytes};
    if (kernel_heap != 0) return Error(ENODEV, "no such heap", origin);
    return FramesOnly(origin);
  }

  // Fills an empty block with the queue's next buffer, a frame of its format. EINVAL: the request's
  // image is of another format or size, or larger than 4 GiB. ENOMEM: past the bound, or the
  // driver's. ENOBUFS, EINVAL or ENOMEM, as kernels differ: the queue has its most buffers (32;
  // Linux 6.8: as many as the driver says). EBUSY: another program has the queue.
  Error AllocateFrame(uint32_t kernel_heap, const Request& request, Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, path_, request.bytes};
    if (kernel_heap != 0) return Error(ENODEV, "no such heap", origin);
    if (HeapPrivateBits(request.flags) != 0) {
      return Error(EINVAL, "the queue's buffers have no private flags", origin);
    }
    if (!IsOfQueue(request.frame)) {
      return Error(EINVAL, "the queue's frames are of another format or size", origin,
                   "open the backend with the frame's format, width and height (Options)");
    }
    if (request.bytes > UINT32_MAX) {
      return Error(EINVAL, "more bytes than V4L2 counts, in 32 bits", origin);
    }
    const auto bytes = static_cast<uint32_t>(request.bytes);
    return MakeBuffer(std::max(bytes, format_.sizeimage), request.name, block);
  }
  // The pitch and the size of the queue's format.
  StatedFrame StatedOf(const Block& block) const noexcept {
    if (!block.filled() || block.foreign) return {};
    return {.pitch = format_.bytesperline, .bytes = format_.sizeimage};
  }

  // As BackendBase; then removes the buffer from the queue. A buffer that stays there is charged
  // until the backend is destroyed. EBUSY: the device has it queued.
  Error Release(Block& block) noexcept {
    if (!block.filled() || block.foreign) return Base::Release(block);
    const uint64_t bytes = block.bytes;
    const uint32_t index = IndexOf(block);
    this->budget().Hold(bytes);
    const Error first = Base::Release(block);
    const Error error = Remove(index, bytes);
    if (error.ok()) return first;
    if (first.ok()) return error;
    this->errors().Report(error);
    return first;
  }

 protected:
  // Takes a buffer of at least `image_bytes`, which are no fewer than the format's.
  Error MakeBuffer(uint32_t image_bytes, std::string_view name, Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, path_, image_bytes};
    const std::optional<uint64_t> rounded = RoundUpToPages(image_bytes);
    if (!rounded.has_value() || !this->budget().Take(*rounded)) {
      return Error(ENOMEM, "past the bound on the bytes held", origin,
                   "release some buffers, or give the backend a larger Budget; a buffer that the "
                   "queue cannot remove is held until the backend is destroyed");
    }
    Charge charge(this->budget(), *rounded);
    v4l2_create_buffers create{};
    create.count = 1;
    create.memory = V4L2_MEMORY_MMAP;
    create.format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    create.format.fmt.pix = format_;
    create.format.fmt.pix.sizeimage = image_bytes;
    const long made = Ask(VIDIOC_CREATE_BUFS, &create);
    if (Failed(made)) {
      return Error(ErrnoFrom(made), "VIDIOC_CREATE_BUFS", origin,
                   made == -EBUSY ? "another program has the device's queue" : nullptr);
    }
    if (create.count == 0) return Error(ENOBUFS, "VIDIOC_CREATE_BUFS: no buffer", origin);
    Result<ScopedFd<Sys>> fd = Export(create.index, origin);
    const Error error = fd.ok() ? Take(*std::move(fd), charge, origin, block) : fd.error();
    if (!error.ok()) {
      // The queue has the bytes, until they are removed.
      const uint64_t bytes = charge.bytes();
      charge.Keep();
      this->errors().Report(Remove(create.index, bytes));
      return error;
    }
    block.cookie = create.index;
    this->NameOrReport(block, name);
    return {};
  }
  const v4l2_pix_format& format() const noexcept { return format_; }

 private:
  struct Queue {
    Queue(ScopedFd<Sys> device, Budget& bound) noexcept : node(std::move(device)), budget(bound) {}
    Queue(const Queue&) = delete;
    Queue& operator=(const Queue&) = delete;
    ~Queue() { budget.Give(stuck_bytes.load(std::memory_order_relaxed)); }

    ScopedFd<Sys> node;
    Budget& budget;
    std::atomic<uint64_t> stuck_bytes{0};
  };

  V4l2ExportBackend(const Options& options, std::unique_ptr<typename Base::Shared> shared,
                    std::unique_ptr<Queue> queue, const v4l2_pix_format& format)
      : Base(kName, options.sys, std::move(shared)),
        path_(options.node),
        queue_(std::move(queue)),
        format_(format) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true, .alignment = PageBytes()},
                   .unusable = {},
                   .smallest = format.sizeimage,
                   .largest = UINT32_MAX,
                   .most_buffers = 32,  // VIDEO_MAX_FRAME: that many on every kernel
                   .frames = MakesFrames::kOnly});
  }

  static Origin Opening(const Options& options) noexcept {
    return {kName, Operation::kOpen, options.node};
  }
  static Error FramesOnly(const Origin& origin) noexcept {
    return Error(EINVAL, "the queue's buffers are frames, not bytes", origin,
                 "ask for a frame (Request::frame), or take bytes from another heap");
  }
  // True if the queue makes such frames. A format of kNone is the queue's own.
  bool IsOfQueue(const FrameShape& frame) const noexcept {
    const FrameShape own = this->frame();
    return frame.width == own.width && frame.height == own.height &&
           (frame.format == PixelFormat::kNone || frame.format == own.format);
  }

  long Ask(unsigned long request, void* argument) noexcept {
    return IoctlRetrying(this->sys(), queue_->node.get(), request, argument);
  }

  // Nothing but a node of V4L2 gets an ioctl.
  static Result<ScopedFd<Sys>> OpenNode(const Options& options, ErrorSink& errors) noexcept {
    const char* const path = options.node.c_str();
    const long opened = OpenRetrying(options.sys, path, O_RDWR | O_NONBLOCK);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", Opening(options),
                   NodeHint(options.sys, path, opened, O_RDWR, kAdvice));
    }
    ScopedFd<Sys> node(static_cast<int>(opened), options.sys, errors, kName);
    struct stat status {};
    if (const long answer = options.sys.Fstat(node.get(), &status); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", Opening(options));
    }
    if (!S_ISCHR(status.st_mode) || major(status.st_rdev) != ion_uapi::kV4l2Major) {
      return Error(ENODEV, "fstat: not a device of major 81 (V4L2), as /dev/video0 is",
                   Opening(options));
    }
    v4l2_capability told{};
    const long answer = IoctlRetrying(options.sys, node.get(), VIDIOC_QUERYCAP, &told);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "VIDIOC_QUERYCAP", Opening(options));
    const uint32_t caps =
        (told.capabilities & V4L2_CAP_DEVICE_CAPS) != 0 ? told.device_caps : told.capabilities;
    // Of a device from memory to memory (a codec, a scaler) it is the queue of results.
    if ((caps & (V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_VIDEO_M2M)) == 0 ||
        (caps & V4L2_CAP_STREAMING) == 0) {
      return Error(ENODEV, "VIDIOC_QUERYCAP: no capture device with a queue of whole frames",
                   Opening(options),
                   (caps & (V4L2_CAP_VIDEO_CAPTURE_MPLANE | V4L2_CAP_VIDEO_M2M_MPLANE)) != 0
                       ? "it has a buffer for each plane (multi-planar): let it import dma-bufs of "
                         "another backend"
                       : nullptr);
    }
    return node;
  }

  // The queue's format after it was set. A driver changes a request that it cannot meet.
  static Result<v4l2_pix_format> SetFormat(const Options& options, int node) noexcept {
    v4l2_format format{};
    format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    const long told = IoctlRetrying(options.sys, node, VIDIOC_G_FMT, &format);
    if (Failed(told)) return Error(ErrnoFrom(told), "VIDIOC_G_FMT", Opening(options));
    v4l2_pix_format& pix = format.fmt.pix;
    const auto differs = [&] {
      return (options.format != 0 && pix.pixelformat != options.format) ||
             (options.width != 0 && pix.width != options.width) ||
             (options.height != 0 && pix.height != options.height);
    };
    if (differs()) {
      if (options.format != 0) pix.pixelformat = options.format;
      if (options.width != 0) pix.width = options.width;
      if (options.height != 0) pix.height = options.height;
      pix.bytesperline = pix.sizeimage = 0;  // the driver's business
      const long set = IoctlRetrying(options.sys, node, VIDIOC_S_FMT, &format);
      if (Failed(set)) {
        return Error(
            ErrnoFrom(set), "VIDIOC_S_FMT", Opening(options),
            set == -EBUSY ? "the device streams, or another program has its buffers" : nullptr);
      }
      if (differs()) {
        return Error(
            EINVAL, "VIDIOC_S_FMT: the driver changed the format or the size", Opening(options),
            "it does not make such frames: VIDIOC_ENUM_FMT and VIDIOC_ENUM_FRAMESIZES tell "
            "which it makes");
      }
    }
    // Compressed formats have no pitch.
    const bool holds = uint64_t{pix.bytesperline} * pix.height <= pix.sizeimage;
    if (pix.sizeimage == 0 || !holds) {
      return Error(EINVAL, "the driver stated a pitch or a size that does not hold the frame",
                   Opening(options));
    }
    return pix;
  }

  Result<ScopedFd<Sys>> Export(uint32_t index, const Origin& origin) noexcept {
    v4l2_exportbuffer exported{};
    exported.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    exported.index = index;
    exported.flags = O_CLOEXEC | O_RDWR;
    exported.fd = -1;
    const long answer = Ask(VIDIOC_EXPBUF, &exported);
    if (Failed(answer)) {
      return Error(ErrnoFrom(answer), "VIDIOC_EXPBUF", origin,
                   answer == -ENOTTY ? "the driver exports no buffers" : nullptr);
    }
    return this->Own(exported.fd);
  }
  Error Take(ScopedFd<Sys> fd, Charge& charge, const Origin& origin, Block& block) noexcept {
    const long end = this->sys().Lseek(fd.get(), 0, SEEK_END);
    if (Failed(end)) return Error(ErrnoFrom(end), "lseek", origin);
    const auto came = static_cast<uint64_t>(end);
    if (Error error = this->AdmitMore(charge, came, origin); !error.ok()) return error;
    this->Fill(block, std::move(fd), came, 0, this->heaps()[0].properties);
    charge.Keep();
    return {};
  }

  // Gives the bytes of a buffer back, or leaves them charged with the queue. ENOTTY, before Linux
  // 6.10, is no error.
  Error Remove(uint32_t index, uint64_t bytes) noexcept {
    ion_uapi::v4l2_remove_buffers remove{};
    remove.index = index;
    remove.count = 1;
    remove.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    const long answer = Ask(ion_uapi::kV4l2RemoveBufs, &remove);
    if (!Failed(answer)) {
      this->budget().Give(bytes);
      return {};
    }
    queue_->stuck_bytes.fetch_add(bytes, std::memory_order_relaxed);
    if (answer == -ENOTTY) return {};
    return Error(ErrnoFrom(answer), "VIDIOC_REMOVE_BUFS",
                 {kName, Operation::kRelease, path_, bytes},
                 answer == -EBUSY ? "the device has the buffer queued: dequeue it, or stop the "
                                    "stream, before the release"
                                  : nullptr);
  }

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease&) -> const char* {
        return "the kernel has no such device: it needs the driver of a camera, or of a test "
               "device "
               "(CONFIG_VIDEO_VIVID)";
      },
      .rule =
          "join the node's group (video), or add a udev rule: SUBSYSTEM==\"video4linux\", "
          "GROUP=\"video\", MODE=\"0660\"",
      .sysfs = nullptr};

  std::string path_;
  std::unique_ptr<Queue> queue_;
  v4l2_pix_format format_;
};
static_assert(BackendCheck<V4l2ExportBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_V4L2_EXPORT_H_
