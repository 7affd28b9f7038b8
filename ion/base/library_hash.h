// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/library_hash.h
//
// LibraryHash: a number that differs between the libraries of a process that have statics of their
// own (hidden visibility). Generations begin at it, so that one library never takes an id of
// another for its own.
//
// Not for users.
//
// Cost: one multiplication.
#ifndef ION_ION_BASE_LIBRARY_HASH_H_
#define ION_ION_BASE_LIBRARY_HASH_H_

#include <cstdint>

namespace ion::internal {

// A hash of the address of the library's statics. Use the upper bits.
inline uint64_t LibraryHash(const void* statics) noexcept {
  return reinterpret_cast<uintptr_t>(statics) * uint64_t{0x9e3779b97f4a7c15};
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_LIBRARY_HASH_H_
