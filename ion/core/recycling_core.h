// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/recycling_core.h
//
// RecyclingCore: the recyclers of a Manager (ion/recycler.h), one for each element of its list that
// has one, and the trust domains that their pools belong to. It charges a hit to the client's
// account. It knows no heap but to open a recycler, and gives no memory to the kernel.
//
// Not for users.
//
// Cost: a hit is a charge and two calls of the recycler, all inlined. Thread-safe but for Open,
// which is under the Manager's mutex of binding.
#ifndef ION_ION_CORE_RECYCLING_CORE_H_
#define ION_ION_CORE_RECYCLING_CORE_H_

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/core/account.h"
#include "ion/core/asker.h"
#include "ion/core/growing_mask.h"
#include "ion/core/heap_order.h"
#include "ion/core/pool_domains.h"
#include "ion/heap_id.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"

namespace ion::internal {

// The source of a block: the calling thread's hand; the same, and it is zeroed first; the depot,
// which all threads share.
enum class From { kHand, kDirtyHand, kDepot };

template <class Order, Backend B, class... Elements>
class RecyclingCore {
 public:
  static constexpr bool kAny = (kRecycled<Elements> || ...);
  // True if the element at `kAt` has a recycler.
  template <size_t kAt>
  static constexpr bool kHas = kRecycled<std::tuple_element_t<kAt, std::tuple<Elements...>>>;

  // Opens the recycler over a heap that was bound, before any request is served from it.
  template <size_t kAt, class H>
  Error Open(const H& heap, B& backend, const PoolHost& host) noexcept {
    auto& slot = std::get<kAt>(recyclers_);
    using Recycler = std::decay_t<decltype(*slot)>;
    std::destroy_at(&slot);
    std::construct_at(&slot, Recycler::Open(heap, backend, host));
    if (slot.ok()) open_.Add(kIds[kAt]);
    return slot.error();
  }

  // --- the hit path, and that by way of the depots -----------------------------------------------

  // A block from the pool of the first heap that the request names, charged to the asker; nullptr:
  // the slow path has to be asked. No lambda, here and in Release: g++ keeps what one captures in
  // memory.
  template <From kFrom>
  [[gnu::always_inline]] Block* Acquire(const Request& request, const Asker& asker,
                                        LeaseToken& token) noexcept {
    HeapMask mask = asker.usual;
    if (request.heaps.has_value()) [[unlikely]]
      mask = *request.heaps & asker.bound;
    return AcquireFrom<kFrom>(kPlaces, mask, request, asker, token);
  }
  // Takes a block back into the pool that its token names, and its pages off the account. False: it
  // was not taken.
  template <bool kToDepot>
  [[gnu::always_inline]] bool Release(Block& block, LeaseToken token) noexcept {
    return ReleaseTo<kToDepot>(kPlaces, block, token);
  }

  // --- the slow path -----------------------------------------------------------------------------

  // Requires of the functions with a place: the heap there is bound.
  template <size_t kAt>
  PooledBlock SearchIdle(const Request& request, const Asker& asker) noexcept {
    if constexpr (kHas<kAt>) return std::get<kAt>(recyclers_)->SearchIdle(request, asker.pools);
    return {};
  }
  // The request that the heap is asked for fresh memory with: of a whole size class.
  template <size_t kAt>
  Request Whole(const Request& request) const noexcept {
    Request whole = request;
    if constexpr (kHas<kAt>) whole.bytes = std::get<kAt>(recyclers_)->BytesFor(request);
    return whole;
  }
  // The pool of a fresh block; 0: none. An error: its memory cannot be used.
  template <size_t kAt>
  Result<uint32_t> Adopt(Block& block, const Request& request, const Asker& asker) noexcept {
    if constexpr (kHas<kAt>) return std::get<kAt>(recyclers_)->Adopt(block, request, asker.pools);
    return 0u;
  }
  // Returns true if a recycler adopted the block.
  bool Owns(const Block& block) noexcept {
    return With(block, [&](auto& recycler) { return recycler.Owns(block); });
  }
  // False: it was not taken, and goes to the kernel.
  bool ReleaseForReuse(Block& block, bool was_shared) noexcept {
    return With(block, [&](auto& recycler) { return recycler.ReleaseForReuse(block, was_shared); });
  }
  // The block goes to the kernel.
  void Disown(Block& block) noexcept {
    With(block, [&](auto& recycler) { return recycler.Disown(block), true; });
  }

  // --- upkeep ------------------------------------------------------------------------------------

