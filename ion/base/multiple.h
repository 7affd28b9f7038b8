// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/multiple.h
//
// RoundUpInPlace: a number rounded up to a multiple of another, in 64 bits, overflow checked.
//
// Cost: a few instructions; a division if the multiple is no power of two. Thread-safe.
#ifndef ION_ION_BASE_MULTIPLE_H_
#define ION_ION_BASE_MULTIPLE_H_

#include <cstdint>

namespace ion::internal {

// Rounds `value` up to a multiple. False: that has more than 64 bits, and `value` is of no use.
// Requires: multiple is not 0.
constexpr bool RoundUpInPlace(uint64_t& value, uint64_t multiple) noexcept {
  const uint64_t below = multiple - 1;
  const uint64_t over = (multiple & below) == 0 ? value & below : value % multiple;
  return over == 0 || !__builtin_add_overflow(value, multiple - over, &value);
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_MULTIPLE_H_
