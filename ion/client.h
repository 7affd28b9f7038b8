// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/client.h
//
// Client: one user of a Manager, as ION's clients were of /dev/ion: a name for the reports, a mask
// of heaps that it may use, a quota, and the handles of memory that it keeps, shares and imports.
// They die with it.
//
// Example:
//   auto client = manager.CreateClient({.name = "camera", .quota_bytes = 256_MiB});
//   auto frame = client->Allocate({.bytes = 8_MiB});       // a lease: this process alone has it
//   auto handle = client->MakeHandle(*std::move(frame));   // from here on others may
//   auto fd = client->Share(*handle);                      // for another process, or a driver
//   auto theirs = client->Import(received.borrow());       // the same handle where it is our own
//   auto mapping = client->Map<ion::MapMode::kReadOnly>(*theirs);
//
// A lease is for memory that stays in the process: it is not counted, and nobody else may keep its
// descriptor. A V4L2 queue or another process that keeps a descriptor past a call needs a handle.
//
// Memory that a client allocated may outlive it: in a lease, in a mapping, in another process. It
// is shown as orphaned then, on nobody's account.
//
// Cost: a lease is charged to the client by plain stores (ion/core/account.h); handles are under
// the client's lock. Thread-safe but for moving and destruction; the memory of one handle is mapped
// and accessed by one thread at a time.
#ifndef ION_ION_CLIENT_H_
#define ION_ION_CLIENT_H_

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_info.h"
#include "ion/buffer_of.h"
#include "ion/client_ref.h"
#include "ion/core/account.h"
#include "ion/core/client_state.h"
#include "ion/core/importing.h"
#include "ion/core/refusals.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/request.h"
#include "ion/shared_buffer.h"
#include "ion/slab.h"

namespace ion {

struct ClientOptions {
  std::string_view name = {};
  // The heaps that it may use; its requests' masks are cut to these.
  HeapMask heaps = HeapMask::All();
  // The most bytes of heaps it may hold; none: no bound but the backend's. A buffer counts with its
  // whole pages, from a heap with pools with its whole size class. Threads hold credit: it may be
  // refused early, by up to an eighth of it per thread, unless it is exact.
  std::optional<uint64_t> quota_bytes = std::nullopt;
  bool exact_quota = false;
  // The most buffers that it may have, leased, kept or imported, and idle in pools since; the most
  // handles. None: three quarters of the descriptors that the process may have (RLIMIT_NOFILE),
  // 49,104 at most, so that one client leaves some to others.
  std::optional<uint32_t> max_buffers = std::nullopt;
  std::optional<uint32_t> max_handles = std::nullopt;
  // Trust domain. Clients of one domain may receive each other's unzeroed memory and share a
  // carveout region. Empty: a private domain.
  std::string_view domain = {};
  // If true, buffers recycled within the domain are not zeroed, and their properties do not say
  // `zeroed`. If false, every buffer reads as zero, on heaps whose fresh memory does.
  bool recycle_as_is = false;
};

// Core: internal::ManagerCore of the Manager that made it. A file that names a Manager includes
// ion/manager.h; this header alone is for templates over clients, and is the cheaper one.
template <class Core>
class Client {
 public:
  static constexpr const char* kBackendName = Core::kBackendName;

  // ion_client_create. Not for users: Manager::CreateClient.
  static absl::StatusOr<Client> Create(Core& core, const ClientOptions& options) noexcept {
    const Origin origin{kBackendName, Operation::kClient, options.name};
    if (core.InChild()) return ToStatus(Core::InheritedError(origin));
    if (!core.AtHome()) return ToStatus(Core::OtherLibraryError(origin));
    const uint64_t limit =
        options.quota_bytes.has_value() ? *options.quota_bytes / PageBytes() : Account::kUnlimited;
    const uint64_t credit = options.exact_quota ? 0 : Account::UsualCredit(limit);
    Account account;
    if (Error error = account.Open(origin, limit, credit); !error.ok()) return ToStatus(error);
    std::shared_ptr<ClientIdentity> identity;
    uint64_t domain = 0;
    PoolDomain pools;
    const bool joined = internal::TryWithMemory([&] {
      identity = std::make_shared<ClientIdentity>();
      identity->name = options.name;
      identity->pid = ::getpid();
      identity->most_buffers = options.max_buffers.value_or(internal::UsualCount());
      domain = core.DomainOf(options.domain);
      // The last call that may throw: a client that has joined must leave.
      pools = core.JoinPools(options.domain, options.recycle_as_is);
    });
    if (!joined) return ToStatus(Error(ENOMEM, "operator new", origin));
    pools.trust = domain;
    auto* state =
        new (std::nothrow) State(core, kRefOps, std::move(account), options.heaps, domain, pools,
                                 identity, options.max_handles.value_or(internal::UsualCount()));
    if (state == nullptr) {
      core.LeavePools(pools);
      return ToStatus(Error(ENOMEM, "operator new", origin));
    }
    return Client(state);
  }

