// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/goals.h"

#include <algorithm>
#include <cstddef>
#include <set>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/text.h"

namespace ion::bench {
namespace {

// A figure of a goal, and the most that it may be; or the least.
struct Part {
  std::string_view benchmark;
  std::string_view over;     // a ratio to this benchmark's; empty: the figure itself
  std::string_view counter;  // what is looked at; empty: the time
  double bound;
  std::string_view unit;
  bool at_least = false;

  bool Meets(double value) const { return at_least ? value >= bound : value <= bound; }
};

struct Goal {
  std::string_view name;
  std::vector<Part> parts;
};

const std::vector<Goal>& Goals() {
  constexpr std::string_view kHot = "BM_PoolHot/threads:1";
  constexpr std::string_view kBurst = "BM_PoolBurst/32/threads:1";
  constexpr std::string_view kRead = "BM_PoolHandOver/read/threads:2";
  constexpr std::string_view kMemory = "BM_PoolMemory/iterations:1";
  constexpr std::string_view kCamera = "BM_SegregatedFit/camera/iterations:400000";
  constexpr std::string_view kMapCamera = "BM_MapFirstFit/camera/iterations:400000";
  constexpr std::string_view kKernel = "BM_MemfdKernel/1048576";
  static const std::vector<Goal> goals{
      {"pool_vs_dpdk", {{kHot, "BM_DpdkMempoolHot/threads:1", "", 0.40, "x DPDK"}}},
      {"pool_vs_tls", {{kHot, "BM_TlsArrayHot/threads:1", "", 1.15, "x thread-local array"}}},
      {"burst", {{kBurst, "BM_DpdkMempoolBurst/32/threads:1", "", 0.50, "x DPDK"}}},
      {"scaling",
       {{"BM_PoolHot/threads:2", kHot, "", 1.05, "x with 2 threads"},
        {"BM_PoolHot/threads:16", kHot, "", 1.05, "x with 16"}}},
      {"cross_thread",
       {{kRead, "BM_BareRingHandOver/read/threads:2", "", 1.10, "x ring alone"},
        {kRead, "BM_DpdkMempoolHandOver/read/threads:2", "", 0.80, "x DPDK"}}},
      {"memory",
       {{kMemory, "", "reserved_per_object", 8, "B per object"},
        {kMemory, "", "resident_per_object", 8, "B per object resident"},
        {kMemory, "", "reserved_per_thread", 320, "B per thread and pool"}}},
      {"drain",
       {{"BM_PoolDrain/asleep/iterations:1/manual_time", "", "", 2000, "ns, threads asleep"},
        {"BM_PoolDrain/awake/iterations:1/manual_time", "", "", 2000, "ns, one awake"}}},
      {"client_path", {{"BM_ClientPathQuota", "BM_DpdkMempoolHot/threads:1", "", 1.60, "x DPDK"}}},
      {"placement_time",
       {{"BM_SegregatedFit/small/iterations:400000", "BM_MapFirstFit/small/iterations:400000", "",
         0.16, "x first fit over a map"},
        {kCamera, kMapCamera, "", 0.16, "x overloaded"}}},
      {"placement_fit", {{kCamera, kMapCamera, "refused", 1, "x first fit's refusals"}}},
      {"kernel_4k",
       {{"BM_MemfdKernel/4096", "BM_MemfdHit/4096", "", 1000, "x a hit", /*at_least=*/true}}},
      {"kernel_1m", {{kKernel, "BM_MemfdHit/1048576", "", 20000, "x a hit", /*at_least=*/true}}},
      // Memory of which nobody can tell that it is ours alone again; 5 % are the machine's noise.
      {"unproven",
       {{"BM_MemfdSharedUsed/3145728", "BM_MemfdSharedUsedKernel/3145728", "", 1.05,
         "x without pools"}}},
      {"scrub_1m",
       {{kKernel, "BM_MemfdScrubbed/1048576", "", 12, "x a scrubbed hit", /*at_least=*/true}}},
  };
  return goals;
}

absl::StatusOr<double> Value(const Results& run, std::string_view name, std::string_view counter) {
  const Figure* figure = run.Find(name);
  if (figure == nullptr) return absl::NotFoundError(Text(name, " was not run"));
  if (!figure->error.empty()) return absl::NotFoundError(Text(name, ": ", figure->error));
  if (counter.empty()) return figure->ns;
  const auto value = figure->counters.find(std::string(counter));
  if (value != figure->counters.end()) return value->second;
  return absl::NotFoundError(Text(name, " has no counter ", counter));
}

absl::StatusOr<double> Value(const Results& run, const Part& part) {
  absl::StatusOr<double> value = Value(run, part.benchmark, part.counter);
  if (!value.ok() || part.over.empty()) return value;
  absl::StatusOr<double> over = Value(run, part.over, part.counter);
  if (!over.ok()) return over;
  return *value / *over;
}

// Of the runs of the program that has the benchmark.
absl::StatusOr<double> Median(std::span<const Results> runs, const Part& part) {
  std::vector<double> values;
  for (const Results& run : runs) {
    if (run.Find(part.benchmark) == nullptr) continue;
    const absl::StatusOr<double> value = Value(run, part);
    if (!value.ok()) return value.status();
    values.push_back(*value);
  }
  if (values.empty()) return absl::NotFoundError(Text(part.benchmark, " was not run"));
  const size_t middle = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + middle, values.end());
  return values[middle];
}

std::string Number(double value) { return Fixed(value, value < 10 ? 2 : 0); }

Verdict Judge(const Goal& goal, std::span<const Results> runs) {
  std::vector<std::string> figures;
  std::vector<std::string> wanted;
  bool met = true;
  for (const Part& part : goal.parts) {
    const absl::StatusOr<double> value = Median(runs, part);
    figures.push_back(value.ok() ? Text(Number(*value), " ", part.unit)
                                 : std::string(value.status().message()));
    wanted.push_back(Text(part.at_least ? ">= " : "<= ", Number(part.bound)));
    met = met && value.ok() && part.Meets(*value);
  }
  return {Text("goal ", goal.name, ": ", Join(figures, ", "), " (wanted ", Join(wanted, ", "), ") ",
               met ? "met" : "missed"),
          met};
}

}  // namespace

std::vector<Verdict> JudgeGoals(std::span<const Results> runs) {
  std::vector<Verdict> verdicts;
  for (const Goal& goal : Goals()) verdicts.push_back(Judge(goal, runs));
  return verdicts;
}

std::string GoalsFilter() {
  std::set<std::string_view> names;
  for (const Goal& goal : Goals()) {
    for (const Part& part : goal.parts) {
      names.insert(part.benchmark);
      if (!part.over.empty()) names.insert(part.over);
    }
  }
  return Text("^(", Join(names, "|"), ")$");
}

}  // namespace ion::bench
