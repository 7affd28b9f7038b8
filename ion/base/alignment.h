// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/alignment.h
//
// CheckAlignment: why an alignment that a request wants is refused. One rule for every heap.
//
// Example:
//   Error error = CheckAlignment(request.alignment, PageBytes(), origin);
//   if (!error.ok()) return error;
//
// Cost: two comparisons. Thread-safe.
#ifndef ION_ION_BASE_ALIGNMENT_H_
#define ION_ION_BASE_ALIGNMENT_H_

#include <bit>
#include <cerrno>
#include <cstdint>

#include "ion/base/error.h"

namespace ion {

// EINVAL: `wanted` is no power of two, or more than `most`, which is promised.
inline Error CheckAlignment(uint64_t wanted, uint64_t most, const Origin& origin) noexcept {
  if (!std::has_single_bit(wanted)) {
    return Error(EINVAL, "the alignment is no power of two", origin,
                 "ask for a power of two; 1 asks for no alignment")
        .With(Limit{most});
  }
  if (wanted <= most) return {};
  return Error(EINVAL, "an alignment that its memory does not promise", origin,
               "ask for less; a CarveoutHeap over a PhysRegion promises larger alignments")
      .With(Limit{most});
}

}  // namespace ion

#endif  // ION_ION_BASE_ALIGNMENT_H_
