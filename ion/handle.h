// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/handle.h
//
// Handle: names memory that a client keeps, shares or imported (ion/client.h). A plain value: what
// it names lives in the client's table, and a handle that was freed, or is another client's, is an
// error wherever it is used.
//
// Example:
//   absl::StatusOr<ion::Handle> handle = client.Keep(*std::move(buffer));
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
#include "ion/buffer.h"
#include "ion/error.h"

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

  // `client` is the AccountId's bits: never used again while anybody remembers.
  explicit HandleTable(uint64_t client) noexcept : client_(client) {}
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
    } else {
      free_ = entries_[at].next_free;
    }
    Entry& entry = entries_[at];
    entry.lease = std::move(lease);
    entry.identity = identity;
    entry.count = 1;
    return {client_, at, ++entry.generation};
  }
  // The handle of this buffer, with its count raised; a handle of nothing where there is none.
  Handle AddReference(const BufferIdentity& identity) noexcept {
    if (!identity.known()) return {};
    for (uint32_t i = 0; i < used_; ++i) {
      Entry& entry = entries_[i];
      // One that is full is not counted any further: the buffer gets a second handle.
      if (entry.count == 0 || entry.count == UINT32_MAX || entry.identity != identity) continue;
      ++entry.count;
      return {client_, i, entry.generation};
    }
    return {};
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
    if (handle == Handle()) return Error(EINVAL, "a handle of nothing", origin, "Keep gives one");
    if (handle.client_ != client_) {
      return Error(EINVAL, "the handle is another client's", origin, "share it by descriptor");
    }
    return Error(EINVAL, "the handle was freed", origin);
  }
  // The lease of an entry whose count went to 0. Requires: the entry is in use.
  Buffer Remove(Entry& entry) noexcept {
    entry.count = 0;
    entry.identity = {};
    entry.next_free = std::exchange(free_, static_cast<uint32_t>(&entry - entries_));
    return std::exchange(entry.lease, Buffer());
  }
  // f(entry) for each that is in use.
  template <class F>
  void ForEach(F f) noexcept {
    for (uint32_t i = 0; i < used_; ++i) {
      if (entries_[i].count != 0) f(entries_[i]);
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  const uint64_t client_;
  Entry* entries_ = nullptr;
  uint32_t used_ = 0;
  uint32_t capacity_ = 0;
  uint32_t free_ = kNone;
};

}  // namespace ion

#endif  // ION_ION_HANDLE_H_
