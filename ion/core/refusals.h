// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/refusals.h
//
// The errors of a request that no heap is asked for: past a bound, or with no heap to ask. Those of
// the heaps are in ion/core/reasons.h.
//
// Not for users.
#ifndef ION_ION_CORE_REFUSALS_H_
#define ION_ION_CORE_REFUSALS_H_

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/core/asker.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion::internal {

// `taken`: the bytes that a request of `bytes` is charged with, by its pages and its size class; 0:
// as many. `charged`: the pages of this very request that are on the account already.
inline absl::Status PastQuota(Operation operation, const char* backend, const Asker& asker,
                              uint64_t bytes, uint64_t taken = 0, uint64_t charged = 0) noexcept {
  const Error error(EDQUOT, "past the client's quota",
                    {backend, operation, asker.client->name, bytes},
                    "free some of its buffers, or raise its quota");
  return WithMemory(
      [&] {
        const uint64_t held = asker.account.held();
        std::string text = absl::StrCat(Describe(error), "; it holds ",
                                        (held - std::min(held, charged)) * PageBytes(),
                                        " bytes of ", asker.account.limit() * PageBytes());
        if (taken >= bytes + PageBytes()) {
          absl::StrAppend(&text, ", and the size class of the request takes ", taken, " bytes");
        } else if (taken > bytes) {
          absl::StrAppend(&text, ", and the request takes ", taken, " bytes in whole pages");
        }
        return MakeStatus(EDQUOT, text);
      },
      [] { return CodeAlone(EDQUOT); });
}

// The most buffers, or handles, of a client for which nobody named a bound: three quarters of the
// descriptors that the process may have, and of the blocks of a Manager.
inline uint32_t UsualCount() noexcept {
  uint64_t most = BlockTable::kMaxBlocks;
  rlimit descriptors{};
  if (::getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    most = std::min(most, uint64_t{descriptors.rlim_cur});
  }
  return static_cast<uint32_t>(most - most / 4);
}
// `what` it has too many of.
inline absl::Status PastCount(Operation operation, const char* backend, const Asker& asker,
                              const char* what, uint64_t has, uint64_t most) noexcept {
  const Error error(EDQUOT, what, {backend, operation, asker.client->name},
                    "free some, or raise the bound in its ClientOptions");
  return WithMemory(
      [&] {
        return MakeStatus(EDQUOT, absl::StrCat(Describe(error), "; it has ", has, " of ", most));
      },
      [] { return CodeAlone(EDQUOT); });
}
inline constexpr const char* kPastBuffers = "past the client's max_buffers";
inline constexpr const char* kPastHandles = "past the client's max_handles";
// Returns true if a client has as many buffers as it may. (Threads that ask at once may exceed the
// limit by one each.)
inline bool AtMostBuffers(const Asker& asker) noexcept {
  return asker.client != nullptr &&
         asker.client->buffers.load(std::memory_order_relaxed) >= asker.client->most_buffers;
}
inline absl::Status PastBuffers(Operation operation, const char* backend,
                                const Asker& asker) noexcept {
  return PastCount(operation, backend, asker, kPastBuffers,
                   asker.client->buffers.load(std::memory_order_relaxed),
                   asker.client->most_buffers);
}

// `bound`: the heaps that have memory; `usual`: those that a request without a mask is served from.
inline Error NoHeap(const Request& request, HeapMask bound, HeapMask usual,
                    const Origin& origin) noexcept {
  if (request.heaps.has_value() && request.heaps->empty()) {
    return Error(ENODEV, "the mask of heaps is empty", origin,
                 "name a heap, or leave the mask out");
  }
  if (!(request.heaps.value_or(usual) & bound).empty()) {
    return Error(ENODEV, "the client may use no heap that the request names", origin,
                 "name one of the client's mask, or give it a wider one");
  }
  if (request.heaps.has_value()) {
    return Error(ENODEV, "no heap of this Manager is in the mask", origin,
                 "Manager::heaps() has those that are");
  }
  return Error(ENODEV, "only heaps that a request has to name are bound", origin,
               "contiguous memory is scarce, and no device takes a memfd beside dma-bufs: name the "
               "heap in the request's mask");
}

}  // namespace ion::internal

#endif  // ION_ION_CORE_REFUSALS_H_
