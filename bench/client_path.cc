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
#include <benchmark/benchmark.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "bench/dpdk_mempool.h"
#include "bench/pinned.h"
#include "bench/pooled_memfd.h"
#include "bench/program.h"
#include "ion/backends/memfd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/heap_id.h"
#include "ion/manager.h"

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

void RegisterAll() {
  benchmark::RegisterBenchmark("BM_ClientPath", ClientPath);
  benchmark::RegisterBenchmark("BM_ClientPathOfFour", ClientPathOfFour);
  benchmark::RegisterBenchmark("BM_ClientPathQuota", ClientPathQuota);
  RegisterDpdkMempool();
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.05"},
                                ion::bench::RegisterAll);
}
