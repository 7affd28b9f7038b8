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

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/lacks_pages.h"
#include "ion/base/no_cancel.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/base/wiped_pages.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/buffer_identity.h"
#include "ion/core/account.h"
#include "ion/core/asker.h"
#include "ion/core/client_list.h"
#include "ion/core/growing_mask.h"
#include "ion/core/heap_order.h"
#include "ion/core/manager_report.h"
#include "ion/core/own_memory.h"
#include "ion/core/pool_bounds.h"
#include "ion/core/pool_domains.h"
#include "ion/core/reclaimer.h"
#include "ion/core/recycling_core.h"
#include "ion/core/refusals.h"
#include "ion/core/region_domain.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion::internal {

static_assert(AccountId::kFreeBits == LeaseToken::kHeapBits + LeaseToken::kPoolBits);

// Each of `Elements` is a heap, or one with a recycler over it (Recycled, ion/recycler.h).
template <class Order, Backend B, class... Elements>
struct ManagerCore {
  using Recycling = RecyclingCore<Order, B, Elements...>;
  using Places = std::index_sequence_for<Elements...>;
  static constexpr std::array<HeapId, sizeof...(Elements)> kIds{HeapPart<Elements>::kId...};
  static constexpr std::array<size_t, sizeof...(Elements)> kOrder = Sorted<Order>(kIds);
  static constexpr uint8_t kImported = 0xff;
  static constexpr const char* kBackendName = B::kName;
  static constexpr bool kCustoms = B::kCaps.customs;
  static constexpr bool kRecycles = Recycling::kAny;
  // Below what an Account can count, on a machine with the smallest pages.
  static constexpr uint64_t kMostBytes = uint64_t{1} << 50;

  // The type of heap `kId`.
  template <HeapId kId>
  static consteval size_t PlaceOf() {
    const auto at = std::ranges::find(kIds, kId);
    static_assert(((HeapPart<Elements>::kId == kId) || ...),
                  "ion: no heap of this Manager has this id");
    return static_cast<size_t>(at - kIds.begin());
  }
  template <HeapId kId>
  using HeapAt = std::tuple_element_t<PlaceOf<kId>(), std::tuple<HeapPart<Elements>...>>;
  // Requires: it is bound.
  template <class H>
  const H& Heap() const noexcept {
    return *std::get<Result<H>>(heaps);
  }

  // `bounds`: those of each heap's pools, by place.
  ManagerCore(B&& opened, const PoolBoundsOf<Elements...>& bounds) noexcept
      : backend(std::move(opened)),
        heaps(HeapPart<Elements>::Bind(backend)...),
        blocks(&kOps, this),
        pool_bounds(bounds) {
    BindAll(Places{}, /*again=*/false);
    FollowHeaps(nobody);
    if (alive != nullptr) *alive = 1;
  }
  ~ManagerCore() {
    if (alive != nullptr) UnmapWiped(alive, sizeof(*alive));
  }

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

  B backend;
  Imports imports{backend};
  std::tuple<Result<HeapPart<Elements>>...> heaps;
  Recycling recycling;
  BlockTable blocks;
  OwnMemory own{backend.budget()};
  GrowingMask bound;  // the heaps that have memory: the others' Results are nobody's to read
  GrowingMask usual;  // those of them that a request without a mask is served from
  mutable std::mutex bind_mutex;
  std::array<Error, sizeof...(Elements)> unbound;  // why a heap has no memory; under bind_mutex
  const PoolBoundsOf<Elements...> pool_bounds;
  std::array<RegionDomain, sizeof...(Elements)> regions;  // of the heaps whose blocks are ranges
  std::mutex domains_mutex;
  std::map<std::string, uint64_t> domains;  // those with a name
  uint64_t last_domain = Asker::kOwnDomain;
  Asker nobody;  // of requests to the Manager itself
  ClientList clients;
  // In a page that a forked child finds zero; nullptr: there was no memory, and a child is not
  // told.
  uint32_t* const alive = static_cast<uint32_t*>(MapWiped(sizeof(uint32_t)));
  std::mutex reclaimer_mutex;
  std::unique_ptr<Reclaimer<>> reclaimer;  // if the user started one
  std::atomic<size_t> owners{1};           // the Manager, each client, each block
  std::atomic<bool> abandoned{false};      // the Manager has gone: nothing is recycled any more
  std::atomic<uint64_t> forgotten{0};      // blocks that went from pools to the kernel

