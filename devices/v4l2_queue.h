// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: devices/v4l2_queue.h
//
// V4l2Queue: a queue of a V4L2 device (a camera, a codec, a scaler) that takes memory of others as
// dma-bufs. Its constraints are those that the driver states of the format that is set, over those
// that the caller declares: V4L2 tells no segments, no addresses and no caching. A buffer that is
// mapped has a slot of the queue, and the queue streams through the slots.
//
// Not for a device that takes no memory but its own: backends/v4l2_export.h. A format with a buffer
// for each plane is refused; one buffer for all planes works over both interfaces of V4L2, the
// multi-planar too. A device from memory to memory has two queues in one file: open the second with
// the file() of the first.
//
// The kernel keeps the memory of a slot past VIDIOC_DQBUF and past VIDIOC_STREAMOFF, so
//   - the Unmap of the last mapped slot ends the stream and frees all slots: nothing is held;
//   - the Unmap of another lets go of its memory at once from Linux 6.10 on (VIDIOC_REMOVE_BUFS),
//     but for a slot that was never queued, while the device streams; else the kernel holds it
//     until the slot is mapped again, until the Unmap of the last, or until this object goes;
//   - if the device has vanished, the file is closed, which drops the memory of all slots: each
//     Unmap is without error then, and each other call ENODEV. The file is closed as well if the
//     driver does not free its slots; the call that met it tells that error.
// A driver without VIDIOC_PREPARE_BUF maps the memory at its first Queue, not in Map.
//
// Example:
//   auto camera = ion::V4l2Queue<>::Open({.node = "/dev/video0",
//                                         .format = ion::FourccOf("RGB3"),
//                                         .width = 640,
//                                         .height = 360,
//                                         .name = "camera"});
//   if (!camera.ok()) return ion::ToStatus(camera.error());
//   const ion::DeviceMemory memory{.range = buffer.range()};
//   if (camera->Accepts(memory).verdict != ion::Acceptance::Verdict::kTakes) return {};
//   const ion::Result<ion::Imported> slot = camera->Map(memory);
//   ion::Error error = camera->Queue(*slot);
//   if (error.ok()) error = camera->Start();
//   using Clock = std::chrono::steady_clock;
//   const auto frame = camera->Dequeue(Clock::now() + std::chrono::seconds(1));
//   if (frame.ok()) error = camera->Queue(frame->slot);
//
// Cost: seven system calls to open, four for Accepts, two for Map, one for Queue, one or more for
// Dequeue; two descriptors are open for a mapped slot: the file, and a duplicate of the buffer's.
// Thread-compatible.
#ifndef ION_DEVICES_V4L2_QUEUE_H_
#define ION_DEVICES_V4L2_QUEUE_H_

#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/devices/node_file.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/uapi/v4l2.h"

namespace ion {

enum class V4l2QueueKind : uint8_t {
  kCapture,  // the device writes: a camera's frames, a codec's results
  kOutput,   // the device reads
};

// A slot as the device gave it back.
struct V4l2Done {
  Imported slot;
  uint32_t bytes_used = 0;
  uint32_t sequence = 0;
  std::chrono::nanoseconds timestamp{0};  // by the driver's clock, mostly the monotonic one
  bool spoilt = false;                    // the driver says that the content is wrong
  bool last = false;                      // the last one of a codec that drains
};

template <Syscalls Sys = LinuxSyscalls>
class V4l2Queue {
 public:
  static constexpr const char* kName = "v4l2_queue";

  struct Options {
    Sys sys = {};
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/video0";
    FdRef file = {};  // of the device's other queue; then `node` is only its name in errors
    V4l2QueueKind kind = V4l2QueueKind::kCapture;
    // V4L2's fourcc code, pixels and lines. Each is left as the device has it where it is 0.
    uint32_t format = 0;
    uint32_t width = 0;
    uint32_t height = 0;
    uint32_t slots = VIDEO_MAX_FRAME;  // the most at a time; a driver may have fewer
    PartyName name = {};               // empty: the node's
    Party::Kind need = Party::Kind::kNeeded;
    // The driver's word goes before them, but for a larger size_min or held.
    Constraints constraints = {};
    DeviceTraits traits = {};
  };

