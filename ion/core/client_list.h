// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/client_list.h
//
// ClientList: the clients of a Manager, by account, so that a report can name the holder of a block
// that came from a pool: such a lease tells nobody, and leaves only its account in the block.
//
// Not for users.
//
// Cost: no heap memory; a mutex, and a look at each client. Thread-safe.
#ifndef ION_ION_CORE_CLIENT_LIST_H_
#define ION_ION_CORE_CLIENT_LIST_H_

#include <cstdint>
#include <memory>
#include <mutex>

#include "ion/slab.h"

namespace ion::internal {

class ClientList {
 public:
  // Lives in a client.
  struct Entry {
    uint64_t account = 0;  // an AccountId's bits
    std::shared_ptr<const ClientIdentity> client;
    Entry* next = nullptr;
  };

  void Add(Entry& entry) noexcept {
    std::lock_guard lock(mutex_);
    entry.next = first_;
    first_ = &entry;
  }
  // Requires: it was added.
  void Remove(Entry& entry) noexcept {
    std::lock_guard lock(mutex_);
    Entry** link = &first_;
    while (*link != &entry) link = &(*link)->next;
    *link = entry.next;
  }
  // The client of this account; nullptr: it has gone, or the account is nobody's.
  std::shared_ptr<const ClientIdentity> Find(uint64_t account) const noexcept {
    std::lock_guard lock(mutex_);
    const Entry* entry = first_;
    while (entry != nullptr && entry->account != account) entry = entry->next;
    return entry == nullptr ? nullptr : entry->client;
  }

 private:
  mutable std::mutex mutex_;
  Entry* first_ = nullptr;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_CLIENT_LIST_H_
