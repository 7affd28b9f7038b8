// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/allocation.h
//
// Allocation: one attempt to serve a request that the hit path has not served. It asks the heaps in
// the order of trial, each first for a block that lies idle, then for fresh memory.
//
// Not for users.
//
// Cost: a call of the backend, or a search of the recycler.
#ifndef ION_ION_CORE_ALLOCATION_H_
#define ION_ION_CORE_ALLOCATION_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/lacks_pages.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/core/asker.h"
#include "ion/core/reasons.h"
#include "ion/core/refusals.h"
#include "ion/core/region_domain.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion::internal {

template <class Core>
class Allocation {
 public:
  // `pages` are charged to the asker's account; after an error they still are.
  Allocation(Core& core, const Request& request, const Asker& asker, uint64_t pages,
             CallSite where) noexcept
      : core_(core),
        request_(request),
        asker_(asker),
        pages_(pages),
        where_(where),
        mask_(request.heaps.value_or(core.heaps_.usual()) & asker.heaps) {}

  // Once.
  absl::StatusOr<Buffer> Run() noexcept {
    const bool found = core_.heaps_.Walk([&](auto& heap, auto at) { return TakeFrom(heap, at); });
    // Idle blocks in pools count, too: they may be given back.
    if (past_buffers_) return PastBuffers(Operation::kAllocate, Core::kBackendName, asker_);
    if (found) return Lease();
    if (block_ != nullptr) core_.blocks_.Delete(block_);
    if (!tried_.empty()) return tried_.ToStatus(core_.backend_);
    return ToStatus(NoHeap(request_, core_.heaps_.bound(), core_.heaps_.usual(), origin_));
  }
  // Returns true if it has failed, and idle memory that goes back may help. The errno of its Status
  // is the last heap's, and may be another.
  bool shortage() const noexcept { return shortage_; }

 private:
  template <size_t kAt>
  using Place = std::integral_constant<size_t, kAt>;

  // True: the walk ends here.
  template <class H, size_t kAt>
  bool TakeFrom(Result<H>& heap, Place<kAt> at) noexcept {
    if (!mask_.contains(H::kId)) return false;
    const bool frame = heap.ok() && IsFrame(*heap);
    if (heap.ok() && !frame && TakeIdle(at)) {
      shortage_ = false;
      return true;
    }
    if (block_ == nullptr && AtMostBuffers(asker_)) {
      past_buffers_ = shortage_ = true;
      return true;
    }
    const Error error = heap.ok() ? TakeFresh(*heap, at, frame) : heap.error();
    shortage_ = !error.ok() && (shortage_ || IsShortage(error.code()) || LacksPages(error));
    if (!error.ok()) tried_.Add(H::kId, error, heap.ok());
    return error.ok();
  }
  // Its memory has what its driver stated, so no pool gives or takes it.
  template <class H>
  bool IsFrame(const H& heap) const noexcept {
    return !request_.frame.empty() && Core::Heaps::MakesFrames(heap);
  }
  template <size_t kAt>
  bool TakeIdle(Place<kAt>) noexcept {
    const PooledBlock idle = core_.recycling_.template SearchIdle<kAt>(request_, asker_);
    if (idle.block == nullptr) return false;
    // If it is of a larger class, and the quota has no room for that: fresh memory is smaller.
    if (!TakeMore(*idle.block)) {
      core_.TakeBack(*idle.block, /*shared=*/false);
      return false;
    }
    if (block_ != nullptr) core_.blocks_.Delete(block_);
    block_ = idle.block;
    pool_ = idle.pool;
    fresh_ = false;
    return true;
  }
  template <class H, size_t kAt>
  Error TakeFresh(H& heap, Place<kAt>, bool frame) noexcept {
    if (block_ == nullptr) block_ = core_.blocks_.New();
    if (block_ == nullptr) return Error(ENOMEM, "operator new: a block", origin_);
    RegionDomain& region = core_.heaps_.region(kAt);
    if (H::kCaps.shares && region.Refuses(asker_.domain)) return OthersSeeIt();
    block_->Unmark(Block::kNoSync);  // of a heap that was tried before
    Error error =
        heap.Allocate(frame ? request_ : core_.recycling_.template Whole<kAt>(request_), *block_);
    if (!error.ok()) return error;
    // Only who gets memory leaves a mark on its region; nobody else has the block yet.
    if (H::kCaps.shares && !region.Admit(asker_.domain)) error = OthersSeeIt();
    if (error.ok()) {
      if constexpr (H::kCaps.syncs) block_->Unmark(Block::kNoSync);  // a rule of its own
      block_->heap = static_cast<uint8_t>(kAt);
      if (!frame) {
        const Result<uint32_t> pool =
            core_.recycling_.template Adopt<kAt>(*block_, request_, asker_);
        if (pool.ok()) pool_ = *pool;
        error = pool.error();
      }
    }
    if (!error.ok()) core_.backend_.errors().Report(heap.Free(*block_));
    return error;
  }
  Error OthersSeeIt() const noexcept {
    return Error(EPERM, "another trust domain's descriptors show all of this region", origin_);
  }

  absl::StatusOr<Buffer> Lease() noexcept {
    if (fresh_ && !TakeMore(*block_)) {
      const uint64_t taken = block_->bytes;
      core_.Destroy(*block_);
      return PastQuota(Operation::kAllocate, Core::kBackendName, asker_, request_.bytes, taken,
                       pages_);
    }
    const LeaseToken token = LeaseToken::Of(asker_.account.bits(), pool_, block_->heap);
    BlockNote note = core_.Note(*block_, request_.name, asker_, where_);
    if (fresh_) return core_.Lease(block_, token, std::move(note));
    core_.blocks_.List(*block_, std::move(note));
    return LeaseAccess::Make(block_, token);
  }
  // A heap may give more than was asked for. False: the quota has no room for that.
  bool TakeMore(const Block& block) const noexcept {
    const uint64_t more = PagesIn(block.bytes) - pages_;
    return more == 0 || asker_.account.Take(more);
  }
  static bool IsShortage(int code) noexcept {
    return code == ENOMEM || code == ENFILE || code == EMFILE;
  }

  Core& core_;
  const Request& request_;
  const Asker& asker_;
  const uint64_t pages_;
  const CallSite where_;
  const HeapMask mask_;
  const Origin origin_{Core::kBackendName, Operation::kAllocate, {}, request_.bytes};

  Block* block_ = nullptr;  // the memory; before there is some, an unused one
  uint32_t pool_ = 0;
  bool fresh_ = true;
  Reasons tried_;
  bool past_buffers_ = false;
  bool shortage_ = false;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_ALLOCATION_H_
