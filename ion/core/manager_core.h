// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/manager_core.h
//
// ManagerCore: the common part of a Manager, its clients and their leases: the backend, the heaps,
// the blocks. Lives until the last of them has gone.
//
// Not for users.
//
// Cost: the walk is a fold over the heaps; an allocation is one call of the backend. Thread-safe.
#ifndef ION_ION_CORE_MANAGER_CORE_H_
#define ION_ION_CORE_MANAGER_CORE_H_

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fork_mark.h"
#include "ion/base/no_cancel.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_identity.h"
#include "ion/core/account.h"
#include "ion/core/allocation.h"
#include "ion/core/asker.h"
#include "ion/core/client_list.h"
#include "ion/core/heap_set.h"
#include "ion/core/importing.h"
#include "ion/core/manager_report.h"
#include "ion/core/own_memory.h"
#include "ion/core/pool_bounds.h"
#include "ion/core/reclaimer.h"
#include "ion/core/recycling_core.h"
#include "ion/core/refusals.h"
#include "ion/frame_shape.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/pending_fences.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion::internal {

static_assert(AccountId::kFreeBits == LeaseToken::kHeapBits + LeaseToken::kPoolBits);

// Each of `Elements` is a heap, or one with a recycler over it (Recycled, ion/recycler.h).
template <class Order, Backend B, class... Elements>
class ManagerCore {
 public:
  using Heaps = HeapSet<Order, B, Elements...>;
  static constexpr const char* kBackendName = B::kName;
  static constexpr bool kCustoms = B::kCaps.customs;
  static constexpr bool kInspects = B::kCaps.inspects;

  // `bounds`: those of each heap's pools, by place.
  ManagerCore(B&& opened, const PoolBoundsOf<Elements...>& bounds) noexcept
      : backend_(std::move(opened)), blocks_(&kOps, this, &mark_), pool_bounds_(bounds) {
    heaps_.Bind(Opener{*this});
    heaps_.UpdateMasks(nobody_);
  }

  B& backend() noexcept { return backend_; }
  const B& backend() const noexcept { return backend_; }
  const Heaps& heaps() const noexcept { return heaps_; }
  // On whose behalf the Manager itself asks.
  const Asker& nobody() const noexcept { return nobody_; }

  // Functions that must run in the library that made us: with hidden visibility its threads' credit
  // and magazines are its own. Another library that was handed a Manager or a client calls by
  // these; unless it does, its threads have no state that is taken for ours.
  struct Home {
    absl::StatusOr<Buffer> (*allocate)(ManagerCore&, const Request&, const Asker&,
                                       CallSite) noexcept;
    Result<Imported> (*import)(ManagerCore&, ImportSource&, const Asker&, CallSite) noexcept;
    uint64_t (*held)(AccountId) noexcept;
    uint64_t (*trim)(ManagerCore&, uint64_t, GiveBack) noexcept;
    void (*tick)(ManagerCore&) noexcept;
    void (*abandon)(ManagerCore&) noexcept;
    Report (*report)(ManagerCore&);
  };
  const Home& home() const noexcept { return *home_; }
  bool AtHome() const noexcept { return statics_ == &AccountStatics::slots; }
  static Error OtherLibraryError(const Origin& origin) noexcept {
    return Error(EPERM, "the Manager is another library's, of hidden visibility", origin,
                 "call the library that opened it; a client may be handed on");
  }
  // A child made by fork has copies of all state and of the locks: it closes its own copy of an
  // inherited descriptor, and does nothing else.
  bool InChild() const noexcept { return mark_.InChild(); }
  static Error InheritedError(const Origin& origin) noexcept {
    return Error(EPERM, "the Manager is the parent's", origin,
                 "open one in the child: inherited buffers can only be destroyed there");
  }

  // --- clients -----------------------------------------------------------------------------------