  Client(Client&&) noexcept = default;
  Client& operator=(Client&&) noexcept = default;
  // ion_client_destroy: its handles are freed, whatever their count.
  ~Client() = default;

  // The name of its ClientOptions.
  const std::string& name() const noexcept { return state().identity->name; }
  // The process that created it.
  int pid() const noexcept { return state().identity->pid; }
  // The heaps that it may use, as in its ClientOptions.
  HeapMask heaps() const noexcept { return state().asker.heaps; }
  // The bytes that the client is charged; exact while no call is under way.
  uint64_t held_bytes() const noexcept {
    return state().core.home().held(state().asker.account) * PageBytes();
  }

  // ion_alloc. As Manager::Allocate, within this client's mask and quota. RESOURCE_EXHAUSTED
  // (EDQUOT): past the quota; the Status has the figures.
  [[gnu::always_inline]] absl::StatusOr<Buffer> Allocate(
      const Request& request, CallSite where = CallSite::Here()) noexcept {
    return state().core.Allocate(request, state().asker, where);
  }

  // Fills this client's pools with `count` buffers, or fewer if the pools' capacity is smaller.
  // Errors: as Allocate; buffers obtained before the error stay in the pools.
  absl::Status Prefill(const Request& request, uint32_t count,
                       CallSite where = CallSite::Here()) noexcept {
    std::vector<Buffer> taken;  // grows: not every count can be had
    while (taken.size() < count) {
      absl::StatusOr<Buffer> buffer = Allocate(request, where);
      if (!buffer.ok()) return buffer.status();
      if (!internal::TryWithMemory([&] { taken.push_back(*std::move(buffer)); })) {
        return ToStatus(
            Error(ENOMEM, "operator new", {kBackendName, Operation::kAllocate, {}, request.bytes}));
      }
    }
    return absl::OkStatus();
  }

  // The same from one heap, whose type the lease then knows.
  template <HeapId kId>
  absl::StatusOr<BufferOf<typename Core::Heaps::template At<kId>>> Allocate(
      Request request, CallSite where = CallSite::Here()) noexcept {
    using H = typename Core::Heaps::template At<kId>;
    request.heaps = kId;
    absl::StatusOr<Buffer> lease = Allocate(request, where);
    if (!lease.ok()) return lease.status();
    return BufferOf<H>(*std::move(lease), state().core.heaps().template Heap<H>());
  }
  // A lease whose heap was not known before. EINVAL: it is of another; the lease stays as it was.
  template <class H>
  absl::StatusOr<BufferOf<H>> As(Buffer&& lease) noexcept {
    const Block& block = LeaseAccess::BlockOf(lease);
    if (!state().core.Owns(block) || state().core.HeapOf(block) != H::kId) {
      return ToStatus(Error(EINVAL, "the lease is not of this heap",
                            {kBackendName, Operation::kUseHandle, {}, block.bytes},
                            "Manager::HeapOf tells of which"));
    }
    return BufferOf<H>(std::move(lease), state().core.heaps().template Heap<H>());
  }

