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
// Cost: finding a buffer by its identity looks at every handle; all else is constant. Not
// thread-safe: under the client's lock.
class HandleTable {
 public:
  struct Entry {
    Buffer lease;
    BufferIdentity identity;
    uint32_t count = 0;  // 0: free
    uint32_t generation = 0;
    uint32_t next_free = 0;
  };

  // `client` is the AccountId's bits: never used again. `generation`: the last one that the entries
  // are taken to have had.
  explicit HandleTable(uint64_t client, uint32_t generation = 0) noexcept
      : client_(client), generation_(generation) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;
  ~HandleTable() { delete[] entries_; }

  // Makes sure that the next Add succeeds. False: operator new had no memory.
  [[nodiscard]] bool Reserve() noexcept {
    if (free_ != kNone || used_ < capacity_) return true;
    const uint32_t capacity = capacity_ == 0 ? 16 : 2 * capacity_;
    Entry* larger = new (std::nothrow) Entry[capacity];
    if (larger == nullptr) return false;
    for (uint32_t i = 0; i < used_; ++i) larger[i] = std::move(entries_[i]);
    delete[] entries_;
    entries_ = larger;
    capacity_ = capacity;
    return true;
  }
  // Requires: Reserve said true, and no Add came since.
  Handle Add(Buffer lease, const BufferIdentity& identity) noexcept {
    uint32_t at = free_;
    if (at == kNone) {
      at = used_++;
      entries_[at].generation = generation_;
    } else {
      free_ = entries_[at].next_free;
    }
    Entry& entry = entries_[at];
    entry.lease = std::move(lease);
    entry.identity = identity;
    entry.count = 1;
    ++in_use_;
    return {client_, at, ++entry.generation};
  }
  // Returns the entry of the buffer with this identity, or nullptr. `is_it(entry)` is true if an
  // entry of this identity is certainly that buffer.
  template <class F>
  Entry* FindBuffer(const BufferIdentity& identity, F is_it) noexcept {
    if (!identity.known()) return nullptr;
    for (uint32_t i = 0; i < used_; ++i) {
      Entry& entry = entries_[i];
      // One that is full is not counted any further: the buffer gets a second handle.
      if (entry.count == 0 || entry.count == UINT32_MAX || entry.identity != identity) continue;
      if (is_it(entry)) return &entry;
    }
    return nullptr;
  }
  // Its handle, with its count raised.
  Handle AddReference(Entry& entry) noexcept {
    ++entry.count;
    return {client_, static_cast<uint32_t>(&entry - entries_), entry.generation};
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
    entry.count = 0;
    entry.identity = {};
    --in_use_;
    // One whose generations are used up is nobody's any more: a handle that was freed stays so.
    if (entry.generation != UINT32_MAX) {
      entry.next_free = std::exchange(free_, static_cast<uint32_t>(&entry - entries_));
    }
    return std::exchange(entry.lease, Buffer());
  }
  // Removes the first entry in use whose index is `at` or more, and returns its lease; `at` is the
  // index after it then. An empty lease: there is none.
  Buffer RemoveNext(uint32_t& at) noexcept {
    while (at < used_) {
      Entry& entry = entries_[at++];
      if (entry.count != 0) return Remove(entry);
    }
    return {};
  }
  // The number of handles in the table.
  uint32_t in_use() const noexcept { return in_use_; }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  const uint64_t client_;
  const uint32_t generation_;
  uint32_t in_use_ = 0;
  Entry* entries_ = nullptr;
  uint32_t used_ = 0;
  uint32_t capacity_ = 0;
  uint32_t free_ = kNone;
};

}  // namespace ion

#endif  // ION_ION_HANDLE_H_
