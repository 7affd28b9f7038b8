// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/client.h
//
// Client: one user of a Manager, as ION's clients were of /dev/ion: a name for the reports, a mask
// of heaps that it may use, a quota, and the handles of what it keeps, shares and imports. They die
// with it.
//
// Example:
//   auto client = manager.CreateClient({.name = "camera", .quota_bytes = 256_MiB});
//   auto frame = client->Allocate({.bytes = 8_MiB});       // a lease: this process alone has it
//   auto handle = client->Keep(*std::move(frame));         // from here on others may
//   auto fd = client->Share(*handle);                      // for another process, or a driver
//   auto theirs = client->Import(received.borrow());       // the same handle where it is our own
//   auto mapping = client->Map<ion::MapMode::kReadOnly>(*theirs);
//
// A lease is for what stays here: it is not counted, and nobody else may keep its descriptor. What
// keeps a descriptor past a call (a V4L2 queue, another process) needs a handle.
//
// Memory that a client allocated may outlive it: in a lease, in a mapping, in another process. It
// is shown as orphaned then, on nobody's account.
//
// Cost: a lease is charged to the client by plain stores (ion/account.h); handles are under the
// client's lock. Thread-safe but for moving and destruction; the memory of one handle is mapped and
// accessed by one thread at a time.
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
#include "ion/account.h"
#include "ion/asker.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_of.h"
#include "ion/bytes.h"
#include "ion/check.h"
#include "ion/cpu_mapping.h"
#include "ion/error.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager_core.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/status.h"

namespace ion {

struct ClientOptions {
  std::string_view name = {};
  // The heaps that it may use; its requests' masks are cut to these.
  HeapMask heaps = HeapMask::All();
  // The most bytes of heaps it may hold; none: no bound but the backend's. Threads hold credit: it
  // may be refused early, by up to an eighth of it per thread, unless it is exact.
  std::optional<uint64_t> quota_bytes = std::nullopt;
  bool exact_quota = false;
  // Whom it trusts with its memory's former content and its neighbours: clients of the same domain.
  // None: nobody.
  std::string_view domain = {};
  // Takes recycled memory with what its own domain left in it, and its buffers' properties do not
  // say `zeroed`; else every buffer reads as zero that its heap's fresh memory does.
  bool recycle_as_is = false;
};

// A range of a descriptor that leads to more.
struct SharedRange {
  UniqueFd fd;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// What is behind a handle.
struct BufferInfo {
  uint64_t bytes = 0;
  Properties properties;
  std::optional<HeapId> heap;  // none: imported
  uint32_t count = 0;          // Frees that it takes
};

// Core: internal::ManagerCore of the Manager that made it.
template <class Core>
class Client {
 public:
  static constexpr const char* kBackendName = Core::kBackendName;

  // ion_client_create. Not for users: Manager::CreateClient.
  static absl::StatusOr<Client> Create(Core& core, const ClientOptions& options) noexcept {
    const Origin origin{kBackendName, Operation::kClient, options.name};
    if (core.InChild()) return ToStatus(Core::InheritedError(origin));
    const uint64_t limit =
        options.quota_bytes.has_value() ? *options.quota_bytes / PageBytes() : Account::kUnlimited;
    const uint64_t credit = options.exact_quota ? 0 : Account::UsualCredit(limit);
    Account account;
    if (Error error = account.Open(origin, limit, credit); !error.ok()) return ToStatus(error);
    auto identity = std::make_shared<ClientIdentity>();
    identity->name = options.name;
    identity->pid = ::getpid();
    auto* state = new (std::nothrow)
        State(core, std::move(account), options.heaps, core.DomainOf(options.domain),
              core.pool_domains.Join(options.domain, options.recycle_as_is), identity);
    if (state == nullptr) return ToStatus(Error(ENOMEM, "operator new", origin));
    return Client(state);
  }

  Client(Client&&) noexcept = default;
  Client& operator=(Client&&) noexcept = default;
  // ion_client_destroy: its handles are freed, whatever their count.
  ~Client() = default;

  const std::string& name() const noexcept { return state().identity->name; }
  int pid() const noexcept { return state().identity->pid; }
  HeapMask heaps() const noexcept { return state().asker.heaps; }
  // What it is charged; exact while no call is under way.
  uint64_t held_bytes() const noexcept { return state().asker.account.held() * PageBytes(); }

  // ion_alloc. As Manager::Allocate, within this client's mask and quota. RESOURCE_EXHAUSTED
  // (EDQUOT): past the quota; the Status has the figures.
  [[gnu::always_inline]] absl::StatusOr<Buffer> Allocate(
      const Request& request, CallSite where = CallSite::Here()) noexcept {
    return state().core.Allocate(request, state().asker, where);
  }

