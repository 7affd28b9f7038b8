// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap.h
//
// The contract of a heap policy: the userspace twin of ION's ion_heap_ops. A heap says how memory
// of one kind is obtained from a backend, and how it goes back. Heaps are put together in a
// Manager.
//
// Example:
//   static_assert(ion::HeapCheck<MyHeap<ion::BackendArchetype>, ion::BackendArchetype>::kOk);
//
// Rules that a compiler cannot see:
//   Ensures: after Allocate the block is filled, or an Error says why and the block is empty; Free
//     leaves the block empty whatever it answers.
//   Requires: Allocate and Free may come from several threads at once, Map for one block from one.
#ifndef ION_ION_HEAP_H_
#define ION_ION_HEAP_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// The abilities of a heap beyond the contract. A bit without its hook, or a hook without its bit,
// does not compile.
struct HeapCaps {
  bool shares = false;      // Share: its blocks are no whole buffers, which the backend could share
  bool syncs = false;       // BeginCpuAccess and EndCpuAccess: its memory is not the backend's
  bool knows_phys = false;  // Phys: a block's physical address
  bool knows_layout = false;  // SegmentAt: a block's physical runs
  bool named_only = false;    // NamedOnly: if only requests that name it get its memory
  bool frames = false;        // MakesFrames: if its driver makes frames by its own rules

  friend constexpr bool operator==(const HeapCaps&, const HeapCaps&) = default;
};

// A physical run of a block, in bytes from the block's start.
struct Segment {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::optional<uint64_t> phys = std::nullopt;  // its address, if the heap knows

  friend constexpr bool operator==(const Segment&, const Segment&) = default;
};

// It has an id, which is its place in masks and in the order of trial, and a type, and says what it
// can do.
template <class H>
concept HeapIdentity = std::is_nothrow_move_constructible_v<H> && requires {
  { H::kId } -> std::same_as<const HeapId&>;
  { H::kType } -> std::same_as<const HeapType&>;
  { H::kCaps } -> std::same_as<const HeapCaps&>;
};

// It finds its memory in a backend, or says why there is none. The backend outlives the heap.
template <class H, class B>
concept HeapBind = requires(B& backend) {
  { H::Bind(backend) } noexcept -> std::same_as<Result<H>>;
};

// It says what all of its memory is.
template <class H>
concept HeapProperties = requires(const H& h) {
  { h.name() } noexcept -> std::same_as<std::string_view>;
  { h.properties() } noexcept -> std::same_as<const Properties&>;
};

// ion_heap_ops.allocate and free.
template <class H>
concept HeapAllocate = requires(H& h, const Request& request, Block& block) {
  { h.Allocate(request, block) } noexcept -> std::same_as<Error>;
  { h.Free(block) } noexcept -> std::same_as<Error>;
};

// ion_heap_ops.map_kernel and map_user, which are the same act here, and unmap_kernel.
template <class H>
concept HeapMap = requires(H& h, const Block& block, uint64_t offset, uint64_t bytes, MapMode mode,
                           std::byte* at) {
  { h.Map(block, offset, bytes, mode) } noexcept -> std::same_as<Result<std::byte*>>;
  { h.Unmap(at, bytes) } noexcept -> std::same_as<Error>;
};

namespace internal {

// Returns a new descriptor that covers exactly this block, always of the same dma-buf. Error if the
// only descriptor would expose neighbouring blocks.
template <class H>
concept HasShare = requires(H& h, const Block& block) {
  { h.Share(block) } noexcept -> std::same_as<Result<UniqueFd>>;
};
template <class H>
concept NamesShare = requires { &H::Share; };

// In place of the backend's.
template <class H>
concept HasSync = requires(H& h, const Block& block, Direction direction) {
  { h.BeginCpuAccess(block, direction) } noexcept -> std::same_as<Error>;
  { h.EndCpuAccess(block, direction) } noexcept -> std::same_as<Error>;
};
template <class H>
concept NamesBegin = requires { &H::BeginCpuAccess; };
template <class H>
concept NamesEnd = requires { &H::EndCpuAccess; };

// The physical address of a filled block of this heap.
template <class H>
concept HasPhys = requires(const H& h, const Block& block) {
  { h.Phys(block) } noexcept -> std::same_as<uint64_t>;
};
template <class H>
concept NamesPhys = requires { &H::Phys; };

// Returns the whole run of a filled block of this heap that starts at `offset`, as
// ion_heap_ops.map_dma listed them. There is nothing to unmap.
template <class H>
concept HasSegmentAt = requires(const H& h, const Block& block, uint64_t offset) {
  { h.SegmentAt(block, offset) } noexcept -> std::same_as<Segment>;
};
template <class H>
concept NamesSegmentAt = requires { &H::SegmentAt; };

// Returns true if a request gets the heap's memory only by naming the heap in its mask, though the
// heap does not declare contiguous memory. The same for the heap's life.
template <class H>
concept HasNamedOnly = requires(const H& h) {
  { h.NamedOnly() } noexcept -> std::same_as<bool>;
};

// Returns true if Allocate serves a request's frame by its driver's rules, and bytes that lie idle
// are none. The same for the heap's life.
template <class H>
concept HasMakesFrames = requires(const H& h) {
  { h.MakesFrames() } noexcept -> std::same_as<bool>;
};

}  // namespace internal

