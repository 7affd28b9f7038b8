// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/goals.h
//
// The goals: the bounds of figures, of their ratios and of their differences. Figures without a
// bound are printed beside them.
#ifndef ION_BENCH_GOALS_H_
#define ION_BENCH_GOALS_H_

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "bench/results.h"

namespace ion::bench {

struct Verdict {
  std::string line;  // goal NAME: FIGURE (wanted WANTED) met|missed; figure NAME: FIGURE
  bool met = false;  // true for a figure
};

// FailedPrecondition: one of the programs was compiled without optimization, or does not say.
absl::Status CheckOptimized(std::span<const Results> runs);

// One for each goal and each figure, of the medians of the runs, which may be several programs'. A goal whose
// figure no run has, or has without what it is compared to, is missed.
std::vector<Verdict> JudgeGoals(std::span<const Results> runs);

// The --benchmark_filter of the benchmarks that the goals and figures need.
std::string GoalsFilter();

}  // namespace ion::bench

#endif  // ION_BENCH_GOALS_H_