  static ManagerCore& Of(void* core) noexcept { return *static_cast<ManagerCore*>(core); }
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
      .report = [](void* core,
                   const Error& error) noexcept { Of(core).backend.errors().Report(error); },
      .print_mapped = [](void* core, Block& block) noexcept { Of(core).PrintMapped(block); },
  };

  struct Imported {
    Buffer lease;
    BufferIdentity identity;
  };

  // Functions that must run in the library that made us: with hidden visibility its threads' credit
  // and magazines are its own. Another library that was handed a Manager or a client calls by
  // these; unless it does, its threads have no state that is taken for ours.
  struct Home {
    absl::StatusOr<Buffer> (*allocate)(ManagerCore&, const Request&, const Asker&,
                                       CallSite) noexcept;
    Result<Imported> (*import)(ManagerCore&, FdRef, const Asker&, CallSite) noexcept;
    uint64_t (*held)(AccountId) noexcept;
    uint64_t (*trim)(ManagerCore&, uint64_t, GiveBack) noexcept;
    void (*tick)(ManagerCore&) noexcept;
    void (*abandon)(ManagerCore&) noexcept;
    Report (*report)(ManagerCore&);
  };
  static constexpr Home kHome = {
      .allocate = [](ManagerCore& core, const Request& request, const Asker& asker,
                     CallSite where) noexcept { return core.Allocate(request, asker, where); },
      .import = [](ManagerCore& core, FdRef fd, const Asker& asker,
                   CallSite where) noexcept { return core.Import(fd, asker, where); },
      .held = [](AccountId account) noexcept { return account.held(); },
      .trim = [](ManagerCore& core, uint64_t bytes,
                 GiveBack why) noexcept { return core.Trim(bytes, why); },
      .tick = [](ManagerCore& core) noexcept { core.Tick(); },
      .abandon = [](ManagerCore& core) noexcept { core.Abandon(); },
      .report = [](ManagerCore& core) { return MakeReport(core); },
  };
  const Home* const home = &kHome;
  const void* const statics = &AccountStatics::slots;  // of that library
  bool AtHome() const noexcept { return statics == &AccountStatics::slots; }
  static Error OtherLibraryError(const Origin& origin) noexcept {
    return Error(EPERM, "the Manager is another library's, of hidden visibility", origin,
                 "call the library that opened it; a client may be handed on");
  }

  static uint64_t Pages(uint64_t bytes) noexcept {
    return bytes / PageBytes() + (bytes % PageBytes() != 0 ? 1 : 0);
  }

  // Calls f(heap's Result, its place, an integral_constant) for each heap, in the order of trial,
  // until f says true. That of a heap without memory is a copy, as another thread may bind it
  // meanwhile.
  template <class Self, class F>
  static bool Walk(Self& self, F f) {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return (WalkAt<kOrder[kAt]>(self, f) || ...);
    }(Places{});
  }
  template <size_t kAt, class Self, class F>
  static bool WalkAt(Self& self, F& f) {
    constexpr std::integral_constant<size_t, kAt> kPlace{};
    auto& heap = std::get<kAt>(self.heaps);
    if (self.bound.contains(kIds[kAt])) return f(heap, kPlace);
    // In a child nobody might be there to unlock it.
    std::unique_lock lock(self.bind_mutex, std::defer_lock);
    if (!self.InChild()) lock.lock();
    // It may have been bound while we waited.
    const bool late = self.bound.contains(kIds[kAt]);
    std::remove_reference_t<decltype(heap)> refused(self.unbound[kAt]);
    if (lock.owns_lock()) lock.unlock();
    return late ? f(heap, kPlace) : f(refused, kPlace);
  }
  // f(the heap that a block came from).
  template <class F>
  auto WithHeapOf(const Block& block, F f) noexcept {
    if (block.heap == kImported) return f(imports);
    decltype(f(imports)) answer =
        Error(EINVAL, "the block is of no heap", {B::kName, Operation::kRelease});
    [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      (void)((kAt == block.heap && (answer = f(*std::get<kAt>(heaps)), true)) || ...);
    }(Places{});
    return answer;
  }

  // Takes into use what each heap that was not bound has bound, or why it has not.
  template <size_t... kAt>
  void BindAll(std::index_sequence<kAt...>, bool again) noexcept {
    std::lock_guard lock(bind_mutex);
    if (!abandoned.load(std::memory_order_relaxed)) (BindAt<kAt>(again), ...);
  }
  template <size_t kAt>
  void BindAt(bool again) noexcept {
    if (bound.contains(kIds[kAt])) return;
    auto& heap = std::get<kAt>(heaps);
    using H = std::decay_t<decltype(*heap)>;
    if (again) Replace(heap, H::Bind(backend));
    if constexpr (Recycling::template kHas<kAt>) {
      if (heap.ok()) {
        const auto forget = [](void* core, Block& block) noexcept {
          Of(core).Destroy(block);
          Of(core).forgotten.fetch_add(1, std::memory_order_relaxed);
          Of(core).Drop();
        };
        const PoolHost host{blocks.all(), this, forget, pool_bounds[kAt]};
        if (Error error = recycling.template Open<kAt>(*heap, backend, host); !error.ok()) {
          Replace(heap, Result<H>(error));
        }
      }
    }
    unbound[kAt] = heap.error();
    if (!heap.ok()) return;
    bound.Add(kIds[kAt]);
    if (!heap->properties().contiguous.yes()) usual.Add(kIds[kAt]);
  }
  template <class H>
  static void Replace(Result<H>& heap, Result<H> by) noexcept {
    std::destroy_at(&heap);
    std::construct_at(&heap, std::move(by));
  }
  // Looks whether the kernel has heaps now for those of `wanted` that had none. True: for some.
  bool LookForHeaps(HeapMask wanted) noexcept {
    if constexpr (B::kCaps.relists) {
      const HeapMask had = wanted & bound;
      if (had == wanted) return false;
      if (backend.LookAgain()) BindAll(Places{}, /*again=*/true);
      return (wanted & bound) != had;
    }
    return false;
  }
  // The heaps of this Manager that a request may mean.
  static HeapMask Meant(const Request& request, const Asker& asker) noexcept {
    constexpr HeapMask kAll = (HeapMask(HeapPart<Elements>::kId) | ...);
    constexpr HeapMask kScattered =
        ((HeapPart<Elements>::kType == HeapType::kSystem ? HeapMask(HeapPart<Elements>::kId)
                                                         : HeapMask()) |
         ...);
    return (request.heaps.has_value() ? *request.heaps & kAll : kScattered) & asker.heaps;
  }
  // An asker's masks follow ours.
  void FollowHeaps(const Asker& asker) const noexcept {
    if ((bound & asker.heaps) == asker.bound) return;
    asker.bound.Add(bound & asker.heaps);
    asker.usual.Add(usual & asker.heaps);
  }

  // On the asker's account, from the heaps that both want. Strict: a heap's pool, then its kernel,
  // then the next heap.
  [[gnu::always_inline]] absl::StatusOr<Buffer> Allocate(const Request& request, const Asker& asker,
                                                         CallSite where) noexcept {
    if constexpr (kRecycles) {
      LeaseToken token;
      Block* block = recycling.template Acquire</*kFromDepot=*/false>(request, asker, token);
      if (block != nullptr) [[likely]]
        return LeaseAccess::Make(block, token);
      return AllocateFromDepot(request, asker, where);
    }
    return AllocateSlow(request, asker, where);
  }
  // Allocates from the depots, which the threads share, before the slow path.
  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateFromDepot(const Request& request,
                                                             const Asker& asker,
                                                             CallSite where) noexcept {
    if (!AtHome()) return home->allocate(*this, request, asker, where);
    LeaseToken token;
    Block* block = recycling.template Acquire</*kFromDepot=*/true>(request, asker, token);
    absl::StatusOr<Buffer> buffer =
        block != nullptr ? LeaseAccess::Make(block, token) : AllocateSlow(request, asker, where);
    TrimIfAbandoned();
    return buffer;
  }

  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateSlow(const Request& request, const Asker& asker,
                                                        CallSite where) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
    if (InChild()) return ToStatus(InheritedError(origin));
    if (!AtHome()) return home->allocate(*this, request, asker, where);
    if (request.bytes == 0) return ToStatus(Error(EINVAL, "a request of 0 bytes", origin));
    if (HasUnknownBits(request.flags)) {
      return ToStatus(Error(EINVAL, "unknown flag bit", origin));
    }
    if (request.bytes > kMostBytes) {
      return ToStatus(Error(ENOMEM, "the request exceeds 1 PiB", origin));
    }
    FollowHeaps(asker);
    const uint64_t pages = Pages(request.bytes);
    if (!asker.account.Take(pages)) {
      return PastQuota(Operation::kAllocate, B::kName, asker, request.bytes,
                       ChargeOf(request, asker));
    }
    bool shortage = false;
    const uint64_t before = forgotten.load(std::memory_order_relaxed);
    absl::StatusOr<Buffer> buffer = AllocateCharged(request, asker, pages, where, shortage);
    if (!buffer.ok() && LookForHeaps(Meant(request, asker))) {
      FollowHeaps(asker);
      buffer = AllocateCharged(request, asker, pages, where, shortage);
    }
    if (shortage) {
      Trim(UINT64_MAX, GiveBack::kShortage);
      // If several threads are short at once, the first of them has emptied the pools for all.
      if (forgotten.load(std::memory_order_relaxed) != before) {
        buffer = AllocateCharged(request, asker, pages, where, shortage);
      }
    }
    if (!buffer.ok()) asker.account.Give(pages);
    return buffer;
  }

  // The bytes that a request is charged with: whole pages, of a whole size class if the first heap
  // that it may mean recycles.
  uint64_t ChargeOf(const Request& request, const Asker& asker) const noexcept {
    const HeapMask mask = request.heaps.value_or(usual) & asker.heaps & bound;
    uint64_t bytes = request.bytes;
    Walk(*this, [&]<size_t kAt>(const auto&, std::integral_constant<size_t, kAt> at) {
      if (!mask.contains(kIds[at])) return false;
      bytes = recycling.template Whole<kAt>(request).bytes;
      return true;
    });
    return Pages(bytes) * PageBytes();
  }

  // The rest of Allocate, after `pages` are charged. After an error they still are, and `shortage`
  // is true if some heap was short of something: the last one's errno may be another.
  absl::StatusOr<Buffer> AllocateCharged(const Request& request, const Asker& asker, uint64_t pages,
                                         CallSite where, bool& shortage) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
    const HeapMask mask = request.heaps.value_or(usual) & asker.heaps;
    Block* block = nullptr;
    bool fresh = true;
    Reasons tried;
    bool past_buffers = false;
    uint32_t pool = 0;
    const auto take = [&]<size_t kAt>(auto& heap, std::integral_constant<size_t, kAt> at) {
      if (!mask.contains(kIds[at])) return false;
      Error error = heap.ok() ? Error() : heap.error();
      if constexpr (Recycling::template kHas<kAt>) {
        const PooledBlock idle =
            error.ok() ? recycling.template SearchIdle<kAt>(request, asker) : PooledBlock();
        if (idle.block != nullptr) {
          if (TakeMore(asker, *idle.block, pages)) {
            if (block != nullptr) blocks.Delete(block);
            block = idle.block;
            pool = idle.pool;
            fresh = false;
            return true;
          }
          // It is of a larger class, and the quota has no room for that: fresh memory is smaller.
          if (!RecycleSlow(*idle.block, /*shared=*/false)) {
            Destroy(*idle.block);
            Drop();
          }
        }
      }
      if (block == nullptr && AtMostBuffers(asker)) {
        past_buffers = shortage = true;
        return true;
      }
      if (block == nullptr) block = blocks.New();
      if (error.ok() && block == nullptr) error = Error(ENOMEM, "operator new: a block", origin);
      const bool ranges = std::decay_t<decltype(*heap)>::kCaps.shares;
      bool foreign = ranges && regions[at].Refuses(asker.domain);
      if (error.ok() && !foreign) {
        error = heap->Allocate(recycling.template Whole<kAt>(request), *block);
      }
      // Only who gets memory leaves a mark on its region; nobody else has the block yet.
      if (error.ok() && !foreign && ranges && !regions[at].Admit(asker.domain)) {
        backend.errors().Report(heap->Free(*block));
        foreign = true;
      }
      if (error.ok() && foreign) {
        error = Error(EPERM, "another trust domain's descriptors show all of this region", origin);
      }
      if (error.ok()) {
        block->heap = static_cast<uint8_t>(at);
        const Result<uint32_t> adopted = recycling.template Adopt<kAt>(*block, request, asker);
        if (!adopted.ok()) backend.errors().Report(heap->Free(*block));
        error = adopted.error();
        if (error.ok()) {
          pool = *adopted;
          return true;
        }
      }
      shortage = shortage || IsShortage(error.code()) || LacksPages(error);
      tried.Add(kIds[at], error, heap.ok());
      return false;
    };
    const bool found = Walk(*this, take);
    // Idle blocks in pools count, too: they may be given back.
    if (past_buffers) return PastBuffers(Operation::kAllocate, B::kName, asker);
    shortage = shortage && !found;
    if (!found) {
      if (block != nullptr) blocks.Delete(block);
      if (tried.empty()) return ToStatus(NoHeap(request, bound, usual, origin));
      return tried.ToStatus(backend);
    }
    if (fresh && !TakeMore(asker, *block, pages)) {
      const uint64_t taken = block->bytes;
      Destroy(*block);
      return PastQuota(Operation::kAllocate, B::kName, asker, request.bytes, taken, pages);
    }
    const LeaseToken token = LeaseToken::Of(asker.account.bits(), pool, block->heap);
    BlockNote note = Note(*block, request.name, asker, where);
    if (fresh) return Lease(block, token, std::move(note));
    blocks.List(*block, std::move(note));
    return LeaseAccess::Make(block, token);
  }

  // A heap may give more than was asked for. False: the quota has no room for the bytes beyond
  // `pages`.
  static bool TakeMore(const Asker& asker, const Block& block, uint64_t pages) noexcept {
    const uint64_t more = Pages(block.bytes) - pages;
    return more == 0 || asker.account.Take(more);
  }

  Result<Imported> Import(FdRef fd, const Asker& asker, CallSite where) noexcept {
    if (AtMostBuffers(asker)) return Error(EDQUOT, kPastBuffers, {B::kName, Operation::kImport});
    Block* block = blocks.New();
    if (block == nullptr) {
      return Error(ENOMEM, "operator new: a block", {B::kName, Operation::kImport});
    }
    if (Error error = backend.Import(fd, *block); !error.ok()) {
      blocks.Delete(block);
      return error;
    }
    block->heap = kImported;
    // Here, as legacy ION identifies a buffer by a handle that lasts only as long as a block holds
    // it.
    const Result<BufferIdentity> identity = backend.Identify(FdRef(block->fd), Operation::kImport);
    Error error = identity.ok() ? MarkLent(*identity, *block, asker.domain) : identity.error();
    LeaseToken token;
    if (error.ok()) error = ChargeImport(*identity, *block, asker, token);
    if (!error.ok()) {
      backend.errors().Report(backend.Release(*block));
      blocks.Delete(block);
      return error;
    }
    BlockNote note = Note(*block, {}, asker, where);
    note.identity = *identity;
    return Imported{Lease(block, token, std::move(note)), *identity};
  }
  // Memory that we allocated is on the account of each client that has it, and once in the Budget.
  // EDQUOT, ENOMEM: one of them has no room for it.
  Error ChargeImport(const BufferIdentity& identity, Block& import, const Asker& asker,
                     LeaseToken& token) noexcept {
    const Origin origin{B::kName, Operation::kImport, {}, import.bytes};
    const OwnMemory::Import whose = own.Imported(identity, import.bytes);
    if (whose == OwnMemory::Import::kForeign) return {};
    if (whose == OwnMemory::Import::kPastBudget) {
      return Error(ENOMEM, "our own memory, past the bound on the bytes held", origin,
                   "release some buffers, or give the backend a larger Budget");
    }
    if (!asker.account.Take(Pages(import.bytes))) {
      own.ImportEnds(identity, import.bytes);
      return Error(EDQUOT, "past the client's quota", origin);
    }
    import.Mark(Block::kKnown);
    token = LeaseToken::Of(asker.account.bits(), 0, 0);
    return {};
  }
  // Others may hold a block of ours from here on.
  Error KnowAsOwn(Block& block, const BufferIdentity& identity) noexcept {
    if (block.foreign || !identity.known() || block.Marked(Block::kKnown)) return {};
    const uint64_t bytes = block.bytes;
    if (!own.Shared(identity, bytes, !SharesItsDescriptor(block))) {
      return Error(ENOMEM, "operator new: a share", {B::kName, Operation::kShare, {}, bytes});
    }
    blocks.Amend(block, [&](BlockNote& note) { note.identity = identity; });
    block.Mark(Block::kKnown);
    return {};
  }
  // Returns true if two descriptors, whose identities may be equal, certainly lead to one buffer.
  bool AreOne(FdRef a, FdRef b) const noexcept {
    if constexpr (B::kCaps.compares) return backend.SameBuffer(a, b);
    return true;
  }
  // Marks the memory of ours that an import leads to by a descriptor that was lent: a pool takes it
  // back once nobody else holds it. Without identities it marks all that it may be. EPERM: it is a
  // region in which other trust domains have memory.
  Error MarkLent(const BufferIdentity& identity, const Block& import, uint64_t domain) noexcept {
    bool refused = false;
    // The calls under the table's lock cannot wait: a lent block's descriptor is of the kernel's
    // own memory, as Import takes no file of a server, and is asked once for its identity.
    blocks.ForEachMarked(Block::kLent, [&](Block& block, BlockNote& note) {
      if (!note.identity.known()) {
        const Result<BufferIdentity> mine = backend.Identify(FdRef(block.fd), Operation::kImport);
        if (mine.ok()) note.identity = *mine;
      }
      const bool known = identity.known() && note.identity.known();
      const bool range = SharesItsDescriptor(block);
      if (known   ? note.identity != identity
          : range ? !AreOne(FdRef(block.fd), FdRef(import.fd))
                  : block.bytes != import.bytes) {
        return;
      }
      block.Mark(Block::kImported);
      if (range) {
        refused |= !regions[block.heap].Seal(domain);
      } else if (known && !block.foreign && !block.Marked(Block::kKnown) &&
                 own.Shared(identity, block.bytes, /*charged=*/true)) {
        block.Mark(Block::kKnown);
      }
    });
    if (!refused) return {};
    return Error(EPERM, "the descriptor shows memory of several trust domains",
                 {B::kName, Operation::kImport, {}, import.bytes},
                 "keep the lease, and share it by a handle");
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
    blocks.List(*block, std::move(note));
    owners.fetch_add(1, std::memory_order_relaxed);
    return LeaseAccess::Make(block, token);
  }

  // The memory's own rules of CPU access: its heap's where it has some, else the backend's.
  Error BeginAccess(Block& block, Direction direction) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Error {
      if constexpr (H::kCaps.syncs) return heap.BeginCpuAccess(block, direction);
      return backend.BeginCpuAccess(block, direction);
    });
  }
  Error EndAccess(Block& block, Direction direction) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Error {
      if constexpr (H::kCaps.syncs) return heap.EndCpuAccess(block, direction);
      return backend.EndCpuAccess(block, direction);
    });
  }

  // A descriptor of the block and no more.
  Result<UniqueFd> Share(const Block& block) noexcept {
    return WithHeapOf(block, [&]<class H>(H& heap) -> Result<UniqueFd> {
      if constexpr (H::kCaps.shares) return heap.Share(block);
      return backend.Share(block);
    });
  }
  Error SetName(const Block& block, std::string_view name) noexcept {
    if (InChild()) return InheritedError({B::kName, Operation::kName, {}, block.bytes});
    if (!SharesItsDescriptor(block)) return backend.SetName(block, name);
    return Error(ENOTSUP, "the buffer shares its descriptor with others of its region",
                 {B::kName, Operation::kName, {}, block.bytes});
  }
  // Returns a descriptor that leads to more than the block, if only `domain` has memory in the
  // region; from then on no other domain gets any.
  Result<UniqueFd> ShareRange(const Block& block, uint64_t domain) noexcept {
    const Origin origin{B::kName, Operation::kShare, {}, block.bytes};
    Error error;
    Walk(*this, [&](auto& heap, size_t at) {
      using H = std::decay_t<decltype(*heap)>;
      if (at != block.heap || !H::kCaps.shares) return false;
      if (H::kCaps.knows_phys) {
        error = Error(EPERM, "a descriptor of physical memory is never shared", origin);
      } else if (!regions[at].Seal(domain)) {
        error = Error(EPERM, "several trust domains have memory in this region", origin,
                      "share it by Share, from a carveout over a ComposedRegion");
      }
      return true;
    });
    if (!error.ok()) return error;
    return backend.Share(block);
  }
  // The trust domain of this name; a new one for nobody else where there is none.
  uint64_t DomainOf(std::string_view name) {
    std::lock_guard lock(domains_mutex);
    if (name.empty()) return ++last_domain;
    const auto [at, fresh] = domains.try_emplace(std::string(name), last_domain + 1);
    if (fresh) ++last_domain;
    return at->second;
  }

  // Returns true if the block's descriptor leads to other memory as well.
  bool SharesItsDescriptor(const Block& block) const noexcept {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return ((kAt == block.heap && HeapPart<Elements>::kCaps.shares) || ...);
    }(Places{});
  }

  [[gnu::always_inline]] void Release(Block& block, LeaseToken token) noexcept {
    if constexpr (kRecycles) {
      if (recycling.template Release</*kToDepot=*/false>(block, token)) [[likely]]
        return;
    }
    ReleaseToDepot(block, token);
  }
  [[gnu::noinline]] void ReleaseToDepot(Block& block, LeaseToken token) noexcept {
    if (InChild()) return LetGo(block);
    if constexpr (kRecycles) {
      if (token.pool() != 0 && token.lent()) {
        token = token.NotLent();
        // Others may hold an imported block, as a kept one.
        if (block.Marked(Block::kImported)) {
          token = LeaseToken::Of(token.account(), 0, 0);
        } else if (recycling.template Release</*kToDepot=*/false>(block, token)) {
          return;
        }
      }
      // Once the block lies in a pool, somebody else may take it from there, and be our last owner.
      owners.fetch_add(1, std::memory_order_relaxed);
      if (abandoned.load(std::memory_order_relaxed) ||
          !recycling.template Release</*kToDepot=*/true>(block, token)) {
        ReleaseSlow(block, token);
      }
      TrimIfAbandoned();
      Drop();
    } else {
      ReleaseSlow(block, token);
    }
  }
  void ReleaseSlow(Block& block, LeaseToken token) noexcept {
    AccountId::FromBits(token.account()).Give(Pages(block.bytes));
    if (RecycleSlow(block, token.pool() == 0)) return;
    Destroy(block);
    Drop();
  }
  // After a trip to the pools, which may leave memory in them: either Abandon finds it, or we find
  // that Abandon has been there.
  void TrimIfAbandoned() noexcept {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (abandoned.load(std::memory_order_relaxed)) Trim(UINT64_MAX, GiveBack::kTrim);
  }
  // A child made by fork has copies of all state and of the locks: it closes its own copy of an
  // inherited descriptor, and does nothing else.
  bool InChild() const noexcept { return alive != nullptr && *alive == 0; }
  static Error InheritedError(const Origin& origin) noexcept {
    return Error(EPERM, "the Manager is the parent's", origin,
                 "open one in the child: inherited buffers can only be destroyed there");
  }
  void LetGo(Block& block) noexcept {
    if (!SharesItsDescriptor(block)) backend.errors().Report(backend.Abandon(block));
  }
  // False: it was not taken.
  bool RecycleSlow(Block& block, bool shared) noexcept {
    if (!kRecycles || abandoned.load(std::memory_order_relaxed)) return false;
    if (!recycling.Owns(block)) return false;
    // First: once it lies in a pool it may be somebody else's.
    if (shared) blocks.Amend(block, [](BlockNote& note) { note.orphaned = false; });
    return recycling.ReleaseForReuse(block, shared);
  }
  // Returns how many bytes went back to the kernel. In a child all of it is the parent's.
  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    return InChild() ? 0 : recycling.Trim(bytes, why);
  }
  void Tick() noexcept {
    if (!InChild()) recycling.Tick();
  }
  Result<ReclaimerErrors> StartReclaimer(const ReclaimerOptions& options) noexcept {
    const Origin origin{B::kName, Operation::kOpen};
    if (InChild()) return InheritedError(origin);
    if (!AtHome()) return OtherLibraryError(origin);
    std::lock_guard lock(reclaimer_mutex);
    if (reclaimer != nullptr) return Error(EALREADY, "a reclaimer is already running", origin);
    const Reclaimer<>::Callbacks callbacks{
        .context = this,
        .tick = [](void* core) noexcept { Of(core).Tick(); },
        .reclaim = [](void* core,
                      uint64_t bytes) noexcept { Of(core).Trim(bytes, GiveBack::kPressure); }};
    reclaimer.reset(new (std::nothrow) Reclaimer<>(callbacks));
    if (reclaimer == nullptr) return Error(ENOMEM, "operator new: a reclaimer", origin);
    Result<ReclaimerErrors> started = reclaimer->Start(options);
    if (!started.ok()) reclaimer.reset();
    return started;
  }
  // Removes a client. Its leases that came from a pool stay its own for ever.
  void ForgetClient(ClientList::Entry& entry) noexcept {
    blocks.SetHolders(entry.client, [&](const Block& block, const BlockNote& note) {
      return note.client != entry.client && LeaseAccess::LastOf(block).account() == entry.account;
    });
    clients.Remove(entry);
  }
  static bool IsShortage(int code) noexcept {
    return code == ENOMEM || code == ENFILE || code == EMFILE;
  }
  // Gives the memory back, and forgets the block.
  void Destroy(Block& block) noexcept {
    const bool foreign = block.foreign;
    const uint64_t bytes = block.bytes;
    BufferIdentity identity;
    if (block.Marked(Block::kLent | Block::kKnown)) identity = blocks.Unlist(block).identity;
    const bool known = block.Marked(Block::kKnown);  // nobody else marks it from here on
    if (known && !foreign) own.BlockEnds(identity, bytes);
    recycling.Disown(block);
    backend.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Free(block); }));
    if (known && foreign) own.ImportEnds(identity, bytes);
    blocks.Delete(&block);
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
    Result<std::byte*> at = recycling.Owns(block) && !block.cpu_mappable.no()
                                ? backend.MapToKeep(block)
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
    backend.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Unmap(at, bytes); }));
  }

  // Prints the name of a buffer, its heap, its size and its mappings to the standard error. A
  // recycled block's note may have the name of a former lease, so that is left out.
  void PrintMapped(const Block& block) noexcept {
    CallSite where;
    char name[sizeof(BlockNote::name)] = {};
    // A child has a copy of the table's mutex, which somebody may hold.
    if (!InChild() && !recycling.Owns(block)) {
      blocks.Amend(block, [&](const BlockNote& note) {
        std::copy(std::begin(note.name), std::end(note.name), name);
        where = note.where;
      });
    }
    (void)TryWithMemory([&] {
      std::string text = absl::StrCat("ion: buffer '", Printable(name), "' of ", block.bytes,
                                      " bytes, of heap '", Printable(HeapNameOf(block)), "'");
      if (where.line != 0) absl::StrAppend(&text, ", allocated at ", where.file, ":", where.line);
      absl::StrAppend(&text, ", has ", block.mappings, " CpuMapping",
                      block.mappings == 1 ? "" : "s");
      if (block.mapping != nullptr) {
        const auto at = reinterpret_cast<uintptr_t>(block.mapping);
        absl::StrAppend(&text, "; all of it is mapped at 0x", absl::Hex(at));
      }
      std::fputs((text + ": end each mapping before its Buffer\n").c_str(), stderr);
    });
  }

  bool Owns(const Block& block) const noexcept { return SlabOf(block).owner == this; }
  std::optional<HeapId> HeapOf(const Block& block) const noexcept {
    if (block.heap == kImported) return std::nullopt;
    return kIds[block.heap];
  }

  // The name of the kernel heap that a block came from, or empty.
  // Its heap is bound, so no lock is needed.
  std::string_view HeapNameOf(const Block& block) const noexcept {
    std::string_view name;
    [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      (void)((kAt == block.heap && (name = std::get<kAt>(heaps)->name(), true)) || ...);
    }(Places{});
    return name;
  }

  // The Manager has gone.
  void Abandon() noexcept {
    if (InChild()) {
      // The thread is the parent's.
      (void)reclaimer.release();
      return;
    }
    reclaimer.reset();
    {
      std::lock_guard lock(bind_mutex);
      abandoned.store(true, std::memory_order_relaxed);
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    recycling.Shutdown();
    if (blocks.live() != 0) {
      backend.errors().Report(Error(EBUSY, "buffers outlive their Manager",
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
  void Drop() noexcept {
    // In a child the others that hold us may have been other threads.
    if (InChild()) return;
    if (owners.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  std::string_view NameOf(HeapId id) const noexcept {
    std::string_view name;
    Walk(*this, [&](const auto& heap, size_t at) {
      if (kIds[at] == id && heap.ok()) name = heap->name();
      return kIds[at] == id;
    });
    return name;
  }
  Properties Guarantees(HeapMask mask) const noexcept {
    std::optional<Properties> sure;
    Walk(*this, [&](const auto& heap, size_t at) {
      if (!heap.ok() || !mask.contains(kIds[at])) return false;
      sure = sure.has_value() ? Common(*sure, heap->properties()) : heap->properties();
      return false;
    });
    return sure.value_or(Properties{});
  }
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_MANAGER_CORE_H_