  // Opens the node, sets the queue's format, and reads its constraints. ENODEV: it is no node of
  // V4L2, or has no such queue. EINVAL: the driver makes no such frame, or states none, or the
  // queue imports no dma-bufs; no slots. EOPNOTSUPP: the format has a buffer for each plane. EBUSY:
  // the device streams, or another program has its buffers.
  static Result<V4l2Queue> Open(const Options& options) noexcept {
    return internal::WithMemory(
        [&] { return OpenOrThrow(options); },
        [&]() -> Result<V4l2Queue> {
          return Error(ENOMEM, "operator new", {kName, Operation::kOpen, options.node});
        });
  }
  V4l2Queue(V4l2Queue&&) noexcept = default;
  V4l2Queue& operator=(V4l2Queue&&) noexcept = default;

  Party party() const noexcept {
    return Party(state_->options.name, state_->options.constraints, state_->options.need);
  }
  DeviceTraits traits() const noexcept { return state_->options.traits; }

  // The names that the driver tells (VIDIOC_QUERYCAP): "vivid", and "vivid" or the camera's.
  std::string_view driver() const noexcept { return Text(state_->capability.driver); }
  std::string_view card() const noexcept { return Text(state_->capability.card); }
  const std::string& node() const noexcept { return state_->options.node; }
  // Its open file, for ioctls of the caller's own; not for those of its slots.
  FdRef file() const noexcept { return FdRef(state_->file.get()); }
  V4l2QueueKind kind() const noexcept { return state_->options.kind; }
  // The format that is set.
  uint32_t format() const noexcept { return state_->frame.format; }
  uint32_t width() const noexcept { return state_->frame.width; }
  uint32_t height() const noexcept { return state_->frame.height; }
  uint32_t stride() const noexcept { return state_->frame.stride; }  // bytes; 0: compressed
  uint32_t frame_bytes() const noexcept { return state_->frame.bytes; }
  bool streaming() const noexcept { return state_->streaming; }

  // Prepares a slot with the memory, and frees it again. If a slot is mapped or the queue streams:
  // kCannotAsk with EBUSY.
  Acceptance Accepts(const DeviceMemory& memory) noexcept {
    using enum Acceptance::Verdict;
    State& s = *state_;
    const Origin origin = s.At(Operation::kAttach, memory.range.bytes);
    if (const Error error = s.Fits(memory, origin); !error.ok()) return {kRefuses, error};
    if (s.requested || s.streaming) {
      return {kCannotAsk, Error(EBUSY, "the queue has mapped slots, or streams", origin,
                                "ask before the first Map, or unmap all slots before")};
    }
    if (const Error error = s.Request(1, origin); !error.ok()) return {kCannotAsk, error};
    const char* what = "VIDIOC_PREPARE_BUF";
    BufferWords words(s, s.slots[0].index, memory.range.fd.get(), memory.range.bytes);
    long answer = s.Ask(VIDIOC_PREPARE_BUF, words.get());
    if (answer == -ENOTTY) {
      what = "VIDIOC_QBUF";
      BufferWords again(s, s.slots[0].index, memory.range.fd.get(), memory.range.bytes);
      answer = s.Ask(VIDIOC_QBUF, again.get());
    }
    const Error left = s.LetGo(origin);
    if (Failed(answer)) {
      const Error error(ErrnoFrom(answer), what, origin, RefusalHint(answer));
      return {SaysNothing(answer) ? kCannotAsk : kRefuses, error};
    }
    if (!left.ok()) return {kCannotAsk, left};
    return {kTakes, {}};
  }

  // Takes a free slot for the memory: Imported is its index. The first one makes the queue's slots.
  // EINVAL: not from the descriptor's start, smaller than the frame, or of another layout; ENOBUFS:
  // no slot is free; else the driver's errno.
  Result<Imported> Map(const DeviceMemory& memory) noexcept {
    State& s = *state_;
    const Origin origin = s.At(Operation::kAttach, memory.range.bytes);
    if (const Error error = s.Fits(memory, origin); !error.ok()) return error;
    if (!s.requested) {
      const auto wanted = static_cast<uint32_t>(s.slots.size());
      if (const Error error = s.Request(wanted, origin); !error.ok()) return error;
    }
    const Result<Imported> mapped = s.MapSlot(memory, origin);
    // The slots that were made for it.
    if (!mapped.ok() && !s.AnyMapped()) s.file.errors().Report(s.LetGo(origin));
    return mapped;
  }

  // Frees a slot; see above for the time at which the kernel lets go of its memory. EBUSY: it is
  // queued; EINVAL: it is no mapped slot.
  Error Unmap(const Imported& mapped) noexcept {
    State& s = *state_;
    Slot* const slot = s.Find(mapped);
    const Origin origin = s.At(Operation::kDetach, slot != nullptr ? slot->bytes : 0);
    if (slot == nullptr) return Error(EINVAL, "no mapped slot of the queue", origin);
    if (slot->queued) {
      return Error(EBUSY, "the slot is queued", origin, "dequeue it, or stop the queue, before");
    }
    s.file.CloseOther(std::exchange(slot->fd, -1));
    if (!s.AnyMapped()) return s.LetGo(origin);
    return s.Remove(*slot, origin);
  }

