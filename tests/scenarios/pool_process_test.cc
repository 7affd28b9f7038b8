// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool: and the process around it: fork, signals, seccomp.

#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/pool/membarrier.h"
#include "ion/policies/pool/pool.h"
#include "tests/support/child.h"
#include "tests/support/pool_fixture.h"
#include "tests/support/refuse_call.h"
#include "tests/support/skip.h"

namespace {

using ion::Block;
using ion::Pool;
using ion::testing::ChildEnd;
using ion::testing::PoolFixture;
using ion::testing::RunInChild;

TEST_CASE("Pool: in a forked child an inherited pool is empty, and takes nothing") {
  PoolFixture f(100);
  f.Fill();
  Block* held = f.pool.Acquire();
  const ChildEnd end = RunInChild([&] {
    if (!f.pool.inherited()) return "not known as inherited";
    if (f.pool.Acquire() != nullptr) return "a block of the parent's was acquired";
    if (f.pool.Release(held)) return "a block of the parent's was taken";
    if (f.pool.Acquire() != nullptr) return "a block of the parent's was acquired after a release";
    if (f.pool.Drain() != 0) return "something was drained";
    if (f.pool.BindThread()) return "a thread was bound";
    if (f.pool.Trim(0, [](Block&) {}) != 0) return "something was trimmed";
    if (f.pool.TrimUnused([](Block&) {}) != 0) return "something unused was trimmed";
    if (f.pool.counters().held != 0) return "something is held";
    int given = 0;
    f.pool.Close([&](Block&) { ++given; });
    return given == 0 ? "" : "closing gave something";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(f.pool.Release(held));
  CHECK(f.TakeAll().size() == 100);
  CHECK_FALSE(f.pool.inherited());
}

TEST_CASE("Pool: a forked child makes pools of its own, beside inherited ones and after them") {
  PoolFixture f(100);
  f.Fill();
  const ChildEnd end = RunInChild([&] {
    std::vector<Block> blocks(50);
    for (int i = 0; i < 3; ++i) {
      ion::Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {});
      if (!pool.ok()) return "no pool was made";
      std::jthread other([&] {
        for (int k = 0; k < 25; ++k) (void)pool->Release(&blocks[k]);
      });
      other.join();
      for (int k = 25; k < 50; ++k) (void)pool->Release(&blocks[k]);
      if (f.pool.Acquire() != nullptr) return "the old pool gives what is the new one's";
      int found = 0;
      while (pool->Acquire() != nullptr) ++found;
      if (found != 50) return "the new pool lost something";
    }
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(f.TakeAll().size() == 100);
}

TEST_CASE("Pool: a child of a child owns nothing of either") {
  PoolFixture f(10);
  f.Fill();
  const ChildEnd end = RunInChild([&] {
    PoolFixture<> own(10);
    own.Fill();
    const pid_t child = ::fork();
    if (child == 0) {
      const bool empty = own.pool.Acquire() == nullptr && f.pool.Acquire() == nullptr;
      ::_exit(empty ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return "the grandchild acquired something";
    return own.TakeAll().size() == 10 ? "" : "the child lost something";
  });
  CHECK(end.text == "");
}

// --- signals -------------------------------------------------------------------------------------

PoolFixture<>* signalled = nullptr;
std::atomic<uint64_t> handled{0};
std::atomic<uint64_t> handler_errors{0};

void UsePoolInHandler(int) {
  const int saved = errno;
  Block* first = signalled->pool.Acquire();
  Block* second = signalled->pool.Acquire();
  if (first != nullptr && first == second) ++handler_errors;
  for (Block* block : {first, second}) {
    if (block == nullptr) continue;
    if (++block->cookie != 1) ++handler_errors;
    --block->cookie;
    if (!signalled->pool.Release(block)) ++handler_errors;
  }
  ++handled;
  errno = saved;
}

TEST_CASE("Pool: a signal handler uses the pool that it interrupts") {
  PoolFixture f(40);
  f.Fill();
  REQUIRE(f.pool.BindThread());
  signalled = &f;
  handled = handler_errors = 0;
  struct sigaction action = {}, old = {};
  action.sa_handler = UsePoolInHandler;
  action.sa_flags = SA_RESTART;
  REQUIRE(::sigaction(SIGUSR1, &action, &old) == 0);
  std::atomic<bool> stop{false};
  const pthread_t target = ::pthread_self();
  uint64_t errors = 0;
  {
    std::jthread sender([&] {
      while (!stop) {
        ::pthread_kill(target, SIGUSR1);
        ::usleep(1);
      }
    });
    std::jthread drainer([&] {
      while (!stop) f.pool.Drain();
    });
    std::vector<Block*> mine;
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
    for (unsigned round = 0; std::chrono::steady_clock::now() < end; ++round) {
      for (unsigned i = 0; i < 1 + round % 36; ++i) {
        Block* block = f.pool.Acquire();
        if (block == nullptr) continue;
        if (++block->cookie != 1) ++errors;
        mine.push_back(block);
      }
      for (Block* block : mine) {
        --block->cookie;
        if (!f.pool.Release(block)) ++errors;
      }
      mine.clear();
    }
    stop = true;
  }
  ::sigaction(SIGUSR1, &old, nullptr);
  CHECK(errors == 0);
  CHECK(handler_errors == 0);
  CHECK(handled > 100);
  CHECK(f.TakeAll().size() == 40);
}

// --- seccomp -------------------------------------------------------------------------------------

// TSan's runtime makes system calls of its own, and does not survive the mode.
constexpr bool kUnderTsan = ion::PoolPolicy::kOwnerFences;

TEST_CASE("Pool: a bound thread acquires and releases without a system call") {
  if (kUnderTsan) return ion::testing::Skip("TSan does not survive strict seccomp");
  const ChildEnd end = RunInChild([] {
    PoolFixture f(100);
    f.Fill();
    if (!f.pool.BindThread()) return "not bound";
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return "no strict mode";
    // Any system call but read, write, exit and sigreturn kills us from here on.
    uint64_t missed = 0;
    for (int i = 0; i < 1'000'000; ++i) {
      Block* block = f.pool.Acquire();
      if (block == nullptr || !f.pool.Release(block)) ++missed;
    }
    Block* swing[64];
    for (int i = 0; i < 10'000; ++i) {  // through the depot, too
      for (Block*& block : swing) block = f.pool.Acquire();
      for (Block* block : swing) {
        if (block == nullptr || !f.pool.Release(block)) ++missed;
      }
    }
    ::syscall(SYS_exit, missed == 0 ? 0 : 1);
    return "not gone";
  });
  CHECK(end.signal == 0);
  CHECK(end.exit_code == 0);
}

TEST_CASE("Pool: under strict seccomp, a call that enters the kernel dies") {
  if (kUnderTsan) return ion::testing::Skip("TSan does not survive strict seccomp");
  const ChildEnd end = RunInChild([] {
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    ion::internal::Membarrier::Fence();
    return "alive";
  });
  CHECK(end.signal == SIGKILL);
}

// Two threads use the pool, and a third drains; everything is found again.
const char* WorkTogether(PoolFixture<>& f) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> errors{0};
  {
    std::vector<std::jthread> threads;
    threads.reserve(2);
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 3000; ++i) {
          Block* some[40];
          for (Block*& block : some) {
            block = f.pool.Acquire();
            if (block != nullptr && ++block->cookie != 1) ++errors;
          }
          for (Block* block : some) {
            if (block == nullptr) continue;
            --block->cookie;
            if (!f.pool.Release(block)) ++errors;
          }
        }
      });
    }
    std::jthread drainer([&] {
      while (!stop) f.pool.Drain();
    });
    threads.clear();
    stop = true;
  }
  if (errors != 0) return "an object had two owners";
  return f.TakeAll().size() == f.descriptors.size() ? "" : "an object was lost";
}

TEST_CASE("Pool: without membarrier, found out when it is made, magazines are locked") {
  if (kUnderTsan) return ion::testing::Skip("this build has no membarrier");
  for (int code : {EPERM, ENOSYS}) {
    const ChildEnd end = RunInChild([code]() -> std::string {
      if (!ion::testing::RefuseCall(SYS_membarrier, code)) return "no filter";
      if (ion::internal::Membarrier::Register()) return "membarrier works";
      PoolFixture f(100);
      if (!f.pool.locked()) return "not locked";
      f.Fill();
      if (f.pool.Drain() != 25) return "a drain did not take the magazine";
      return WorkTogether(f);
    });
    CHECK(end.text == "");
    CHECK(end.exit_code == 0);
  }
}

TEST_CASE("Pool: where membarrier is refused later, drains ask, and owners flush") {
  if (kUnderTsan) return ion::testing::Skip("this build has no membarrier");
  const ChildEnd end = RunInChild([]() -> std::string {
    PoolFixture f(100);
    if (f.pool.locked()) return "locked";
    f.Fill();
    if (!ion::testing::RefuseCall(SYS_membarrier, EPERM)) return "no filter";
    uint32_t drained = 0;
    std::thread([&] { drained = f.pool.Drain(); }).join();
    if (drained != 0) return "a drain took what its owner may be using";
    if (f.pool.depth() != 75) return "something went to the depot";
    Block* block = f.pool.Acquire();
    if (f.pool.depth() != 90) return "the owner did not flush";  // 25 in, the last 10 out again
    if (!f.pool.Release(block)) return "not taken";
    if (f.pool.Drain() != 10) return "a drain did not take the caller's own";
    return WorkTogether(f);
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
}

TEST_CASE("Pool: membarrier is there, and pools are not locked") {
  if (!ion::PoolPolicy::RegisterFence()) return ion::testing::Skip("this kernel has no membarrier");
  PoolFixture f(1);
  CHECK_FALSE(f.pool.locked());
}

}  // namespace
