// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/client_state.h
//
// ClientState: the inside of a Client: its account and its handles, under one lock. It lives as
// long as the Client or a SharedBuffer of it.
//
// Not for users.
//
// Cost: that of the table of handles (ion/handle.h). Thread-safe.
#ifndef ION_ION_CORE_CLIENT_STATE_H_
#define ION_ION_CORE_CLIENT_STATE_H_

#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_identity.h"
#include "ion/core/account.h"
#include "ion/core/asker.h"
#include "ion/core/client_list.h"
#include "ion/core/importing.h"
#include "ion/core/refusals.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/shared_buffer.h"
#include "ion/slab.h"

namespace ion::internal {

// RefOps: the functions that a ClientRef calls.
template <class Core, class RefOps>
struct ClientState : SharedBufferOwner {
  static constexpr const char* kBackendName = Core::kBackendName;

  ClientState(Core& of, const RefOps& ops, Account&& opened, HeapMask heaps, uint64_t domain,
              PoolDomain pools, std::shared_ptr<ClientIdentity> who,
              uint32_t handles_bound) noexcept
      : SharedBufferOwner(kSharedBufferOps),
        ref_ops(&ops),
        core(of),
        account(std::move(opened)),
        identity(std::move(who)),
        asker{account.id(), heaps,   heaps & of.heaps().bound(), heaps & of.heaps().usual(), domain,
              pools,        identity},
        most_handles(handles_bound),
        handles(account.id().bits()),
        listed{account.id().bits(), identity} {
    core.AddClient(listed);
  }
  ~ClientState() { core.Drop(); }

  // The client has ended.
  void Close() noexcept {
    SetClosed();
    // In a child made by fork: the locks and the accounts are the parent's.
    const bool ours = !core.InChild();
    uint32_t at = 0;
    for (;;) {
      std::unique_lock lock(mutex, std::defer_lock);
      if (ours) lock.lock();
      Buffer lease = handles.RemoveNext(at);
      if (ours) lock.unlock();
      if (!lease.valid()) break;
      Release(std::move(lease));
    }
    if (!ours) return;
    identity->open.store(false, std::memory_order_relaxed);
    core.ForgetClient(listed);
    account.Close();
    core.LeavePools(asker.pools);
  }