  // True if the slot is queued.
  bool InUse(const Imported& mapped) const noexcept {
    const Slot* const slot = state_->Find(mapped);
    return slot != nullptr && slot->queued;
  }

  // Gives a slot to the device. `bytes_used`: of the content that an output queue's device reads;
  // 0: the whole frame. EINVAL: no mapped slot. EBUSY: it is queued already.
  Error Queue(const Imported& mapped, uint32_t bytes_used = 0) noexcept {
    State& s = *state_;
    Slot* const slot = s.Find(mapped);
    const Origin origin = s.At(Operation::kStream, slot != nullptr ? slot->bytes : 0);
    if (slot == nullptr) return Error(EINVAL, "no mapped slot of the queue", origin);
    if (slot->queued) return Error(EBUSY, "the slot is queued already", origin);
    BufferWords words(s, slot->index, slot->fd, slot->bytes, bytes_used);
    const long answer = s.Ask(VIDIOC_QBUF, words.get());
    if (Failed(answer)) {
      return Error(ErrnoFrom(answer), "VIDIOC_QBUF", origin, RefusalHint(answer));
    }
    slot->queued = true;
    slot->prepared = false;
    return {};
  }

  // Takes the next slot that the device is done with. ETIMEDOUT: none came before the deadline; one
  // that has passed only looks. EINVAL: no slot is queued, or the device does not stream. EPIPE: a
  // codec has given its last one.
  Result<V4l2Done> Dequeue(std::chrono::steady_clock::time_point deadline) noexcept {
    State& s = *state_;
    const Origin origin = s.At(Operation::kStream);
    if (std::ranges::none_of(s.slots, &Slot::queued)) {
      return Error(EINVAL, "no slot is queued", origin);
    }
    // Each second time by the clock alone: poll may say that there is something to take, as it does
    // of a queue of which nothing is queued, and there is none.
    for (bool polls = true;; polls = !polls) {
      BufferWords words(s, 0, -1, 0);
      const long answer = s.Ask(VIDIOC_DQBUF, words.get());
      if (!Failed(answer)) return s.Done(words, origin);
      if (answer != -EAGAIN) {
        return Error(ErrnoFrom(answer), "VIDIOC_DQBUF", origin, DequeueHint(answer));
      }
      if (const Error error = s.Wait(deadline, polls, origin); !error.ok()) return error;
    }
  }

  // Starts the stream.
  Error Start() noexcept {
    State& s = *state_;
    int type = s.Type();
    const long answer = s.Ask(VIDIOC_STREAMON, &type);
    if (Failed(answer)) {
      return Error(ErrnoFrom(answer), "VIDIOC_STREAMON", s.At(Operation::kStream));
    }
    s.streaming = true;
    return {};
  }
  // Stops it: no slot is queued from then on, and each is still mapped.
  Error Stop() noexcept { return state_->StreamOff(state_->At(Operation::kStream)); }

 private:
  struct Frame {
    uint32_t format = 0, width = 0, height = 0;
    uint32_t stride = 0, bytes = 0;  // bytes
    uint32_t field = 0;
  };

  // A slot is made if the kernel has it under its index, and mapped if it has a descriptor.
  struct Slot {
    uint32_t index = 0;
    int fd = -1;
    uint64_t bytes = 0;
    bool made = false;
    bool holds = false;  // the kernel may hold memory for it
    // The kernel prepares and removes no slot that is prepared and not yet queued.
    bool prepared = false;
    bool queued = false;
  };

  struct BufferWords;

  struct State {
    State(const Options& from, NodeFile<Sys> node) : options(from), file(std::move(node)) {
      slots.resize(options.slots);
    }
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
      for (Slot& slot : slots) {
        if (slot.fd >= 0) file.CloseOther(slot.fd);
      }
    }

    Origin At(Operation operation, uint64_t bytes = 0) const noexcept {
      return {kName, operation, options.node, bytes};
    }
    bool output() const noexcept { return options.kind == V4l2QueueKind::kOutput; }
    int Type() const noexcept {
      if (planes) {
        return output() ? V4L2_BUF_TYPE_VIDEO_OUTPUT_MPLANE : V4L2_BUF_TYPE_VIDEO_CAPTURE_MPLANE;
      }
      return output() ? V4L2_BUF_TYPE_VIDEO_OUTPUT : V4L2_BUF_TYPE_VIDEO_CAPTURE;
    }

