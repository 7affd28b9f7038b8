// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/share_list.h
//
// ShareList: the blocks of a carveout that were shared: their ranges, and a descriptor of each
// share, by which the kernel tells whether anybody else has one. A block that was freed waits here
// in a row; each call of the heap asks after the few that have waited longest, so a peer that keeps
// thousands of shares costs every call the same.
//
// Not for users.
//
// Cost: 64 bytes a share; a lookup is a few steps. Under the heap's mutex.
#ifndef ION_POLICIES_CARVEOUT_SHARE_LIST_H_
#define ION_POLICIES_CARVEOUT_SHARE_LIST_H_

#include <cstddef>
#include <cstdint>
#include <utility>

#include "ion/base/bytes.h"
#include "ion/base/fd.h"

namespace ion::internal {

class ShareList {
 public:
  struct Share {
    uint64_t offset;  // of the block in the region
    UniqueFd fd;
    bool freed = false;
    Share* next = nullptr;        // of the same bucket
    Share* next_freed = nullptr;  // in the row
  };

  ShareList() = default;
  ShareList(ShareList&& other) noexcept { *this = std::move(other); }
  ShareList& operator=(ShareList&& other) noexcept {
    std::swap(buckets_, other.buckets_);
    first_freed_ = std::exchange(other.first_freed_, nullptr);
    last_freed_ = std::exchange(other.last_freed_, nullptr);
    freed_ = std::exchange(other.freed_, 0);
    return *this;
  }
  ~ShareList() {
    for (Share* share : buckets_) {
      while (share != nullptr) delete std::exchange(share, share->next);
    }
  }

  // Takes over a share from new. Requires: there is none of its offset.
  void Add(Share* share) noexcept {
    Share*& bucket = BucketOf(share->offset);
    share->next = std::exchange(bucket, share);
  }
  // nullptr: the block at `offset` was not shared.
  Share* Find(uint64_t offset) noexcept {
    Share* share = BucketOf(offset);
    while (share != nullptr && share->offset != offset) share = share->next;
    return share;
  }
  // Takes a share out; the caller deletes it. Requires: it is in no row.
  void Remove(Share& share) noexcept {
    Share** link = &BucketOf(share.offset);
    while (*link != &share) link = &(*link)->next;
    *link = share.next;
  }

  // To the row's end. Requires: its block was freed.
  void Wait(Share& share) noexcept {
    share.next_freed = nullptr;
    (last_freed_ == nullptr ? first_freed_ : last_freed_->next_freed) = &share;
    last_freed_ = &share;
    ++freed_;
  }
  // The one that has waited longest, out of the row; nullptr: none waits.
  Share* TakeWaiting() noexcept {
    Share* const share = first_freed_;
    if (share == nullptr) return nullptr;
    first_freed_ = share->next_freed;
    if (first_freed_ == nullptr) last_freed_ = nullptr;
    --freed_;
    return share;
  }
  size_t waiting() const noexcept { return freed_; }

 private:
  static constexpr size_t kBuckets = 256;  // arbitrary

  Share*& BucketOf(uint64_t offset) noexcept { return buckets_[offset / PageBytes() % kBuckets]; }

  Share* buckets_[kBuckets] = {};
  Share* first_freed_ = nullptr;
  Share* last_freed_ = nullptr;
  size_t freed_ = 0;
};

}  // namespace ion::internal

#endif  // ION_POLICIES_CARVEOUT_SHARE_LIST_H_
