// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/manager_core.h
//
// What a Manager, its clients and their leases have in common: the backend, the heaps, the blocks.
// Lives until the last of them has gone.
//
// Not for users.
//
// Cost: the walk is a fold over the heaps; an allocation is one call of the backend. Thread-safe.
#ifndef ION_ION_MANAGER_CORE_H_
#define ION_ION_MANAGER_CORE_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
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
#include "ion/account.h"
#include "ion/asker.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_order.h"
#include "ion/keeper.h"
#include "ion/manager_report.h"
#include "ion/pool_domains.h"
#include "ion/recycling.h"
#include "ion/refusals.h"
#include "ion/region_domain.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/status.h"
#include "ion/wiped_pages.h"

namespace ion::internal {

static_assert(AccountId::kFreeBits == LeaseToken::kHeapBits + LeaseToken::kPoolBits);

template <class Order, Backend B, class... Hs>
struct ManagerCore {
  static constexpr std::array<HeapId, sizeof...(Hs)> kIds{Hs::kId...};
  static constexpr std::array<size_t, sizeof...(Hs)> kOrder = Sorted<Order>(kIds);
  static constexpr uint8_t kImported = 0xff;
  static constexpr const char* kBackendName = B::kName;
  static constexpr bool kCustoms = B::kCaps.customs;
  static constexpr bool kRecycles = (Hs::kCaps.recycles || ...);
  // Below what an Account can count, on a machine with the smallest pages.
  static constexpr uint64_t kMostBytes = uint64_t{1} << 50;

  // The type of heap `kId`.
  template <HeapId kId>
  static consteval size_t PlaceOf() {
    const auto at = std::ranges::find(kIds, kId);
    static_assert(((Hs::kId == kId) || ...), "ion: no heap of this Manager has this id");
    return static_cast<size_t>(at - kIds.begin());
  }
  template <HeapId kId>
  using HeapAt = std::tuple_element_t<PlaceOf<kId>(), std::tuple<Hs...>>;
  // Requires: it is bound.
  template <class H>
  const H& Heap() const noexcept {
    return *std::get<Result<H>>(heaps);
  }

  explicit ManagerCore(B&& opened) noexcept
      : backend(std::move(opened)), heaps(Hs::Bind(backend)...), blocks(&kOps, this) {
    Walk(*this, [&]<class H>(Result<H>& heap, size_t at) {
      if constexpr (H::kCaps.recycles) {
        if (heap.ok()) {
          const PoolHost host{blocks.all(), this, [](void* core, Block& block) noexcept {
                                Of(core).Destroy(block);
                                Of(core).forgotten.fetch_add(1, std::memory_order_relaxed);
                                Of(core).Drop();
                              }};
          if (Error error = heap->UseBlocks(host); !error.ok()) {
            std::destroy_at(&heap);
            std::construct_at(&heap, error);
          }
        }
      }
      if (!heap.ok()) return false;
      bound = bound | kIds[at];
      if (!heap->properties().contiguous) usual = usual | kIds[at];
      return false;
    });
    nobody.bound = bound;
    nobody.usual = usual;
    if (alive != nullptr) *alive = 1;
  }
  ~ManagerCore() {
    if (alive != nullptr) UnmapWiped(alive, sizeof(*alive));
  }

  // What stands for a heap where memory came from somebody else.
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
  std::tuple<Result<Hs>...> heaps;
  BlockTable blocks;
  HeapMask bound;  // the heaps that have memory
  HeapMask usual;  // those of them that a request without a mask is served from
  std::array<RegionDomain, sizeof...(Hs)> regions;  // of the heaps whose blocks are ranges
  std::mutex domains_mutex;
  std::map<std::string, uint64_t> domains;  // those with a name
  uint64_t last_domain = Asker::kOwnDomain;
  Asker nobody;  // who asks the Manager itself
  PoolDomains pool_domains;
  // In a page that a forked child finds zero; nullptr: there was no memory, and a child is not
  // told.
  uint32_t* const alive = static_cast<uint32_t*>(MapWiped(sizeof(uint32_t)));
  std::mutex keeper_mutex;
  std::unique_ptr<Keeper<>> keeper;    // where the user wanted one
  std::atomic<size_t> owners{1};       // the Manager, each client, each block
  std::atomic<bool> abandoned{false};  // the Manager has gone: nothing is recycled any more
  std::atomic<uint64_t> forgotten{0};  // blocks that went from pools to the kernel

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
  };

