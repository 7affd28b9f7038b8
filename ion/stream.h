// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/stream.h
//
// Stream: the buffers of one use, whose memory is chosen by the devices that use them, is taken
// late, and moves when a later device cannot use it.
//
//     attach      declares a device: its demands count from now on; no call to the kernel
//     map         the device's own import of a buffer; only within an attachment
//     unmap       a mapping that the device does not use goes with its attachment, or with a move
//     detach      the end of an attachment
//
// Reserve makes a stream without memory. It is taken for all buffers, or for none, at the first
// fd(), Map or mapping of a device, or by Commit, for those who must not fail later. After that, a
// device that cannot use the memory makes it move: new memory that suits all devices, the content
// copied, a new generation. A move needs that nobody uses the memory; otherwise the Status names who
// does, the device is not attached, and everything stays as it was. Other processes take part in
// moves if the buffers are shared with them by ShareWith (ion/move_socket.h).
//
// Example:
//   absl::StatusOr<ion::Stream> stream =
//       ion::Stream::Reserve(client, offers, {.buffers = 4, .image = image});
//   if (!stream.ok()) return stream.status();
//   absl::StatusOr<ion::Attachment> camera = stream->Attach(queue);
//   if (!camera.ok()) return camera.status();
//   absl::StatusOr<ion::DeviceMapping> slot = camera->Map(0);
//
// An Attachment, a DeviceMapping or a MovableMapping may outlive its Stream: the memory lives until
// the last of them has ended, and the stream takes no device any more. Devices outlive their
// attachments.
//
// To ask a device about memory, or to move it, maps and unmaps it in the kernel: a V4L2 queue whose
// slots are all dequeued is stopped by that, and has to be started again. Before Linux 5.18 the kernel
// may lose the content of memory that a capture device beyond its reach is asked about (swiotlb).
//
// Not for one buffer that no other device will ever use: Client::Allocate.
//
// Cost: cold, but for the CPU scopes, which cost what the kernel's calls cost. Not thread-safe: one
// thread at a time for a stream and all that belongs to it.
#ifndef ION_ION_STREAM_H_
#define ION_ION_STREAM_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/client_ref.h"
#include "ion/coherency.h"
#include "ion/core/stream_state.h"
#include "ion/device.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/move_holder.h"
#include "ion/slab.h"
#include "ion/sync_counts.h"

