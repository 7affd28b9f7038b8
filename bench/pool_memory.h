// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pool_memory.h
//
// BM_PoolMemory: what a pool takes beside its descriptors, in bytes: as its structures are laid out
// (reserved), and as the kernel gave pages for them (resident).
//
//   reserved_per_object, resident_per_object   in a pool that holds a million, its own part
//   included reserved_per_thread, resident_per_thread   for each pool that a thread uses; it uses a
//   thousand per_pool                                   the part of a pool that does not grow
#ifndef ION_BENCH_POOL_MEMORY_H_
#define ION_BENCH_POOL_MEMORY_H_

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ion/base/check.h"
#include "ion/block.h"
#include "ion/policies/pool/pool.h"

namespace ion::bench {

// The bytes that this process has pages for. Counted anew by the kernel: the number in
// /proc/self/status may be 64 pages off for each thread.
inline double ResidentBytes() {
  std::ifstream rollup("/proc/self/smaps_rollup");
  std::string line;
  while (std::getline(rollup, line)) {
    uint64_t kib;
    if (std::sscanf(line.c_str(), "Rss: %lu kB", &kib) == 1) return 1024.0 * kib;
  }
  ION_CHECK(false, "/proc/self/smaps_rollup has no Rss (Linux before 4.14)");
  return 0;
}

inline Pool<Block> MakePool(std::span<Block> blocks) {
  Result<Pool<Block>> pool = Pool<Block>::Create(blocks, {.object_bytes = 4096});
  ION_CHECK(pool.ok(), "no memory, or too many pools");
  return std::move(*pool);
}

// The pool never touches a descriptor, and nor do we: they are address space only.
inline double ResidentPerObject(uint32_t objects) {
  const size_t bytes = objects * sizeof(Block);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ION_CHECK(memory != MAP_FAILED, "no address space for a million descriptors");
  const std::span<Block> blocks(static_cast<Block*>(memory), objects);
  const double before = ResidentBytes();
  double after = 0;
  {
    Pool<Block> pool = MakePool(blocks);
    for (Block& block : blocks) ION_CHECK(pool.Release(&block), "the pool was not inherited");
    after = ResidentBytes();
  }
  ::munmap(memory, bytes);
  return (after - before) / objects;
}

inline double ResidentPerThread(uint32_t pool_count) {
  std::vector<Block> blocks(pool_count);
  std::vector<Pool<Block>> pools;
  pools.reserve(pool_count);
  for (Block& block : blocks) pools.push_back(MakePool({&block, 1}));
  double taken = 0;
  std::thread([&] {
    const double before = ResidentBytes();
    for (Pool<Block>& pool : pools) ION_CHECK(pool.BindThread(), "no memory for a thread");
    taken = ResidentBytes() - before;
  }).join();
  return taken / pool_count;
}

inline void PoolMemory(benchmark::State& state) {
  constexpr uint32_t kObjects = 1 << 20;
  constexpr uint32_t kPools = 1000;
  constexpr double kPerPool = sizeof(internal::PoolCore<PoolPolicy>);
  // Once in the process: the record of a thread that ends is kept for the next one.
  static const double resident_per_thread = ResidentPerThread(kPools);
  double resident_per_object = 0;
  for (auto _ : state) resident_per_object = ResidentPerObject(kObjects);
  state.counters["per_pool"] = kPerPool;
  state.counters["reserved_per_object"] =
      (kPerPool + Depot<PoolPolicy>::Bytes(kObjects)) / kObjects;
  state.counters["reserved_per_thread"] = sizeof(Magazine<PoolPolicy>);
  state.counters["resident_per_object"] = resident_per_object;
  state.counters["resident_per_thread"] = resident_per_thread;
}

inline void RegisterPoolMemory() {
  benchmark::RegisterBenchmark("BM_PoolMemory", PoolMemory)->Iterations(1);
}

}  // namespace ion::bench

#endif  // ION_BENCH_POOL_MEMORY_H_