// Its optional hooks and its kCaps say the same (internal::HookRule, ion/backend.h).
template <class H>
concept HeapShareHook =
    internal::HookRule<H::kCaps.shares, internal::HasShare<H>, internal::NamesShare<H>>;
template <class H>
concept HeapSyncHook = internal::HookRule<H::kCaps.syncs, internal::HasSync<H>,
                                          internal::NamesBegin<H> || internal::NamesEnd<H>>;
template <class H>
concept HeapPhysHook =
    internal::HookRule<H::kCaps.knows_phys, internal::HasPhys<H>, internal::NamesPhys<H>>;
template <class H>
concept HeapLayoutHook = internal::HookRule<H::kCaps.knows_layout, internal::HasSegmentAt<H>,
                                            internal::NamesSegmentAt<H>>;
// A heap that is derived from one that has the hook need not declare it.
template <class H>
concept HeapNamedOnlyHook = !H::kCaps.named_only || internal::HasNamedOnly<H>;
template <class H>
concept HeapFrameHook = !H::kCaps.frames || internal::HasMakesFrames<H>;
template <class H, class B>
concept Heap = Backend<B> && HeapIdentity<H> && HeapBind<H, B> && HeapProperties<H> &&
               HeapAllocate<H> && HeapMap<H> && HeapShareHook<H> && HeapSyncHook<H> &&
               HeapPhysHook<H> && HeapLayoutHook<H> && HeapNamedOnlyHook<H> && HeapFrameHook<H>;

// The physical address of a block, if its heap's type knows it.
template <HeapIdentity H>
uint64_t PhysOf(const H& heap, const Block& block) noexcept {
  static_assert(H::kCaps.knows_phys,
                "ion: this heap does not know where its memory lies: only one that declares "
                "kCaps.knows_phys does, such as a CarveoutHeap over a PhysRegion");
  if constexpr (H::kCaps.knows_phys) return heap.Phys(block);
  return 0;
}

// Calls f(segment) for each physical run of a block, in order, if its heap's type knows them.
template <HeapIdentity H, class F>
void ForEachSegment(const H& heap, const Block& block, F f) noexcept {
  static_assert(H::kCaps.knows_layout,
                "ion: this heap does not know how its memory lies: only one that declares "
                "kCaps.knows_layout does, such as a DmaHeap");
  if constexpr (H::kCaps.knows_layout) {
    for (uint64_t offset = 0; offset < block.bytes;) {
      const Segment segment = heap.SegmentAt(block, offset);
      f(segment);
      offset += segment.bytes;
    }
  }
}

// One sentence per rule.
template <class H, class B>
struct HeapCheck {
  static_assert(
      HeapIdentity<H>,
      "ion: a heap needs `static constexpr HeapId kId`, `static constexpr HeapType kType`, `static "
      "constexpr HeapCaps kCaps`, and a noexcept move constructor");
  static_assert(HeapBind<H, B>, "ion: a heap needs `static Result<H> Bind(Backend&) noexcept`");
  static_assert(HeapProperties<H>,
                "ion: a heap needs `std::string_view name() const noexcept` and "
                "`const Properties& properties() const noexcept`");
  static_assert(HeapAllocate<H>,
                "ion: a heap needs `Error Allocate(const Request&, Block&) noexcept` and "
                "`Error Free(Block&) noexcept`");
  static_assert(HeapMap<H>,
                "ion: a heap needs `Result<std::byte*> Map(const Block&, uint64_t offset, uint64_t "
                "bytes, MapMode) noexcept` and `Error Unmap(std::byte*, uint64_t) noexcept`");
  static_assert(!HeapIdentity<H> || HeapShareHook<H>,
                "ion: kCaps.shares and `Result<UniqueFd> Share(const Block&) noexcept` go "
                "together: declare both, or neither; a hook that is private or has another "
                "signature looks like a missing one");
  static_assert(
      !HeapIdentity<H> || HeapSyncHook<H>,
      "ion: kCaps.syncs and `Error BeginCpuAccess(const Block&, Direction) noexcept` and "
      "`Error EndCpuAccess(const Block&, Direction) noexcept` go together: declare all, or none; a "
      "hook that is private or has another signature looks like a missing one");
  static_assert(!HeapIdentity<H> || HeapPhysHook<H>,
                "ion: kCaps.knows_phys and `uint64_t Phys(const Block&) const noexcept` go "
                "together: declare both, or neither; a hook that is private or has another "
                "signature looks like a missing one");
  static_assert(!HeapIdentity<H> || HeapLayoutHook<H>,
                "ion: kCaps.knows_layout and `Segment SegmentAt(const Block&, uint64_t offset) "
                "const noexcept` go together: declare both, or neither; a hook that is private or "
                "has another signature looks like a missing one");
  static_assert(!HeapIdentity<H> || HeapNamedOnlyHook<H>,
                "ion: kCaps.named_only needs a public `bool NamedOnly() const noexcept`: it is "
                "missing, private, or has another signature");
  static_assert(!HeapIdentity<H> || HeapFrameHook<H>,
                "ion: kCaps.frames needs a public `bool MakesFrames() const noexcept`: it is "
                "missing, private, or has another signature");
  static constexpr bool kOk = Heap<H, B>;
};

}  // namespace ion

#endif  // ION_ION_HEAP_H_
