// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/goals.h
//
// The goals: which figures, or ratios of figures, have to be how small.
#ifndef ION_BENCH_GOALS_H_
#define ION_BENCH_GOALS_H_

#include <span>
#include <string>
#include <vector>

#include "bench/results.h"

namespace ion::bench {

struct Verdict {
  std::string line;  // goal NAME: FIGURE (wanted WANTED) met|missed
  bool met = false;
};

// One for each goal, of the medians of the runs, which may be several programs'. A goal whose
// figure no run has, or has without what it is compared to, is missed.
std::vector<Verdict> JudgeGoals(std::span<const Results> runs);

// The --benchmark_filter of what the goals need.
std::string GoalsFilter();

}  // namespace ion::bench

#endif  // ION_BENCH_GOALS_H_
