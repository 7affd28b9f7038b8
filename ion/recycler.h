// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/recycler.h
//
// The contract of a recycler: a part between a Manager and one of its heaps that keeps the blocks
// which leases give up, and gives them out again. A Manager holds at most one for each heap
// (Recycled). policies/pooled_heap.h has one: PoolRecycler.
//
// A pool is known by its number, a multiple of LeaseToken::kPoolStep; 0 is no pool. A pool is of
// one trust domain and of one size. The hit path takes no lock and makes no system call, and uses
// neither heap memory nor a clock. Open and CloseDomain are called under a lock of
// the Manager, the others under none. Zeroing a block, proving that nobody else holds it, and
// giving it to the kernel are system calls: no lock that a request waits for is held over them.
//
// Example, a sentence for each broken rule:
//   static_assert(ion::RecyclerCheck<MyRecycler<H>, H, B>::kOk);
//
// Rules that a compiler cannot see:
//   Ensures: a block that goes from one trust domain to another is zeroed on the way.
//   Requires: all calls but Open may come from several threads at once.
#ifndef ION_ION_RECYCLER_H_
#define ION_ION_RECYCLER_H_

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/recycling.h"
#include "ion/request.h"

namespace ion {

// It is opened over a bound heap, which outlives it and stays in its place; `host` has the Manager's
// blocks and the bounds of idle memory.
template <class R, class H, class B>
concept RecyclerOpen = std::is_nothrow_move_constructible_v<R> &&
                       requires(const H& heap, B& backend, const PoolHost& host) {
                         { R::Open(heap, backend, host) } noexcept -> std::same_as<Result<R>>;
                       };

// Bounds. Ceiling: the bounds of idle memory if the program sets none (ManagerOptions::pools); no
// bound that it sets is above them. A recycler without such bounds returns zeros, and may ignore
// PoolHost::bounds.
template <class R>
concept RecyclerCeiling = requires {
  { R::Ceiling() } noexcept -> std::same_as<PoolBounds>;
};

// The hit path. PoolFor: the pool that serves a request of a domain; 0: only the slow path may.
// PagesOf: the pages of a block of that pool. TryAcquire: a block that the calling thread has at
// hand, or nullptr. TryAcquireZeroing: the same of a pool whose blocks are zeroed when they are
// taken, which may be system calls; nullptr also if the zeroing fails. TryRelease: takes a block back if the calling thread has room for it.
template <class R>
concept RecyclerHitPath =
    requires(R& r, const R& c, const Request& request, uint16_t slot, uint32_t pool, Block& block) {
      { c.PoolFor(request, slot) } noexcept -> std::same_as<uint32_t>;
      { c.PagesOf(pool) } noexcept -> std::same_as<uint64_t>;
      { r.TryAcquire(pool) } noexcept -> std::same_as<Block*>;
      { r.TryAcquireZeroing(pool) } noexcept -> std::same_as<Block*>;
      { r.TryRelease(pool, block) } noexcept -> std::same_as<bool>;
    };

// The same by way of the depot, which all threads share.
template <class R>
concept RecyclerDepotPath = requires(R& r, uint32_t pool, Block& block) {
  { r.AcquireFromDepot(pool) } noexcept -> std::same_as<Block*>;
  { r.ReleaseToDepot(pool, block) } noexcept -> std::same_as<bool>;
};

// The slow path. SearchIdle: any idle block that may serve the request, and its pool. BytesFor: the
// bytes that the heap is asked for if there is none. MostPercent: the largest memory that serves a
// request, idle or fresh, in percent of the request's whole pages. Adopt: makes a fresh block the
// recycler's, and returns its pool; 0: it is not recycled; an error: its memory cannot be used, and
// the heap takes it back. Owns: true if a block was adopted. ReleaseForReuse: takes an adopted
// block back; `was_shared`: others may hold a descriptor of it; false: it was not taken, and goes
// to the kernel. Disown: a block goes to the kernel.
template <class R>
concept RecyclerSlowPath = requires(R& r, const R& c, const Request& request, PoolDomain domain,
                                    Block& block, bool was_shared) {
  { r.SearchIdle(request, domain) } noexcept -> std::same_as<PooledBlock>;
  { c.BytesFor(request) } noexcept -> std::same_as<uint64_t>;
  { R::MostPercent() } noexcept -> std::same_as<uint32_t>;
  { r.Adopt(block, request, domain) } noexcept -> std::same_as<Result<uint32_t>>;
  { c.Owns(block) } noexcept -> std::same_as<bool>;
  { r.ReleaseForReuse(block, was_shared) } noexcept -> std::same_as<bool>;
  { r.Disown(block) } noexcept -> std::same_as<void>;
};

// Upkeep. Tick: time goes on, and blocks that nobody needed for too long go to the kernel. Trim:
// gives at least `bytes` of idle memory, or all of it, to the kernel, and returns the number of
// bytes. CloseDomain: a domain has lost its last client. Shutdown: the Manager has gone; once this
// has returned, the hit path finds nothing and takes nothing, and idle memory has gone to the
// kernel. A block that another path leaves in a pool at this moment, the next Trim finds.
template <class R>
concept RecyclerUpkeep = requires(R& r, uint64_t bytes, GiveBack why, PoolDomain domain) {
  { r.Tick() } noexcept -> std::same_as<void>;
  { r.Trim(bytes, why) } noexcept -> std::same_as<uint64_t>;
  { r.CloseDomain(domain) } noexcept -> std::same_as<void>;
  { r.Shutdown() } noexcept -> std::same_as<void>;
};

// Reports. ListIdle: adds the blocks that are idle at this moment, and stay so. ListPools: adds a
// report of each pool. unpooled: the leases that there was no pool for.
template <class R>
concept RecyclerReport =
    requires(R& r, const R& c, std::vector<const Block*>& idle, std::vector<PoolReport>& reports) {
      { r.ListIdle(idle) } -> std::same_as<void>;
      { r.ListPools(reports) } -> std::same_as<void>;
      { c.unpooled() } noexcept -> std::same_as<uint64_t>;
    };

template <class R, class H, class B>
concept Recycler =
    Heap<H, B> && RecyclerOpen<R, H, B> && RecyclerCeiling<R> && RecyclerHitPath<R> &&
    RecyclerDepotPath<R> && RecyclerSlowPath<R> && RecyclerUpkeep<R> && RecyclerReport<R>;

// One sentence per rule.
template <class R, class H, class B>
struct RecyclerCheck {
  static_assert(!H::kCaps.shares,
                "ion: a recycler keeps whole buffers of a kernel's heap: a carveout's blocks are "
                "ranges, and cost no system call to begin with");
  static_assert(RecyclerOpen<R, H, B>,
                "ion: a recycler needs `static Result<R> Open(const Heap&, Backend&, const "
                "PoolHost&) noexcept` and a noexcept move constructor");
  static_assert(RecyclerCeiling<R>,
                "ion: a recycler needs `static PoolBounds Ceiling() noexcept`: its bounds of idle "
                "memory, which ManagerOptions::pools may lower; PoolBounds{} if it has none");
  static_assert(RecyclerHitPath<R>,
                "ion: a recycler's hit path needs `uint32_t PoolFor(const Request&, uint16_t slot) "
                "const noexcept`, `uint64_t PagesOf(uint32_t pool) const noexcept`, `Block* "
                "TryAcquire(uint32_t pool) noexcept`, `Block* TryAcquireZeroing(uint32_t pool) "
                "noexcept` and `bool TryRelease(uint32_t pool, Block&) noexcept`");
  static_assert(RecyclerDepotPath<R>,
                "ion: a recycler's depot path needs `Block* AcquireFromDepot(uint32_t pool) "
                "noexcept` and `bool ReleaseToDepot(uint32_t pool, Block&) noexcept`");
  static_assert(
      RecyclerSlowPath<R>,
      "ion: a recycler's slow path needs `PooledBlock SearchIdle(const Request&, "
      "PoolDomain) noexcept`, `uint64_t BytesFor(const Request&) const noexcept`, "
      "`static uint32_t MostPercent() noexcept`, "
      "`Result<uint32_t> Adopt(Block&, const Request&, PoolDomain) noexcept`, `bool Owns(const "
      "Block&) const noexcept`, `bool ReleaseForReuse(Block&, bool was_shared) noexcept` "
      "and `void Disown(Block&) noexcept`");
  static_assert(RecyclerUpkeep<R>,
                "ion: a recycler's upkeep needs `void Tick() noexcept`, `uint64_t Trim(uint64_t "
                "bytes, GiveBack) noexcept`, `void CloseDomain(PoolDomain) noexcept` and `void "
                "Shutdown() noexcept`");
  static_assert(RecyclerReport<R>,
                "ion: a recycler's report needs `void ListIdle(std::vector<const Block*>&)`, `void "
                "ListPools(std::vector<PoolReport>&)` and `uint64_t unpooled() const noexcept`");
  static constexpr bool kOk = Recycler<R, H, B>;
};

// An element of a Manager's list: a heap, and a recycler over it. A type of one's own with these
// two names is such an element, too.
template <class H, class R>
struct Recycled {
  using Heap = H;
  using Recycler = R;
};

namespace internal {

struct NoRecycler {};

// The heap and the recycler of an element, which may be a heap alone.
template <class Element>
struct PartsOf {
  using Heap = Element;
  using Recycler = NoRecycler;
};
template <class Element>
  requires requires {
    typename Element::Heap;
    typename Element::Recycler;
  }
struct PartsOf<Element> {
  using Heap = typename Element::Heap;
  using Recycler = typename Element::Recycler;
};
template <class Element>
using HeapPart = typename PartsOf<Element>::Heap;
template <class Element>
using RecyclerPart = typename PartsOf<Element>::Recycler;
template <class Element>
inline constexpr bool kRecycled = !std::is_same_v<RecyclerPart<Element>, NoRecycler>;

// Each part of an element keeps its contract over B.
template <class Element, class B>
constexpr bool CheckElement() {
  if constexpr (kRecycled<Element>) {
    static_assert(RecyclerCheck<RecyclerPart<Element>, HeapPart<Element>, B>::kOk);
  }
  return HeapCheck<HeapPart<Element>, B>::kOk;
}

}  // namespace internal

}  // namespace ion

#endif  // ION_ION_RECYCLER_H_
