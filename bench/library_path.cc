// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/library_path.cc
//
// A lease by way of a client, hits only, where the code is in a shared library that was opened by
// dlopen: what each model of variables of a thread costs.
//
//   BM_LeaseInExecutable          initial-exec, resolved by the linker
//   BM_LeaseInLibrary             -fPIC: a call of __tls_get_addr for each variable
//   BM_LeaseInLibraryDescriptors  -fPIC -mtls-dialect=gnu2
//   BM_LeaseInLibraryInitialExec  -fPIC -DION_TLS_INITIAL_EXEC
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "bench/libraries/lease_library.h"
#include "bench/pinned.h"
#include "bench/program.h"

namespace ion::bench {
namespace {

constexpr int64_t kBatch = 1000;

void Run(benchmark::State& state, LeaseLoop* leases) {
  const Pinned pinned(state);
  if (leases == nullptr) return state.SkipWithError("no library");
  if (!leases(1)) return state.SkipWithError("no memfd");
  while (state.KeepRunningBatch(kBatch)) {
    if (!leases(kBatch)) return state.SkipWithError("no buffer");
  }
}

// Beside the program; stays open.
LeaseLoop* Open(const std::string& name) {
  const auto path =
      std::filesystem::read_symlink("/proc/self/exe").replace_filename("libraries/" + name);
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  return library == nullptr ? nullptr
                            : reinterpret_cast<LeaseLoop*>(::dlsym(library, "ion_bench_leases"));
}

void RegisterAll() {
  benchmark::RegisterBenchmark("BM_LeaseInExecutable", Run, &ion_bench_leases);
  benchmark::RegisterBenchmark("BM_LeaseInLibrary", Run, Open("libleases.so"));
  benchmark::RegisterBenchmark("BM_LeaseInLibraryDescriptors", Run,
                               Open("libleases_descriptors.so"));
  benchmark::RegisterBenchmark("BM_LeaseInLibraryInitialExec", Run,
                               Open("libleases_initial_exec.so"));
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.05"},
                                ion::bench::RegisterAll);
}
