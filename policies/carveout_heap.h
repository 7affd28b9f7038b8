// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout_heap.h
//
// CarveoutHeap: memory from one region that was set aside, for what must not fail when the system
// is short, or must lie where it is told. Its blocks are ranges {fd, offset, bytes} of the region's
// descriptor; where they come to lie, a Placement decides (policies/placement.h). What the region
// is, a Region says (policies/region.h).
//
// A block is zeroed when it is given out, and not when it comes back: so what a device or another
// process wrote after the end of the last lease is gone, too, and a failure has somebody to be
// told. The mapping that this takes is kept as the block's.
//
// A descriptor of the region shows all of it, so Share is refused unless the region can make one of
// a range. What was shared is not given out again while anybody else holds it.
//
// Example:
//   constexpr ion::HeapSpec kNpu{
//       .type = ion::HeapType::kCarveout, .id = 2, .name = "linux,cma", .bytes = 32_MiB};
//   ion::CarveoutHeap<B, kNpu>
//   ion::CarveoutHeap<B, kRange, ion::SegregatedFit, ion::PhysRegion<B>>   // PhysOf(heap, block)
//
// Cost: one mapping and one memset an allocation; a mutex around the placement. Thread-safe.
#ifndef ION_POLICIES_CARVEOUT_HEAP_H_
#define ION_POLICIES_CARVEOUT_HEAP_H_

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/block.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/fd.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/request.h"
#include "policies/buffer_region.h"
#include "policies/placement.h"
#include "policies/region.h"
#include "policies/segregated_fit.h"

namespace ion {

template <Backend B, HeapSpec kHeapSpec, Placement P = SegregatedFit, class R = BufferRegion<B>>
class CarveoutHeap {
  static_assert(RegionCheck<R, B>::kOk);
  static_assert(kHeapSpec.type == HeapType::kCarveout,
                "ion: the HeapSpec of a CarveoutHeap says type HeapType::kCarveout");
  static_assert(kHeapSpec.bytes != 0, "ion: a carveout needs a size: HeapSpec{.bytes = 16_MiB}");
  static_assert(!R::kCaps.knows_phys || kHeapSpec.base != 0,
                "ion: a carveout of physical memory needs to be told where: HeapSpec{.base = …}");
  static_assert(std::has_single_bit(kHeapSpec.alignment),
                "ion: a HeapSpec's alignment is a power of two");

 public:
  static constexpr HeapSpec kSpec = kHeapSpec;
  static constexpr HeapId kId{kHeapSpec.id};
  static constexpr HeapType kType = HeapType::kCarveout;
  static constexpr HeapCaps kCaps = {.shares = true,
                                     .syncs = !R::kCaps.syncs,
                                     .knows_phys = R::kCaps.knows_phys,
                                     .knows_layout = R::kCaps.knows_phys};

  // Opens the region. EINVAL: it promises less alignment than the spec wants.
  static Result<CarveoutHeap> Bind(B& backend) noexcept {
    const Origin origin{B::kName, Operation::kOpen, kSpec.name.view(), kSpec.bytes};
    Result<R> region = R::Open(backend, kSpec);
    if (!region.ok()) return region.error();
    const Block& whole = region->whole();
    const uint64_t start = R::kCaps.knows_phys ? whole.offset : 0;
    Result<P> placement = P::Create({.bytes = whole.bytes, .granule = PageBytes(), .start = start});
    if (!placement.ok()) return placement.error();
    std::unique_ptr<Places> places(new (std::nothrow) Places{*std::move(placement)});
    if (places == nullptr) return Error(ENOMEM, "operator new: a placement", origin);
    CarveoutHeap heap(backend, *std::move(region), std::move(places));
    if (kSpec.alignment > heap.largest_alignment()) {
      return Error(EINVAL, "the region promises less alignment than the spec wants", origin,
                   "alignments past a page need a region that knows its address: PhysRegion");
    }
    return heap;
  }

  // The spec's, or "carveout".
  std::string_view name() const noexcept {
    return kSpec.name.empty() ? HeapTypeName(kType) : kSpec.name.view();
  }
  const Properties& properties() const noexcept { return properties_; }

