// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/own_memory.h
//
// OwnMemory: the memory that a Manager allocated and then shared. It is charged to the Budget as
// long as the Manager, or an import of its clients, holds it, and again if it is imported after all
// of them released it. For that the identities of the last 16,384 released buffers are kept.
//
// Not for users.
//
// Cost: a hash table, and 72 bytes for each buffer that was shared. Thread-safe.
#ifndef ION_ION_CORE_OWN_MEMORY_H_
#define ION_ION_CORE_OWN_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <new>
#include <utility>

#include "ion/base/budget.h"
#include "ion/buffer_identity.h"

namespace ion::internal {

class OwnMemory {
 public:
  static constexpr size_t kMostForgotten = 16'384;

  explicit OwnMemory(Budget& budget) noexcept : budget_(budget) {}
  OwnMemory(const OwnMemory&) = delete;
  OwnMemory& operator=(const OwnMemory&) = delete;
  ~OwnMemory() {
    for (size_t i = 0; i < bucket_count_; ++i) {
      while (buckets_[i] != nullptr) delete std::exchange(buckets_[i], buckets_[i]->next);
    }
    if (buckets_ != first_buckets_) delete[] buckets_;
  }

  // A block of the Manager's own may now be held by others. `charged`: its bytes are in the Budget
  // (those of a region's range are there with the region's). False: operator new had no memory.
  [[nodiscard]] bool Shared(const BufferIdentity& identity, uint64_t bytes, bool charged) noexcept {
    std::lock_guard lock(mutex_);
    Entry* entry = Find(identity, bytes);
    if (entry == nullptr) entry = Add(identity, bytes);
    if (entry == nullptr) return false;
    Remember(*entry);
    ++entry->blocks;
    entry->charged = charged;
    return true;
  }
  // That block ends. Before its bytes go from the Budget: they stay where imports hold it.
  void BlockEnds(const BufferIdentity& identity, uint64_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    Entry* entry = Find(identity, bytes);
    if (entry == nullptr || entry->blocks == 0) return;
    if (--entry->blocks == 0 && entry->imports != 0 && entry->charged && !entry->kept) {
      budget_.Hold(bytes);
      entry->kept = true;
    }
    ForgetIfUnheld(*entry);
  }

  enum class Import { kForeign, kOwn, kPastBudget };
  // A client imports a buffer.
  [[nodiscard]] Import Imported(const BufferIdentity& identity, uint64_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    Entry* entry = identity.known() ? Find(identity, bytes) : nullptr;
    if (entry == nullptr) return Import::kForeign;
    if (entry->charged && entry->blocks == 0 && entry->imports == 0) {
      if (!budget_.Take(bytes)) return Import::kPastBudget;
      entry->kept = true;
    }
    Remember(*entry);
    ++entry->imports;
    return Import::kOwn;
  }
  // That import ends.
  void ImportEnds(const BufferIdentity& identity, uint64_t bytes) noexcept {
    std::lock_guard lock(mutex_);
    Entry* entry = Find(identity, bytes);
    if (entry == nullptr || entry->imports == 0) return;
    if (--entry->imports == 0 && std::exchange(entry->kept, false)) budget_.Give(bytes);
    ForgetIfUnheld(*entry);
  }

 private:
  struct Entry {
    BufferIdentity identity;
    uint64_t bytes;
    uint32_t blocks = 0;   // of the Manager's own, living
    uint32_t imports = 0;  // of its clients, living
    bool charged = false;  // to the Budget, while anybody of us holds it
    bool kept = false;     // by us, as no block of the Manager's does
    bool forgotten = false;
    Entry* next = nullptr;  // in its bucket
    Entry* older = nullptr;
    Entry* newer = nullptr;
  };

  Entry*& BucketOf(const BufferIdentity& identity) noexcept {
    return buckets_[(identity.inode ^ identity.inode >> 9) % bucket_count_];
  }
  Entry* Find(const BufferIdentity& identity, uint64_t bytes) noexcept {
    Entry* at = BucketOf(identity);
    while (at != nullptr && (at->identity != identity || at->bytes != bytes)) at = at->next;
    return at;
  }
  Entry* Add(const BufferIdentity& identity, uint64_t bytes) noexcept {
    auto* entry = new (std::nothrow) Entry{.identity = identity, .bytes = bytes};
    if (entry == nullptr) return nullptr;
    if (++count_ > bucket_count_) Grow();
    entry->next = std::exchange(BucketOf(identity), entry);
    return entry;
  }
  // Without memory for it the chains grow longer.
  void Grow() noexcept {
    const size_t count = 4 * bucket_count_;
    auto* buckets = new (std::nothrow) Entry* [count] {};
    if (buckets == nullptr) return;
    Entry** const before = std::exchange(buckets_, buckets);
    const size_t before_count = std::exchange(bucket_count_, count);
    for (size_t i = 0; i < before_count; ++i) {
      while (Entry* const entry = before[i]) {
        before[i] = entry->next;
        entry->next = std::exchange(BucketOf(entry->identity), entry);
      }
    }
    if (before != first_buckets_) delete[] before;
  }
  void Remember(Entry& entry) noexcept {
    if (!std::exchange(entry.forgotten, false)) return;
    (entry.older != nullptr ? entry.older->newer : oldest_) = entry.newer;
    (entry.newer != nullptr ? entry.newer->older : newest_) = entry.older;
    --forgotten_;
  }
  void ForgetIfUnheld(Entry& entry) noexcept {
    if (entry.blocks != 0 || entry.imports != 0) return;
    entry.forgotten = true;
    entry.newer = nullptr;
    entry.older = std::exchange(newest_, &entry);
    (entry.older != nullptr ? entry.older->newer : oldest_) = &entry;
    if (++forgotten_ <= kMostForgotten) return;
    Entry* gone = oldest_;
    Remember(*gone);
    Entry** link = &BucketOf(gone->identity);
    while (*link != gone) link = &(*link)->next;
    *link = gone->next;
    delete gone;
    --count_;
  }

  Budget& budget_;
  std::mutex mutex_;
  Entry* first_buckets_[64] = {};
  Entry** buckets_ = first_buckets_;
  size_t bucket_count_ = std::size(first_buckets_);
  size_t count_ = 0;  // of entries
  Entry* oldest_ = nullptr;
  Entry* newest_ = nullptr;
  size_t forgotten_ = 0;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_OWN_MEMORY_H_
