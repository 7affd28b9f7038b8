// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/asker.h
//
// Asker: on whose behalf a Manager does something, the Manager's own or a client's.
//
// Not for users.
#ifndef ION_ION_ASKER_H_
#define ION_ION_ASKER_H_

#include <cstdint>
#include <memory>

#include "ion/account.h"
#include "ion/heap_id.h"
#include "ion/pool_domains.h"
#include "ion/recycling.h"
#include "ion/slab.h"

namespace ion::internal {

// On whose behalf something is done, and by which line.
struct Asker {
  AccountId account;
  HeapMask heaps = HeapMask::All();
  HeapMask bound = {};  // of those, the ones that have memory
  HeapMask usual = {};  // of those, the ones that a request without a mask is served from
  uint64_t domain = kOwnDomain;
  PoolDomain pools = PoolDomains::kManagers;

  static constexpr uint64_t kOwnDomain = 1;  // the Manager's
  std::shared_ptr<const ClientIdentity> client = nullptr;
};

}  // namespace ion::internal

#endif  // ION_ION_ASKER_H_
