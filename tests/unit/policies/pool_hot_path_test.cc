// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pool, on a bound thread, and placements: no call takes memory of the C or C++ library.

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/pool/pool.h"
#include "tests/support/child.h"
#include "tests/support/pool_fixture.h"

namespace {

constinit thread_local bool forbidden = false;

void Note() {
  if (!forbidden) return;
  forbidden = false;
  std::fputs("memory was taken on the hot path\n", stderr);
  std::abort();
}

}  // namespace

// Sanitizers have a malloc of their own; there, only operator new is watched.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__clang__)
extern "C" void* __libc_malloc(size_t);
extern "C" void* __libc_calloc(size_t, size_t);
extern "C" void* malloc(size_t bytes) {
  Note();
  return __libc_malloc(bytes);
}
extern "C" void* calloc(size_t count, size_t bytes) {
  Note();
  return __libc_calloc(count, bytes);
}
#endif

void* operator new(size_t bytes) {
  Note();
  void* at = std::malloc(bytes);
  if (at == nullptr) std::abort();
  return at;
}
void operator delete(void* at) noexcept { std::free(at); }
void operator delete(void* at, size_t) noexcept { std::free(at); }

namespace {

using ion::Block;
using ion::testing::PoolFixture;

struct Forbid {
  Forbid() { forbidden = true; }
  ~Forbid() { forbidden = false; }
};

TEST_CASE("Pool: acquire, release, drain, trim and counters take no memory") {
  PoolFixture f(200);
  f.Fill();
  std::vector<Block*> some;
  some.reserve(200);
  size_t trimmed = 0;
  {
    Forbid forbid;
    for (int round = 0; round < 100; ++round) {
      while (Block* block = f.pool.Acquire()) some.push_back(block);
      for (Block* block : some) (void)f.pool.Release(block);
      some.clear();
      f.pool.Drain();
    }
    f.pool.counters();
    trimmed = f.pool.Trim(50, [](Block&) {});
  }
  CHECK(trimmed == 150);
  CHECK(f.TakeAll().size() == 50);
}

TEST_CASE("Pool: binding a thread that uses pools to another takes no memory of the library") {
  PoolFixture first(10), second(10);
  REQUIRE(first.pool.BindThread());
  bool bound = false;
  {
    Forbid forbid;
    bound = second.pool.BindThread();
  }
  CHECK(bound);
}

TEST_CASE_TEMPLATE("Placement: Take and Give take no memory", P, ion::FirstFit,
                   ion::SegregatedFit) {
  ion::Result<P> placement = P::Create({.bytes = 256 * 4096});
  REQUIRE(placement.ok());
  int taken = 0;
  {
    Forbid forbid;
    for (int round = 0; round < 100; ++round) {
      while (placement->Take(4096, 8192).has_value() || placement->Take(4096, 1).has_value())
        ++taken;
      for (uint64_t at = round % 3; at < 256; at += 3) placement->Give(at * 4096);
    }
    placement->figures();
  }
  CHECK(taken > 256);
}

TEST_CASE("Pool: the guard of these tests catches memory that is taken") {
  const ion::testing::ChildEnd end = ion::testing::RunInChild([] {
    Forbid forbid;
    ::operator delete(::operator new(1));  // a new expression may be optimised away
    return "nothing caught it";
  });
  CHECK(end.signal == SIGABRT);
}

}  // namespace
