// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/direction.h
//
// Direction: the kinds of access in a scope of the CPU, or by a device.
//
// Cost: plain data.
#ifndef ION_ION_BASE_DIRECTION_H_
#define ION_ION_BASE_DIRECTION_H_

#include <cstdint>

namespace ion {

// The numbers are those of DMA_BUF_SYNC_READ and _WRITE.
enum class Direction : uint8_t { kRead = 1, kWrite = 2, kReadWrite = 3 };

constexpr bool Reads(Direction d) noexcept { return (static_cast<uint8_t>(d) & 1) != 0; }
constexpr bool Writes(Direction d) noexcept { return (static_cast<uint8_t>(d) & 2) != 0; }

}  // namespace ion

#endif  // ION_ION_BASE_DIRECTION_H_
