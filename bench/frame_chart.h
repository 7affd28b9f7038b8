// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/frame_chart.h
//
// The steps of a frame (bench/frame_path.cc) as bars, each with its system calls.
#ifndef ION_BENCH_FRAME_CHART_H_
#define ION_BENCH_FRAME_CHART_H_

#include <string>

#include "bench/results.h"

namespace ion::bench {

// Empty: no frame was measured.
std::string DrawFrames(const Results& results);

}  // namespace ion::bench

#endif  // ION_BENCH_FRAME_CHART_H_