namespace ion {

template <Syscalls Sys>
class BasicStream;
template <Syscalls Sys>
class BasicAttachment;
template <Syscalls Sys>
class BasicMovableMapping;

// A device's mapping of one buffer, within an attachment. A move drops the device's import of an
// idle buffer; imported() makes it again. The mapping of the device outlives this object: it ends
// with the attachment.
template <Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] BasicDeviceMapping {
  using State = internal::StreamState<Sys>;

 public:
  BasicDeviceMapping(BasicDeviceMapping&& other) noexcept
      : state_(std::move(other.state_)),
        id_(other.id_),
        buffer_(other.buffer_),
        use_(std::exchange(other.use_, std::nullopt)) {}
  BasicDeviceMapping& operator=(BasicDeviceMapping&& other) noexcept {
    if (this != &other) {
      End();
      state_ = std::move(other.state_);
      id_ = other.id_;
      buffer_ = other.buffer_;
      use_ = std::exchange(other.use_, std::nullopt);
    }
    return *this;
  }
  ~BasicDeviceMapping() { End(); }

  // The buffer's number in the stream.
  uint32_t buffer() const noexcept { return buffer_; }
  // The device's own name for the buffer: a queue's slot, a handle, a framebuffer. It may change
  // with a move of the stream. EINVAL: the mapping was moved from, or its attachment was detached.
  absl::StatusOr<Imported> imported() noexcept {
    auto* device = Device();
    if (device == nullptr) return Gone();
    return state_->Map(*device, buffer_);
  }
  // The most pieces that the buffer's memory is in, as its heap guarantees; 1: it is contiguous.
  // None: not known, or there is no attachment.
  std::optional<uint64_t> segments() const noexcept {
    return Device() == nullptr ? std::nullopt : state_->segments();
  }
  // Announces that the device reads or writes the buffer from now on until EndUse: before it is
  // queued, drawn or shown. The memory does not move meanwhile. If the CPU's caches have bytes that
  // the device needs, the kernel is told, and only then. EBUSY: a use is open.
  absl::Status BeginUse(Direction direction) noexcept {
    auto* device = Device();
    if (device == nullptr) return Gone();
    if (use_.has_value()) {
      return ToStatus(Error(EBUSY, "a use of the buffer is open", Here(), "call EndUse first"));
    }
    absl::StatusOr<Imported> mapped = state_->Map(*device, buffer_);
    if (!mapped.ok()) return mapped.status();
    if (Error error = state_->BeginUse(*device, buffer_, direction); !error.ok()) {
      return ToStatus(error);
    }
    use_ = direction;
    return absl::OkStatus();
  }
  // The device has ended its use: after its buffer was dequeued, or its fence signalled. EINVAL: no
  // use is open. Other errors are the kernel's; the use has ended.
  absl::Status EndUse() noexcept {
    auto* device = Device();
    if (device == nullptr) return Gone();
    if (!use_.has_value()) {
      return ToStatus(Error(EINVAL, "no use of the buffer is open", Here(), "call BeginUse first"));
    }
    const Direction direction = *std::exchange(use_, std::nullopt);
    return ToStatus(state_->EndUse(*device, buffer_, direction));
  }

 private:
  friend class BasicAttachment<Sys>;
  BasicDeviceMapping(std::shared_ptr<State> state, uint64_t id, uint32_t buffer) noexcept
      : state_(std::move(state)), id_(id), buffer_(buffer) {
    ++Device()->mappings;
  }
  static Origin Here() noexcept { return {"stream", Operation::kAttach}; }
  static absl::Status Gone() noexcept {
    return ToStatus(Error(EINVAL, "a DeviceMapping without an attachment", Here(),
                          "it was moved from, or its attachment was detached"));
  }
  auto* Device() const noexcept { return state_ == nullptr ? nullptr : state_->Find(id_); }
  void End() noexcept {
    if (auto* device = Device(); device != nullptr) {
      if (use_.has_value()) state_->Report(state_->EndUse(*device, buffer_, *use_));
      --device->mappings;
    }
    state_.reset();
  }

  std::shared_ptr<State> state_;
  uint64_t id_;
  uint32_t buffer_;
  std::optional<Direction> use_;
};

// A device's use of a stream.
template <Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] BasicAttachment {
  using State = internal::StreamState<Sys>;

 public:
  BasicAttachment(BasicAttachment&&) noexcept = default;
  BasicAttachment& operator=(BasicAttachment&& other) noexcept {
    if (this != &other) {
      End();
      state_ = std::move(other.state_);
      id_ = other.id_;
    }
    return *this;
  }
  // Detaches; an error goes to the Manager's error sink. DeviceMappings that still live are void.
  ~BasicAttachment() { End(); }

  // Maps a buffer for the device; takes the stream's memory if there is none yet. One mapping is
  // made for each buffer, and kept until the attachment ends. EINVAL: the attachment was detached,
  // or there is no such buffer. Else, the device's errors.
  absl::StatusOr<BasicDeviceMapping<Sys>> Map(uint32_t buffer) noexcept {
    auto* device = state_ == nullptr ? nullptr : state_->Find(id_);
    if (device == nullptr) return Detached();
    if (Error error = state_->Check(buffer, Operation::kAttach); !error.ok())
      return ToStatus(error);
    if (absl::StatusOr<Imported> mapped = state_->Map(*device, buffer); !mapped.ok()) {
      return mapped.status();
    }
    return BasicDeviceMapping<Sys>(state_, id_, buffer);
  }
  // Unmaps all buffers and ends the attachment. FAILED_PRECONDITION (EBUSY): a DeviceMapping lives,
  // or the device has a buffer in use; nothing has changed then. Other errors are the device's: the
  // attachment has ended.
  absl::Status Detach() noexcept {
    auto* device = state_ == nullptr ? nullptr : state_->Find(id_);
    if (device == nullptr) return Detached();
    absl::Status status = state_->Detach(*device);
    if (state_->Find(id_) == nullptr) state_.reset();
    return status;
  }

 private:
  friend class BasicStream<Sys>;
  BasicAttachment(std::shared_ptr<State> state, uint64_t id) noexcept
      : state_(std::move(state)), id_(id) {}
  static absl::Status Detached() noexcept {
    return ToStatus(Error(EINVAL, "the attachment was detached", {"stream", Operation::kAttach},
                          "attach the device again"));
  }
  void End() noexcept {
    if (state_ == nullptr) return;
    state_->Drop(id_);
    state_.reset();
  }

  std::shared_ptr<State> state_;
  uint64_t id_;
};