    // Closes the file of a device that has gone, which drops all that it held. An ENODEV may be of
    // one call alone: to VIDIOC_QUERYCAP it is of the whole device.
    long Ask(unsigned long request, void* argument) noexcept {
      const long answer = file.Ask(request, argument);
      v4l2_capability told{};
      if (answer == -ENODEV && file.Ask(VIDIOC_QUERYCAP, &told) == -ENODEV) Close();
      return answer;
    }
    void Close() noexcept {
      file.Close();
      Forget();
    }
    // The kernel has no slot any more.
    void Forget() noexcept {
      requested = streaming = false;
      for (Slot& slot : slots) slot.made = slot.holds = slot.prepared = slot.queued = false;
    }

    bool AnyMapped() const noexcept {
      return std::ranges::any_of(slots, [](const Slot& slot) { return slot.fd >= 0; });
    }
    Slot* Find(const Imported& mapped) noexcept {
      const auto at = std::ranges::find_if(
          slots, [&](const Slot& slot) { return slot.fd >= 0 && slot.index == mapped.number; });
      return mapped.kind != Imported::Kind::kQueueSlot || at == slots.end() ? nullptr : &*at;
    }

    // The error of memory that the queue cannot use, whatever it is made of.
    Error Fits(const DeviceMemory& memory, const Origin& origin) const noexcept {
      if (memory.range.offset != 0) {
        return Error(EINVAL, "the range begins inside the dma-buf", origin,
                     "V4L2 uses a dma-buf from its start: give it a buffer of its own, none of a "
                     "carveout");
      }
      if (memory.range.bytes < frame.bytes) {
        return Error(EINVAL, "the buffer is smaller than the frame that the driver states", origin,
                     "take size_min of the queue's constraints, VIDIOC_S_FMT's sizeimage");
      }
      if (memory.range.bytes > UINT32_MAX) {
        return Error(EINVAL, "V4L2 counts bytes in 32 bits", origin).With(Limit{UINT32_MAX});
      }
      if (memory.image == nullptr || !layout.has_value()) return {};
      const ImageLayout& image = *memory.image;
      bool same = image.planes == layout->planes && image.spec.format == layout->spec.format &&
                  image.spec.modifier == layout->spec.modifier;
      for (unsigned i = 0; same && i < image.planes; ++i) {
        same = image.plane[i].offset == layout->plane[i].offset &&
               image.plane[i].stride == layout->plane[i].stride;
      }
      if (same) return {};
      return Error(EINVAL, "the image's layout is not that of the queue's format", origin,
                   "a queue has one format, stride and height for all buffers: compute the layout "
                   "from its constraints, and set a height that suits the other devices");
    }

    // Makes slots, and forgets those before.
    Error Request(uint32_t count, const Origin& origin) noexcept {
      v4l2_requestbuffers request{};
      request.count = count;
      request.type = static_cast<uint32_t>(Type());
      request.memory = V4L2_MEMORY_DMABUF;
      const long answer = Ask(VIDIOC_REQBUFS, &request);
      if (Failed(answer)) {
        return Error(ErrnoFrom(answer), "VIDIOC_REQBUFS", origin, RequestHint(answer));
      }
      Forget();
      if (count == 0) return {};
      if (request.count == 0) return Error(ENOBUFS, "VIDIOC_REQBUFS: no slot", origin);
      requested = true;
      const size_t made = std::min<size_t>(request.count, slots.size());
      for (size_t i = 0; i < made; ++i) {
        slots[i].index = static_cast<uint32_t>(i);
        slots[i].made = true;
      }
      return {};
    }

    // Ends the stream and frees all slots, or closes the file, which does the same.
    Error LetGo(const Origin& origin) noexcept {
      if (file.get() < 0) return {};
      // REQBUFS tells if it matters that this failed.
      int type = Type();
      (void)Ask(VIDIOC_STREAMOFF, &type);
      if (file.get() < 0) return {};
      const Error error = Request(0, origin);
      if (error.ok() || file.get() < 0) return {};
      Close();
      return error.Advised(
          "the queue did not free its slots, so its file was closed: open the device again");
    }

    Error StreamOff(const Origin& origin) noexcept {
      int type = Type();
      const long answer = Ask(VIDIOC_STREAMOFF, &type);
      if (Failed(answer)) return Error(ErrnoFrom(answer), "VIDIOC_STREAMOFF", origin);
      streaming = false;
      for (Slot& slot : slots) slot.queued = slot.prepared = false;
      return {};
    }
    // Makes prepared slots ordinary ones, if that takes nothing from the device.
    void Unprepare(const Origin& origin) noexcept {
      if (streaming || std::ranges::any_of(slots, &Slot::queued)) return;
      file.errors().Report(StreamOff(origin));
    }

