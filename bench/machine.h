// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/machine.h
//
// Puts into the context of the results the facts that figures depend on: processor, kernel,
// compiler, optimization.
#ifndef ION_BENCH_MACHINE_H_
#define ION_BENCH_MACHINE_H_

#include <benchmark/benchmark.h>
#include <sys/utsname.h>

#include <fstream>
#include <string>

namespace ion::bench {

// /proc/cpuinfo: "model name" on x86; arm64 has numbers only.
inline std::string CpuModel() {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  std::string part;
  while (std::getline(info, line)) {
    const size_t colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (line.starts_with("model name")) return line.substr(colon + 2);
    if (line.starts_with("CPU part")) part = "CPU part " + line.substr(colon + 2);
  }
  return part.empty() ? "unknown" : part;
}

inline void AddMachineContext() {
  benchmark::AddCustomContext("cpu_model", CpuModel());
  utsname names;
  if (::uname(&names) == 0) {
    benchmark::AddCustomContext("kernel", std::string(names.release) + " " + names.machine);
  }
#if defined(__clang__)
  benchmark::AddCustomContext("compiler", "clang " __clang_version__);
#else
  benchmark::AddCustomContext("compiler", "g++ " __VERSION__);
#endif
#if defined(__OPTIMIZE__)
  benchmark::AddCustomContext("optimized", "yes");
#else
  benchmark::AddCustomContext("optimized", "no");
#endif
}

}  // namespace ion::bench

#endif  // ION_BENCH_MACHINE_H_