// A scope of CPU access to a movable mapping, as CpuAccess is one to a CpuMapping. The kernel is told
// of it only if the CPU and a device need that (ion/coherency.h).
template <Direction kDirection, Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] BasicMovableAccess {
  using State = internal::StreamState<Sys>;

 public:
  using Byte = std::conditional_t<Writes(kDirection), std::byte, const std::byte>;

  BasicMovableAccess(BasicMovableAccess&& other) noexcept
      : state_(std::move(other.state_)), buffer_(other.buffer_), bytes_(other.bytes_) {}
  BasicMovableAccess& operator=(BasicMovableAccess&& other) noexcept {
    if (this != &other) {
      EndOrReport();
      state_ = std::move(other.state_);
      buffer_ = other.buffer_;
      bytes_ = other.bytes_;
    }
    return *this;
  }
  // An end that the kernel refuses goes to the error sink; End() tells the caller instead.
  ~BasicMovableAccess() { EndOrReport(); }

  // The bytes of the buffer, valid until the scope ends.
  std::span<Byte> bytes() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return bytes_; }
  // Ends the scope now. Call once.
  absl::Status End() && noexcept {
    return state_ == nullptr ? absl::OkStatus() : ToStatus(Close());
  }

 private:
  friend class BasicMovableMapping<Sys>;
  BasicMovableAccess(std::shared_ptr<State> state, uint32_t buffer, std::span<Byte> bytes) noexcept
      : state_(std::move(state)), buffer_(buffer), bytes_(bytes) {}
  Error Close() noexcept {
    const Error error = state_->EndCpu(buffer_, kDirection);
    state_.reset();
    return error;
  }
  void EndOrReport() noexcept {
    if (state_ == nullptr) return;
    const std::shared_ptr<State> state = state_;
    state->Report(Close());
  }

  std::shared_ptr<State> state_;
  uint32_t buffer_;
  std::span<Byte> bytes_;
};

// A buffer of a stream in this process's address space. Its address stays when the memory moves; it
// gives bytes only inside a scope.
template <Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] BasicMovableMapping {
  using State = internal::StreamState<Sys>;

 public:
  template <Direction kDirection>
  using Access = BasicMovableAccess<kDirection, Sys>;

  // Begins CPU access, as CpuAccess::Begin does. With a deadline it waits for the fences of devices
  // no longer than that: DEADLINE_EXCEEDED (ETIMEDOUT). EINVAL: the mapping was moved from, or the
  // stream's buffers were taken. EFAULT: a move that failed could not restore it.
  template <Direction kDirection>
  absl::StatusOr<Access<kDirection>> Begin(Deadline deadline = kNoDeadline) noexcept {
    if (state_ == nullptr) return ToStatus(Error(EINVAL, "an empty MovableMapping", Here()));
    Result<std::span<std::byte>> bytes = state_->BeginCpu(buffer_, kDirection, deadline);
    if (!bytes.ok()) return ToStatus(bytes.error());
    return Access<kDirection>(state_, buffer_, *bytes);
  }
  absl::StatusOr<Access<Direction::kRead>> Read(Deadline deadline = kNoDeadline) noexcept {
    return Begin<Direction::kRead>(deadline);
  }
  absl::StatusOr<Access<Direction::kWrite>> Write(Deadline deadline = kNoDeadline) noexcept {
    return Begin<Direction::kWrite>(deadline);
  }
  absl::StatusOr<Access<Direction::kReadWrite>> ReadWrite(
      Deadline deadline = kNoDeadline) noexcept {
    return Begin<Direction::kReadWrite>(deadline);
  }

  BasicMovableMapping(BasicMovableMapping&& other) noexcept
      : state_(std::move(other.state_)), buffer_(other.buffer_) {}
  BasicMovableMapping& operator=(BasicMovableMapping&& other) noexcept {
    if (this != &other) {
      End();
      state_ = std::move(other.state_);
      buffer_ = other.buffer_;
    }
    return *this;
  }
  ~BasicMovableMapping() { End(); }

 private:
  friend class BasicStream<Sys>;
  BasicMovableMapping(std::shared_ptr<State> state, uint32_t buffer) noexcept
      : state_(std::move(state)), buffer_(buffer) {
    state_->AddMapping(buffer_, 1);
  }
  static Origin Here() noexcept { return {"stream", Operation::kBeginAccess}; }
  void End() noexcept {
    if (state_ != nullptr) state_->AddMapping(buffer_, -1);
    state_.reset();
  }

  std::shared_ptr<State> state_;
  uint32_t buffer_;
};

