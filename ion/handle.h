// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/handle.h
//
// Handle: names memory that a client keeps, shares or imported (ion/client.h). A plain value: the
// memory is in the client's table. A function that gets a handle that was freed, or that belongs to
// another client, returns an error.
//
// Example:
//   absl::StatusOr<ion::Handle> handle = client.MakeHandle(*std::move(buffer));
//   absl::StatusOr<ion::UniqueFd> fd = client.Share(*handle);
//
// Cost: 16 bytes. Thread-compatible.
#ifndef ION_ION_HANDLE_H_
#define ION_ION_HANDLE_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <new>
#include <utility>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/buffer.h"

namespace ion {

class Handle {
 public:
  // Of nothing.
  constexpr Handle() = default;
  friend constexpr bool operator==(const Handle&, const Handle&) = default;

 private:
  friend class HandleTable;
  constexpr Handle(uint64_t client, uint32_t index, uint32_t generation)
      : client_(client), index_(index), generation_(generation) {}

  uint64_t client_ = 0;
  uint32_t index_ = 0;
  uint32_t generation_ = 0;
};

// The handles of one client, each with its count. Not for users.
//
// Cost: constant, but for Reserve, which doubles the table at times; a buffer is found by a hash of
// its identity. Not thread-safe: under the client's lock.
class HandleTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  struct Entry {
    Buffer lease;
    BufferIdentity identity;  // set by SetIdentity
    uint32_t count = 0;       // 0: free
    uint32_t generation = 0;
    uint32_t next = kNone;   // the next free one, or the next of its bucket
    uint32_t after = kNone;  // the one that came after it, the last time (Came)
  };

  // `client` is the AccountId's bits: never used again. `generation`: the last one that the entries
  // are taken to have had.
  explicit HandleTable(uint64_t client, uint32_t generation = 0) noexcept
      : client_(client), generation_(generation) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;
  ~HandleTable() {
    delete[] entries_;
    delete[] buckets_;
  }

