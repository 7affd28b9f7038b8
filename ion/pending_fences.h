// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/pending_fences.h
//
// HasPendingFence: returns true if a device may still use a block, because a fence on its dma-buf
// is not signalled yet. The begin of CPU access waits for such a fence, for any time, so the
// library asks this before it zeroes memory on its own behalf: a fence that a former user left
// behind must not stop the next request, a release, or the reclaimer. CPU access to uncached memory
// begins without a call to the kernel, and so without a wait: there the answer is the only sign
// that a device still writes.
//
// Not for users.
//
// Cost: one poll that does not wait; nothing where the backend's memory has no fences. Thread-safe.
#ifndef ION_ION_PENDING_FENCES_H_
#define ION_ION_PENDING_FENCES_H_

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/block.h"

namespace ion::internal {

// An error of the question goes to the backend's sink, and the block is taken to be busy.
template <Backend B>
bool HasPendingFence(B& backend, const Block& block) noexcept {
  if constexpr (B::kCaps.fences) {
    const Result<bool> idle = backend.IsIdle(block);
    if (idle.ok()) return !*idle;
    backend.errors().Report(idle.error());
    return true;
  } else {
    return false;
  }
}

}  // namespace ion::internal

#endif  // ION_ION_PENDING_FENCES_H_