    // Lets go of the memory of an unmapped slot, if the kernel can while others are mapped. ENOTTY,
    // before Linux 6.10, is no error.
    Error Remove(Slot& slot, const Origin& origin) noexcept {
      if (slot.prepared) Unprepare(origin);
      if (!slot.made || slot.prepared) return {};
      ion_uapi::v4l2_remove_buffers remove{};
      remove.index = slot.index;
      remove.count = 1;
      remove.type = static_cast<uint32_t>(Type());
      const long answer = Ask(ion_uapi::kV4l2RemoveBufs, &remove);
      if (!Failed(answer)) {
        slot.made = slot.holds = false;
        return {};
      }
      if (answer == -ENOTTY || file.get() < 0) return {};
      return Error(ErrnoFrom(answer), "VIDIOC_REMOVE_BUFS", origin,
                   "the kernel holds the memory until the slot is mapped again, or the last slot "
                   "is unmapped");
    }

    // Returns a slot to map: first one whose memory of before goes by that.
    Result<Slot*> FreeSlot(const Origin& origin) noexcept {
      const auto free = [](const Slot& slot) { return slot.made && slot.fd < 0; };
      if (std::ranges::any_of(slots, [&](const Slot& s) { return free(s) && s.prepared; })) {
        Unprepare(origin);
      }
      for (const bool held : {true, false}) {
        const auto at = std::ranges::find_if(slots, [&](const Slot& slot) {
          return free(slot) && slot.holds == held && !slot.prepared;
        });
        if (at != slots.end()) return &*at;
      }
      const auto at = std::ranges::find(slots, false, &Slot::made);
      if (at == slots.end()) return NoSlot(origin);
      v4l2_create_buffers create{};
      create.count = 1;
      create.memory = V4L2_MEMORY_DMABUF;
      create.format = format;
      const long answer = Ask(VIDIOC_CREATE_BUFS, &create);
      if (answer == -ENOTTY) return NoSlot(origin);  // then the driver has those of REQBUFS alone
      if (Failed(answer)) return Error(ErrnoFrom(answer), "VIDIOC_CREATE_BUFS", origin);
      if (create.count == 0) return NoSlot(origin);
      at->index = create.index;
      at->made = true;
      return &*at;
    }
    static Error NoSlot(const Origin& origin) noexcept {
      return Error(ENOBUFS, "no slot of the queue is free", origin,
                   "map no more buffers than Options::slots, and no more than the driver has");
    }

    Result<Imported> MapSlot(const DeviceMemory& memory, const Origin& origin) noexcept {
      const Result<Slot*> found = FreeSlot(origin);
      if (!found.ok()) return found.error();
      Slot& slot = **found;
      const long fd = file.Duplicate(memory.range.fd.get());
      if (Failed(fd)) return Error(ErrnoFrom(fd), "fcntl F_DUPFD_CLOEXEC", origin);
      BufferWords words(*this, slot.index, static_cast<int>(fd), memory.range.bytes);
      const long answer = Ask(VIDIOC_PREPARE_BUF, words.get());
      if (Failed(answer) && answer != -ENOTTY) {
        file.CloseOther(static_cast<int>(fd));
        return Error(ErrnoFrom(answer), "VIDIOC_PREPARE_BUF", origin, RefusalHint(answer));
      }
      slot.fd = static_cast<int>(fd);
      slot.bytes = memory.range.bytes;
      slot.holds = true;
      slot.prepared = !Failed(answer);
      return Imported{Imported::Kind::kQueueSlot, slot.index};
    }

    Result<V4l2Done> Done(const BufferWords& words, const Origin& origin) noexcept {
      const v4l2_buffer& buffer = words.buffer;
      const Imported number{Imported::Kind::kQueueSlot, buffer.index};
      Slot* const slot = Find(number);
      if (slot == nullptr || !slot->queued) {
        return Error(EIO, "VIDIOC_DQBUF: a slot that was not queued", origin);
      }
      slot->queued = false;
      return V4l2Done{.slot = number,
                      .bytes_used = planes ? words.plane.bytesused : buffer.bytesused,
                      .sequence = buffer.sequence,
                      .timestamp = std::chrono::seconds(buffer.timestamp.tv_sec) +
                                   std::chrono::microseconds(buffer.timestamp.tv_usec),
                      .spoilt = (buffer.flags & V4L2_BUF_FLAG_ERROR) != 0,
                      .last = (buffer.flags & V4L2_BUF_FLAG_LAST) != 0};
    }

