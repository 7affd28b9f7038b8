// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pool_path.cc
//
// What a lease costs with pools behind the heap, beside the kernel path of the same backend.
//
//   bazel run -c opt //bench:pool_path                                the host
//   bazel build -c opt //bench:pool_path &&
//     ION_GUEST_TIMEOUT=600 tests/guest/guest 6.12 -- bazel-bin/bench/pool_path
//
// Names are BM_<Memory><Case>/<bytes>; a use is a mapping, a scope of CPU access, and a byte
// written to each page.
//
//   Kernel             Allocate, use, release: no pool
//   Hit                Allocate and release of what the client's own domain left
//   HitUsed            the same, with a use
//   Scrubbed           as Hit, by a client that gets zeroes (Scrub::kOnAllocate)
//   ScrubbedOnFree     the same, zeroed by who gives it back
//   ScrubbedBefore     the same, zeroed in Manager::Tick, which is not counted
//   Miss               Allocate, use and release by way of empty pools, and Trim
//   Shared             Allocate, MakeHandle, Share, close, Free: where the backend proves that nobody
//                      holds it, a hit for the next, and labelled "recycled"; else from the
//                      kernel and back
//   SharedKernel       the same without pools
//   SharedUsed         as Shared, with a use before
//   SharedUsedKernel   the same without pools
//   Camera             4 threads, each with 8 buffers of 1080p NV12 in flight: the oldest goes, the
//                      next comes, and is used
//   CameraKernel       the same without pools
//
// Memory that cannot be had stands in the context, with the reason.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "bench/pinned.h"
#include "bench/program.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/recycling.h"
#include "ion/request.h"

namespace ion::bench {
namespace {

constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB;
constexpr uint64_t kSizes[] = {4 * kKiB, 64 * kKiB, 1 * kMiB, 8 * kMiB};
constexpr uint64_t kSharedSizes[] = {4 * kKiB, 64 * kKiB, 1 * kMiB, 3 * kMiB, 8 * kMiB};
constexpr uint64_t kFrame = uint64_t{1920} * 1080 * 3 / 2;
constexpr size_t kFrames = 8;
constexpr int kCameras = 4;
constexpr size_t kBatch = 8;
// What ScrubbedBefore zeroes. A tick takes up to ten thousand times what is counted: as many as the
// counted time wants would take minutes.
constexpr uint64_t kZeroedBytes = 256 * kMiB;

constexpr PoolSpec With(Scrub scrub) {
  PoolSpec spec;
  spec.scrub = scrub;
  return spec;
}

template <class H>
using Kernel = Manager<typename H::BackendType, H>;
template <class H, Scrub kScrub = Scrub::kOnAllocate>
using Pooled = Manager<typename H::BackendType, PooledHeap<H, With(kScrub)>>;

struct Want {
  Flags flags = Flags::kNone;
  std::optional<HeapMask> heaps = std::nullopt;
};

// A Manager, and one client that all threads of a benchmark have.
template <class M>
struct Side {
  M manager;
  typename M::Client client;
  Want want;