  // Allocates memory for others to hold, too: Allocate, MakeHandle and Share in one call. It frees
  // itself (ion/shared_buffer.h). As those three; an error leaves nothing behind.
  absl::StatusOr<SharedBuffer> AllocateShared(const Request& request,
                                              CallSite where = CallSite::Here()) noexcept {
    absl::StatusOr<Buffer> lease = Allocate(request, where);
    if (!lease.ok()) return lease.status();
    const uint64_t bytes = lease->bytes();
    const absl::StatusOr<Handle> handle = MakeHandle(*std::move(lease));
    if (!handle.ok()) return handle.status();
    absl::StatusOr<UniqueFd> fd = Share(*handle);
    if (!fd.ok()) {
      state().Free(*handle).IgnoreError();
      return fd.status();
    }
    return SharedBuffer(state(), *handle, bytes, *std::move(fd));
  }
  // `count` of them, or none.
  absl::StatusOr<std::vector<SharedBuffer>> AllocateShared(
      const Request& request, uint32_t count, CallSite where = CallSite::Here()) noexcept {
    std::vector<SharedBuffer> all;  // grows: not every count can be had
    while (all.size() < count) {
      absl::StatusOr<SharedBuffer> buffer = AllocateShared(request, where);
      if (!buffer.ok()) return buffer.status();
      if (!internal::TryWithMemory([&] { all.push_back(*std::move(buffer)); })) {
        return ToStatus(
            Error(ENOMEM, "operator new", {kBackendName, Operation::kAllocate, {}, request.bytes}));
      }
    }
    return all;
  }

  // Makes a handle of a lease, which is empty then. EINVAL: the lease is not of this client; it
  // stays as it was on any error.
  absl::StatusOr<Handle> MakeHandle(Buffer&& lease) noexcept {
    State& self = state();
    Block& block = LeaseAccess::BlockOf(lease);
    const Origin origin{kBackendName, Operation::kKeep, {}, block.bytes};
    if (self.core.InChild()) return ToStatus(Core::InheritedError(origin));
    if (LeaseAccess::TokenOf(lease).account() != self.asker.account.bits()) {
      return ToStatus(Error(EINVAL, "the lease is not of this client", origin,
                            "make it with the client that allocated the lease"));
    }
    Result<BufferIdentity> identity = BufferIdentity();
    if (!self.core.SharesItsDescriptor(block)) {
      identity = self.core.IdentityOf(block);
      if (!identity.ok()) return ToStatus(identity.error());
    }
    std::lock_guard lock(self.mutex);
    if (self.AtMostHandles()) return self.PastHandles(Operation::kKeep);
    if (!self.handles.Reserve()) return ToStatus(Error(ENOMEM, "operator new: a handle", origin));
    // From here on others may hold it: no pool takes it back.
    LeaseAccess::Retire(lease);
    return self.handles.Add(std::move(lease), *identity);
  }

  // The former name of MakeHandle, until 0.3.
  [[deprecated("ion: Client::MakeHandle")]] absl::StatusOr<Handle> Keep(Buffer&& lease) noexcept {
    return MakeHandle(std::move(lease));
  }
  // The former name of Prefill, until 0.3.
  [[deprecated("ion: Client::Prefill")]] absl::Status Reserve(
      const Request& request, uint32_t count, CallSite where = CallSite::Here()) noexcept {
    return Prefill(request, count, where);
  }

