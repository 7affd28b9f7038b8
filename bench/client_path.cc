// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/client_path.cc
//
// A lease by way of a client: mask, account, heap, pool, and back. Hits only, so the kernel has no
// part in it; beside it, DPDK's mempool with cache.
//
//   BM_ClientPath            one heap; Allocate as users write it
//   BM_ClientPathOfFour      the mask names one of four heaps, the last in the order of trial
//   BM_ClientPathQuota       the client has a quota
//
// And beside a mutex around a std::vector of mapped memfds, by one thread, while another one of the
// process is asleep, and by two:
//
//   BM_ClientLarge           8 MiB, as the client's own domain left it
//   BM_VectorLarge           the same of the vector
//   BM_GstBufferPool         the same of GStreamer's pool
//   BM_ClientZeroed          4 KiB, zeroed on allocation (the default)
//   BM_VectorZeroed          the same of the vector, and a memset
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "bench/dpdk_mempool.h"
#include "bench/gst_buffer_pool.h"
#include "bench/memfd_vector.h"
#include "bench/pinned.h"
#include "bench/pooled_memfd.h"
#include "bench/program.h"
#include "bench/sleeper.h"
#include "ion/backends/memfd.h"
#include "ion/base/check.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/request.h"

namespace ion::bench {
namespace {

using One = Manager<MemfdBackend<>, PooledMemfd<HeapId{0}>>;
using Four = Manager<MemfdBackend<>, PooledMemfd<HeapId{0}>, PooledMemfd<HeapId{1}>,
                     PooledMemfd<HeapId{2}>, PooledMemfd<HeapId{3}>>;

template <class M>
void Run(benchmark::State& state, const Request& request, std::optional<uint64_t> quota) {
  const Pinned pinned(state);
  auto manager = M::Open();
  if (!manager.ok()) return state.SkipWithError("no memfd");
  auto client =
      manager->CreateClient({.name = "bench", .quota_bytes = quota, .recycle_as_is = true});
  if (!client.ok()) return state.SkipWithError("no client");
  auto& user = *client;
  { const auto first = user.Allocate(request); }
  for (auto _ : state) {
    absl::StatusOr<Buffer> buffer = user.Allocate(request);
    if (!buffer.ok()) [[unlikely]]
      return state.SkipWithError("no buffer");
    benchmark::DoNotOptimize(*buffer);
  }
}

void ClientPath(benchmark::State& state) { Run<One>(state, {.bytes = 4096}, std::nullopt); }
void ClientPathOfFour(benchmark::State& state) {
  Run<Four>(state, {.bytes = 4096, .heaps = HeapId{0}}, std::nullopt);
}
void ClientPathQuota(benchmark::State& state) {
  Run<One>(state, {.bytes = 4096}, uint64_t{64} << 20);
}

// Repeats Allocate and release until the time is up.
void Lease(benchmark::State& state, One::Client& user, const Request& request) {
  for (auto _ : state) {
    absl::StatusOr<Buffer> buffer = user.Allocate(request);
    if (!buffer.ok()) [[unlikely]]
      return state.SkipWithError("no buffer");
    benchmark::DoNotOptimize(*buffer);
  }
}

constexpr uint64_t kLarge = uint64_t{8} << 20;
constexpr uint64_t kSmall = 4096;
constexpr int kMostThreads = 2;

// One client of all threads of a run, with a warm buffer for each.
template <uint64_t kBytes, bool kAsIs>
struct Ours {
  One manager;
  One::Client client;
  Sleeper sleeper = {};

  static inline std::unique_ptr<Ours> current;
  static void SetUp(const benchmark::State&) {
    auto manager = One::Open();
    ION_CHECK(manager.ok(), "no memfd");
    auto client = manager->CreateClient({.name = "bench", .recycle_as_is = kAsIs});
    ION_CHECK(client.ok(), "no client");
    ION_CHECK(client->Prefill({.bytes = kBytes}, kMostThreads).ok(), "no memory");
    current.reset(new Ours{*std::move(manager), *std::move(client)});
  }
  static void TearDown(const benchmark::State&) { current.reset(); }
  static void Run(benchmark::State& state) {
    const Pinned pinned(state);
    Lease(state, current->client, {.bytes = kBytes});
  }
};

template <uint64_t kBytes, bool kZeroes>
struct Theirs {
  MemfdVector vector{kMostThreads, kBytes};
  Sleeper sleeper = {};

  static inline std::unique_ptr<Theirs> current;
  static void SetUp(const benchmark::State&) { current = std::make_unique<Theirs>(); }
  static void TearDown(const benchmark::State&) { current.reset(); }
  static void Run(benchmark::State& state) {
    const Pinned pinned(state);
    MemfdVector& vector = current->vector;
    for (auto _ : state) {
      MappedMemfd* const one = vector.Pop();
      if (kZeroes) std::memset(one->at, 0, kBytes);
      benchmark::DoNotOptimize(one->at);
      benchmark::ClobberMemory();
      vector.Push(one);
    }
  }
};

template <class Side>
void RegisterSide(const char* name) {
  for (int threads = 1; threads <= kMostThreads; ++threads) {
    benchmark::RegisterBenchmark(name, Side::Run)
        ->Setup(Side::SetUp)
        ->Teardown(Side::TearDown)
        ->Threads(threads);
  }
}

void RegisterAll() {
  benchmark::RegisterBenchmark("BM_ClientPath", ClientPath);
  benchmark::RegisterBenchmark("BM_ClientPathOfFour", ClientPathOfFour);
  benchmark::RegisterBenchmark("BM_ClientPathQuota", ClientPathQuota);
  RegisterDpdkMempool();
  RegisterSide<Ours<kLarge, /*kAsIs=*/true>>("BM_ClientLarge");
  RegisterSide<Theirs<kLarge, /*kZeroes=*/false>>("BM_VectorLarge");
  RegisterGstBufferPool(kLarge, kMostThreads);
  RegisterSide<Ours<kSmall, /*kAsIs=*/false>>("BM_ClientZeroed");
  RegisterSide<Theirs<kSmall, /*kZeroes=*/true>>("BM_VectorZeroed");
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.05"},
                                ion::bench::RegisterAll);
}
