// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/buffer_identity.h
//
// BufferIdentity: the numbers by which the kernel distinguishes buffers, equal for all descriptors
// of one buffer.
//
// Cost: two words.
#ifndef ION_ION_BUFFER_IDENTITY_H_
#define ION_ION_BUFFER_IDENTITY_H_

#include <cstdint>

namespace ion {

// The inode of a buffer: two living ones may have the same where a backend compares (kCaps).
// Unknown (inode 0) where the kernel has one inode for all of them (dma-bufs before Linux 5.3).
struct BufferIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;

  // True if the kernel tells this buffer apart from others.
  bool known() const noexcept { return inode != 0; }
  friend constexpr bool operator==(const BufferIdentity&, const BufferIdentity&) = default;
};

}  // namespace ion

#endif  // ION_ION_BUFFER_IDENTITY_H_