  // ion_share: a new descriptor of the memory for somebody else. The memory lives as long as any of
  // its descriptors and mappings do, in whatever process. ENOTSUP: it is a range of a region, whose
  // descriptor would show its neighbours.
  absl::StatusOr<UniqueFd> Share(const Handle& handle) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) -> absl::StatusOr<UniqueFd> {
      Result<UniqueFd> fd = state().Share(entry);
      if (!fd.ok()) return ToStatus(fd.error());
      return *std::move(fd);
    });
  }

  // Returns f(FdRef), an absl::Status, for the memory's own descriptor, which is lent for the call:
  // for a sendmsg or an ioctl by which the kernel takes a reference of its own. Two calls to the
  // kernel fewer than Share, whose errors it returns. Another thread may free the handle meanwhile:
  // the memory stays. No lock is held while f runs.
  template <class F>
  absl::Status Lend(const Handle& handle, F f) {
    typename State::Loan loan;
    const absl::Status lent = state().Lend(handle, loan);
    return lent.ok() ? f(loan.fd()) : lent;
  }

  // The range of the region that the handle's memory is, with a descriptor of the whole region: for
  // a peer that may see all of it. From here on no other trust domain gets memory of that region.
  // EPERM: another has some, or had; or it is physical memory.
  absl::StatusOr<SharedRange> ShareRange(const Handle& handle) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) -> absl::StatusOr<SharedRange> {
      Core& core = state().core;
      Block& block = LeaseAccess::BlockOf(entry.lease);
      Result<UniqueFd> fd = core.ShareRange(block, state().asker.domain);
      if (!fd.ok()) return ToStatus(fd.error());
      if (!core.SharesItsDescriptor(block)) {
        if (Error error = core.KnowAsOwn(block, entry.identity); !error.ok()) {
          return ToStatus(error);
        }
      }
      return SharedRange{*std::move(fd), block.offset, block.bytes};
    });
  }

  // ion_import_fd: returns a handle of memory from elsewhere. The descriptor is copied; `fd` stays
  // the caller's. If this client certainly has a handle of that memory already, it returns the same
  // one, with its count raised, and keeps the descriptor that may be written through. If that is
  // not certain (inode numbers come back on old kernels, and a sandbox may forbid to compare), it
  // returns a new one. Errors: as the backend's Import. Imported memory is charged to no quota,
  // unless this Manager allocated it. Check `Info().bytes` first: reading a sparse memfd from an
  // untrusted sender allocates its pages. Asks no file server, and holds no lock meanwhile.
  absl::StatusOr<Handle> Import(FdRef fd, CallSite where = CallSite::Here()) noexcept {
    State& self = state();
    if (self.core.InChild()) return ToStatus(Core::InheritedError(kImporting));
    if (const Handle next = self.FindNext(fd); next != Handle()) return next;
    // No lock while it is looked at.
    const Result<BufferIdentity> identity = self.core.backend().Identify(fd, Operation::kImport);
    if (!identity.ok()) return ToStatus(identity.error());
    if (const Handle known = self.FindWritable(*identity, fd); known != Handle()) return known;
    return self.Import({.fd = fd, .known = identity->known()}, where);
  }
  // The same of a descriptor that is given away, as one that was received: it is not copied, so two
  // calls to the kernel fewer. Requires: it is close-on-exec, as one of ReceiveFds is; a copy would be,
  // and the memory keeps this one. It is closed at once if the memory has a handle, and after an error
  // (a close may wait for the program that serves a file; no lock is held).
  absl::StatusOr<Handle> Import(UniqueFd fd, CallSite where = CallSite::Here()) noexcept {
    if constexpr (Core::kInspects) {
      State& self = state();
      if (self.core.InChild()) return ToStatus(Core::InheritedError(kImporting));
      const Handle next = self.FindNext(fd.borrow());
      if (next != Handle()) return next;
      const Result<Inspected> seen = self.core.backend().Inspect(fd.borrow());
      if (!seen.ok()) return ToStatus(seen.error());
      const Handle known = self.FindWritable(seen->identity, fd.borrow());
      if (known != Handle()) return known;
      return self.Import({.fd = fd.borrow(), .own = std::move(fd), .seen = *seen}, where);
    } else {
      return Import(fd.borrow(), where);
    }
  }

  // ion_free: drops one count of the handle; with the last the memory goes back, but for mappings
  // of it, which keep it until they end.
  absl::Status Free(const Handle& handle) noexcept { return state().Free(handle); }

  // ion_map_kernel, ion_map_user: as CpuMapping::Of.
  template <MapMode kMode>
  absl::StatusOr<CpuMapping<kMode>> Map(const Handle& handle, MapRange range = {}) noexcept {
    return state().template Map<kMode>(handle, range);
  }

  // Returns the size in bytes, and other facts, of a handle's buffer (ion/buffer_info.h). EINVAL: the
  // handle is not of this client, or was freed.
  absl::StatusOr<BufferInfo> Info(const Handle& handle) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) -> absl::StatusOr<BufferInfo> {
      const Block& block = LeaseAccess::BlockOf(entry.lease);
      return BufferInfo{.bytes = block.bytes,
                        .properties = block.properties(),
                        .heap = state().core.HeapOf(block),
                        .count = entry.count,
                        .heap_name = state().core.heaps().NameOf(block),
                        .stated = state().core.StatedOf(block)};
    });
  }

  // Renames the memory for the kernel's reports. ENOTSUP: it keeps its first name, or is a range of
  // a region.
  absl::Status SetName(const Handle& handle, std::string_view name) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) {
      return ToStatus(state().core.SetName(LeaseAccess::BlockOf(entry.lease), name));
    });
  }

  // A reference to this client that knows no Manager's type (ion/client_ref.h). Requires: the
  // client lives while it is used; it may be moved.
  operator ClientRef() & noexcept {  // NOLINT: a class that holds memory takes one
    return ClientRef(&state(), *state().ref_ops, state().account.id().bits());
  }
  operator ClientRef() && = delete;

  // ION_IOC_CUSTOM: a command of the architecture, as the backend understands it.
  // (A template, because clang 14 instantiates members whose requirement does not hold.)
  template <class C = Core>
  absl::Status Custom(uint32_t command, uint64_t argument) noexcept
    requires(C::kCustoms)
  {
    return ToStatus(state().core.backend().Custom(command, argument));
  }

 private:
  using State = internal::ClientState<Core, ClientRef::Ops>;
  static constexpr Origin kImporting{kBackendName, Operation::kImport};

  // The client of a ClientRef, which does not end it.
  static Client Borrowed(void* client) noexcept {
    return Client(static_cast<State*>(client), [](State*) noexcept {});
  }
  static constexpr ClientRef::Ops kRefOps = {
      .is_open = [](uint64_t id) noexcept { return AccountId::FromBits(id).open(); },
      .allocate =
          [](void* client, const Request& request, CallSite where) noexcept {
            State& self = *static_cast<State*>(client);
            return self.core.Allocate(request, self.asker, where);
          },
      .allocate_shared =
          [](void* client, const Request& request, CallSite where) noexcept {
            return Borrowed(client).AllocateShared(request, where);
          },
      .allocate_many_shared =
          [](void* client, const Request& request, uint32_t count, CallSite where) noexcept {
            return Borrowed(client).AllocateShared(request, count, where);
          },
      .prefill =
          [](void* client, const Request& request, uint32_t count, CallSite where) noexcept {
            return Borrowed(client).Prefill(request, count, where);
          },
      .make_handle =
          [](void* client, Buffer&& lease) noexcept {
            return Borrowed(client).MakeHandle(std::move(lease));
          },
      .share = [](void* client, const Handle& of) noexcept { return Borrowed(client).Share(of); },
      .lend =
          [](void* client, const Handle& of, absl::Status (*f)(void*, FdRef), void* context) {
            return Borrowed(client).Lend(of, [&](FdRef fd) { return f(context, fd); });
          },
      .share_range = [](void* client,
                        const Handle& of) noexcept { return Borrowed(client).ShareRange(of); },
      .import = [](void* client, FdRef fd,
                   CallSite where) noexcept { return Borrowed(client).Import(fd, where); },
      .import_own =
          [](void* client, UniqueFd fd, CallSite where) noexcept {
            return Borrowed(client).Import(std::move(fd), where);
          },
      .free = [](void* client, const Handle& of) noexcept { return Borrowed(client).Free(of); },
      .map_read_only =
          [](void* client, const Handle& of, MapRange range) noexcept {
            return Borrowed(client).template Map<MapMode::kReadOnly>(of, range);
          },
      .map_writable =
          [](void* client, const Handle& of, MapRange range) noexcept {
            return Borrowed(client).template Map<MapMode::kWritable>(of, range);
          },
      .info = [](void* client, const Handle& of) noexcept { return Borrowed(client).Info(of); },
      .set_name = [](void* client, const Handle& of,
                     std::string_view name) noexcept { return Borrowed(client).SetName(of, name); },
      .name = [](void* client) noexcept -> const std::string& {
        return static_cast<State*>(client)->identity->name;
      },
      .heaps = [](void* client) noexcept { return static_cast<State*>(client)->asker.heaps; },
      .held_bytes = [](void* client) noexcept { return Borrowed(client).held_bytes(); },
  };

  // Ended by the library that made it.
  using End = void (*)(State*) noexcept;
  explicit Client(State* state) noexcept
      : state_(state, [](State* at) noexcept {
          at->Close();
          at->Unref();
        }) {}
  Client(State* state, End end) noexcept : state_(state, end) {}

  State& state() const noexcept {
    ION_CHECK(state_ != nullptr, "a Client was used after it was moved from");
    return *state_;
  }
  template <class F>
  std::invoke_result_t<F, HandleTable::Entry&> With(const Handle& handle, F f) noexcept {
    return state().With(handle, f);
  }

  std::unique_ptr<State, End> state_;
};

}  // namespace ion

#endif  // ION_ION_CLIENT_H_