  // Makes sure that the next Add succeeds. False: operator new had no memory.
  [[nodiscard]] bool Reserve() noexcept {
    if (free_ != kNone || used_ < capacity_) return true;
    const uint32_t capacity = capacity_ == 0 ? 16 : 2 * capacity_;
    Entry* const larger = new (std::nothrow) Entry[capacity];
    uint32_t* const buckets = new (std::nothrow) uint32_t[capacity];
    if (larger == nullptr || buckets == nullptr) {
      delete[] larger;
      delete[] buckets;
      return false;
    }
    for (uint32_t i = 0; i < used_; ++i) larger[i] = std::move(entries_[i]);
    delete[] std::exchange(entries_, larger);
    delete[] std::exchange(buckets_, buckets);
    std::fill_n(buckets_, capacity, kNone);
    capacity_ = capacity;
    // None is free, or it would have been taken.
    for (uint32_t i = 0; i < used_; ++i) Link(entries_[i]);
    return true;
  }
  // Requires: Reserve said true, and no Add came since.
  Handle Add(Buffer lease, const BufferIdentity& identity) noexcept {
    uint32_t at = free_;
    if (at == kNone) {
      at = used_++;
      entries_[at].generation = generation_;
    } else {
      free_ = entries_[at].next;
    }
    Entry& entry = entries_[at];
    entry.lease = std::move(lease);
    entry.count = 1;
    SetIdentity(entry, identity);
    ++in_use_;
    return {client_, at, ++entry.generation};
  }
  // Makes an entry whose identity was unknown known by this one. Requires: the entry is in use.
  void SetIdentity(Entry& entry, const BufferIdentity& identity) noexcept {
    entry.identity = identity;
    Link(entry);
  }
  // Returns the entry of the buffer with this identity, or nullptr. `is_it(entry)` is true if an
  // entry of this identity is certainly that buffer.
  template <class F>
  Entry* FindBuffer(const BufferIdentity& identity, F is_it) noexcept {
    if (!identity.known() || capacity_ == 0) return nullptr;
    for (uint32_t at = *BucketOf(identity); at != kNone; at = entries_[at].next) {
      Entry& entry = entries_[at];
      // One that is full is not counted any further: the buffer gets a second handle.
      if (entry.count == 0 || entry.count == UINT32_MAX || entry.identity != identity) continue;
      if (is_it(entry)) return &entry;
    }
    return nullptr;
  }
  // Buffers that are known come again and again, often in the same order, as those of a ring. Came
  // tells of one that was found, or was added just now. Returns the one that should be next, if the
  // one before it was known and right; else nullptr.
  Entry* Expected() noexcept {
    if (!in_order_) return nullptr;
    const uint32_t at = entries_[last_].after;
    if (at == kNone) return nullptr;
    return entries_[at].count == 0 || entries_[at].count == UINT32_MAX ? nullptr : &entries_[at];
  }
  void Came(const Entry& entry, bool known) noexcept {
    const uint32_t at = IndexOf(entry);
    const bool right = last_ != kNone && std::exchange(entries_[last_].after, at) == at;
    in_order_ = known && right;
    last_ = at;
  }
  // Another one came.
  void LoseOrder() noexcept { in_order_ = false; }
  // Its handle, with its count raised.
  Handle AddReference(Entry& entry) noexcept {
    ++entry.count;
    return {client_, IndexOf(entry), entry.generation};
  }
  // nullptr: see Refusal.
  Entry* Find(const Handle& handle) noexcept {
    if (handle.client_ != client_ || handle.index_ >= used_) return nullptr;
    Entry& entry = entries_[handle.index_];
    return entry.count != 0 && entry.generation == handle.generation_ ? &entry : nullptr;
  }
  // Why Find found nothing.
  Error Refusal(const Handle& handle, const char* backend) const noexcept {
    const Origin origin{backend, Operation::kUseHandle};
    if (handle == Handle())
      return Error(EINVAL, "an empty Handle", origin,
                   "Client::MakeHandle and Client::Import return one");
    if (handle.client_ != client_) {
      return Error(EINVAL, "the handle is another client's", origin, "share it by descriptor");
    }
    return Error(EINVAL, "the handle was freed", origin);
  }
  // The lease of an entry whose count went to 0. Requires: the entry is in use.
  Buffer Remove(Entry& entry) noexcept {
    Unlink(entry);
    if (IndexOf(entry) == last_) {
      last_ = kNone;
      in_order_ = false;
    }
    entry.after = kNone;
    entry.count = 0;
    entry.identity = {};
    --in_use_;
    // One whose generations are used up is nobody's any more: a handle that was freed stays so.
    if (entry.generation != UINT32_MAX) entry.next = std::exchange(free_, IndexOf(entry));
    return std::exchange(entry.lease, Buffer());
  }
  // Of a client that ends: removes the first entry in use whose index is `at` or more, and returns
  // its lease; `at` is the index after it then. An empty lease: there is none. The links between
  // entries stay: in a forked child a thread that is not there may have been changing them.
  Buffer RemoveNext(uint32_t& at) noexcept {
    while (at < used_) {
      Entry& entry = entries_[at++];
      if (std::exchange(entry.count, 0) == 0) continue;
      --in_use_;
      return std::exchange(entry.lease, Buffer());
    }
    return {};
  }
  // The number of handles in the table.
  uint32_t in_use() const noexcept { return in_use_; }

 private:
  uint32_t IndexOf(const Entry& entry) const noexcept {
    return static_cast<uint32_t>(&entry - entries_);
  }
  // The first entry of an identity's bucket. (Fibonacci hashing: inodes come one after another.)
  uint32_t* BucketOf(const BufferIdentity& identity) const noexcept {
    const uint64_t hash = (identity.inode ^ identity.device << 32) * 0x9e3779b97f4a7c15;
    return &buckets_[hash >> 32 & (capacity_ - 1)];
  }
  void Link(Entry& entry) noexcept {
    if (!entry.identity.known()) return;
    entry.next = std::exchange(*BucketOf(entry.identity), IndexOf(entry));
  }
  void Unlink(Entry& entry) noexcept {
    if (!entry.identity.known()) return;
    uint32_t* link = BucketOf(entry.identity);
    while (*link != IndexOf(entry)) link = &entries_[*link].next;
    *link = entry.next;
  }

  const uint64_t client_;
  const uint32_t generation_;
  uint32_t in_use_ = 0;
  Entry* entries_ = nullptr;
  uint32_t* buckets_ = nullptr;  // as many as entries, a power of 2
  uint32_t used_ = 0;
  uint32_t capacity_ = 0;
  uint32_t free_ = kNone;
  uint32_t last_ = kNone;  // that came
  bool in_order_ = false;  // `after` of the one before it was right
};

}  // namespace ion

#endif  // ION_ION_HANDLE_H_
