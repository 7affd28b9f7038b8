// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/asker.h
//
// Asker: on whose behalf a Manager does something, the Manager's own or a client's.
//
// Not for users.
#ifndef ION_ION_CORE_ASKER_H_
#define ION_ION_CORE_ASKER_H_

#include <cstdint>
#include <memory>

#include "ion/core/account.h"
#include "ion/core/growing_mask.h"
#include "ion/core/pool_domains.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/slab.h"

namespace ion::internal {

// On whose behalf something is done, and by which line.
struct Asker {
  AccountId account;
  HeapMask heaps = HeapMask::All();
  // Of those, the ones that have memory, and the ones that a request without a mask is served from.
  // They follow the Manager's on the slow way.
  mutable GrowingMask bound = {};
  mutable GrowingMask usual = {};
  uint64_t domain = kOwnDomain;
  PoolDomain pools = PoolDomains::kManagers;

  static constexpr uint64_t kOwnDomain = 1;  // the Manager's
  std::shared_ptr<const ClientIdentity> client = nullptr;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_ASKER_H_