  static uint64_t Pages(uint64_t bytes) noexcept {
    return bytes / PageBytes() + (bytes % PageBytes() != 0 ? 1 : 0);
  }

  // Calls f(heap's Result, its place) for each heap, in the order of trial, until f says true.
  template <class Self, class F>
  static bool Walk(Self& self, F f) noexcept {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return (f(std::get<kOrder[kAt]>(self.heaps), kOrder[kAt]) || ...);
    }
    (std::index_sequence_for<Hs...>{});
  }
  // f(the heap that a block came from).
  template <class F>
  auto WithHeapOf(const Block& block, F f) noexcept {
    if (block.heap == kImported) return f(imports);
    decltype(f(imports)) answer =
        Error(EINVAL, "the block is of no heap", {B::kName, Operation::kRelease});
    Walk(*this, [&](auto& heap, size_t at) {
      if (at != block.heap) return false;
      answer = f(*heap);
      return true;
    });
    return answer;
  }

  // On the asker's account, from the heaps that both want. Strict: a heap's pool, then its kernel,
  // then the next heap.
  [[gnu::always_inline]] absl::StatusOr<Buffer> Allocate(const Request& request, const Asker& asker,
                                                         CallSite where) noexcept {
    if constexpr (kRecycles) {
      LeaseToken token;
      Block* block = Recycled</*kOnTrip=*/false>(request, asker, token);
      if (block != nullptr) [[likely]]
        return LeaseAccess::Make(block, token);
      return AllocateOnTrip(request, asker, where);
    }
    return AllocateSlow(request, asker, where);
  }
  // From what the threads share, before the slow way.
  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateOnTrip(const Request& request,
                                                          const Asker& asker,
                                                          CallSite where) noexcept {
    LeaseToken token;
    Block* block = Recycled</*kOnTrip=*/true>(request, asker, token);
    absl::StatusOr<Buffer> buffer =
        block != nullptr ? LeaseAccess::Make(block, token) : AllocateSlow(request, asker, where);
    TrimIfAbandoned();
    return buffer;
  }

  // From the pool of the first heap that the mask names; nullptr: the slow way. No lambda, here and
  // in Recycle: g++ keeps what one captures in memory.
  template <bool kOnTrip>
  [[gnu::always_inline]] Block* Recycled(const Request& request, const Asker& asker,
                                         LeaseToken& token) noexcept {
    HeapMask mask = asker.usual;
    if (request.heaps.has_value()) [[unlikely]]
      mask = *request.heaps & asker.bound;
    return RecycledFrom<kOnTrip>(std::index_sequence_for<Hs...>{}, mask, request, asker, token);
  }
  template <bool kOnTrip, size_t... kAt>
  [[gnu::always_inline]] Block* RecycledFrom(std::index_sequence<kAt...>, HeapMask mask,
                                             const Request& request, const Asker& asker,
                                             LeaseToken& token) noexcept {
    Block* block = nullptr;
    (void)((mask.contains(kIds[kOrder[kAt]]) &&
            (block = RecycledAt<kOnTrip, kOrder[kAt]>(request, asker, token), true)) ||
           ...);
    return block;
  }
  template <bool kOnTrip, size_t kAt>
  [[gnu::always_inline]] Block* RecycledAt(const Request& request, const Asker& asker,
                                           LeaseToken& token) noexcept {
    auto& heap = std::get<kAt>(heaps);
    if constexpr (std::decay_t<decltype(*heap)>::kCaps.recycles) {
      const uint32_t pool = heap->PoolOf(request, asker.pools.slot);
      if (pool == 0) [[unlikely]]
        return nullptr;
      const AccountId account = asker.account;
      const uint64_t pages = heap->PoolPages(pool);
      if (!account.Take(pages)) [[unlikely]]
        return nullptr;
      token = LeaseToken::Of(account.bits(), pool, kAt);
      Block* block = kOnTrip ? heap->AcquireOnTrip(pool) : heap->TryAcquire(pool);
      if (block == nullptr) [[unlikely]]
        account.Give(pages);
      return block;
    }
    return nullptr;
  }

  [[gnu::noinline]] absl::StatusOr<Buffer> AllocateSlow(const Request& request, const Asker& asker,
                                                        CallSite where) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
    if (InChild()) return ToStatus(InheritedError(origin));
    if (request.bytes == 0) return ToStatus(Error(EINVAL, "a request of 0 bytes", origin));
    if (HasUnknownBits(request.flags)) {
      return ToStatus(Error(EINVAL, "a flag that has no name", origin));
    }
    if (request.bytes > kMostBytes) {
      return ToStatus(Error(ENOMEM, "more than any machine has", origin));
    }
    const uint64_t pages = Pages(request.bytes);
    if (!asker.account.Take(pages)) return PastQuota(B::kName, asker, request);
    bool shortage = false;
    const uint64_t before = forgotten.load(std::memory_order_relaxed);
    absl::StatusOr<Buffer> buffer = AllocateCharged(request, asker, pages, where, shortage);
    if (shortage) {
      Trim(UINT64_MAX, GiveBack::kShortage);
      // Where several are short at once, the first of them has emptied the pools for all.
      if (forgotten.load(std::memory_order_relaxed) != before) {
        buffer = AllocateCharged(request, asker, pages, where, shortage);
      }
    }
    if (!buffer.ok()) asker.account.Give(pages);
    return buffer;
  }

  // The rest of Allocate, once `pages` are charged. Where it fails they still are, and `shortage`
  // tells whether some heap was short of something: the last one's errno may be another.
  absl::StatusOr<Buffer> AllocateCharged(const Request& request, const Asker& asker, uint64_t pages,
                                         CallSite where, bool& shortage) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, {}, request.bytes};
    const HeapMask mask = request.heaps.value_or(usual) & asker.heaps;
    Block* block = nullptr;
    bool fresh = true;
    int code = ENODEV;
    std::string tried;
    uint32_t pool = 0;
    const bool found = Walk(*this, [&](auto& heap, size_t at) {
      if (!mask.contains(kIds[at])) return false;
      Error error = heap.ok() ? Error() : heap.error();
      if constexpr (std::decay_t<decltype(*heap)>::kCaps.recycles) {
        const PooledBlock idle =
            error.ok() ? heap->AcquireSlow(request, asker.pools) : PooledBlock();
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
      if (block == nullptr) block = blocks.New();
      if (error.ok() && block == nullptr) error = Error(ENOMEM, "operator new: a block", origin);
      const bool ranges = std::decay_t<decltype(*heap)>::kCaps.shares;
      bool foreign = ranges && regions[at].Refuses(asker.domain);
      if (error.ok() && !foreign) error = heap->Allocate(request, *block);
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
        if constexpr (std::decay_t<decltype(*heap)>::kCaps.recycles) {
          pool = heap->Adopt(*block, request, asker.pools);
        }
        return true;
      }
      code = error.code();
      shortage = shortage || IsShortage(code);
      absl::StrAppend(&tried, tried.empty() ? "" : "; ", "heap ", kIds[at].value(), ": ",
                      Describe(error));
      return false;
    });
    shortage = shortage && !found;
    if (!found) {
      if (block != nullptr) blocks.Delete(block);
      if (tried.empty()) return ToStatus(NoHeap(request, bound, usual, origin));
      return MakeStatus(code, tried);
    }
    if (fresh && !TakeMore(asker, *block, pages)) {
      Destroy(*block);
      return PastQuota(B::kName, asker, request);
    }
    const LeaseToken token = LeaseToken::Of(asker.account.bits(), pool, block->heap);
    BlockNote note = Note(*block, request.name, asker, where);
    if (fresh) return Lease(block, token, std::move(note));
    blocks.List(*block, std::move(note));
    return LeaseAccess::Make(block, token);
  }

  // A heap may give more than was asked for. False: the quota has no room for what is beyond
  // `pages`.
  static bool TakeMore(const Asker& asker, const Block& block, uint64_t pages) noexcept {
    const uint64_t more = Pages(block.bytes) - pages;
    return more == 0 || asker.account.Take(more);
  }

  Result<Buffer> Import(FdRef fd, const Asker& asker, CallSite where) noexcept {
    Block* block = blocks.New();
    if (block == nullptr) {
      return Error(ENOMEM, "operator new: a block", {B::kName, Operation::kImport});
    }
    if (Error error = backend.Import(fd, *block); !error.ok()) {
      blocks.Delete(block);
      return error;
    }
    block->heap = kImported;
    return Lease(block, LeaseToken(), Note(*block, {}, asker, where));
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
    return Error(ENOTSUP, "its descriptor is its neighbours', too",
                 {B::kName, Operation::kName, {}, block.bytes});
  }
  // A descriptor that leads to more than the block, for those who may see all of it: where nobody
  // but `domain` has memory in the region, and from here on nobody will.
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

  // Whether the block's descriptor leads to other memory as well.
  bool SharesItsDescriptor(const Block& block) const noexcept {
    return Walk(*this, [&](const auto& heap, size_t at) {
      return at == block.heap && std::decay_t<decltype(*heap)>::kCaps.shares;
    });
  }

  [[gnu::always_inline]] void Release(Block& block, LeaseToken token) noexcept {
    if constexpr (kRecycles) {
      if (Recycle</*kOnTrip=*/false>(block, token)) [[likely]]
        return;
    }
    ReleaseOnTrip(block, token);
  }
  [[gnu::noinline]] void ReleaseOnTrip(Block& block, LeaseToken token) noexcept {
    if (InChild()) return LetGo(block);
    if constexpr (kRecycles) {
      // Once the block lies in a pool, somebody else may take it from there, and be our last owner.
      owners.fetch_add(1, std::memory_order_relaxed);
      if (abandoned.load(std::memory_order_relaxed) || !Recycle</*kOnTrip=*/true>(block, token)) {
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
  // A child made by fork has a copy of all we know, and of our locks: what it inherited it lets go
  // of by closing its own descriptor, and nothing else.
  bool InChild() const noexcept { return alive != nullptr && *alive == 0; }
  static Error InheritedError(const Origin& origin) noexcept {
    return Error(EPERM, "the Manager is the parent's", origin,
                 "open one in the child: of what a fork inherits it can only let go");
  }
  void LetGo(Block& block) noexcept {
    if (!SharesItsDescriptor(block)) backend.errors().Report(backend.Abandon(block));
  }
  // False: it was not taken.
  bool RecycleSlow(Block& block, bool shared) noexcept {
    if (!kRecycles || abandoned.load(std::memory_order_relaxed)) return false;
    return Walk(*this, [&]<class H>(Result<H>& heap, size_t at) {
      if constexpr (H::kCaps.recycles) {
        if (at != block.heap) return false;
        // First: once it lies in a pool it may be somebody else's.
        if (shared) blocks.Amend(block, [](BlockNote& note) { note.orphaned = false; });
        return heap->RecycleSlow(block, shared);
      }
      return false;
    });
  }
  // f(heap) for each that recycles.
  template <class F>
  void ForEachRecycling(F f) {
    Walk(*this, [&]<class H>(Result<H>& heap, size_t) {
      if constexpr (H::kCaps.recycles) {
        if (heap.ok()) f(*heap);
      }
      return false;
    });
  }
  // Returns how many bytes went back to the kernel. In a child all of it is the parent's.
  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    if (InChild()) return 0;
    uint64_t given = 0;
    ForEachRecycling([&](auto& heap) {
      if (given < bytes) given += heap.Trim(bytes - given, why);
    });
    return given;
  }
  void Tick() noexcept {
    if (InChild()) return;
    ForEachRecycling([](auto& heap) { heap.Tick(); });
  }
  Error StartKeeper(const KeeperOptions& options) noexcept {
    const Origin origin{B::kName, Operation::kOpen};
    if (InChild()) return InheritedError(origin);
    std::lock_guard lock(keeper_mutex);
    if (keeper != nullptr) return Error(EALREADY, "the Manager has a keeper", origin);
    const Keeper<>::Duties duties{
        .context = this,
        .tick = [](void* core) noexcept { Of(core).Tick(); },
        .relieve = [](void* core,
                      uint64_t bytes) noexcept { Of(core).Trim(bytes, GiveBack::kPressure); }};
    keeper.reset(new (std::nothrow) Keeper<>(duties));
    if (keeper == nullptr) return Error(ENOMEM, "operator new: a keeper", origin);
    const Error error = keeper->Start(options);
    if (!keeper->running()) keeper.reset();
    return error;
  }
  void LeavePools(PoolDomain domain) noexcept {
    pool_domains.Leave(domain,
                       [&] { ForEachRecycling([&](auto& heap) { heap.CloseDomain(domain); }); });
  }
  static bool IsShortage(int code) noexcept {
    return code == ENOMEM || code == ENFILE || code == EMFILE;
  }
  // False: it was not taken.
  template <bool kOnTrip>
  [[gnu::always_inline]] bool Recycle(Block& block, LeaseToken token) noexcept {
    return RecycleTo<kOnTrip>(std::index_sequence_for<Hs...>{}, block, token);
  }
  template <bool kOnTrip, size_t... kAt>
  [[gnu::always_inline]] bool RecycleTo(std::index_sequence<kAt...>, Block& block,
                                        LeaseToken token) noexcept {
    return (RecycleAt<kOnTrip, kAt>(block, token) || ...);
  }
  template <bool kOnTrip, size_t kAt>
  [[gnu::always_inline]] bool RecycleAt(Block& block, LeaseToken token) noexcept {
    auto& heap = std::get<kAt>(heaps);
    if constexpr (std::decay_t<decltype(*heap)>::kCaps.recycles) {
      if (token.heap() != kAt) return false;
      // Before: what is behind the pool's stores is loaded again.
      const uint32_t pool = token.pool();
      const uint64_t pages = heap->PoolPages(pool);
      if (!(kOnTrip ? heap->RecycleOnTrip(pool, block) : heap->TryRecycle(pool, block)))
          [[unlikely]] {
        return false;
      }
      AccountId::FromBits(token.word).Give(pages);
      return true;
    }
    return false;
  }
  // Gives the memory back, and forgets the block.
  void Destroy(Block& block) noexcept {
    backend.errors().Report(WithHeapOf(block, [&](auto& heap) { return heap.Free(block); }));
    blocks.Delete(&block);
  }

  // The mapping of a whole block is made once, as far-reaching as its descriptor allows, and
  // kept. Where its owner has forbidden writing since we looked, who only reads gets a mapping of
  // his own.
  Result<std::byte*> Map(Block& block, uint64_t offset, uint64_t bytes, MapMode mode) noexcept {
    // A child has not the mapping that a pooled block keeps.
    if (InChild()) return InheritedError({B::kName, Operation::kMap, {}, bytes});
    const auto map = [&](MapMode how) {
      return WithHeapOf(block, [&](auto& heap) { return heap.Map(block, offset, bytes, how); });
    };
    const bool whole = offset == 0 && bytes == block.bytes;
    if (!whole || (mode == MapMode::kWritable && !block.writable)) return map(mode);
    if (block.mapping != nullptr) return block.mapping;
    Result<std::byte*> at = map(block.writable ? MapMode::kWritable : MapMode::kReadOnly);
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

  bool Owns(const Block& block) const noexcept { return SlabOf(block).owner == this; }
  std::optional<HeapId> HeapOf(const Block& block) const noexcept {
    if (block.heap == kImported) return std::nullopt;
    return kIds[block.heap];
  }

  // The Manager has gone.
  void Abandon() noexcept {
    if (InChild()) {
      // The thread is the parent's.
      (void)keeper.release();
      return;
    }
    keeper.reset();
    abandoned.store(true, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    ForEachRecycling([](auto& heap) { heap.Close(); });
    if (blocks.live() != 0) {
      backend.errors().Report(Error(EBUSY, "buffers outlive their Manager",
                                    {B::kName, Operation::kRelease},
                                    "release them first; their memory lives until then"));
      std::fputs(LeakText(MakeReport(*this)).c_str(), stderr);
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

#endif  // ION_ION_MANAGER_CORE_H_