  // f(entry) under the lock, or the reason why there is no entry.
  template <class F>
  std::invoke_result_t<F, HandleTable::Entry&> With(const Handle& handle, F f) noexcept {
    // Before the lock: in a child it may be held by a thread that is not there.
    if (core.InChild()) {
      return ToStatus(Core::InheritedError({kBackendName, Operation::kUseHandle}));
    }
    std::lock_guard lock(mutex);
    HandleTable::Entry* entry = handles.Find(handle);
    if (entry == nullptr) return ToStatus(handles.Refusal(handle, kBackendName));
    return f(*entry);
  }
  absl::Status Free(const Handle& handle) noexcept {
    Buffer last;
    absl::Status status = With(handle, [&](HandleTable::Entry& entry) {
      if (--entry.count == 0) last = handles.Remove(entry);
      return absl::OkStatus();
    });
    // Without the lock.
    Release(std::move(last));
    return status;
  }
  template <MapMode kMode>
  absl::StatusOr<CpuMapping<kMode>> Map(const Handle& handle, MapRange range) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) {
      return CpuMapping<kMode>::Of(entry.lease, range);
    });
  }

  // A range of a region is a buffer of its own once it is shared, and known from then on.
  Result<UniqueFd> Share(HandleTable::Entry& entry) noexcept {
    Block& block = LeaseAccess::BlockOf(entry.lease);
    Result<UniqueFd> fd = core.Share(block);
    if (!fd.ok()) return fd;
    if (!entry.identity.known() && core.SharesItsDescriptor(block)) {
      const Result<BufferIdentity> made = core.backend().Identify(fd->borrow(), Operation::kShare);
      if (!made.ok()) return made.error();
      handles.SetIdentity(entry, *made);
    }
    if (Error error = core.KnowAsOwn(block, entry.identity); !error.ok()) return error;
    return fd;
  }

  // A count of a handle for as long as its memory's own descriptor is lent, or a copy of it.
  class Loan {
   public:
    Loan() = default;
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    ~Loan() {
      if (of_ != nullptr) of_->Free(handle_).IgnoreError();
    }
    FdRef fd() const noexcept { return fd_; }

   private:
    friend ClientState;
    ClientState* of_ = nullptr;
    Handle handle_;
    FdRef fd_;
    UniqueFd copy_;
  };
  absl::Status Lend(const Handle& handle, Loan& loan) noexcept {
    return With(handle, [&](HandleTable::Entry& entry) {
      Block& block = LeaseAccess::BlockOf(entry.lease);
      // An import may put a descriptor that may be written through in the place of one that may not.
      const bool stays = block.writable && entry.count != UINT32_MAX;
      if (!stays || core.SharesItsDescriptor(block)) {
        Result<UniqueFd> copy = Share(entry);
        if (!copy.ok()) return ToStatus(copy.error());
        loan.copy_ = *std::move(copy);
        loan.fd_ = loan.copy_.borrow();
        return absl::OkStatus();
      }
      if (Error error = core.KnowAsOwn(block, entry.identity); !error.ok()) return ToStatus(error);
      loan.of_ = this;
      loan.handle_ = handles.AddReference(entry);
      loan.fd_ = FdRef(block.fd);
      return absl::OkStatus();
    });
  }

  // The handle's entry of the buffer that a descriptor leads to; nullptr: there is none, for
  // sure. Under the lock.
  HandleTable::Entry* Find(const BufferIdentity& buffer, FdRef fd) noexcept {
    return handles.FindBuffer(buffer, [&](const HandleTable::Entry& entry) {
      const Block& block = LeaseAccess::BlockOf(entry.lease);
      if (!core.SharesItsDescriptor(block)) return core.AreOne(FdRef(block.fd), fd);
      const Result<UniqueFd> share = core.Share(block);
      return share.ok() && core.AreOne(share->borrow(), fd);
    });
  }
  // A handle of the memory, with its count raised, if the client has one of a descriptor that may be
  // written through; else the empty Handle.
  Handle FindWritable(const BufferIdentity& buffer, FdRef fd) noexcept {
    std::lock_guard lock(mutex);
    HandleTable::Entry* const entry = Find(buffer, fd);
    if (entry == nullptr || !LeaseAccess::BlockOf(entry->lease).writable) return {};
    handles.Came(*entry, /*known=*/true);
    return handles.AddReference(*entry);
  }
  // The same, if the descriptor leads to the memory that comes next in order: a single question to
  // the kernel, which asks no file server.
  Handle FindNext(FdRef fd) noexcept {
    if constexpr (Core::kInspects) {
      std::lock_guard lock(mutex);
      HandleTable::Entry* const next = handles.Expected();
      if (next == nullptr) return {};
      const Block& block = LeaseAccess::BlockOf(next->lease);
      if (!block.writable || core.SharesItsDescriptor(block) ||
          !core.backend().IsSameFile(FdRef(block.fd), fd)) {
        handles.LoseOrder();
        return {};
      }
      handles.Came(*next, /*known=*/true);
      return handles.AddReference(*next);
    }
    return {};
  }
  // Imports memory of which no handle was found.
  absl::StatusOr<Handle> Import(ImportSource source, CallSite where) noexcept {
    Result<Imported> imported = core.home().import(core, source, asker, where);
    if (imported.error().code() == EDQUOT && AtMostBuffers(asker)) {
      return PastBuffers(Operation::kImport, kBackendName, asker);
    }
    if (imported.error().code() == EDQUOT) {
      return PastQuota(Operation::kImport, kBackendName, asker, imported.error().bytes());
    }
    if (!imported.ok()) return ToStatus(imported.error());
    absl::StatusOr<Handle> handle = Adopt(*imported);
    Release(std::move(imported->lease));
    return handle;
  }
  // Puts an import into the table. The caller releases the rest of `imported`, without the lock.
  absl::StatusOr<Handle> Adopt(Imported& imported) noexcept {
    const Block& block = LeaseAccess::BlockOf(imported.lease);
    std::lock_guard lock(mutex);
    if (HandleTable::Entry* entry = Find(imported.identity, FdRef(block.fd)); entry != nullptr) {
      // Existing mappings stay as they are.
      if (block.writable && !LeaseAccess::BlockOf(entry->lease).writable) {
        std::swap(entry->lease, imported.lease);
      }
      return handles.AddReference(*entry);
    }
    if (AtMostHandles()) return PastHandles(Operation::kImport);
    if (!handles.Reserve()) {
      return ToStatus(Error(ENOMEM, "operator new: a handle", {kBackendName, Operation::kImport}));
    }
    const Handle added = handles.Add(std::move(imported.lease), imported.identity);
    handles.Came(*handles.Find(added), /*known=*/false);
    return added;
  }

  bool AtMostHandles() const noexcept { return handles.in_use() >= most_handles; }
  absl::Status PastHandles(Operation operation) const noexcept {
    return PastCount(operation, kBackendName, asker, kPastHandles, handles.in_use(), most_handles);
  }

  // Releases the memory of a handle. Empty: no effect.
  void Release(Buffer lease) noexcept {
    if (!lease.valid()) return;
    core.MarkOrphaned(LeaseAccess::BlockOf(lease));
    LeaseAccess::Orphan(std::move(lease));
  }

  // Of the library that made the client: these functions know its accounts.
  const RefOps* const ref_ops;
  Core& core;
  Account account;
  const std::shared_ptr<ClientIdentity> identity;
  const Asker asker;
  const uint32_t most_handles;
  std::mutex mutex;
  HandleTable handles;
  ClientList::Entry listed;

 private:
  static ClientState& StateOf(SharedBufferOwner& owner) noexcept {
    return static_cast<ClientState&>(owner);
  }
  static constexpr SharedBufferOwner::Ops kSharedBufferOps = {
      .free = [](SharedBufferOwner& owner,
                 const Handle& handle) noexcept { StateOf(owner).Free(handle).IgnoreError(); },
      .map_read_only =
          [](SharedBufferOwner& owner, const Handle& handle, MapRange range) noexcept {
            return StateOf(owner).template Map<MapMode::kReadOnly>(handle, range);
          },
      .map_writable =
          [](SharedBufferOwner& owner, const Handle& handle, MapRange range) noexcept {
            return StateOf(owner).template Map<MapMode::kWritable>(handle, range);
          },
      .destroy = [](SharedBufferOwner& owner) noexcept { delete &StateOf(owner); },
  };
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_CLIENT_STATE_H_
