// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/recycling/pool_classes.h
//
// PoolClasses: the sizes of pooled blocks, numbered: 4, 8, 12, 16 KiB, then four to each doubling
// (20, 24, 28, 32, 40, 48, …), so that less than a fifth of a block is wasted. The sizes are those
// of QuarterSteps (policies/size_classes.h); the number is what a table of pools is indexed by.
//
// Cost: three instructions up to 32 KiB, seven above.
#ifndef ION_POLICIES_RECYCLING_POOL_CLASSES_H_
#define ION_POLICIES_RECYCLING_POOL_CLASSES_H_

#include <bit>
#include <cstdint>

namespace ion {

struct PoolClasses {
  static constexpr uint64_t kSmallest = 4096;

  // The smallest class that has room for `bytes`; of 0 bytes, one above all. A hit asks for it, so
  // it is no call.
  [[gnu::always_inline]] static constexpr uint32_t Of(uint64_t bytes) noexcept {
    const uint64_t last = (bytes - 1) / kSmallest;  // the number of its last 4 KiB
    if (last < 8) [[likely]]  // what is hot is small, and a guess costs less than five instructions
      return static_cast<uint32_t>(last);
    const auto shift = static_cast<uint32_t>(std::bit_width(last) - 3);
    return 4 * shift + static_cast<uint32_t>(last >> shift);
  }
  static constexpr uint64_t Bytes(uint32_t size_class) noexcept {
    if (size_class < 4) return (size_class + 1) * kSmallest;
    const uint32_t shift = size_class / 4 - 1;
    return (uint64_t{size_class % 4 + 5} << shift) * kSmallest;
  }
};
static_assert(PoolClasses::Of(1) == 0 && PoolClasses::Of(4096) == 0 && PoolClasses::Of(4097) == 1 &&
              PoolClasses::Bytes(PoolClasses::Of(33 << 10)) == 40 << 10);

}  // namespace ion

#endif  // ION_POLICIES_RECYCLING_POOL_CLASSES_H_