  // Takes `count` buffers and gives them back, so that so many lie in its pools for later, or as
  // many as those may hold. As Allocate; what it had until an error stays in the pools.
  absl::Status Reserve(const Request& request, uint32_t count, CallSite where = CallSite::Here()) {
    std::vector<Buffer> taken;  // grows: not every count can be had
    while (taken.size() < count) {
      absl::StatusOr<Buffer> buffer = Allocate(request, where);
      if (!buffer.ok()) return buffer.status();
      taken.push_back(*std::move(buffer));
    }
    return absl::OkStatus();
  }

  // The same from one heap, whose type the lease then knows.
  template <HeapId kId>
  absl::StatusOr<BufferOf<typename Core::template HeapAt<kId>>> Allocate(
      Request request, CallSite where = CallSite::Here()) noexcept {
    using H = typename Core::template HeapAt<kId>;
    request.heaps = kId;
    absl::StatusOr<Buffer> lease = Allocate(request, where);
    if (!lease.ok()) return lease.status();
    return BufferOf<H>(*std::move(lease), state().core.template Heap<H>());
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
    return BufferOf<H>(std::move(lease), state().core.template Heap<H>());
  }

  // Makes a handle of a lease, which is empty then. EINVAL: the lease is not of this client; it
  // stays as it was on any error.
  absl::StatusOr<Handle> Keep(Buffer&& lease) noexcept {
    State& self = state();
    Block& block = LeaseAccess::BlockOf(lease);
    const Origin origin{kBackendName, Operation::kKeep, {}, block.bytes};
    if (self.core.InChild()) return ToStatus(Core::InheritedError(origin));
    if (LeaseAccess::TokenOf(lease).account() != self.asker.account.bits()) {
      return ToStatus(Error(EINVAL, "the lease is not of this client", origin,
                            "keep it with the client that allocated it"));
    }
    Result<BufferIdentity> identity = BufferIdentity();
    if (!self.core.SharesItsDescriptor(block)) {
      identity = self.core.backend.Identify(FdRef(block.fd), Operation::kKeep);
      if (!identity.ok()) return ToStatus(identity.error());
    }
    std::lock_guard lock(self.mutex);
    if (!self.handles.Reserve()) return ToStatus(Error(ENOMEM, "operator new: a handle", origin));
    // From here on others may hold it: no pool takes it back.
    LeaseAccess::Retire(lease);
    return self.handles.Add(std::move(lease), *identity);
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

  // The range of the region that the handle's memory is, with a descriptor of the whole region: for
  // a peer that may see all of it. From here on no other trust domain gets memory of that region.
  // EPERM: another has some, or had; or it is physical memory.
  absl::StatusOr<SharedRange> ShareRange(const Handle& handle) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) -> absl::StatusOr<SharedRange> {
      const Block& block = LeaseAccess::BlockOf(entry.lease);
      Result<UniqueFd> fd = state().core.ShareRange(block, state().asker.domain);
      if (!fd.ok()) return ToStatus(fd.error());
      return SharedRange{*std::move(fd), block.offset, block.bytes};
    });
  }

  // ion_import_fd: a handle of somebody else's memory; the descriptor is copied, `fd` stays the
  // caller's. Where this client has a handle of that memory already, the same one, with its count
  // raised. What a backend takes, and what it refuses, stands with its Import. The memory is on
  // nobody's account: look at its bytes before you read what a stranger sent (pages of a memfd are
  // made as they are read).
  absl::StatusOr<Handle> Import(FdRef fd, CallSite where = CallSite::Here()) noexcept {
    State& self = state();
    const Origin origin{kBackendName, Operation::kImport};
    if (self.core.InChild()) return ToStatus(Core::InheritedError(origin));
    std::lock_guard lock(self.mutex);
    Result<BufferIdentity> identity = self.core.backend.Identify(fd, Operation::kImport);
    if (!identity.ok()) return ToStatus(identity.error());
    if (const Handle handle = self.handles.AddReference(*identity); handle != Handle()) {
      return handle;
    }
    if (!self.handles.Reserve()) {
      return ToStatus(Error(ENOMEM, "operator new: a handle", origin));
    }
    Result<Buffer> lease = self.core.Import(fd, self.asker, where);
    if (!lease.ok()) return ToStatus(lease.error());
    // Again: what legacy ION knows a buffer by is only lasting once the lease holds it.
    identity = self.core.backend.Identify(lease->fd(), Operation::kImport);
    if (!identity.ok()) return ToStatus(identity.error());
    return self.handles.Add(*std::move(lease), *identity);
  }

