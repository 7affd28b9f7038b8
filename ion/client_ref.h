// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/client_ref.h
//
// ClientRef: a reference to a client of any Manager, so that a class or a function that uses memory
// need not be a template over the composition.
//
// Example:
//   class FrameRing {
//    public:
//     explicit FrameRing(ion::ClientRef client) : client_(client) {}
//     absl::Status Grow() {
//       absl::StatusOr<ion::SharedBuffer> frame = client_.AllocateShared({.bytes = 8_MiB});
//       if (frame.ok()) frames_.push_back(*std::move(frame));
//       return frame.status();
//     }
//    private:
//     ion::ClientRef client_;
//     std::vector<ion::SharedBuffer> frames_;
//   };
//   FrameRing ring(*client);   // a Client of whatever Manager
//
// It owns nothing. The Client must live while a ClientRef to it is used (checked unless NDEBUG is
// defined); it may be moved meanwhile. Memory that was allocated by it needs neither: a Buffer is
// released without a client, and a SharedBuffer may outlive it.
//
// Cost: three words; one indirect call more than the Client's function, and none at a release.
// Thread-safe as the Client is.
#ifndef ION_ION_CLIENT_REF_H_
#define ION_ION_CLIENT_REF_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_info.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/shared_buffer.h"
#include "ion/slab.h"

namespace ion {

template <class Core>
class Client;

class ClientRef {
 public:
  // As Client::Allocate of a request.
  absl::StatusOr<Buffer> Allocate(const Request& request,
                                  CallSite where = CallSite::Here()) const noexcept {
    return ops().allocate(client_, request, where);
  }
  // As Client::AllocateShared: one.
  absl::StatusOr<SharedBuffer> AllocateShared(const Request& request,
                                              CallSite where = CallSite::Here()) const noexcept {
    return ops().allocate_shared(client_, request, where);
  }
  // As Client::AllocateShared: `count`, or none.
  absl::StatusOr<std::vector<SharedBuffer>> AllocateShared(
      const Request& request, uint32_t count, CallSite where = CallSite::Here()) const noexcept {
    return ops().allocate_many_shared(client_, request, count, where);
  }
  // As Client::Prefill.
  absl::Status Prefill(const Request& request, uint32_t count,
                       CallSite where = CallSite::Here()) const noexcept {
    return ops().prefill(client_, request, count, where);
  }
  // As Client::MakeHandle.
  absl::StatusOr<Handle> MakeHandle(Buffer&& lease) const noexcept {
    return ops().make_handle(client_, static_cast<Buffer&&>(lease));
  }
  // As Client::Share.
  absl::StatusOr<UniqueFd> Share(const Handle& handle) const noexcept {
    return ops().share(client_, handle);
  }
  // As Client::Lend.
  template <class F>
  absl::Status Lend(const Handle& handle, F f) const {
    const auto call = [](void* at, FdRef fd) -> absl::Status { return (*static_cast<F*>(at))(fd); };
    return ops().lend(client_, handle, call, &f);
  }
  // As Client::ShareRange.
  absl::StatusOr<SharedRange> ShareRange(const Handle& handle) const noexcept {
    return ops().share_range(client_, handle);
  }
  // As Client::Import.
  absl::StatusOr<Handle> Import(FdRef fd, CallSite where = CallSite::Here()) const noexcept {
    return ops().import(client_, fd, where);
  }
  absl::StatusOr<Handle> Import(UniqueFd fd, CallSite where = CallSite::Here()) const noexcept {
    return ops().import_own(client_, static_cast<UniqueFd&&>(fd), where);
  }
  // As Client::Free.
  absl::Status Free(const Handle& handle) const noexcept { return ops().free(client_, handle); }
  // As Client::Map.
  template <MapMode kMode>
  absl::StatusOr<CpuMapping<kMode>> Map(const Handle& handle, MapRange range = {}) const noexcept {
    if constexpr (kMode == MapMode::kWritable) {
      return ops().map_writable(client_, handle, range);
    } else {
      return ops().map_read_only(client_, handle, range);
    }
  }
  // As Client::Info.
  absl::StatusOr<BufferInfo> Info(const Handle& handle) const noexcept {
    return ops().info(client_, handle);
  }
  // As Client::SetName.
  absl::Status SetName(const Handle& handle, std::string_view name) const noexcept {
    return ops().set_name(client_, handle, name);
  }
  // As Client::name. Valid while the Client lives.
  const std::string& name() const noexcept { return ops().name(client_); }
  // As Client::heaps.
  HeapMask heaps() const noexcept { return ops().heaps(client_); }
  // As Client::held_bytes.
  uint64_t held_bytes() const noexcept { return ops().held_bytes(client_); }

 private:
  template <class Core>
  friend class Client;

  // The functions of one type of client.
  struct Ops {
    bool (*is_open)(uint64_t id) noexcept;
    absl::StatusOr<Buffer> (*allocate)(void*, const Request&, CallSite) noexcept;
    absl::StatusOr<SharedBuffer> (*allocate_shared)(void*, const Request&, CallSite) noexcept;
    absl::StatusOr<std::vector<SharedBuffer>> (*allocate_many_shared)(void*, const Request&,
                                                                      uint32_t, CallSite) noexcept;
    absl::Status (*prefill)(void*, const Request&, uint32_t, CallSite) noexcept;
    absl::StatusOr<Handle> (*make_handle)(void*, Buffer&&) noexcept;
    absl::StatusOr<UniqueFd> (*share)(void*, const Handle&) noexcept;
    absl::Status (*lend)(void*, const Handle&, absl::Status (*f)(void*, FdRef), void* context);
    absl::StatusOr<SharedRange> (*share_range)(void*, const Handle&) noexcept;
    absl::StatusOr<Handle> (*import)(void*, FdRef, CallSite) noexcept;
    absl::StatusOr<Handle> (*import_own)(void*, UniqueFd, CallSite) noexcept;
    absl::Status (*free)(void*, const Handle&) noexcept;
    absl::StatusOr<ReadOnlyMapping> (*map_read_only)(void*, const Handle&, MapRange) noexcept;
    absl::StatusOr<WritableMapping> (*map_writable)(void*, const Handle&, MapRange) noexcept;
    absl::StatusOr<BufferInfo> (*info)(void*, const Handle&) noexcept;
    absl::Status (*set_name)(void*, const Handle&, std::string_view) noexcept;
    const std::string& (*name)(void*) noexcept;
    HeapMask (*heaps)(void*) noexcept;
    uint64_t (*held_bytes)(void*) noexcept;
  };

  // `id`: the bits of the client's AccountId, which no other client ever has.
  ClientRef(void* client, const Ops& ops, uint64_t id) noexcept
      : client_(client), ops_(&ops), id_(id) {}

  const Ops& ops() const noexcept {
#ifndef NDEBUG
    ION_CHECK(ops_->is_open(id_), "a ClientRef was used after its Client had ended");
#endif
    return *ops_;
  }

  void* client_;
  const Ops* ops_;
  uint64_t id_;
};

}  // namespace ion

#endif  // ION_ION_CLIENT_REF_H_
