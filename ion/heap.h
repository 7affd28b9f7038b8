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
// What a compiler cannot see:
//   Ensures: after Allocate the block is filled, or an Error says why and the block is empty; Free
//     leaves the block empty whatever it answers.
//   Requires: Allocate and Free may come from several threads at once, Map for one block from one.
#ifndef ION_ION_HEAP_H_
#define ION_ION_HEAP_H_

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "ion/backend.h"
#include "ion/block.h"
#include "ion/error.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion {

// It has an id, which is its place in masks and in the order of trial, and a type.
template <class H>
concept HeapIdentity = std::is_nothrow_move_constructible_v<H> && requires {
  { H::kId } -> std::same_as<const HeapId&>;
  { H::kType } -> std::same_as<const HeapType&>;
};

// It finds its memory in a backend, or says why there is none. The backend outlives the heap.
template <class H, class B>
concept HeapBind = requires(B& backend) {
  { H::Bind(backend) }
  noexcept->std::same_as<Result<H>>;
};

// It says what all of its memory is.
template <class H>
concept HeapProperties = requires(const H& h) {
  { h.name() }
  noexcept->std::same_as<std::string_view>;
  { h.properties() }
  noexcept->std::same_as<const Properties&>;
};

// ion_heap_ops.allocate and free.
template <class H>
concept HeapAllocate = requires(H& h, const Request& request, Block& block) {
  { h.Allocate(request, block) }
  noexcept->std::same_as<Error>;
  { h.Free(block) }
  noexcept->std::same_as<Error>;
};

// ion_heap_ops.map_kernel and map_user, which are the same act here, and unmap_kernel.
template <class H>
concept HeapMap = requires(H& h, const Block& block, uint64_t offset, uint64_t bytes, MapMode mode,
                           std::byte* at) {
  { h.Map(block, offset, bytes, mode) }
  noexcept->std::same_as<Result<std::byte*>>;
  { h.Unmap(at, bytes) }
  noexcept->std::same_as<Error>;
};

template <class H, class B>
concept Heap = Backend<B> && HeapIdentity<H> && HeapBind<H, B> && HeapProperties<H> &&
    HeapAllocate<H> && HeapMap<H>;

// One sentence per rule.
template <class H, class B>
struct HeapCheck {
  static_assert(
      HeapIdentity<H>,
      "ion: a heap needs `static constexpr HeapId kId`, `static constexpr HeapType kType`, "
      "and a noexcept move constructor");
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
  static constexpr bool kOk = Heap<H, B>;
};

}  // namespace ion

#endif  // ION_ION_HEAP_H_
