// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/results.h
//
// Results: what one run of a benchmark program left in its JSON file.
#ifndef ION_BENCH_RESULTS_H_
#define ION_BENCH_RESULTS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace ion::bench {

// A benchmark's median, or its only repetition.
struct Figure {
  std::string name;  // BM_PoolHot/threads:1
  double ns = 0;     // thread CPU time of an iteration; the manual time where it has one
  std::map<std::string, double> counters;
  std::string label;  // what the benchmark says of itself
  std::string error;  // why there is no figure; empty: there is one
};

struct Results {
  std::map<std::string, std::string> context;  // cpu_model, kernel, compiler, date, load
  std::vector<Figure> figures;                 // in the order of the file

  // nullptr: it was not run.
  const Figure* Find(std::string_view name) const;
};

// InvalidArgument: not the JSON of Google Benchmark. Unimplemented: built without
// a JSON library.
absl::StatusOr<Results> ParseResults(std::string_view json);

}  // namespace ion::bench

#endif  // ION_BENCH_RESULTS_H_