  PlacementFigures figures() const noexcept {
    std::lock_guard lock(places_->mutex);
    return places_->placement.figures();
  }

  // EINVAL: 0 bytes or more than there are addresses, an alignment that is no power of two or more
  // than the region promises, or a flag that its memory cannot honour. ENOMEM, with the figures: no
  // hole is large enough.
  Error Allocate(const Request& request, Block& block) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, name(), request.bytes};
    const std::optional<uint64_t> bytes = RoundUpToPages(request.bytes);
    if (request.bytes == 0 || !bytes.has_value()) {
      return Error(EINVAL, "0 bytes, or more than there are addresses", origin);
    }
    if (!std::has_single_bit(request.alignment) || request.alignment > largest_alignment()) {
      return Error(EINVAL, "an alignment that its memory does not promise", origin);
    }
    if (HeapPrivateBits(request.flags) != 0 ||
        Has(request.flags, properties_.cached ? Flags::kUncached : Flags::kCached)) {
      return Error(EINVAL, "a flag that its memory cannot honour", origin);
    }
    const uint64_t alignment = std::max(request.alignment, properties_.alignment);
    const std::optional<uint64_t> offset = Take(request.bytes, alignment);
    if (!offset.has_value()) return NoRoom(origin);
    const uint32_t generation = block.generation;
    block = region_.whole();
    block.generation = generation;
    block.offset += *offset;
    block.bytes = *bytes;
    block.zeroed = true;
    block.alignment_log2 = static_cast<uint8_t>(std::countr_zero(alignment));
    if (Error error = Zero(block); !error.ok()) {
      backend_->errors().Report(Free(block));
      return error;
    }
    return {};
  }

  // EINVAL: no block of this heap starts there (it was freed before).
  Error Free(Block& block) noexcept {
    Error first;
    if (block.mapping != nullptr) first = backend_->Unmap(block.mapping, block.bytes);
    const bool given = Give(OffsetOf(block));
    if (first.ok() && !given) {
      first = Error(EINVAL, "no block of this carveout starts there",
                    {B::kName, Operation::kRelease, name(), block.bytes});
    }
    const uint32_t generation = block.generation;
    block = Block{};
    block.generation = generation;
    return first;
  }

  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

  // ENOTSUP: the only descriptor would show the block's neighbours.
  Result<UniqueFd> Share(const Block& block) noexcept {
    if constexpr (R::kCaps.shares) {
      // One buffer for each block, however often it is shared.
      const uint64_t offset = OffsetOf(block);
      std::lock_guard lock(places_->mutex);
      Shared* shared = FindShared(offset);
      if (shared == nullptr) {
        Result<UniqueFd> made = region_.Share(offset, block.bytes);
        if (!made.ok()) return made;
        std::unique_ptr<Shared> fresh(new (std::nothrow) Shared{offset, *std::move(made), {}});
        if (fresh == nullptr) {
          return Error(ENOMEM, "operator new: a share",
                       {B::kName, Operation::kShare, name(), block.bytes});
        }
        fresh->next = std::move(places_->shared);
        places_->shared = std::move(fresh);
        shared = places_->shared.get();
      }
      Block range;
      range.fd = shared->fd.get();
      range.bytes = block.bytes;
      return backend_->Share(range);
    } else {
      return Error(ENOTSUP, "its descriptor would show the block's neighbours",
                   {B::kName, Operation::kShare, name(), block.bytes},
                   "take a carveout over a ComposedRegion, or memory of another heap");
    }
  }

  // Its memory is uncached: there is nothing to tell anybody.
  Error BeginCpuAccess(const Block&, Direction) noexcept requires(kCaps.syncs) { return {}; }
  Error EndCpuAccess(const Block&, Direction) noexcept requires(kCaps.syncs) { return {}; }

  uint64_t Phys(const Block& block) const noexcept requires(kCaps.knows_phys) {
    return kSpec.base + OffsetOf(block);
  }
  Segment SegmentAt(const Block& block, uint64_t offset) const noexcept
      requires(kCaps.knows_layout) {
    return {.offset = offset,
            .bytes = block.bytes - offset,
            .phys = kSpec.base + OffsetOf(block) + offset};
  }

 private:
  // A block that was shared: ours of its descriptors, by which we see whether others have some.
  struct Shared {
    uint64_t offset;
    UniqueFd fd;
    std::unique_ptr<Shared> next;
    bool freed = false;
  };
  struct Places {
    P placement;
    std::unique_ptr<Shared> shared = {};
    mutable std::mutex mutex = {};

    ~Places() {
      while (shared != nullptr)
        shared = std::move(shared->next);  // not as deep as the list is long
    }
  };

  CarveoutHeap(B& backend, R&& region, std::unique_ptr<Places> places) noexcept
      : backend_(&backend),
        region_(std::move(region)),
        places_(std::move(places)),
        properties_(region_.whole().properties()) {
    properties_.zeroed = true;
    properties_.alignment = std::max(PageBytes(), kSpec.alignment);
  }

  uint64_t largest_alignment() const noexcept {
    return R::kCaps.knows_phys ? uint64_t{1} << 63 : uint64_t{1} << region_.whole().alignment_log2;
  }
  uint64_t OffsetOf(const Block& block) const noexcept {
    return block.offset - region_.whole().offset;
  }

  std::optional<uint64_t> Take(uint64_t bytes, uint64_t alignment) noexcept {
    std::lock_guard lock(places_->mutex);
    const std::optional<uint64_t> offset = places_->placement.Take(bytes, alignment);
    if (offset.has_value() || !GiveForgotten()) return offset;
    return places_->placement.Take(bytes, alignment);
  }
  // False: no block starts there.
  bool Give(uint64_t offset) noexcept {
    std::lock_guard lock(places_->mutex);
    if (Shared* shared = FindShared(offset); shared != nullptr) {
      if (std::exchange(shared->freed, true)) return false;
      GiveForgotten();
      return true;
    }
    return places_->placement.Give(offset) != 0;
  }
  Shared* FindShared(uint64_t offset) noexcept {
    Shared* at = places_->shared.get();
    while (at != nullptr && at->offset != offset) at = at->next.get();
    return at;
  }
  // Gives back what was freed, and is held by nobody else any more. Whether there was any.
  bool GiveForgotten() noexcept {
    bool any = false;
    if constexpr (R::kCaps.shares) {
      for (std::unique_ptr<Shared>* at = &places_->shared; *at != nullptr;) {
        if (!(*at)->freed || region_.HeldByOthers((*at)->fd.borrow())) {
          at = &(*at)->next;
          continue;
        }
        places_->placement.Give((*at)->offset);
        *at = std::move((*at)->next);
        any = true;
      }
    }
    return any;
  }

  Error NoRoom(const Origin& origin) const noexcept {
    const PlacementFigures now = figures();
    const char* what = origin.bytes > now.bytes        ? "more than the region has"
                       : origin.bytes > now.free_bytes ? "the region is full"
                                                       : "the region is fragmented";
    return Error(ENOMEM, what, origin).With({now.free_bytes, now.largest_hole});
  }

  // What the block's last user left.
  Error Zero(Block& block) noexcept {
    const Result<std::byte*> at = backend_->Map(block, 0, block.bytes, MapMode::kWritable);
    if (!at.ok()) return at.error();
    block.mapping = *at;
    if constexpr (R::kCaps.syncs) {
      if (Error error = backend_->BeginCpuAccess(block, Direction::kWrite); !error.ok()) {
        return error;
      }
    }
    region_.Scrub(*at, block.bytes);
    if constexpr (R::kCaps.syncs) return backend_->EndCpuAccess(block, Direction::kWrite);
    return {};
  }

  B* backend_;
  R region_;
  std::unique_ptr<Places> places_;
  Properties properties_;
};
static_assert(HeapCheck<CarveoutHeap<BackendArchetype,
                                     HeapSpec{.type = HeapType::kCarveout, .id = 2, .bytes = 4096},
                                     PlacementArchetype, RegionArchetype>,
                        BackendArchetype>::kOk);

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_HEAP_H_
