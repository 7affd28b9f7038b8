// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/stale_bytes.h
//
// A trust domain that fills each buffer it gets with a byte of its own, and looks for those of
// others; and pools that show them, which such a search has to find.

#ifndef ION_TESTS_SUPPORT_STALE_BYTES_H_
#define ION_TESTS_SUPPORT_STALE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "absl/status/statusor.h"
#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/request.h"
#include "tests/support/pooled.h"

namespace ion::testing {

inline constexpr uint64_t kDomainBytes = 4096;
inline constexpr int kPeersByte = 0xee;

// The one byte that all of them are; -1: they differ.
inline int OnlyByte(std::span<const std::byte> bytes) {
  const bool same = std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
  return same ? std::to_integer<int>(bytes[0]) : -1;
}

template <class M>
struct Domain {
  typename M::Client client;
  int byte;
  bool as_is;
  bool shares = false;  // what it shared comes back with what its peer wrote

  Buffer Take() {
    return client.Allocate({.bytes = kDomainBytes, .heaps = HeapMask::All()}).value();
  }
  // Fills what it got; 1: that had something of others in it.
  uint64_t LookAndFill(const Buffer& buffer) const {
    const auto mapping = WritableMapping::Of(buffer).value();
    const auto access = CpuReadWrite::Begin(mapping).value();
    const int found = OnlyByte(access.bytes());
    std::memset(access.bytes().data(), byte, access.bytes().size());
    const bool own = found == byte || (shares && found == kPeersByte);
    return found == 0 || (as_is && own) ? 0 : 1;
  }
  // 1: somebody has written into it since.
  uint64_t LookAgain(const Buffer& buffer) const {
    const auto mapping = ReadOnlyMapping::Of(buffer).value();
    return OnlyByte(CpuRead::Begin(mapping).value().bytes()) == byte ? 0 : 1;
  }
};

template <class M>
Domain<M> MakeDomain(M& manager, int byte, bool as_is) {
  return {Make(manager, {.recycle_as_is = as_is}), byte, as_is};
}

// Does not zero.
struct NoScrubber {
  template <Backend B>
  static Error Scrub(B&, Block&) noexcept {
    return {};
  }
};

template <class Inner>
using Pooled = Manager<typename Inner::BackendType, PooledHeap<Inner>>;
template <class Inner>
using Unzeroed =
    Manager<typename Inner::BackendType, PooledHeap<Inner, kPoolsFor<Inner>, NoScrubber>>;

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_STALE_BYTES_H_
