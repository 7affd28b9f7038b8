// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/pooled.h
//
// What tests of pools have in common: a Manager, its clients and their buffers, all of which are
// there; what is in them; and what the pools did, summed up.

#ifndef ION_TESTS_SUPPORT_POOLED_H_
#define ION_TESTS_SUPPORT_POOLED_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>

#include "doctest/doctest.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"

namespace ion::testing {

template <class M>
using BackendOf = std::remove_reference_t<decltype(std::declval<M&>().backend())>;

template <class M>
M Open(const typename BackendOf<M>::Options& options = {}) {
  auto manager = M::Open(options);
  REQUIRE(manager.ok());
  return *std::move(manager);
}
template <class M>
typename M::Client Make(M& manager, const ClientOptions& options = {}) {
  auto client = manager.CreateClient(options);
  REQUIRE(client.ok());
  return *std::move(client);
}
template <class C>
Buffer Take(C& client, uint64_t bytes, Flags flags = Flags::kNone) {
  auto buffer = client.Allocate({.bytes = bytes, .heaps = HeapMask::All(), .flags = flags});
  REQUIRE(buffer.ok());
  return *std::move(buffer);
}

inline void Write(Buffer& buffer, uint8_t seed) {
  auto mapping = WritableMapping::Of(buffer);
  REQUIRE(mapping.ok());
  auto access = CpuWrite::Begin(*mapping);
  REQUIRE(access.ok());
  FillPages(access->bytes(), seed);
}
inline std::string Look(Buffer& buffer, uint8_t seed,
                        int (*byte_of)(uint8_t, uint64_t) = PageByte) {
  auto mapping = ReadOnlyMapping::Of(buffer);
  REQUIRE(mapping.ok());
  auto access = CpuRead::Begin(*mapping);
  REQUIRE(access.ok());
  return LookAtPages(access->bytes(), seed, 0, byte_of);
}

inline PoolReport Sum(const Report& report) {
  PoolReport sum{.heap = HeapId{0}, .domain = {}};
  for (const PoolReport& pool : report.pools) {
    sum.hits += pool.hits;
    sum.misses += pool.misses;
    sum.held_bytes += pool.held_bytes;
    sum.quarantined_bytes += pool.quarantined_bytes;
    sum.scrubs += pool.scrubs;
    sum.moves += pool.moves;
    for (size_t i = 0; i < kGiveBacks; ++i) sum.given_back_bytes[i] += pool.given_back_bytes[i];
  }
  return sum;
}
inline uint64_t Given(const Report& report, GiveBack why) {
  return Sum(report).given_back_bytes[static_cast<size_t>(why)];
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_POOLED_H_
