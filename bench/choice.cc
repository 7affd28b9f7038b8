// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/choice.cc
//
// The choice of memory and the layout of an image, in time. `BM_Choose` has 8 parties with 18
// fields and 16 formats each, and 8 heaps, of which 4 fit; `BM_ChooseAll` has all fields but those
// that exclude others, and 64 formats. Tests see that neither takes heap memory.
#include "ion/choice.h"

#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "bench/program.h"
#include "ion/base/check.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"

namespace ion::bench {
namespace {

constexpr size_t kParties = 8, kHeaps = 8;

// The demands of one of the parties: each stated value differs from the others'.
Constraints Usual(uint32_t party) {
  Constraints set{.size_min = 4096 * party,
                  .size_multiple = 4096,
                  .tail_bytes = 64 * party,
                  .held = 2,
                  .slack = 1,
                  .buffers_max = 64,
                  .address_limit = AddressOfBits(32 + party),
                  .segments_max = 2 + 8 * party,
                  .segment_multiple = 4096,
                  .base_align = 256,
                  .cpu_read = CpuUse::kOften,
                  .exporter_needs = ExporterNeeds::kExportByUs,
                  .stride_multiple = 16 << party % 4,
                  .stride_min = 1024 + party,
                  .stride_max = 65536,
                  .width_multiple = 2,
                  .height_multiple = 16,
                  .plane_offset_multiple = 256};
  std::array<FormatModifier, 16> formats;
  for (uint32_t i = 0; i < formats.size(); ++i) formats[i] = {100 + i + party % 4, 0};
  set.formats = FormatSet(formats);
  return set;
}
Constraints All(uint32_t party) {
  Constraints set = Usual(party);
  set.size_max = 64 << 20;
  set.tail_rows = party;
  set.shared_slack = 1;
  set.segment_size_max = 64 << 20;
  set.segment_boundary = uint64_t{1} << 32;
  set.cpu_write = CpuUse::kRare;
  set.kernel_cpu_writes = false;
  set.coherency = Coherency::kSnoops;
  set.protection = Protection::kForbidden;
  set.heaps_allowed = HeapMask::All();
  set.heaps_denied = HeapMask();
  set.cc_shared = false;
  set.planes = PlaneFds::kOne;
  set.fences = Fences::kSyncFile;
  set.fences_needed = Fences::kNone;
  set.translated = false;
  std::array<FormatModifier, FormatSet::kMost> formats;
  for (uint32_t i = 0; i < formats.size(); ++i) formats[i] = {100 + i + party % 4, 0};
  set.formats = FormatSet(formats);
  return set;
}

template <Constraints (*kOf)(uint32_t)>
void Choosing(benchmark::State& state) {
  std::array<Constraints, kParties> sets;
  std::array<Party, kParties> parties;
  for (uint32_t i = 0; i < kParties; ++i) {
    sets[i] = kOf(i);
    parties[i] = {"party", std::span(sets).subspan(i, 1)};
  }
  std::array<HeapOffer, kHeaps> heaps;
  for (uint32_t i = 0; i < kHeaps; ++i) {
    Guarantees is{.top = uint64_t{0xffffffff},
                  .ram = true,
                  .cached = true,
                  .protected_memory = false,
                  .mappable = true,
                  .exportable = true,
                  .alignment = 4096};
    if (i % 2 == 0) is.segments = 1;
    heaps[i] = {*HeapId::From(i), "heap", is};
  }
  const Choice check = Choose(parties, heaps);
  ION_CHECK(check.ok() && check.heaps().size() == kHeaps / 2, "the parties do not suit the heaps");
  for (auto _ : state) {
    benchmark::DoNotOptimize(parties.data());
    benchmark::DoNotOptimize(heaps.data());
    benchmark::ClobberMemory();
    const Choice choice = Choose(parties, heaps);
    benchmark::DoNotOptimize(choice.order.data());
  }
}

void Layout(benchmark::State& state, PixelFormat format) {
  ImageSpec spec{.format = format,
                 .width = 1920,
                 .height = 1080,
                 .limits = {.stride_multiple = 256,
                            .height_multiple = 16,
                            .plane_offset_multiple = 4096,
                            .tail_bytes = 64,
                            .size_multiple = 4096}};
  ImageLayout layout;
  ION_CHECK(ComputeLayout(spec, layout).ok(), "the image has no layout");
  for (auto _ : state) {
    benchmark::DoNotOptimize(&spec);
    benchmark::ClobberMemory();
    const LayoutProblem problem = ComputeLayout(spec, layout);
    benchmark::DoNotOptimize(problem.rule);
    benchmark::DoNotOptimize(&layout);
  }
}

void RegisterAll() {
  benchmark::RegisterBenchmark("BM_Choose", &Choosing<&Usual>);
  benchmark::RegisterBenchmark("BM_ChooseAll", &Choosing<&All>);
  benchmark::RegisterBenchmark("BM_Layout/nv12", &Layout, PixelFormat::kNv12);
  benchmark::RegisterBenchmark("BM_Layout/yuv420", &Layout, PixelFormat::kYuv420);
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.1"},
                                ion::bench::RegisterAll);
}
