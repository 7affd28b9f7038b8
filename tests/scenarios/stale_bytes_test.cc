// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Nobody sees stale bytes, of domains of one process: each fills every buffer with a byte of its
// own, and looks at what it gets. The control is a pool that does not zero.

#include "tests/support/stale_bytes.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"

namespace ion::testing {
namespace {

using Memfds = MemfdBackend<>;

// What the domain finds wrong in one turn. More than a thread keeps at hand goes through a turn, so
// that the rest of it is there for the other domains.
constexpr uint64_t kTurn = 64;
template <class M>
uint64_t TakeTurn(Domain<M>& domain, std::vector<Buffer>& taken) {
  uint64_t stale = 0;
  for (uint64_t i = 0; i < kTurn; ++i) {
    taken.push_back(domain.Take());
    stale += domain.LookAndFill(taken.back());
  }
  taken.clear();
  return stale;
}
template <class M>
uint64_t StaleInTurns(std::span<Domain<M>> domains, uint64_t recycles) {
  std::vector<Buffer> taken;
  uint64_t stale = 0;
  for (uint64_t done = 0; done < recycles;) {
    for (Domain<M>& domain : domains) {
      stale += TakeTurn(domain, taken);
      done += kTurn;
    }
  }
  return stale;
}

TEST_CASE("StaleBytes: 1,000,000 recycles across two domains show none of the other's bytes") {
  const LeakCheck leaks;
  using M = Pooled<SystemHeap<Memfds>>;
  auto manager = Open<M>();
  std::array domains = {MakeDomain(manager, 1, true), MakeDomain(manager, 2, true)};
  CHECK(StaleInTurns<M>(domains, 1'000'000) == 0);
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.hits >= 1'000'000 - 2 * kTurn);
  CHECK(sum.moves >= 100'000);
}

template <Scrub kScrub>
void BetweenAllKinds() {
  const LeakCheck leaks;
  using M = Manager<Memfds, PooledHeap<SystemHeap<Memfds>, PoolSpec{.scrub = kScrub}>>;
  auto manager = Open<M>();
  std::array domains = {MakeDomain(manager, 1, true), MakeDomain(manager, 2, false),
                        MakeDomain(manager, 3, true), MakeDomain(manager, 4, false)};
  for (int i = 0; i < 20; ++i) {
    CHECK(StaleInTurns<M>(domains, 2000) == 0);
    manager.Tick();
  }
  CHECK(Sum(manager.MakeReport()).moves >= 10'000);
}
TEST_CASE("StaleBytes: none where memory is zeroed on allocation") {
  BetweenAllKinds<Scrub::kOnAllocate>();
}
TEST_CASE("StaleBytes: none where memory is zeroed on free") { BetweenAllKinds<Scrub::kOnFree>(); }
TEST_CASE("StaleBytes: none where memory is zeroed in the background") {
  BetweenAllKinds<Scrub::kBackground>();
}

TEST_CASE("StaleBytes: none between threads, while others trim") {
  const LeakCheck leaks;
  using M = Pooled<SystemHeap<Memfds>>;
  auto manager = Open<M>();
  std::array domains = {MakeDomain(manager, 1, true), MakeDomain(manager, 2, false),
                        MakeDomain(manager, 3, true)};
  std::array<uint64_t, 3> stale{};
  {
    std::vector<std::jthread> threads;
    threads.reserve(domains.size());
    for (size_t i = 0; i < domains.size(); ++i) {
      threads.emplace_back(
          [&, i] { stale[i] = StaleInTurns<M>(std::span(&domains[i], 1), 20'000); });
    }
    for (int i = 0; i < 100; ++i) {
      manager.Trim(10 * kDomainBytes);
      manager.Tick();
    }
  }
  CHECK(stale == std::array<uint64_t, 3>{});
}

// Each domain lends the descriptor of what it has to a neighbour of its own, which keeps it.
template <class M, bool kNeighbourIsOther>
uint64_t StaleByLentDescriptors(M& manager, int turns) {
  typename M::Client lender = Make(manager, {.domain = "a", .recycle_as_is = true});
  typename M::Client neighbour =
      Make(manager, {.domain = kNeighbourIsOther ? "b" : "a", .recycle_as_is = true});
  typename M::Client other = Make(manager, {.domain = "c", .recycle_as_is = true});
  uint64_t stale = 0;
  for (int secret = 1; secret <= turns; ++secret) {
    std::vector<Handle> kept;
    {
      std::vector<Buffer> leases;
      for (uint64_t n = 0; n < kTurn; ++n) {
        leases.push_back(lender.Allocate({.bytes = kDomainBytes}).value());
        kept.push_back(
            neighbour.Import(n % 2 == 0 ? leases.back().fd() : leases.back().range().fd).value());
      }
    }
    // What lies at hand on this thread is there for the others.
    manager.Tick();
    std::vector<Buffer> secrets;
    for (uint64_t n = 0; n < kTurn; ++n) {
      typename M::Client& next = kNeighbourIsOther && n % 2 == 0 ? lender : other;
      secrets.push_back(next.Allocate({.bytes = kDomainBytes}).value());
      const auto mapping = WritableMapping::Of(secrets.back()).value();
      std::ranges::fill(CpuWrite::Begin(mapping).value().bytes(), static_cast<std::byte>(secret));
    }
    for (const Handle& handle : kept) {
      const auto mapping = neighbour.template Map<MapMode::kReadOnly>(handle).value();
      stale += OnlyByte(mapping.unsynced()) == secret;
    }
    for (const Handle& handle : kept) CHECK(neighbour.Free(handle).ok());
  }
  return stale;
}
TEST_CASE("StaleBytes: none by a descriptor that was lent and imported") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<SystemHeap<Memfds>>>();
  CHECK(StaleByLentDescriptors<decltype(manager), false>(manager, 20) == 0);
  CHECK(StaleByLentDescriptors<decltype(manager), true>(manager, 20) == 0);
}

TEST_CASE("StaleBytes: memory that was lent and kept by nobody stays its domain's") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<SystemHeap<Memfds>>>();
  auto lender = Make(manager, {.domain = "a", .recycle_as_is = true});
  auto other = Make(manager, {.domain = "b", .recycle_as_is = true});
  struct stat lent {
  }, given{};
  {
    const Buffer lease = lender.Allocate({.bytes = kDomainBytes}).value();
    CHECK(::fstat(lease.fd().get(), &lent) == 0);
  }
  CHECK(::fstat(lender.Allocate({.bytes = kDomainBytes}).value().fd().get(), &given) == 0);
  CHECK(given.st_ino == lent.st_ino);
  manager.Tick();
  // Whoever got the descriptor by another way than Import is not known.
  CHECK(::fstat(other.Allocate({.bytes = kDomainBytes}).value().fd().get(), &given) == 0);
  CHECK(given.st_ino != lent.st_ino);
}

TEST_CASE("StaleBytes: with the zeroing off, they are found") {
  const LeakCheck leaks;
  using M = Unzeroed<SystemHeap<Memfds>>;
  auto manager = Open<M>();
  SUBCASE("between domains that take memory as it is") {
    std::array domains = {MakeDomain(manager, 1, true), MakeDomain(manager, 2, true)};
    CHECK(StaleInTurns<M>(domains, 10'000) >= 1000);
  }
  SUBCASE("in a domain whose memory is to read as zero") {
    std::array domains = {MakeDomain(manager, 1, false)};
    CHECK(StaleInTurns<M>(domains, 10'000) >= 1000);
  }
}

}  // namespace
}  // namespace ion::testing
