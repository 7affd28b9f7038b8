// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/refusals.h
//
// What a Manager says to a request that no heap was asked for, and where none could be.
//
// Not for users.
#ifndef ION_ION_REFUSALS_H_
#define ION_ION_REFUSALS_H_

#include <cerrno>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ion/asker.h"
#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/status.h"

namespace ion::internal {

// Why none of the heaps has memory.
template <class Core>
absl::Status NothingBound(const Core& core) noexcept {
  int code = ENODEV;
  std::string reasons;
  Core::Walk(core, [&](const auto& heap, size_t at) {
    code = heap.error().code();
    absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", "heap ", Core::kIds[at].value(), ": ",
                    Describe(heap.error()));
    return false;
  });
  return MakeStatus(code, reasons);
}

inline absl::Status PastQuota(const char* backend, const Asker& asker,
                              const Request& request) noexcept {
  return MakeStatus(
      EDQUOT, absl::StrCat(
                  Describe(Error(EDQUOT, "past the client's quota",
                                 {backend, Operation::kAllocate, asker.client->name, request.bytes},
                                 "free some of its buffers, or raise its quota")),
                  "; it holds ", asker.account.held() * PageBytes(), " bytes of ",
                  asker.account.limit() * PageBytes()));
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
  return Error(ENODEV, "only contiguous heaps are bound", origin,
               "contiguous memory is scarce: name the heap in the request's mask");
}

}  // namespace ion::internal

#endif  // ION_ION_REFUSALS_H_