  // ion_free: drops one count of the handle; with the last the memory goes back, but for mappings
  // of it, which keep it until they end.
  absl::Status Free(const Handle& handle) noexcept {
    Buffer last;
    return With(handle, [&](HandleTable::Entry& entry) {
      if (--entry.count == 0) last = state().handles.Remove(entry);
      state().Release(std::move(last));
      return absl::OkStatus();
    });
  }

  // ion_map_kernel, ion_map_user: as CpuMapping::Of.
  template <MapMode kMode>
  absl::StatusOr<CpuMapping<kMode>> Map(const Handle& handle, MapRange range = {}) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) {
      return CpuMapping<kMode>::Of(entry.lease, range);
    });
  }

  absl::StatusOr<BufferInfo> Info(const Handle& handle) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) -> absl::StatusOr<BufferInfo> {
      const Block& block = LeaseAccess::BlockOf(entry.lease);
      return BufferInfo{.bytes = block.bytes,
                        .properties = block.properties(),
                        .heap = state().core.HeapOf(block),
                        .count = entry.count};
    });
  }

  // Renames the memory for the kernel's reports. ENOTSUP: it keeps its first name, or is a range of
  // a region.
  absl::Status SetName(const Handle& handle, std::string_view name) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) {
      return ToStatus(state().core.SetName(LeaseAccess::BlockOf(entry.lease), name));
    });
  }

  // ION_IOC_CUSTOM: a command of the architecture, as the backend understands it.
  // (A template, because clang 14 instantiates members whose requirement does not hold.)
  template <class C = Core>
  absl::Status Custom(uint32_t command, uint64_t argument) noexcept requires(C::kCustoms) {
    return ToStatus(state().core.backend.Custom(command, argument));
  }

 private:
  struct State {
    State(Core& of, Account&& opened, HeapMask heaps, uint64_t domain, PoolDomain pools,
          std::shared_ptr<ClientIdentity> who) noexcept
        : core(of),
          account(std::move(opened)),
          identity(std::move(who)),
          asker{account.id(), heaps, heaps & of.bound, heaps & of.usual, domain, pools, identity},
          handles(account.id().bits()) {
      core.owners.fetch_add(1, std::memory_order_relaxed);
    }
    ~State() {
      // In a child made by fork: the locks and the accounts are the parent's.
      const bool ours = !core.InChild();
      handles.ForEach([&](HandleTable::Entry& entry) { Release(handles.Remove(entry)); });
      if (!ours) return;
      identity->open.store(false, std::memory_order_relaxed);
      account.Close();
      core.LeavePools(asker.pools);
      core.Drop();
    }

    // A range of a region is a buffer of its own once it is shared, and known from then on.
    Result<UniqueFd> Share(HandleTable::Entry& entry) noexcept {
      const Block& block = LeaseAccess::BlockOf(entry.lease);
      Result<UniqueFd> fd = core.Share(block);
      if (!fd.ok() || entry.identity.known() || !core.SharesItsDescriptor(block)) return fd;
      const Result<BufferIdentity> made = core.backend.Identify(fd->borrow(), Operation::kShare);
      if (!made.ok()) return made.error();
      entry.identity = *made;
      return fd;
    }

    // What a handle stood for. Empty: nothing.
    void Release(Buffer lease) noexcept {
      if (!lease.valid()) return;
      const Block& block = LeaseAccess::BlockOf(lease);
      if (!core.InChild()) core.blocks.Amend(block, [](BlockNote& note) { note.orphaned = true; });
      LeaseAccess::Orphan(std::move(lease));
    }

    Core& core;
    Account account;
    const std::shared_ptr<ClientIdentity> identity;
    const internal::Asker asker;
    std::mutex mutex;
    HandleTable handles;
  };

  explicit Client(State* state) noexcept : state_(state) {}

  State& state() const noexcept {
    ION_CHECK(state_ != nullptr, "a Client was used after it was moved from");
    return *state_;
  }
  // f(entry) under the lock, or why there is none.
  template <class F>
  std::invoke_result_t<F, HandleTable::Entry&> With(const Handle& handle, F f) noexcept {
    State& self = state();
    // Before the lock: in a child it may be held by a thread that is not there.
    if (self.core.InChild()) {
      return ToStatus(Core::InheritedError({kBackendName, Operation::kUseHandle}));
    }
    std::lock_guard lock(self.mutex);
    HandleTable::Entry* entry = self.handles.Find(handle);
    if (entry == nullptr) return ToStatus(self.handles.Refusal(handle, kBackendName));
    return f(*entry);
  }

  std::unique_ptr<State> state_;
};

}  // namespace ion

#endif  // ION_ION_CLIENT_H_