  // The trust domain of this name; a new one for nobody else where there is none.
  uint64_t DomainOf(std::string_view name) {
    std::lock_guard lock(domains_mutex_);
    if (name.empty()) return ++last_domain_;
    const auto [at, fresh] = domains_.try_emplace(std::string(name), last_domain_ + 1);
    if (fresh) ++last_domain_;
    return at->second;
  }
  // The pools of one more client of this domain, until LeavePools.
  PoolDomain JoinPools(std::string_view domain, bool as_is) {
    return recycling_.Join(domain, as_is);
  }
  void LeavePools(PoolDomain domain) noexcept { recycling_.Leave(domain); }
  // A client keeps us alive, until Drop.
  void AddClient(ClientList::Entry& entry) noexcept {
    clients_.Add(entry);
    owners_.fetch_add(1, std::memory_order_relaxed);
  }
  // Removes a client. Its leases that came from a pool stay its own for ever.
  void ForgetClient(ClientList::Entry& entry) noexcept {
    blocks_.SetHolders(entry.client, [&](const Block& block, const BlockNote& note) {
      return note.client != entry.client && LeaseAccess::LastOf(block).account() == entry.account;
    });
    clients_.Remove(entry);
  }
  void Drop() noexcept {
    // In a child the others that hold us may have been other threads.
    if (InChild()) return;
    if (owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // --- memory ------------------------------------------------------------------------------------

  // On the asker's account, from the heaps that both want. Strict: a heap's pool, then its kernel,
  // then the next heap.
  [[gnu::always_inline]] absl::StatusOr<Buffer> Allocate(const Request& request, const Asker& asker,
                                                         CallSite where) noexcept {
    if constexpr (kRecycles) {
      if constexpr (B::kCaps.frames) {
        if (!request.frame.empty() && heaps_.MayMakeFrames(request, asker)) {
          return AllocateSlow(request, asker, where);
        }
      }
      LeaseToken token;
      Block* block = recycling_.template Acquire<From::kHand>(request, asker, token);
      if (block != nullptr) [[likely]]
        return LeaseAccess::Make(block, token);
      return AllocateFromDepot(request, asker, where);
    }
    return AllocateSlow(request, asker, where);
  }
  bool Owns(const Block& block) const noexcept { return SlabOf(block).owner == this; }
  std::optional<HeapId> HeapOf(const Block& block) const noexcept {
    if (block.heap == kImported) return std::nullopt;
    return Heaps::kIds[block.heap];
  }

  static bool SharesItsDescriptor(const Block& block) noexcept {
    return Heaps::SharesItsDescriptor(block);
  }
  // A descriptor of the block and no more.
  Result<UniqueFd> Share(const Block& block) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Result<UniqueFd> {
      if constexpr (H::kCaps.shares) return heap.Share(block);
      return backend_.Share(block);
    });
  }
  Error SetName(const Block& block, std::string_view name) noexcept {
    if (InChild()) return InheritedError({B::kName, Operation::kName, {}, block.bytes});
    if (!SharesItsDescriptor(block)) return backend_.SetName(block, name);
    return Error(ENOTSUP, "the buffer shares its descriptor with others of its region",
                 {B::kName, Operation::kName, {}, block.bytes});
  }
  // Returns a descriptor that leads to more than the block, if only `domain` has memory in the
  // region; from then on no other domain gets any.
  Result<UniqueFd> ShareRange(const Block& block, uint64_t domain) noexcept {
    const Origin origin{B::kName, Operation::kShare, {}, block.bytes};
    Error error;
    heaps_.With(block, [&]<class H>(H&) {
      if (!H::kCaps.shares) return;
      if (H::kCaps.knows_phys) {
        error = Error(EPERM, "a descriptor of physical memory is never shared", origin);
      } else if (!heaps_.region(block.heap).Seal(domain)) {
        error = Error(EPERM, "several trust domains have memory in this region", origin,
                      "share it by Share, from a carveout over a ComposedRegion");
      }
    });
    if (!error.ok()) return error;
    return backend_.Share(block);
  }
  // The identity of a block's memory. The kernel is asked once of a block that others may hold.
  Result<BufferIdentity> IdentityOf(const Block& block) noexcept {
    BufferIdentity known;
    if (block.Marked(Block::kKnown)) {
      blocks_.Amend(block, [&](const BlockNote& note) { known = note.identity; });
    }
    if (known.known()) return known;
    return backend_.Identify(FdRef(block.fd), Operation::kKeep);
  }
  // Others may hold a block of ours from here on.
  Error KnowAsOwn(Block& block, const BufferIdentity& identity) noexcept {
    if (block.foreign || !identity.known() || block.Marked(Block::kKnown)) return {};
    const uint64_t bytes = block.bytes;
    bool known = true;
    // Under the table's lock, as an import that finds the block lent does the same.
    blocks_.Amend(block, [&](BlockNote& note) {
      if (block.Marked(Block::kKnown)) return;
      known = own_.Shared(identity, bytes, !SharesItsDescriptor(block));
      if (!known) return;
      note.identity = identity;
      block.Mark(Block::kKnown);
    });
    if (known) return {};
    return Error(ENOMEM, "operator new: a share", {B::kName, Operation::kShare, {}, bytes});
  }
  // Returns true if two descriptors, whose identities may be equal, certainly lead to one buffer.
  bool AreOne(FdRef a, FdRef b) const noexcept {
    if constexpr (B::kCaps.compares) return backend_.SameBuffer(a, b);
    return true;
  }
  // Of a block of the backend's own: a range of a region is no frame.
  StatedFrame StatedOf(const Block& block) const noexcept {
    if constexpr (B::kCaps.frames) {
      if (!SharesItsDescriptor(block)) return backend_.StatedOf(block);
    }
    return {};
  }
  void ShowCounts(const Block& block, std::shared_ptr<const SharedSyncCounts> counts) noexcept {
    if (InChild()) return;
    blocks_.Amend(block, [&](BlockNote& note) { note.counts.swap(counts); });
  }
  // Shows a block as an orphan, if its lease outlives its client.
  void MarkOrphaned(const Block& block) noexcept {
    if (!InChild()) blocks_.Amend(block, [](BlockNote& note) { note.orphaned = true; });
  }
  Result<ReclaimerErrors> StartReclaimer(const ReclaimerOptions& options) noexcept {
    const Origin origin{B::kName, Operation::kOpen};
    if (InChild()) return InheritedError(origin);
    if (!AtHome()) return OtherLibraryError(origin);
    std::lock_guard lock(reclaimer_mutex_);
    if (reclaimer_ != nullptr) return Error(EALREADY, "a reclaimer is already running", origin);
    const Reclaimer<>::Callbacks callbacks{
        .context = this,
        .tick = [](void* core) noexcept { Of(core).Tick(); },
        .reclaim = [](void* core,
                      uint64_t bytes) noexcept { Of(core).Trim(bytes, GiveBack::kPressure); }};
    reclaimer_.reset(new (std::nothrow) Reclaimer<>(callbacks));
    if (reclaimer_ == nullptr) return Error(ENOMEM, "operator new: a reclaimer", origin);
    Result<ReclaimerErrors> started = reclaimer_->Start(options);
    if (!started.ok()) reclaimer_.reset();
    return started;
  }

