// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Leases that come from a heap's pool: the way through Manager, account and pool, with the
// benchmark's heap over memfds.

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/pooled_memfd.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

using Pooled = Manager<MemfdBackend<>, bench::PooledMemfd<HeapId{0}>>;
using Two = Manager<MemfdBackend<>, bench::PooledMemfd<HeapId{0}>, bench::PooledMemfd<HeapId{1}>>;

template <class M>
M Open(MemfdBackend<>::Options options = {}) {
  auto manager = M::Open(options);
  REQUIRE(manager.ok());
  return *std::move(manager);
}
template <class M>
typename M::Client Make(M& manager,
                        const ClientOptions& options = {.name = "pooled", .recycle_as_is = true}) {
  auto client = manager.CreateClient(options);
  REQUIRE(client.ok());
  return *std::move(client);
}

TEST_CASE("Recycling: a released block is the next lease, with its memory and its generation") {
  const LeakCheck leaks;
  auto manager = Open<Pooled>();
  auto client = Make(manager);
  int fd;
  uint32_t generation;
  {
    const auto lease = client.Allocate({.bytes = 4096});
    REQUIRE(lease.ok());
    fd = lease->fd().get();
    generation = lease->generation();
    CHECK(client.held_bytes() == PageBytes());
  }
  CHECK(client.held_bytes() == 0);
  CHECK(manager.backend().budget().held() == PageBytes());
  const auto again = client.Allocate({.bytes = 1});
  REQUIRE(again.ok());
  CHECK(again->fd().get() == fd);
  CHECK(again->generation() == generation);
  CHECK(client.held_bytes() == PageBytes());
  // Another one is made, as the pool is empty.
  const auto other = client.Allocate({.bytes = 1});
  REQUIRE(other.ok());
  CHECK(other->fd().get() != fd);
}

TEST_CASE("Recycling: what no pool serves goes to the kernel and back") {
  const LeakCheck leaks;
  auto manager = Open<Pooled>();
  auto client = Make(manager);
  { CHECK(client.Allocate({.bytes = uint64_t{65} << 20}).ok()); }
  CHECK(manager.backend().budget().held() == 0);
  CHECK(ErrnoOf(client.Allocate({.bytes = 0}).status()) == EINVAL);
  CHECK(ErrnoOf(client.Allocate({.bytes = 1, .flags = HeapPrivate(1)}).status()) == EINVAL);
}

TEST_CASE("Recycling: a kept lease never comes back to the pool") {
  const LeakCheck leaks;
  auto manager = Open<Pooled>();
  auto client = Make(manager);
  auto lease = client.Allocate({.bytes = 4096});
  REQUIRE(lease.ok());
  const auto handle = client.MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  CHECK(client.Free(*handle).ok());
  CHECK(manager.backend().budget().held() == 0);
  CHECK(client.held_bytes() == 0);
}

TEST_CASE("Recycling: each heap takes back its own") {
  const LeakCheck leaks;
  auto manager = Open<Two>();
  auto client = Make(manager);
  int one, two;
  {
    const auto a = client.Allocate({.bytes = 1, .heaps = HeapId{0}});
    const auto b = client.Allocate({.bytes = 1, .heaps = HeapId{1}});
    REQUIRE((a.ok() && b.ok()));
    one = a->fd().get();
    two = b->fd().get();
  }
  const auto a = client.Allocate({.bytes = 1, .heaps = HeapId{0}});
  const auto b = client.Allocate({.bytes = 1, .heaps = HeapId{1}});
  REQUIRE((a.ok() && b.ok()));
  CHECK(a->fd().get() == one);
  CHECK(b->fd().get() == two);
  // Highest first: the pool of heap 1 is empty, and its kernel comes before the pool of heap 0.
  const auto c = client.Allocate({.bytes = 1});
  REQUIRE(c.ok());
  CHECK(manager.HeapOf(*c) == HeapId{1});
}

TEST_CASE("Recycling: a quota counts leases, not what lies in a pool") {
  const LeakCheck leaks;
  auto manager = Open<Pooled>();
  auto client =
      Make(manager, {.name = "small", .quota_bytes = 2 * PageBytes(), .exact_quota = true});
  auto a = client.Allocate({.bytes = 1});
  auto b = client.Allocate({.bytes = 1});
  REQUIRE((a.ok() && b.ok()));
  CHECK(ErrnoOf(client.Allocate({.bytes = 1}).status()) == EDQUOT);
  *a = Buffer();
  CHECK(client.Allocate({.bytes = 1}).ok());
  *b = Buffer();
  CHECK(client.held_bytes() == 0);
  CHECK(manager.backend().budget().held() == 2 * PageBytes());
}

TEST_CASE("Recycling: a Manager's end empties its pools, and later releases go to the kernel") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(1 << 20);
  Buffer out;
  {
    auto manager = Open<Pooled>({.budget = budget});
    auto client = Make(manager);
    auto lease = client.Allocate({.bytes = 1});
    { CHECK(client.Allocate({.bytes = 1}).ok()); }
    REQUIRE(lease.ok());
    CHECK(budget->held() == 2 * PageBytes());
    out = *std::move(lease);
  }
  CHECK(budget->held() == PageBytes());
  out = Buffer();
  CHECK(budget->held() == 0);
  CHECK(budget.use_count() == 1);
}

TEST_CASE("Recycling: no block is two threads' at once, and nothing is lost") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(16 << 20);
  std::atomic<int> failures{0};
  {
    auto manager = Open<Pooled>({.budget = budget});
    auto client = Make(manager);
    const auto work = [&](uint64_t seed) {
      std::vector<Buffer> leases;
      for (int i = 0; i < 2000; ++i) {
        auto lease = client.Allocate({.bytes = 4096});
        if (!lease.ok()) {
          ++failures;
          continue;
        }
        // Whoever has the block too would see another cookie.
        Block& block = LeaseAccess::BlockOf(*lease);
        block.cookie = seed;
        leases.push_back(*std::move(lease));
        for (const Buffer& held : leases) {
          if (LeaseAccess::BlockOf(held).cookie != seed) ++failures;
        }
        if (leases.size() > 1 + static_cast<size_t>(i % 8)) leases.clear();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (uint64_t seed = 1; seed <= 8; ++seed) threads.emplace_back(work, seed);
    }
    CHECK(client.held_bytes() == 0);
  }
  CHECK(failures == 0);
  CHECK(budget->held() == 0);
}

}  // namespace
}  // namespace ion::testing