  Request RequestFor(uint64_t bytes) const noexcept {
    return {.bytes = bytes, .heaps = want.heaps, .flags = want.flags};
  }
  absl::StatusOr<Buffer> Allocate(uint64_t bytes) noexcept {
    return client.Allocate(RequestFor(bytes));
  }
};

absl::Status Touch(const Buffer& buffer, uint64_t bytes) {
  const absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(buffer);
  if (!mapping.ok()) return mapping.status();
  absl::StatusOr<CpuWrite> cpu = CpuWrite::Begin(*mapping);
  if (!cpu.ok()) return cpu.status();
  const uint64_t page = PageBytes();
  for (uint64_t at = 0; at < bytes; at += page) {
    *static_cast<volatile std::byte*>(&cpu->bytes()[at]) = std::byte{1};
  }
  return std::move(*cpu).End();
}

// No use: the loop is as small as a hit is.
template <class M>
void Lease(benchmark::State& state, Side<M>& side, uint64_t bytes) {
  auto& client = side.client;
  const Request request = side.RequestFor(bytes);
  for (auto _ : state) {
    absl::StatusOr<Buffer> buffer = client.Allocate(request);
    if (!buffer.ok()) [[unlikely]]
      return state.SkipWithError(std::string(buffer.status().message()).c_str());
    benchmark::DoNotOptimize(*buffer);
  }
}

// step() -> absl::Status, once an iteration.
template <class F>
void Repeat(benchmark::State& state, F step) {
  absl::Status status;
  for (auto _ : state) {
    status = step();
    if (!status.ok()) break;
  }
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
}

template <class M>
absl::Status Use(Side<M>& side, uint64_t bytes) {
  const absl::StatusOr<Buffer> buffer = side.Allocate(bytes);
  return buffer.ok() ? Touch(*buffer, bytes) : buffer.status();
}

// Leases of memory fresh from the kernel, by way of pools.
template <class M>
uint64_t Misses(const M& manager) {
  uint64_t misses = 0;
  for (const PoolReport& pool : manager.MakeReport().pools) misses += pool.misses;
  return misses;
}

template <class M>
absl::Status Share(Side<M>& side, uint64_t bytes, bool use = false) {
  absl::StatusOr<Buffer> buffer = side.Allocate(bytes);
  if (!buffer.ok()) return buffer.status();
  if (use) {
    if (absl::Status status = Touch(*buffer, bytes); !status.ok()) return status;
  }
  const absl::StatusOr<Handle> handle = side.client.MakeHandle(*std::move(buffer));
  if (!handle.ok()) return handle.status();
  if (const auto fd = side.client.Share(*handle); !fd.ok()) return fd.status();
  return side.client.Free(*handle);
}

template <class M>
void LeaseAfterTick(benchmark::State& state, Side<M>& side, uint64_t bytes) {
  const auto lease = [&]() -> absl::Status {
    Buffer batch[kBatch];
    for (Buffer& one : batch) {
      absl::StatusOr<Buffer> buffer = side.Allocate(bytes);
      if (!buffer.ok()) return buffer.status();
      one = *std::move(buffer);
    }
    return absl::OkStatus();
  };
  absl::Status status = lease();
  side.manager.Tick();
  while (status.ok() && state.KeepRunningBatch(kBatch)) {
    status = lease();
    state.PauseTiming();
    side.manager.Tick();
    state.ResumeTiming();
  }
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
}

template <class M>
void Film(benchmark::State& state, Side<M>& side) {
  Buffer ring[kFrames];
  size_t at = 0;
  const auto step = [&]() -> absl::Status {
    Buffer& frame = ring[at++ % kFrames];
    frame = Buffer();
    absl::StatusOr<Buffer> next = side.Allocate(kFrame);
    if (!next.ok()) return next.status();
    frame = *std::move(next);
    return Touch(frame, kFrame);
  };
  absl::Status status;
  for (size_t i = 0; i < kFrames; ++i) status.Update(step());
  if (!status.ok()) return state.SkipWithError(std::string(status.message()).c_str());
  Repeat(state, step);
}

void Missing(std::string_view what, std::string_view reason) {
  benchmark::AddCustomContext(absl::StrCat("missing ", std::string(what)), std::string(reason));
}

// nullptr: it cannot be measured.
template <class M>
std::shared_ptr<Side<M>> Open(std::string_view name, const Want& want, bool as_is = false) {
  absl::StatusOr<M> manager = M::Open();
  if (!manager.ok()) {
    Missing(name, std::string(manager.status().message()));
    return nullptr;
  }
  auto client = manager->CreateClient({.name = "bench", .recycle_as_is = as_is});
  if (!client.ok()) {
    Missing(name, std::string(client.status().message()));
    return nullptr;
  }
  return std::make_shared<Side<M>>(Side<M>{*std::move(manager), *std::move(client), want});
}

struct Runs {
  int threads = 1;
  uint64_t iterations = 0;  // 0: as many as fit the time
};

// run(state, side, bytes), by as many threads. What it left idle goes back.
template <class M, class F>
void Add(const std::string& name, const std::shared_ptr<Side<M>>& side, uint64_t bytes, F run,
         Runs runs = {}) {
  if (side == nullptr) return;
  auto* added = benchmark::RegisterBenchmark(
      absl::StrCat("BM_", name, "/", bytes).c_str(), [=](benchmark::State& state) {
        const Pinned pinned(state);
        const absl::Status status = Use(*side, bytes);  // or the first would be no hit
        if (!status.ok()) return state.SkipWithError(std::string(status.message()).c_str());
        run(state, *side, bytes);
        side->manager.Trim();
      });
  if (runs.threads > 1) added->Threads(runs.threads);
  if (runs.iterations != 0) added->Iterations(static_cast<int64_t>(runs.iterations));
}

template <class H>
void AddHeap(const std::string& name, const Want& want = {}) {
  const auto kernel = Open<Kernel<H>>(name, want);
  if (kernel == nullptr) return;
  const auto as_is = Open<Pooled<H>>(name, want, /*as_is=*/true);
  const auto zeroed = Open<Pooled<H>>(name, want);
  const auto on_free = Open<Pooled<H, Scrub::kOnFree>>(name, want);
  const auto before = Open<Pooled<H, Scrub::kBackground>>(name, want);
  const auto use = [](benchmark::State& state, auto& side, uint64_t bytes) {
    Repeat(state, [&] { return Use(side, bytes); });
  };
  const auto lease = [](benchmark::State& state, auto& side, uint64_t bytes) {
    Lease(state, side, bytes);
  };
  for (const uint64_t bytes : kSizes) {
    Add(name + "Kernel", kernel, bytes, use);
    Add(name + "Hit", as_is, bytes, lease);
    Add(name + "HitUsed", as_is, bytes, use);
    Add(name + "Scrubbed", zeroed, bytes, lease);
    Add(name + "ScrubbedOnFree", on_free, bytes, lease);
    Add(name + "ScrubbedBefore", before, bytes,
        [](benchmark::State& state, auto& side, uint64_t size) {
          LeaseAfterTick(state, side, size);
        },
        {.iterations = kZeroedBytes / bytes});
    Add(name + "Miss", as_is, bytes, [](benchmark::State& state, auto& side, uint64_t size) {
      Repeat(state, [&] {
        side.manager.Trim();
        return Use(side, size);
      });
    });
  }
  for (const uint64_t bytes : kSharedSizes) {
    const auto share = [](benchmark::State& state, auto& side, uint64_t size) {
      Repeat(state, [&] { return Share(side, size); });
    };
    const auto share_used = [](benchmark::State& state, auto& side, uint64_t size) {
      Repeat(state, [&] { return Share(side, size, /*use=*/true); });
    };
    Add(name + "SharedKernel", kernel, bytes, share);
    Add(name + "SharedUsed", as_is, bytes, share_used);
    Add(name + "SharedUsedKernel", kernel, bytes, share_used);
    Add(name + "Shared", as_is, bytes, [](benchmark::State& state, auto& side, uint64_t size) {
      // Takes what lies idle, which was never shared.
      if (const absl::Status first = Share(side, size); !first.ok()) {
        return state.SkipWithError(std::string(first.message()).c_str());
      }
      const uint64_t before = Misses(side.manager);
      Repeat(state, [&] { return Share(side, size); });
      const uint64_t fresh = Misses(side.manager) - before;
      if (2 * fresh < static_cast<uint64_t>(state.iterations())) state.SetLabel("recycled");
    });
  }
  const auto film = [](benchmark::State& state, auto& side, uint64_t) { Film(state, side); };
  Add(name + "Camera", as_is, kFrame, film, {.threads = kCameras});
  Add(name + "CameraKernel", kernel, kFrame, film, {.threads = kCameras});
}

void RegisterAll() {
  AddHeap<SystemHeap<MemfdBackend<>>>("Memfd");
  AddHeap<SystemHeap<UdmabufBackend<>>>("Udmabuf");
  AddHeap<SystemHeap<DmaHeapBackend<>>>("DmaHeap");
  using Contiguous = DmaHeap<DmaHeapBackend<>>;
  AddHeap<Contiguous>("DmaHeapContiguous", {.heaps = Contiguous::kId});
  AddHeap<SystemHeap<IonBackend<>>>("IonUncached", {.flags = Flags::kUncached});
  AddHeap<SystemHeap<IonBackend<>>>("IonCached", {.flags = Flags::kCached});
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=3", "--benchmark_min_time=0.02"},
                                ion::bench::RegisterAll);
}