template <Syscalls Sys = LinuxSyscalls>
class [[nodiscard]] BasicStream {
  using State = internal::StreamState<Sys>;

 public:
  // The most buffers of a stream (arbitrary; a V4L2 queue has 32, or as many as its driver says).
  static constexpr uint32_t kMostBuffers = 1024;

  // A stream without memory, whose buffers will come from `client`, which outlives it, and from one
  // of the offered heaps. EINVAL: no buffers, or more than kMostBuffers; neither a size nor an
  // image, or both.
  static absl::StatusOr<BasicStream> Reserve(ClientRef client, const HeapOffers& offers,
                                             const StreamOptions& options, Sys sys = {}) noexcept {
    const Origin origin{"stream", Operation::kAllocate, options.name, options.bytes};
    if (options.buffers == 0 || options.buffers > kMostBuffers) {
      return ToStatus(Error(EINVAL, "the number of buffers is not 1 to 1024", origin));
    }
    if ((options.bytes == 0) == !options.image.has_value()) {
      return ToStatus(Error(EINVAL, "a stream is of bytes, or of images", origin,
                            "set either StreamOptions::bytes or StreamOptions::image"));
    }
    auto state =
        internal::WithMemory([&] { return std::make_shared<State>(client, offers, options, sys); },
                             [] { return std::shared_ptr<State>(); });
    if (state == nullptr) return ToStatus(Error(ENOMEM, "operator new", origin));
    return BasicStream(std::move(state));
  }
  BasicStream(BasicStream&&) noexcept = default;
  BasicStream& operator=(BasicStream&& other) noexcept {
    if (this != &other) {
      Close();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  ~BasicStream() { Close(); }

  // Adds a device; before there is memory this makes no call to the kernel. EEXIST: it is attached.
  // E2BIG: 15 devices are. If two demands exclude each other: ToStatus of the choice
  // (ion/choice_text.h), which names them. If there is memory and the device cannot use it: the
  // errors of a move; FAILED_PRECONDITION (EBUSY) names who uses the memory.
  absl::StatusOr<BasicAttachment<Sys>> Attach(DeviceRef device) noexcept {
    State& state = this->state();
    absl::StatusOr<uint64_t> id = state.Attach(device);
    if (!id.ok()) return id.status();
    return BasicAttachment<Sys>(state_, *id);
  }
  // Takes the memory of all buffers, or of none. The Status lists each heap that was tried, with its
  // reason, and the verdict on the others.
  absl::Status Commit() noexcept { return state().Commit(); }
  // The buffer's descriptor; takes the memory if there is none. From now on nobody knows who holds
  // it: the memory does not move any more, and is not recycled. The kernel is told of each CPU
  // scope, unless the caller says that all holders are known: each announces its uses by a
  // DeviceMapping of this stream.
  absl::StatusOr<FdRef> fd(uint32_t buffer, Holders holders = Holders::kUnknown) noexcept {
    if (Error error = state().Check(buffer, Operation::kShare); !error.ok()) return ToStatus(error);
    return state().Publish(buffer, holders);
  }
  // Gives the descriptors of these buffers, or of all if none is named, to a holder that agreed to
  // moves; takes the memory if there is none. A move asks each holder to be quiet, and hands the new
  // memory over. FAILED_PRECONDITION (EBUSY) of an Attach names a holder that is not quiet within
  // StreamOptions::patience. A holder that does not take the new memory is dropped, and the error
  // sink hears of it. Memory that a holder may have is not recycled, and the kernel is told of each
  // CPU scope. EINVAL: no such buffer, or it is named twice. EEXIST: the stream is shared with the
  // holder. E2BIG: 64 holders are. ENOTSUP: the memory is a range of a region. Else the holder's
  // errors; it has no memory then.
  absl::Status ShareWith(MoveHolderRef holder, std::span<const uint32_t> buffers = {}) noexcept {
    return state().Share(holder, buffers);
  }
  // No move asks the holder any more: the caller knows that it has gone, or lets the memory be.
  // ENOENT: the stream is not shared with it.
  absl::Status DropHolder(MoveHolderRef holder) noexcept {
    return ToStatus(state().DropHolder(holder));
  }
  // Maps the buffer for the CPU; takes the memory if there is none.
  absl::StatusOr<BasicMovableMapping<Sys>> Map(uint32_t buffer) noexcept {
    if (Error error = state().Check(buffer, Operation::kMap); !error.ok()) return ToStatus(error);
    if (absl::StatusOr<std::byte*> at = state().MapCpu(buffer); !at.ok()) return at.status();
    return BasicMovableMapping<Sys>(state_, buffer);
  }
  // Ends the stream and returns its buffers, as Client::Allocate would; takes the memory if there is
  // none. EBUSY: a CPU scope is open, or a device has a buffer in use.
  absl::StatusOr<std::vector<Buffer>> TakeBuffers() && noexcept { return state().Take(); }

  // True once there is memory.
  bool committed() const noexcept { return state().committed(); }
  // 0: no memory yet; 1: taken; one more with each move.
  uint64_t generation() const noexcept { return state().generation(); }
  uint32_t buffers() const noexcept { return state().buffers(); }
  // The size of each buffer, as the devices need it; 0: no memory yet.
  uint64_t bytes() const noexcept { return state().bytes(); }
  // The layout of the image; nullptr: no memory yet, or no image.
  const ImageLayout* image() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return state().image();
  }
  // The heap of the memory; none: no memory yet.
  std::optional<HeapId> heap() const noexcept { return state().heap(); }
  // The choice that the memory was taken by. Its parties are the devices in the order in which they
  // were attached, and last the stream itself, with its size.
  const Choice& choice() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return state().choice(); }
  // The begins and ends of CPU access to a buffer that the kernel was told of, and those that were
  // left out because no device needed them.
  SyncCounts cpu_counts(uint32_t buffer) const noexcept { return state().counts(buffer); }
  // Lines for a log: the memory and its moves, the attached devices, and for each buffer the begins
  // and ends of CPU access that were sent and left out. Empty: operator new had no memory.
  std::string Describe() const noexcept {
    return internal::WithMemory([&] { return state().Describe(); }, [] { return std::string(); });
  }
  const MoveReport& moves() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return state().moves(); }

 private:
  explicit BasicStream(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  State& state() const noexcept {
    ION_CHECK(state_ != nullptr, "a Stream was used after it was moved from");
    return *state_;
  }
  void Close() noexcept {
    if (state_ != nullptr) state_->Close();
    state_.reset();
  }

  std::shared_ptr<State> state_;
};

using Stream = BasicStream<>;
using Attachment = BasicAttachment<>;
using DeviceMapping = BasicDeviceMapping<>;
using MovableMapping = BasicMovableMapping<>;
template <Direction kDirection>
using MovableAccess = BasicMovableAccess<kDirection>;

}  // namespace ion

#endif  // ION_ION_STREAM_H_
