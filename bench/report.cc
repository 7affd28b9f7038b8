// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/report.cc
//
// Reads the JSON that the benchmarks leave, for ./dev bench:
//
//   report table RUN.json      the figures
//   report chart RUN.json      an SVG
//   report filter              the --benchmark_filter of the goals' benchmarks
//   report goals RUN.json…     a line for each goal, of the medians of the runs of all programs;
//                              exits with 1 if one is missed, or if a program is not optimized
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/chart.h"
#include "bench/goals.h"
#include "bench/results.h"
#include "bench/table.h"

namespace {

using ion::bench::Results;

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int Usage() {
  std::cerr << "usage: report table RUN.json | chart RUN.json | filter | goals RUN.json...\n";
  return kUsage;
}

absl::StatusOr<Results> Read(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError("cannot be read");
  std::stringstream text;
  text << file.rdbuf();
  return ion::bench::ParseResults(text.str());
}

int PrintGoals(const std::vector<Results>& runs) {
  if (const absl::Status fit = ion::bench::CheckOptimized(runs); !fit.ok()) {
    std::cerr << "report: " << fit.message() << "\n";
    return kFailed;
  }
  std::cout << ion::bench::FormatMachine(runs[0]);
  int status = 0;
  for (const ion::bench::Verdict& verdict : ion::bench::JudgeGoals(runs)) {
    std::cout << verdict.line << "\n";
    if (!verdict.met) status = kFailed;
  }
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "filter" && argc == 2) {
    std::cout << ion::bench::GoalsFilter() << "\n";
    return 0;
  }
  std::vector<Results> runs;
  for (int i = 2; i < argc; ++i) {
    absl::StatusOr<Results> run = Read(argv[i]);
    if (!run.ok()) {
      std::cerr << "report: " << argv[i] << ": " << run.status().message() << "\n";
      return kFailed;
    }
    runs.push_back(*std::move(run));
  }
  if (command == "goals" && !runs.empty()) return PrintGoals(runs);
  if (runs.size() != 1) return Usage();
  if (command == "table") {
    std::cout << ion::bench::FormatTable(runs[0]);
  } else if (command == "chart") {
    const std::string chart = ion::bench::DrawChart(runs[0]);
    if (chart.empty()) {
      std::cerr << "report: " << argv[2] << ": nothing that a chart shows was measured\n";
      return kFailed;
    }
    std::cout << chart;
  } else {
    return Usage();
  }
  return 0;
}
