// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/shared_buffer.h
//
// SharedBuffer: memory that others may hold too (a V4L2 queue, another process), with its size and
// a descriptor of its own. It frees its Handle when it ends; the memory lives as long as anybody
// holds its descriptor or a mapping of it.
//
// Example:
//   absl::StatusOr<ion::SharedBuffer> frame = client.AllocateShared({.bytes = 8_MiB});
//   absl::StatusOr<ion::WritableMapping> mapping = ion::WritableMapping::Of(*frame);
//   QueueToDriver(frame->fd(), frame->bytes());
//
// Memory that stays in this process needs none of this: a Buffer (Client::Allocate) costs less.
//
// A SharedBuffer may outlive its Client: the end of the Client frees the memory, and the
// SharedBuffer is empty from then on. In a child made by fork its end closes the child's copy of
// the descriptor, and nothing else.
//
// Cost: 48 bytes, a handle, and a descriptor beside the memory's own; the end of one takes the
// client's lock. Thread-compatible; several of one Client may be used, and end, on several threads,
// also while the Client ends.
#ifndef ION_ION_SHARED_BUFFER_H_
#define ION_ION_SHARED_BUFFER_H_

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "absl/base/attributes.h"
#include "absl/status/statusor.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"

namespace ion {
namespace internal {

// The part of a client that its shared buffers refer to. It lives until the client and all of them
// have ended; its functions are those of the library that made the client.
class SharedBufferOwner {
 public:
  struct Ops {
    // Frees one count of the handle. Does nothing if the handle is not the client's any more.
    void (*free)(SharedBufferOwner& self, const Handle& handle) noexcept;
    absl::StatusOr<ReadOnlyMapping> (*map_read_only)(SharedBufferOwner& self, const Handle& handle,
                                                     MapRange range) noexcept;
    absl::StatusOr<WritableMapping> (*map_writable)(SharedBufferOwner& self, const Handle& handle,
                                                    MapRange range) noexcept;
    void (*destroy)(SharedBufferOwner& self) noexcept;
  };

  // One reference: the client's.
  explicit SharedBufferOwner(const Ops& ops) noexcept : ops_(ops) {}
  SharedBufferOwner(const SharedBufferOwner&) = delete;
  SharedBufferOwner& operator=(const SharedBufferOwner&) = delete;

  const Ops& ops() const noexcept { return ops_; }
  // False from the end of the client on.
  bool open() const noexcept { return open_.load(std::memory_order_acquire); }
  void SetClosed() noexcept { open_.store(false, std::memory_order_release); }
  void Ref() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void Unref() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) ops_.destroy(*this);
  }

 protected:
  ~SharedBufferOwner() = default;

 private:
  const Ops& ops_;
  std::atomic<size_t> references_{1};
  std::atomic<bool> open_{true};
};

}  // namespace internal

class [[nodiscard]] SharedBuffer {
 public:
  // An empty one: it has no bytes and no descriptor, and mapping it fails.
  constexpr SharedBuffer() = default;
  // Not for users: Client::AllocateShared. Takes over one count of `handle`.
  SharedBuffer(internal::SharedBufferOwner& owner, const Handle& handle, uint64_t bytes,
               UniqueFd fd) noexcept
      : owner_(&owner), handle_(handle), bytes_(bytes), fd_(std::move(fd)) {
    owner.Ref();
  }
  SharedBuffer(SharedBuffer&& other) noexcept
      : owner_(std::exchange(other.owner_, nullptr)),
        handle_(std::exchange(other.handle_, Handle())),
        bytes_(other.bytes_),
        fd_(std::move(other.fd_)) {}
  SharedBuffer& operator=(SharedBuffer&& other) noexcept {
    if (this != &other) {
      Free();
      owner_ = std::exchange(other.owner_, nullptr);
      handle_ = std::exchange(other.handle_, Handle());
      bytes_ = other.bytes_;
      fd_ = std::move(other.fd_);
    }
    return *this;
  }
  // Closes the descriptor and frees the handle. CpuMappings of the memory keep it until they end.
  ~SharedBuffer() { Free(); }

  // False for an empty SharedBuffer, also for one that its Client's end made empty.
  bool valid() const noexcept { return owner_ != nullptr && owner_->open(); }
  // The size of the memory, in whole pages; 0 if empty.
  uint64_t bytes() const noexcept { return valid() ? bytes_ : 0; }
  // The descriptor of this memory and no other. It stays open until this SharedBuffer ends; whoever
  // needs it longer duplicates it. An invalid FdRef if empty.
  FdRef fd() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND {
    return valid() ? fd_.borrow() : FdRef();
  }
  // The handle, for Client::Info, SetName and the like; the empty Handle if empty. Its count is
  // this SharedBuffer's: do not free it.
  Handle handle() const noexcept { return valid() ? handle_ : Handle(); }

 private:
  template <MapMode>
  friend class CpuMapping;

  template <MapMode kMode>
  absl::StatusOr<CpuMapping<kMode>> Map(MapRange range) const noexcept {
    if (!valid()) {
      return ToStatus(Error(EINVAL, "an empty SharedBuffer", {"client", Operation::kMap},
                            "it was moved from, or its Client has ended"));
    }
    if constexpr (kMode == MapMode::kWritable) {
      return owner_->ops().map_writable(*owner_, handle_, range);
    } else {
      return owner_->ops().map_read_only(*owner_, handle_, range);
    }
  }
  // The descriptor first: the kernel counts it among those that hold the memory.
  void Free() noexcept {
    if (owner_ == nullptr) return;
    fd_.reset();
    if (owner_->open()) owner_->ops().free(*owner_, handle_);
    std::exchange(owner_, nullptr)->Unref();
  }

  internal::SharedBufferOwner* owner_ = nullptr;
  Handle handle_;
  uint64_t bytes_ = 0;
  UniqueFd fd_;
};
static_assert(std::is_nothrow_move_constructible_v<SharedBuffer>);

template <MapMode kMode>
absl::StatusOr<CpuMapping<kMode>> CpuMapping<kMode>::Of(const SharedBuffer& buffer,
                                                        MapRange range) noexcept {
  return buffer.template Map<kMode>(range);
}

}  // namespace ion

#endif  // ION_ION_SHARED_BUFFER_H_