    // Waits until the device may be done with a slot; without poll, for a moment.
    Error Wait(std::chrono::steady_clock::time_point deadline, bool polls,
               const Origin& origin) noexcept {
      constexpr int kMoment = 1;  // ms (arbitrary)
      const auto now = std::chrono::steady_clock::now();
      if (now >= deadline) {
        return Error(ETIMEDOUT, "no slot came back before the deadline", origin);
      }
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
      const short wanted = output() ? POLLOUT : POLLIN;
      pollfd polled{.fd = file.get(), .events = wanted, .revents = 0};
      const long ready =
          polls ? file.sys().Poll(&polled, 1, static_cast<int>(std::min<int64_t>(left, INT_MAX)))
                : file.sys().Poll(nullptr, 0, kMoment);
      if (Failed(ready) && ready != -EINTR) return Error(ErrnoFrom(ready), "poll", origin);
      return {};
    }

    Options options;
    NodeFile<Sys> file;
    v4l2_capability capability = {};
    bool planes = false;  // the multi-planar interface
    v4l2_format format = {};
    Frame frame = {};
    std::optional<ImageLayout> layout = {};  // of a format that the table knows
    std::vector<Slot> slots = {};
    bool requested = false;  // the queue has slots
    bool streaming = false;
  };

  // VIDIOC_QBUF's words about one buffer, and about its plane.
  struct BufferWords {
    BufferWords(const State& state, uint32_t index, int fd, uint64_t bytes,
                uint32_t bytes_used = 0) noexcept {
      const auto length = static_cast<uint32_t>(bytes);
      // Of an output queue's buffer without content the kernel warns.
      const uint32_t content = !state.output()   ? 0
                               : bytes_used != 0 ? bytes_used
                                                 : state.frame.bytes;
      buffer.index = index;
      buffer.type = static_cast<uint32_t>(state.Type());
      buffer.field = state.frame.field;
      buffer.memory = V4L2_MEMORY_DMABUF;
      if (state.planes) {
        plane.m.fd = fd;
        plane.length = length;
        plane.bytesused = content;
        buffer.m.planes = &plane;
        buffer.length = 1;
      } else {
        buffer.m.fd = fd;
        buffer.length = length;
        buffer.bytesused = content;
      }
    }
    BufferWords(const BufferWords&) = delete;
    BufferWords& operator=(const BufferWords&) = delete;

    v4l2_buffer* get() noexcept { return &buffer; }

    v4l2_buffer buffer = {};
    v4l2_plane plane = {};
  };

  explicit V4l2Queue(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}

  static Result<V4l2Queue> OpenOrThrow(const Options& options) {
    const Origin origin{kName, Operation::kOpen, options.node};
    if (options.slots == 0) return Error(EINVAL, "Options::slots is 0", origin);
    Result<NodeFile<Sys>> file = OpenFile(options, origin);
    if (!file.ok()) return file.error();
    auto state = std::make_unique<State>(options, *std::move(file));
    for (Error (*const step)(State&, const Origin&) noexcept : {Identify, SetFormat, AskImports}) {
      if (const Error error = step(*state, origin); !error.ok()) return error;
    }
    SetConstraints(*state);
    return V4l2Queue(std::move(state));
  }

  static Result<NodeFile<Sys>> OpenFile(const Options& options, const Origin& origin) {
    auto errors = options.errors != nullptr ? options.errors : std::make_shared<ErrorSink>();
    if (options.file == FdRef()) {
      return NodeFile<Sys>::Open(options.sys, std::move(errors), origin, options.node.c_str(),
                                 O_RDWR | O_NONBLOCK, kNode);
    }
    const long fd = options.sys.Fcntl(options.file.get(), F_DUPFD_CLOEXEC, 0);
    if (Failed(fd)) return Error(ErrnoFrom(fd), "fcntl F_DUPFD_CLOEXEC", origin);
    return NodeFile<Sys>(static_cast<int>(fd), options.sys, std::move(errors), kName);
  }

