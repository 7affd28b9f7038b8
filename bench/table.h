// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/table.h
//
// The figures of a run for people: for each exchange a line for each contender, with its ratio to
// the pool; for each memory of leases a line for each case, by size; then everything else.
#ifndef ION_BENCH_TABLE_H_
#define ION_BENCH_TABLE_H_

#include <string>

#include "bench/results.h"

namespace ion::bench {

std::string FormatTable(const Results& results);

// A line for each thing that the figures hang on: processor, kernel, compiler, load.
std::string FormatMachine(const Results& results);

}  // namespace ion::bench

#endif  // ION_BENCH_TABLE_H_
