// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/always_cached.h
//
// AlwaysCached: a backend whose requests choose whether their memory is cached (ION), as one where
// a request that says nothing gets cached memory. So every suite runs on both kinds.
// CachedUnderTest: the same of a backend under test (tests/support/backend_suite.h).

#ifndef ION_TESTS_SUPPORT_ALWAYS_CACHED_H_
#define ION_TESTS_SUPPORT_ALWAYS_CACHED_H_

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/base/syscalls.h"

namespace ion::testing {

template <Backend B>
class AlwaysCached : public B {
 public:
  static Result<AlwaysCached> Open(const typename B::Options& options) noexcept {
    Result<B> opened = B::Open(options);
    if (!opened.ok()) return opened.error();
    return AlwaysCached(*std::move(opened));
  }

  std::span<const KernelHeap> heaps() const noexcept { return heaps_; }

  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const bool chooses = kernel_heap < heaps_.size() && heaps_[kernel_heap].either_caching &&
                         !Has(flags, Flags::kUncached);
    return B::Allocate(kernel_heap, bytes, chooses ? flags | Flags::kCached : flags, name, block);
  }

 private:
  explicit AlwaysCached(B&& backend) noexcept
      : B(std::move(backend)), heaps_(B::heaps().begin(), B::heaps().end()) {
    for (KernelHeap& heap : heaps_) {
      if (heap.either_caching) heap.properties.cached = true;
    }
  }

  std::vector<KernelHeap> heaps_;
};

template <class T>
struct CachedUnderTest : T {
  template <Syscalls S = typename T::Sys>
  using Backend = AlwaysCached<typename T::template Backend<S>>;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_ALWAYS_CACHED_H_