  // For one more client; its pools' domain.
  PoolDomain Join(std::string_view name, bool as_is) { return domains_.Join(name, as_is); }
  // A client has gone.
  void Leave(PoolDomain domain) noexcept {
    domains_.Leave(domain, [&] { ForEach([&](auto& recycler) { recycler.CloseDomain(domain); }); });
  }
  // Returns how many bytes went to the kernel.
  uint64_t Trim(uint64_t bytes, GiveBack why) noexcept {
    uint64_t given = 0;
    ForEach([&](auto& recycler) {
      // All is all, also for the second.
      const uint64_t left = bytes == UINT64_MAX ? bytes : bytes - given;
      if (given < bytes || bytes == 0) given += recycler.Trim(left, why);
    });
    return given;
  }
  void Tick() noexcept {
    ForEach([](auto& recycler) { recycler.Tick(); });
  }
  void Shutdown() noexcept {
    ForEach([](auto& recycler) { recycler.Shutdown(); });
  }
  // Adds the idle blocks, and the pools' counters.
  void List(std::vector<const Block*>& idle, Report& report) {
    ForEach([&](auto& recycler) {
      recycler.ListIdle(idle);
      recycler.ListPools(report.pools);
      report.unpooled += recycler.unpooled();
    });
  }

 private:
  static constexpr std::array<HeapId, sizeof...(Elements)> kIds{HeapPart<Elements>::kId...};
  static constexpr std::array<size_t, sizeof...(Elements)> kOrder = Sorted<Order>(kIds);
  static constexpr std::index_sequence_for<Elements...> kPlaces{};

  template <From kFrom, size_t... kAt>
  [[gnu::always_inline]] Block* AcquireFrom(std::index_sequence<kAt...>, HeapMask mask,
                                            const Request& request, const Asker& asker,
                                            LeaseToken& token) noexcept {
    Block* block = nullptr;
    (void)((mask.contains(kIds[kOrder[kAt]]) &&
            (block = AcquireAt<kFrom, kOrder[kAt]>(request, asker, token), true)) ||
           ...);
    return block;
  }
  template <From kFrom, size_t kAt>
  [[gnu::always_inline]] Block* AcquireAt(const Request& request, const Asker& asker,
                                          LeaseToken& token) noexcept {
    if constexpr (kHas<kAt>) {
      auto& recycler = std::get<kAt>(recyclers_);
      const uint32_t pool = recycler->PoolFor(request, asker.pools.slot);
      if (pool == 0) [[unlikely]]
        return nullptr;
      const AccountId account = asker.account;
      const uint64_t pages = recycler->PagesOf(pool);
      if (!account.Take(pages)) [[unlikely]]
        return nullptr;
      token = LeaseToken::Of(account.bits(), pool, kAt);
      Block* block = kFrom == From::kHand        ? recycler->TryAcquire(pool)
                     : kFrom == From::kDirtyHand ? recycler->TryAcquireZeroing(pool)
                                                 : recycler->AcquireFromDepot(pool);
      if (block == nullptr) [[unlikely]]
        account.Give(pages);
      return block;
    }
    return nullptr;
  }
  template <bool kToDepot, size_t... kAt>
  [[gnu::always_inline]] bool ReleaseTo(std::index_sequence<kAt...>, Block& block,
                                        LeaseToken token) noexcept {
    return (ReleaseAt<kToDepot, kAt>(block, token) || ...);
  }
  template <bool kToDepot, size_t kAt>
  [[gnu::always_inline]] bool ReleaseAt(Block& block, LeaseToken token) noexcept {
    if constexpr (kHas<kAt>) {
      if (token.heap() != kAt) return false;
      auto& recycler = std::get<kAt>(recyclers_);
      // Before: words behind the pool's stores would be loaded again.
      const uint32_t pool = token.pool();
      const uint64_t pages = recycler->PagesOf(pool);
      if (!(kToDepot ? recycler->ReleaseToDepot(pool, block) : recycler->TryRelease(pool, block)))
          [[unlikely]] {
        return false;
      }
      AccountId::FromBits(token.word).Give(pages);
      return true;
    }
    return false;
  }

  // f(the recycler of the heap that a block came from); false where there is none.
  template <class F>
  bool With(const Block& block, F f) noexcept {
    return [&]<size_t... kAt>(std::index_sequence<kAt...>) {
      return (WithAt<kAt>(block, f) || ...);
    }(kPlaces);
  }
  template <size_t kAt, class F>
  bool WithAt(const Block& block, F& f) noexcept {
    if constexpr (kHas<kAt>) {
      if (block.heap == kAt) return f(*std::get<kAt>(recyclers_));
    }
    return false;
  }
  // f(recycler) for each that is open, in the order of trial.
  template <class F>
  void ForEach(F f) {
    [&]<size_t... kAt>(std::index_sequence<kAt...>) { (ForOne<kOrder[kAt]>(f), ...); }(kPlaces);
  }
  template <size_t kAt, class F>
  void ForOne(F& f) {
    if constexpr (kHas<kAt>) {
      if (open_.contains(kIds[kAt])) f(*std::get<kAt>(recyclers_));
    }
  }

  template <class Element>
  static Result<RecyclerPart<Element>> NotOpen() noexcept {
    return Error(ENODEV, "the heap is not bound", {B::kName, Operation::kOpen});
  }

  std::tuple<Result<RecyclerPart<Elements>>...> recyclers_{NotOpen<Elements>()...};
  GrowingMask open_;  // the recyclers of the others nobody may use
  PoolDomains domains_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_RECYCLING_CORE_H_