 private:
  template <class Core>
  friend class Allocation;
  template <class Core>
  friend class Importing;
  template <class Core>
  friend Report MakeReport(Core& core);
  template <class Core>
  friend void PrintMapped(Core& core, const Block& block) noexcept;

  using Recycling = RecyclingCore<Order, B, Elements...>;
  static constexpr uint8_t kImported = 0xff;
  static constexpr bool kRecycles = Recycling::kAny;
  // Below what an Account can count, on a machine with the smallest pages.
  static constexpr uint64_t kMostBytes = uint64_t{1} << 50;

  static ManagerCore& Of(void* core) noexcept { return *static_cast<ManagerCore*>(core); }

  // Stands for a heap for imported memory.
  struct Imports {
    static constexpr HeapCaps kCaps = {};

    B& backend;
    Error Free(Block& block) noexcept { return backend.Release(block); }
    Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                           MapMode mode) noexcept {
      return backend.Map(block, offset, bytes, mode);
    }
    Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend.Unmap(at, bytes); }
  };

  // Prepares a heap that has memory: over it lie its recycler's pools.
  struct Opener {
    ManagerCore& core;

    template <size_t kAt, class H>
    Error operator()(std::integral_constant<size_t, kAt>, H& heap) const noexcept {
      if constexpr (Recycling::template kHas<kAt>) {
        const PoolHost host{core.blocks_.all(), &core, &Forget, core.pool_bounds_[kAt]};
        return core.recycling_.template Open<kAt>(heap, core.backend_, host);
      }
      return {};
    }
  };
  // An idle block goes to the kernel.
  static void Forget(void* core, Block& block) noexcept {
    Of(core).Destroy(block);
    Of(core).forgotten_.fetch_add(1, std::memory_order_relaxed);
    Of(core).Drop();
  }

  // f(the heap that a block came from).
  template <class F>
  auto WithHeapOf(const Block& block, F f) noexcept {
    if (block.heap == kImported) return f(imports_);
    using Answer = decltype(f(imports_));
    std::optional<Answer> answer;
    heaps_.With(block, [&](auto& heap) { answer.emplace(f(heap)); });
    if (answer.has_value()) return *std::move(answer);
    return Answer(Error(EINVAL, "the block is of no heap", {B::kName, Operation::kRelease}));
  }

  // Allocates what has to be zeroed first, and from the depots, which the threads share, before the
  // slow path.
  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateFromDepot(const Request& request,
                                                             const Asker& asker,
                                                             CallSite where) noexcept {
    if (!AtHome()) return home_->allocate(*this, request, asker, where);
    LeaseToken token;
    Block* block = recycling_.template Acquire<From::kDirtyHand>(request, asker, token);
    if (block != nullptr) return LeaseAccess::Make(block, token);
    block = recycling_.template Acquire<From::kDepot>(request, asker, token);
    absl::StatusOr<Buffer> buffer =
        block != nullptr ? LeaseAccess::Make(block, token) : AllocateSlow(request, asker, where);
    TrimIfAbandoned();
    return buffer;
  }

  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateSlow(const Request& request, const Asker& asker,
                                                        CallSite where) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
    if (InChild()) return ToStatus(InheritedError(origin));
    if (!AtHome()) return home_->allocate(*this, request, asker, where);
    if (request.bytes == 0) return ToStatus(Error(EINVAL, "a request of 0 bytes", origin));
    if (HasUnknownBits(request.flags)) {
      return ToStatus(Error(EINVAL, "unknown flag bit", origin));
    }
    if (request.bytes > kMostBytes) {
      return ToStatus(Error(ENOMEM, "the request exceeds 1 PiB", origin));
    }
    heaps_.UpdateMasks(asker);
    const uint64_t pages = PagesIn(request.bytes);
    if (!asker.account.Take(pages)) {
      return PastQuota(Operation::kAllocate, B::kName, asker, request.bytes,
                       ChargeOf(request, asker));
    }
    bool shortage = false;
    const auto attempt = [&] {
      Allocation<ManagerCore> allocation(*this, request, asker, pages, where);
      absl::StatusOr<Buffer> buffer = allocation.Run();
      shortage = allocation.shortage();
      return buffer;
    };
    const uint64_t before = forgotten_.load(std::memory_order_relaxed);
    absl::StatusOr<Buffer> buffer = attempt();
    if (!buffer.ok() && heaps_.BindMore(Heaps::Meant(request, asker), backend_, Opener{*this})) {
      heaps_.UpdateMasks(asker);
      buffer = attempt();
    }
    if (shortage) {
      Trim(UINT64_MAX, GiveBack::kShortage);
      // If several threads are short at once, the first of them has emptied the pools for all.
      if (forgotten_.load(std::memory_order_relaxed) != before) buffer = attempt();
    }
    if (!buffer.ok()) asker.account.Give(pages);
    return buffer;
  }

  // The bytes that a request is charged with: whole pages, of a whole size class if the first heap
  // that it may mean recycles.
  uint64_t ChargeOf(const Request& request, const Asker& asker) const noexcept {
    const HeapMask mask = request.heaps.value_or(heaps_.usual()) & asker.heaps & heaps_.bound();
    uint64_t bytes = request.bytes;
    heaps_.Walk([&]<size_t kAt>(const auto&, std::integral_constant<size_t, kAt>) {
      if (!mask.contains(Heaps::kIds[kAt])) return false;
      bytes = recycling_.template Whole<kAt>(request).bytes;
      return true;
    });
    return PagesIn(bytes) * PageBytes();
  }

  BlockNote Note(const Block& block, std::string_view name, const Asker& asker,
                 CallSite where) const noexcept {
    BlockNote note{.client = asker.client,
                   .bytes = block.bytes,
                   .born_ns = BlockNote::NowNs(),
                   .where = where,
                   .heap = block.heap,
                   .foreign = block.foreign};
    name.copy(note.name, sizeof(note.name) - 1);
    return note;
  }

  // Each block keeps us alive, leased or pooled.
  Buffer Lease(Block* block, LeaseToken token, BlockNote note) noexcept {
    blocks_.List(*block, std::move(note));
    owners_.fetch_add(1, std::memory_order_relaxed);
    return LeaseAccess::Make(block, token);
  }

  // The memory's own rules of CPU access: its heap's where it has some, else the backend's.
  Error BeginAccess(Block& block, Direction direction) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Error {
      if constexpr (H::kCaps.syncs) return heap.BeginCpuAccess(block, direction);
      return backend_.BeginCpuAccess(block, direction);
    });
  }
  Error EndAccess(Block& block, Direction direction) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Error {
      if constexpr (H::kCaps.syncs) return heap.EndCpuAccess(block, direction);
      return backend_.EndCpuAccess(block, direction);
    });
  }
  // A heap with rules of its own has none for fences: they are on the backend's descriptor.
  Error AwaitFences(Block& block, Direction direction, Deadline deadline) noexcept {
    if constexpr (B::kCaps.fences) return backend_.AwaitFences(block, direction, deadline);
    return {};
  }

  [[gnu::always_inline]] void Release(Block& block, LeaseToken token) noexcept {
    if constexpr (kRecycles) {
      if (recycling_.template Release</*kToDepot=*/false>(block, token)) [[likely]]
        return;
    }
    ReleaseToDepot(block, token);
  }
  [[gnu::noinline]] void ReleaseToDepot(Block& block, LeaseToken token) noexcept {
    if (InChild()) return LetGo(block);
    if constexpr (kRecycles) {
      // A device uses it: its recycler sets it aside, so that the next request does not find it.
      bool in_use = false;
      if (token.pool() != 0 && token.lent()) {
        token = token.NotLent();
        // Others may hold an imported block, as a kept one.
        if (block.Marked(Block::kImported)) {
          token = LeaseToken::Of(token.account(), 0, 0);
        } else {
          in_use = HasPendingFence(backend_, block);
          if (!in_use && recycling_.template Release</*kToDepot=*/false>(block, token)) return;
        }
      }
      // Once the block lies in a pool, somebody else may take it from there, and be our last owner.
      owners_.fetch_add(1, std::memory_order_relaxed);
      if (in_use || abandoned_.load(std::memory_order_relaxed) ||
          !recycling_.template Release</*kToDepot=*/true>(block, token)) {
        ReleaseSlow(block, token);
      }
      TrimIfAbandoned();
      Drop();
    } else {
      ReleaseSlow(block, token);
    }
  }
  void ReleaseSlow(Block& block, LeaseToken token) noexcept {
    AccountId::FromBits(token.account()).Give(PagesIn(block.bytes));
    TakeBack(block, /*shared=*/token.pool() == 0);
  }
  // Takes back a block that is nobody's lease any more.
  void TakeBack(Block& block, bool shared) noexcept {
    if (Recycle(block, shared)) return;
    Destroy(block);
    Drop();
  }
  // After a trip to the pools, which may leave memory in them: either Abandon finds it, or we find
  // that Abandon has been there.
  void TrimIfAbandoned() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (abandoned_.load(std::memory_order_relaxed)) Trim(UINT64_MAX, GiveBack::kTrim);
  }
  void LetGo(Block& block) noexcept {
    if (!SharesItsDescriptor(block)) backend_.errors().Report(backend_.Abandon(block));
  }
  // False: it was not taken.
  bool Recycle(Block& block, bool shared) noexcept {
    if (!kRecycles || abandoned_.load(std::memory_order_relaxed)) return false;
    if (!recycling_.Owns(block)) return false;
    // First: once it lies in a pool it may be somebody else's.
    if (shared) {
      blocks_.Amend(block, [](BlockNote& note) { note.orphaned = false; });
      block.Unmark(Block::kKept);
    }
    return recycling_.ReleaseForReuse(block, shared);
  }
  // Returns how many bytes went back to the kernel. In a child all of it is the parent's.
  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    return InChild() ? 0 : recycling_.Trim(bytes, why);
  }
  void Tick() noexcept {
    if (!InChild()) recycling_.Tick();
  }
  // Gives the memory back, and forgets the block.
  void Destroy(Block& block) noexcept {
    const bool foreign = block.foreign;
    const uint64_t bytes = block.bytes;
    BufferIdentity identity;
    if (block.Marked(Block::kLent | Block::kKnown)) identity = blocks_.Unlist(block).identity;
    const bool known = block.Marked(Block::kKnown);  // nobody else marks it from here on
    if (known && !foreign) own_.BlockEnds(identity, bytes);
    recycling_.Disown(block);
    backend_.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Free(block); }));
    if (known && foreign) own_.ImportEnds(identity, bytes);
    blocks_.Delete(&block);
  }

  // The mapping of a whole block is made once, as far-reaching as its descriptor allows, and kept;
  // that of a pooled one with its pages in place. If its owner has forbidden writing since we
  // looked, a reader gets a mapping of its own.
  Result<std::byte*> Map(Block& block, uint64_t offset, uint64_t bytes, MapMode mode) noexcept {
    // A child has not the mapping that a pooled block keeps.
    if (InChild()) return InheritedError({B::kName, Operation::kMap, {}, bytes});
    const auto map = [&](MapMode how) {
      return WithHeapOf(block, [&](auto& heap) { return heap.Map(block, offset, bytes, how); });
    };
    const bool whole = offset == 0 && bytes == block.bytes;
    if (!whole || (mode == MapMode::kWritable && !block.writable)) return map(mode);
    if (block.mapping != nullptr) return block.mapping;
    // A heap refuses memory that the CPU may not map, also if it is recycled.
    Result<std::byte*> at = recycling_.Owns(block) && !block.cpu_mappable.no()
                                ? backend_.MapToKeep(block)
                                : map(block.writable ? MapMode::kWritable : MapMode::kReadOnly);
    if (at.ok()) {
      block.mapping = *at;
    } else if (mode == MapMode::kReadOnly && at.error().code() == EPERM) {
      return map(MapMode::kReadOnly);
    }
    return at;
  }
  void Unmap(Block& block, std::byte* at, uint64_t bytes) noexcept {
    if (at == block.mapping) return;
    backend_.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Unmap(at, bytes); }));
  }

  // The Manager has gone.
  void Abandon() noexcept {
    if (InChild()) {
      // The thread is the parent's.
      (void)reclaimer_.release();
      return;
    }
    reclaimer_.reset();
    heaps_.Close();
    abandoned_.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    recycling_.Shutdown();
    if (blocks_.live() != 0) {
      backend_.errors().Report(Error(EBUSY, "buffers outlive their Manager",
                                     {B::kName, Operation::kRelease},
                                     "release them first; their memory lives until then"));
      const NoCancel guard;
      if (!TryWithMemory([&] { std::fputs(LeakText(MakeReport(*this)).c_str(), stderr); })) {
        std::fputs("ion: buffers outlive their Manager, and there is no memory to name them\n",
                   stderr);
      }
    }
    Drop();
  }

  static constexpr LeaseOps kOps = {
      .release = [](void* core, Block& block,
                    LeaseToken token) noexcept { Of(core).Release(block, token); },
      .map = [](void* core, Block& block, uint64_t offset, uint64_t bytes,
                MapMode mode) noexcept { return Of(core).Map(block, offset, bytes, mode); },
      .unmap = [](void* core, Block& block, std::byte* at,
                  uint64_t bytes) noexcept { Of(core).Unmap(block, at, bytes); },
      .begin_access =
          [](void* core, Block& block, Direction direction) noexcept {
            return Of(core).BeginAccess(block, direction);
          },
      .end_access =
          [](void* core, Block& block, Direction direction) noexcept {
            return Of(core).EndAccess(block, direction);
          },
      .await_fences =
          [](void* core, Block& block, Direction direction, Deadline deadline) noexcept {
            return Of(core).AwaitFences(block, direction, deadline);
          },
      .report = [](void* core,
                   const Error& error) noexcept { Of(core).backend_.errors().Report(error); },
      .print_mapped = [](void* core, Block& block) noexcept { PrintMapped(Of(core), block); },
      .show_counts =
          [](void* core, Block& block, std::shared_ptr<const SharedSyncCounts> counts) noexcept {
            Of(core).ShowCounts(block, std::move(counts));
          },
      .stated = [](void* core, const Block& block) noexcept { return Of(core).StatedOf(block); },
  };
  static constexpr Home kHome = {
      .allocate = [](ManagerCore& core, const Request& request, const Asker& asker,
                     CallSite where) noexcept { return core.Allocate(request, asker, where); },
      .import = [](ManagerCore& core, ImportSource& source, const Asker& asker,
                   CallSite where) noexcept { return Importing(core, asker).Run(source, where); },
      .held = [](AccountId account) noexcept { return account.held(); },
      .trim = [](ManagerCore& core, uint64_t bytes,
                 GiveBack why) noexcept { return core.Trim(bytes, why); },
      .tick = [](ManagerCore& core) noexcept { core.Tick(); },
      .abandon = [](ManagerCore& core) noexcept { core.Abandon(); },
      .report = [](ManagerCore& core) { return MakeReport(core); },
  };

  const ForkMark mark_;
  B backend_;
  Imports imports_{backend_};
  Heaps heaps_{backend_, mark_};
  Recycling recycling_;
  BlockTable blocks_;
  OwnMemory own_{backend_.budget()};
  std::mutex domains_mutex_;
  std::map<std::string, uint64_t> domains_;  // those with a name
  uint64_t last_domain_ = Asker::kOwnDomain;
  Asker nobody_;
  ClientList clients_;
  std::mutex reclaimer_mutex_;
  std::unique_ptr<Reclaimer<>> reclaimer_;  // if the user started one
  std::atomic<size_t> owners_{1};           // the Manager, each client, each block
  std::atomic<bool> abandoned_{false};      // the Manager has gone: nothing is recycled any more
  std::atomic<uint64_t> forgotten_{0};      // blocks that went from pools to the kernel
  const Home* const home_ = &kHome;
  const void* const statics_ = &AccountStatics::slots;  // of that library
  const PoolBoundsOf<Elements...> pool_bounds_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_MANAGER_CORE_H_