  // The driver's names, and the interface of the queue.
  static Error Identify(State& s, const Origin& origin) noexcept {
    const long answer = s.Ask(VIDIOC_QUERYCAP, &s.capability);
    if (Failed(answer)) return Error(ErrnoFrom(answer), "VIDIOC_QUERYCAP", origin);
    const uint32_t caps = (s.capability.capabilities & V4L2_CAP_DEVICE_CAPS) != 0
                              ? s.capability.device_caps
                              : s.capability.capabilities;
    const uint32_t one =
        V4L2_CAP_VIDEO_M2M | (s.output() ? V4L2_CAP_VIDEO_OUTPUT : V4L2_CAP_VIDEO_CAPTURE);
    const uint32_t planar =
        V4L2_CAP_VIDEO_M2M_MPLANE |
        (s.output() ? V4L2_CAP_VIDEO_OUTPUT_MPLANE : V4L2_CAP_VIDEO_CAPTURE_MPLANE);
    if ((caps & V4L2_CAP_STREAMING) == 0 || (caps & (one | planar)) == 0) {
      return Error(ENODEV,
                   s.output() ? "VIDIOC_QUERYCAP: no output device with a queue"
                              : "VIDIOC_QUERYCAP: no capture device with a queue",
                   origin, "Options::kind says which of a device's queues is meant");
    }
    s.planes = (caps & one) == 0;
    return {};
  }

  // A driver changes a request that it cannot meet.
  static Error SetFormat(State& s, const Origin& origin) noexcept {
    const Options& wanted = s.options;
    s.format.type = static_cast<uint32_t>(s.Type());
    const long told = s.Ask(VIDIOC_G_FMT, &s.format);
    if (Failed(told)) return Error(ErrnoFrom(told), "VIDIOC_G_FMT", origin);
    const auto differs = [&] {
      s.frame = FrameOf(s.format, s.planes);
      return (wanted.format != 0 && s.frame.format != wanted.format) ||
             (wanted.width != 0 && s.frame.width != wanted.width) ||
             (wanted.height != 0 && s.frame.height != wanted.height);
    };
    if (differs()) {
      Wish(s.format, wanted, s.planes);
      const long set = s.Ask(VIDIOC_S_FMT, &s.format);
      if (Failed(set)) {
        return Error(
            ErrnoFrom(set), "VIDIOC_S_FMT", origin,
            set == -EBUSY ? "the device streams, or another program has its buffers" : nullptr);
      }
      if (differs()) {
        return Error(
            EINVAL, "VIDIOC_S_FMT: the driver changed the format or the size", origin,
            "it does not make such frames: VIDIOC_ENUM_FMT and VIDIOC_ENUM_FRAMESIZES tell "
            "which it makes");
      }
    }
    if (s.planes && s.format.fmt.pix_mp.num_planes != 1) {
      return Error(EOPNOTSUPP, "the format has a buffer for each plane", origin,
                   "name the format with all planes in one buffer: NV12, not NM12");
    }
    // Compressed formats have no pitch.
    if (s.frame.bytes == 0 || uint64_t{s.frame.stride} * s.frame.height > s.frame.bytes) {
      return Error(EINVAL, "the driver stated a pitch or a size that does not hold the frame",
                   origin);
    }
    return {};
  }
  static Frame FrameOf(const v4l2_format& format, bool planes) noexcept {
    if (planes) {
      const v4l2_pix_format_mplane& pix = format.fmt.pix_mp;
      return {.format = pix.pixelformat,
              .width = pix.width,
              .height = pix.height,
              .stride = pix.plane_fmt[0].bytesperline,
              .bytes = pix.plane_fmt[0].sizeimage,
              .field = pix.field};
    }
    const v4l2_pix_format& pix = format.fmt.pix;
    return {.format = pix.pixelformat,
            .width = pix.width,
            .height = pix.height,
            .stride = pix.bytesperline,
            .bytes = pix.sizeimage,
            .field = pix.field};
  }
  // Pitch and size are the driver's business.
  static void Wish(v4l2_format& format, const Options& wanted, bool planes) noexcept {
    const auto set = [&](auto& pix) {
      if (wanted.format != 0) pix.pixelformat = wanted.format;
      if (wanted.width != 0) pix.width = wanted.width;
      if (wanted.height != 0) pix.height = wanted.height;
    };
    if (planes) {
      set(format.fmt.pix_mp);
      for (v4l2_plane_pix_format& plane : format.fmt.pix_mp.plane_fmt) plane = {};
    } else {
      set(format.fmt.pix);
      format.fmt.pix.bytesperline = format.fmt.pix.sizeimage = 0;
    }
  }

  // A request for no slots changes nothing, and tells if the queue imports.
  static Error AskImports(State& s, const Origin& origin) noexcept { return s.Request(0, origin); }

