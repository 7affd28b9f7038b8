// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/pool_domains.h
//
// PoolDomains: maps trust domains to slots of the pools' tables. The same name with different
// `recycle_as_is` gives two domains, because one's idle blocks are not zeroed.
//
// Not for users.
//
// Cost: a look at each slot, under a mutex. Thread-safe.
#ifndef ION_ION_CORE_POOL_DOMAINS_H_
#define ION_ION_CORE_POOL_DOMAINS_H_

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "ion/recycling.h"

namespace ion::internal {

class PoolDomains {
 public:
  // The Manager's own, which nobody leaves.
  static constexpr PoolDomain kManagers{.slot = 1};

  // For one more client. No name: a domain of its own. Slot 0 where all are taken.
  PoolDomain Join(std::string_view name, bool as_is) {
    std::lock_guard lock(mutex_);
    uint16_t free = 0;
    for (uint16_t i = kManagers.slot + 1; i < PoolDomain::kSlots; ++i) {
      Slot& slot = slots_[i];
      if (slot.clients == 0) {
        if (free == 0) free = i;
      } else if (!name.empty() && slot.name == name && slot.as_is == as_is) {
        ++slot.clients;
        return {i, as_is};
      }
    }
    if (free != 0) slots_[free] = {std::string(name), as_is, 1};
    return {free, as_is};
  }
  // Removes a client. If it was the domain's last, calls last() before another domain can get the
  // slot.
  template <class F>
  void Leave(PoolDomain domain, F last) noexcept {
    if (domain.slot == 0) return;
    std::lock_guard lock(mutex_);
    if (--slots_[domain.slot].clients == 0) last();
  }

 private:
  struct Slot {
    std::string name;
    bool as_is = false;
    uint32_t clients = 0;
  };

  std::mutex mutex_;
  std::array<Slot, PoolDomain::kSlots> slots_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_POOL_DOMAINS_H_
