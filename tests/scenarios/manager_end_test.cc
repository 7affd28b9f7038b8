// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A Manager goes while other threads are in the middle of their leases: whatever each of them was
// at, with the last of them the memory is gone, too.

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/fd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"

namespace ion::testing {
namespace {

using B = MemfdBackend<>;
template <Scrub kScrub>
using Machine = Manager<B, PooledHeap<SystemHeap<B>, PoolSpec{.scrub = kScrub}>>;

// What a Manager says of leases that outlive it is meant here.
class Silence {
 public:
  Silence() : stderr_(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) {
    const UniqueFd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    ::dup2(nowhere.get(), STDERR_FILENO);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;
  ~Silence() { ::dup2(stderr_.get(), STDERR_FILENO); }

 private:
  UniqueFd stderr_;
};

// The two threads of a round begin together; one ends the Manager.
struct Meeting {
  void Come() {
    missing.fetch_sub(1);
    while (missing.load() != 0) std::this_thread::yield();
  }

  std::atomic<uint32_t> missing{2};
  std::atomic<bool> gone{false};
};

// Some time that differs from call to call: a place in the other threads' work.
void Dawdle(uint64_t times) {
  for (uint64_t i = 0; i < times; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
}

// lease(client, meeting, a number) on a thread that has blocks at hand, while the Manager goes.
// Returns after how many of the rounds something was left.
template <Scrub kScrub, class F>
uint32_t RoundsThatLeave(uint64_t bytes, const ClientOptions& options, F lease) {
  constexpr uint32_t kRounds = 500;
  const Silence silence;
  uint32_t left = 0;
  for (uint32_t round = 0; round < kRounds; ++round) {
    const auto budget = std::make_shared<Budget>(1 << 24);
    {
      std::optional<Machine<kScrub>> manager = Open<Machine<kScrub>>({.budget = budget});
      auto client = Make(*manager, options);
      Meeting meeting;
      std::thread other([&] {
        { Buffer known = Take(client, bytes), another = Take(client, bytes); }
        lease(std::move(client), meeting, round);
      });
      meeting.Come();
      Dawdle(round * 53 % 1024);
      manager.reset();
      meeting.gone.store(true);
      other.join();
    }
    if (budget.use_count() != 1) ++left;
  }
  return left;
}

// In each pool. What is zeroed on its way back takes long enough for the Manager to go meanwhile.
template <class F>
void LeavesNothing(F lease) {
  const LeakCheck leaks;
  CHECK(RoundsThatLeave<Scrub::kOnAllocate>(4096, {.recycle_as_is = true}, lease(4096)) == 0);
  CHECK(RoundsThatLeave<Scrub::kOnFree>(1 << 20, {}, lease(1 << 20)) == 0);
  CHECK(RoundsThatLeave<Scrub::kBackground>(4096, {}, lease(4096)) == 0);
}

TEST_CASE("Manager: a lease that ends while it goes leaves nothing") {
  LeavesNothing([](uint64_t bytes) {
    return [bytes](auto&& ending, Meeting& meeting, uint64_t number) {
      Buffer buffer;
      {
        // So that nothing but the lease is left.
        auto client = std::forward<decltype(ending)>(ending);
        buffer = Take(client, bytes);
      }
      meeting.Come();
      Dawdle(number * 37 % 1024);
      buffer = Buffer();
    };
  });
}

TEST_CASE("Manager: a client that goes on while it goes leaves nothing") {
  LeavesNothing([](uint64_t bytes) {
    return [bytes](auto&& client, Meeting& meeting, uint64_t) {
      meeting.Come();
      do Buffer buffer = Take(client, bytes);
      while (!meeting.gone.load());
    };
  });
}

}  // namespace
}  // namespace ion::testing