  // The driver's word over the caller's; of a number that the caller may want to be larger, the
  // larger one.
  static void SetConstraints(State& s) noexcept {
    Options& options = s.options;
    Constraints& c = options.constraints;
    const auto at_least = [](Stated<uint64_t>& field, uint64_t told) {
      if (!field.stated() || field.value() < told) field = FromKernel(told);
    };
    at_least(c.size_min, s.frame.bytes);
    v4l2_control least{};
    least.id = s.output() ? V4L2_CID_MIN_BUFFERS_FOR_OUTPUT : V4L2_CID_MIN_BUFFERS_FOR_CAPTURE;
    if (!Failed(s.Ask(VIDIOC_G_CTRL, &least)) && least.value > 0) {
      at_least(c.held, static_cast<uint64_t>(least.value));
    }
    if (!c.buffers_max.stated() || c.buffers_max.value() > options.slots) {
      c.buffers_max = options.slots;
    }
    c.exporter_needs =
        (c.exporter_needs.stated() ? c.exporter_needs.value() : ExporterNeeds::kNone) |
        ExporterNeeds::kExportByUs;
    c.planes = PlaneFds::kOne;
    if (s.frame.stride != 0) c.stride_exact = FromKernel(s.frame.stride);
    if (const auto named = FromV4l2(s.frame.format); named.has_value() && !named->planar) {
      const FormatModifier format{.id = InfoOf(named->format).drm, .modifier = kLinearModifier};
      if (format.id != 0) c.formats = FormatSet({format}, Source{How::kKernel, 0});
      const ImageSpec spec{.format = named->format,
                           .width = s.frame.width,
                           .height = s.frame.height,
                           .limits = {.stride_exact = s.frame.stride},
                           .odd = OddSize::kCover};
      if (!ComputeLayout(spec, s.layout.emplace()).ok()) s.layout.reset();
    }
    options.traits.maps_at_import = options.traits.maps_at_import.Or(true);
    if (options.name.view().empty()) options.name = PartyName::From(options.node);
  }

  static std::string_view Text(const unsigned char (&text)[16]) noexcept {
    return Bounded(text, 16);
  }
  static std::string_view Text(const unsigned char (&text)[32]) noexcept {
    return Bounded(text, 32);
  }
  static std::string_view Bounded(const unsigned char* text, size_t most) noexcept {
    const auto* const begin = reinterpret_cast<const char*>(text);
    return {begin, ::strnlen(begin, most)};
  }

  // An errno that is of the queue's state, and says nothing of the memory.
  static constexpr bool SaysNothing(long answer) noexcept {
    switch (-answer) {
      case EAGAIN:
      case EBADR:
      case EBUSY:
      case EIO:
      case ENODEV:
      case ENOTTY:
        return true;
      default:
        return false;
    }
  }
  static constexpr const char* RefusalHint(long answer) noexcept {
    switch (-answer) {
      case EINVAL:
        return "no dma-buf, smaller than a frame, or memory that the device could not map: past "
               "its "
               "addresses, or no room to bounce it; try contiguous or low memory";
      case EFAULT:
        return "the memory is in pieces, and the device wants one: take contiguous memory (CMA); "
               "or "
               "the driver's CPU cannot map it, as memory of ION and of udmabuf in Linux 5.10";
      case ENOMEM:
        return "out of memory, or a driver's word for memory that it cannot map";
      case EBADR:
        return "the queue takes buffers with requests of the media controller only";
      case EBUSY:
        return "another program has the queue";
      case EIO:
        return "the queue is in error: stop it, and start it again";
      case ENODEV:
        return "the device has vanished";
      default:
        return nullptr;
    }
  }
  static constexpr const char* RequestHint(long answer) noexcept {
    switch (-answer) {
      case EINVAL:
        return "the queue imports no dma-bufs: export its own (backends/v4l2_export.h)";
      case EBUSY:
        return "another program has the queue, or it streams";
      case ENODEV:
        return "the device has vanished, or its file was closed after an error: open it again";
      default:
        return nullptr;
    }
  }
  static constexpr const char* DequeueHint(long answer) noexcept {
    switch (-answer) {
      case EINVAL:
        return "the device does not stream: call Start";
      case EPIPE:
        return "the device has given its last buffer: stop the queue, and start it again";
      default:
        return RefusalHint(answer);
    }
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
  static constexpr NodeKind kNode = {
      .major = ion_uapi::kV4l2Major,
      .other = "fstat: not a device of major 81 (V4L2), as /dev/video0 is",
      .advice = &kAdvice};

  std::unique_ptr<State> state_;
};
static_assert(DeviceCheck<V4l2Queue<>>::kOk);

}  // namespace ion

#endif  // ION_DEVICES_V4L2_QUEUE_H_
