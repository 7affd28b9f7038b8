// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The loop of BM_ClientPath, for bench/library_path.cc: compiled into its program, and into shared
// libraries that reach variables of a thread in different ways (ion/base/tls_model.h).

#include "bench/libraries/lease_library.h"

#include <cstdint>

#include "absl/status/statusor.h"
#include "bench/pooled_memfd.h"
#include "ion/backends/memfd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/heap_id.h"
#include "ion/manager.h"

namespace {

using Memory = ion::Manager<ion::MemfdBackend<>, ion::bench::PooledMemfd<ion::HeapId{0}>>;

}  // namespace

[[gnu::visibility("default")]] bool ion_bench_leases(int64_t count) {
  static absl::StatusOr<Memory> manager = Memory::Open();
  if (!manager.ok()) return false;
  static auto client = manager->CreateClient({.name = "bench", .recycle_as_is = true});
  if (!client.ok()) return false;
  auto& user = *client;
  for (int64_t i = 0; i < count; ++i) {
    absl::StatusOr<ion::Buffer> buffer = user.Allocate({.bytes = 4096});
    if (!buffer.ok()) [[unlikely]]
      return false;
    asm volatile("" : : "r"(&*buffer) : "memory");  // as benchmark::DoNotOptimize
  }
  return true;
}
