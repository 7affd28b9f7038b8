// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/program.h
//
// RunProgram: the main() of a benchmark program. Repetitions are shuffled among all benchmarks, so
// that a slow moment of the machine is not the figure of one of them, and only medians and the like
// are told.
#ifndef ION_BENCH_PROGRAM_H_
#define ION_BENCH_PROGRAM_H_

#include <benchmark/benchmark.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "bench/machine.h"

namespace ion::bench {

// Registers and runs. The user's arguments come after `defaults`, and win.
template <class F>
int RunProgram(int argc, char** argv, std::initializer_list<const char*> defaults,
               F register_benchmarks) {
  std::vector<std::string> flags = {"--benchmark_enable_random_interleaving=true",
                                    "--benchmark_report_aggregates_only=true"};
  flags.insert(flags.end(), defaults.begin(), defaults.end());
  std::vector<char*> arguments(argv, argv + 1);
  for (std::string& flag : flags) arguments.push_back(flag.data());
  arguments.insert(arguments.end(), argv + 1, argv + argc);

  int count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
  if (benchmark::ReportUnrecognizedArguments(count, arguments.data())) return 1;
  AddMachineContext();
  register_benchmarks();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace ion::bench

#endif  // ION_BENCH_PROGRAM_H_
