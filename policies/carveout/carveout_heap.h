// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/carveout_heap.h
//
// CarveoutHeap: memory from one region that was set aside, for allocations that must succeed when
// the system is short of memory, or that need a fixed address range. Its blocks are ranges {fd,
// offset, bytes} of the region's descriptor; a Placement chooses their offsets
// (policies/carveout/placement.h), and a Region makes the region (policies/carveout/region.h).
//
// A block is zeroed when it is given out, and not when it comes back: so what a device or another
// process wrote after the end of the last lease is gone, too, and a failure has somebody to be
// told. The mapping that this takes is kept as the block's.
//
// A descriptor of the region shows all of it, so Share is refused unless the region can make one of
// a range. A shared range is not allocated again while anybody else holds it: each release asks the
// kernel about a few of the freed shares, and a request without room about some more.
//
// Nobody waits for a device. While a fence is pending on the region's dma-buf, any of its ranges
// may still be written by a device whose lease has ended, so a request is answered EBUSY, and the
// next heap is asked.
//
// Example:
//   constexpr ion::HeapSpec kNpu{
//       .type = ion::HeapType::kCarveout, .id = 2, .name = "linux,cma", .bytes = 32_MiB};
//   using Npu = ion::Manager<ion::DmaHeapBackend<>, ion::System, ion::Carveout<kNpu>>;
//   using Range = ion::Carveout<kRange, ion::Physical>;  // PhysOf(heap, block)
//
// Cost: one mapping and one memset an allocation; a mutex around the placement, under which no
// system call is made. Thread-safe.
#ifndef ION_POLICIES_CARVEOUT_CARVEOUT_HEAP_H_
#define ION_POLICIES_CARVEOUT_CARVEOUT_HEAP_H_

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/base/alignment.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_list.h"
#include "ion/heap_spec.h"
#include "ion/policies/carveout/buffer_region.h"
#include "ion/policies/carveout/placement.h"
#include "ion/policies/carveout/region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/carveout/share_list.h"
#include "ion/policies/claim.h"
#include "ion/request.h"

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
                                     .knows_layout = R::kCaps.knows_phys,
                                     .named_only = !R::kCaps.knows_phys && !R::kCaps.shares};

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
                   "alignments past a page need a region that knows its address: PhysRegion")
          .With(Limit{heap.largest_alignment()});
    }
    return heap;
  }

  // The spec's, or "carveout".
  std::string_view name() const noexcept {
    return kSpec.name.empty() ? HeapTypeName(kType) : kSpec.name.view();
  }
  const Properties& properties() const noexcept { return properties_; }
  // As the kernel heap that the region is a buffer of.
  bool NamedOnly() const noexcept
    requires(kCaps.named_only)
  {
    const std::span<const KernelHeap> heaps = backend_->heaps();
    const size_t from = region_.whole().kernel_heap;
    return from < heaps.size() && heaps[from].named_only;
  }

  PlacementFigures figures() const noexcept {
    std::lock_guard lock(places_->mutex);
    return places_->placement.figures();
  }

  // EINVAL: 0 bytes or more than there are addresses, an alignment that is no power of two or more
  // than the region promises, or a flag that its memory cannot honour. ENOMEM, with the figures: no
  // hole is large enough. EBUSY: a device may still write to the region.
  Error Allocate(const Request& request, Block& block) noexcept {
    const Origin origin{B::kName, Operation::kAllocate, name(), request.bytes};
    const std::optional<uint64_t> bytes = RoundUpToPages(request.bytes);
    if (request.bytes == 0 || !bytes.has_value()) {
      return Error(EINVAL, "0 bytes, or more than there are addresses", origin);
    }
    if (Error error = CheckAlignment(request.alignment, largest_alignment(), origin); !error.ok()) {
      return error;
    }
    const bool cached = Has(request.flags, Flags::kCached);
    const bool uncached = Has(request.flags, Flags::kUncached);
    if (properties_.cached.unknown() && (cached || uncached)) {
      return Error(EINVAL, "the caching of its memory is not known", origin, kHowToVouch);
    }
    if (HeapPrivateBits(request.flags) != 0 || (cached && properties_.cached.no()) ||
        (uncached && properties_.cached.yes())) {
      return Error(EINVAL, "a flag that its memory cannot honour", origin);
    }
    const uint64_t alignment = std::max(request.alignment, properties_.alignment);
    const std::optional<uint64_t> offset = Take(request.bytes, alignment);
    if (!offset.has_value()) return NoRoom(origin);
    block.TakeMemoryOf(region_.whole());
    block.offset += *offset;
    block.bytes = *bytes;
    block.zeroed = true;
    block.alignment_log2 = static_cast<uint8_t>(std::countr_zero(alignment)) & 63;
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
    block.Empty();
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
      // One buffer for each block, for all of its shares. It lives as long as the block, which is
      // the caller's.
      const uint64_t offset = OffsetOf(block);
      int fd = SharedFd(offset);
      if (fd < 0) {
        Result<UniqueFd> made = region_.Share(offset, block.bytes);
        if (!made.ok()) return made;
        std::unique_ptr<Shared> fresh(new (std::nothrow)
                                          Shared{.offset = offset, .fd = *std::move(made)});
        if (fresh == nullptr) {
          return Error(ENOMEM, "operator new: a share",
                       {B::kName, Operation::kShare, name(), block.bytes});
        }
        std::lock_guard lock(places_->mutex);
        // Another thread may have made one meanwhile; ours then ends with this scope.
        Shared* shared = places_->shares.Find(offset);
        if (shared == nullptr) places_->shares.Add(shared = fresh.release());
        fd = shared->fd.get();
      }
      Block range;
      range.fd = fd;
      range.bytes = block.bytes;
      return backend_->Share(range);
    } else {
      return Error(ENOTSUP, "its descriptor would show the block's neighbours",
                   {B::kName, Operation::kShare, name(), block.bytes},
                   "take a carveout over a ComposedRegion, or memory of another heap");
    }
  }

  // Its memory is uncached: there is nothing to tell anybody.
  Error BeginCpuAccess(const Block&, Direction) noexcept
    requires(kCaps.syncs)
  {
    return {};
  }
  Error EndCpuAccess(const Block&, Direction) noexcept
    requires(kCaps.syncs)
  {
    return {};
  }

  uint64_t Phys(const Block& block) const noexcept
    requires(kCaps.knows_phys)
  {
    return kSpec.base + OffsetOf(block);
  }
  Segment SegmentAt(const Block& block, uint64_t offset) const noexcept
    requires(kCaps.knows_layout)
  {
    return {.offset = offset,
            .bytes = block.bytes - offset,
            .phys = kSpec.base + OffsetOf(block) + offset};
  }

 private:
  using Shared = internal::ShareList::Share;
  struct Places {
    P placement;
    internal::ShareList shares = {};
    mutable std::mutex mutex = {};
    // Held by a thread that asks about shares, and locked first: a request without room waits here
    // for the ranges that another thread is about to find.
    std::mutex asking = {};
  };
  // The number of shares that a release asks about, and a request that has no room.
  static constexpr size_t kAskedByRelease = 4, kAskedByRequest = 128;

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
    const auto take = [&]() -> std::optional<uint64_t> {
      std::lock_guard lock(places_->mutex);
      return places_->placement.Take(bytes, alignment);
    };
    std::optional<uint64_t> offset = take();
    if constexpr (R::kCaps.shares) {
      if (offset.has_value()) return offset;
      std::lock_guard asking(places_->asking);
      size_t left = std::min(Waiting(), kAskedByRequest);
      // Again first: another one may have found room meanwhile.
      for (bool found = true; !offset.has_value() && (found || left > 0);) {
        if (found) offset = take();
        if (offset.has_value() || left == 0) break;
        const size_t step = std::min(left, kAskedByRelease);
        found = GiveForgotten(step);
        left -= step;
      }
    }
    return offset;
  }
  // False: no block starts there.
  bool Give(uint64_t offset) noexcept {
    if constexpr (R::kCaps.shares) {
      {
        std::lock_guard lock(places_->mutex);
        Shared* const shared = places_->shares.Find(offset);
        if (shared == nullptr) return places_->placement.Give(offset) != 0;
        if (std::exchange(shared->freed, true)) return false;
        places_->shares.Wait(*shared);
      }
      // Somebody else is at it: the next release asks.
      std::unique_lock asking(places_->asking, std::try_to_lock);
      if (asking.owns_lock()) GiveForgotten(kAskedByRelease);
      return true;
    } else {
      std::lock_guard lock(places_->mutex);
      return places_->placement.Give(offset) != 0;
    }
  }
  // Our descriptor of a block's share; negative: it was not shared.
  int SharedFd(uint64_t offset) noexcept {
    std::lock_guard lock(places_->mutex);
    const Shared* shared = places_->shares.Find(offset);
    return shared == nullptr ? -1 : shared->fd.get();
  }
  size_t Waiting() noexcept {
    std::lock_guard lock(places_->mutex);
    return places_->shares.waiting();
  }
  // Of the `most` shares that have waited longest, gives back those that nobody else holds any
  // more. Returns true if there was one. Requires: `asking` is held.
  bool GiveForgotten(size_t most) noexcept {
    bool any = false;
    for (; most > 0; --most) {
      Shared* shared;
      {
        std::lock_guard lock(places_->mutex);
        shared = places_->shares.TakeWaiting();
      }
      if (shared == nullptr) return any;
      bool held = true;
      if constexpr (R::kCaps.shares) held = region_.HeldByOthers(shared->fd.borrow());
      std::unique_ptr<Shared> ended;  // and closed, without the mutex
      std::lock_guard lock(places_->mutex);
      if (held) {
        places_->shares.Wait(*shared);
        continue;
      }
      places_->placement.Give(shared->offset);
      places_->shares.Remove(*shared);
      ended.reset(shared);
      any = true;
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

  // Zeroes the content that the block's last user left.
  Error Zero(Block& block) noexcept {
    const Result<std::byte*> at = backend_->Map(block, 0, block.bytes, MapMode::kWritable);
    if (!at.ok()) return at.error();
    block.mapping = *at;
    if constexpr (R::kCaps.syncs) {
      if constexpr (B::kCaps.fences) {
        const Result<bool> idle = backend_->IsIdle(block);
        if (!idle.ok()) return idle.error();
        if (!*idle) {
          return Error(EBUSY, "a device may still write to the region",
                       {B::kName, Operation::kAllocate, name(), block.bytes},
                       "end a lease when the fences of its device are signalled");
        }
      }
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

// CarveoutHeap, described without a backend. Region describes a region: OneBuffer, Physical,
// Composed<Memfds>. The spec need not say its type.
template <HeapSpec kSpec, class Region = OneBuffer, Placement P = SegregatedFit>
struct Carveout {
  static_assert(Description<Region, BackendArchetype>,
                "ion: the region of a Carveout is described without a backend: ion::OneBuffer, "
                "ion::Physical, ion::Composed<Memfds>, or a type with `template <ion::Backend B> "
                "using On`");
  template <Backend B>
  using On =
      CarveoutHeap<B, WithType(kSpec, HeapType::kCarveout), P, typename Region::template On<B>>;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_CARVEOUT_HEAP_H_
