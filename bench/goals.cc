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
  std::string_view counter;  // the counter that is judged; empty: the time
  double bound;
  std::string_view unit;
  bool at_least = false;
  std::string_view minus = {};  // in place of `over`: the difference to this benchmark's

  bool Meets(double value) const { return at_least ? value >= bound : value <= bound; }
};

// A part that is judged by its difference to a control.
constexpr Part Above(std::string_view control, std::string_view benchmark, std::string_view counter,
                     double bound, std::string_view unit) {
  return {benchmark, "", counter, bound, unit, /*at_least=*/false, control};
}

struct Goal {
  std::string_view name;
  std::vector<Part> parts;
  bool judged = true;  // false: a figure, which is printed without a verdict
};

const std::vector<Goal>& Goals() {
  constexpr std::string_view kHot = "BM_PoolHot/threads:1";
  constexpr std::string_view kBurst = "BM_PoolBurst/32/threads:1";
  constexpr std::string_view kRead = "BM_PoolHandOver/read/threads:2";
  constexpr std::string_view kMemory = "BM_PoolMemory/iterations:1";
  constexpr std::string_view kCamera = "BM_SegregatedFit/camera/iterations:400000";
  constexpr std::string_view kMapCamera = "BM_MapFirstFit/camera/iterations:400000";
  constexpr std::string_view kKernel = "BM_MemfdKernel/1048576";
  constexpr std::string_view kLarge = "BM_ClientLarge/threads:1";
  constexpr std::string_view kZeroed = "BM_ClientZeroed/threads:1";
  constexpr std::string_view kFd = "BM_FrameFd/manual_time";
  constexpr std::string_view kHandle = "BM_FrameHandle/manual_time";
  constexpr std::string_view kAgeing = "BM_TailAgeing/iterations:1/manual_time";
  constexpr std::string_view kAgeingControl = "BM_TailAgeingControl/iterations:1/manual_time";
  static const std::vector<Goal> goals{
      {"pool_vs_dpdk", {{kHot, "BM_DpdkMempoolHot/threads:1", "", 0.50, "x DPDK"}}},
      {"scaling",
       {{"BM_PoolHot/threads:2", kHot, "", 1.05, "x with 2 threads"},
        {"BM_PoolHot/threads:16", kHot, "", 1.05, "x with 16"}}},
      {"memory",
       {{kMemory, "", "reserved_per_object", 8, "B per object"},
        {kMemory, "", "resident_per_object", 8, "B per object resident"},
        {kMemory, "", "reserved_per_thread", 320, "B per thread and pool"}}},
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
      // A mutex around a std::vector of mapped memfds is the least that a program can write itself.
      {"large_hit", {{kLarge, "BM_VectorLarge/threads:1", "", 1, "x mutex + vector"}}},
      {"large_contended",
       {{"BM_ClientLarge/threads:2", "BM_VectorLarge/threads:2", "", 1,
         "x mutex + vector, 2 threads"}}},
      {"zeroed_4k", {{kZeroed, "BM_VectorZeroed/threads:1", "", 1.2, "x mutex + vector + memset"}}},
      {"zeroed_contended", {{"BM_ClientZeroed/threads:2", kZeroed, "", 1.2, "x with 2 threads"}}},
      {"scope", {Above("BM_ScopeBare", "BM_ScopeWrite", "", 15, "ns above a bare hit")}},
      {"frame_kept",
       {{"BM_FrameKept/manual_time", "BM_FrameRing/manual_time", "", 1.02, "x plain ring"}}},
      {"frame_fd",
       {{kFd, "BM_FrameRingFd/manual_time", "", 1.05, "x plain with descriptor"},
        {kFd, "", "calls", 4, "calls"}}},
      {"frame_handle", {{kHandle, "", "", 10000, "ns"}, {kHandle, "", "calls", 8, "calls"}}},
      // 8 parties and 8 heaps; the planes of 1920 x 1080.
      {"choice", {{"BM_Choose", "", "", 2000, "ns"}}},
      {"layout",
       {{"BM_Layout/nv12", "", "", 200, "ns"},
        {"BM_Layout/yuv420", "", "", 200, "ns, three planes"}}},
      {"release_worst",
       {{"BM_ReleaseWorst/iterations:1/manual_time", "", "max", 2e6, "ns, the worst"}}},
      {"tail_ageing",
       {Above(kAgeingControl, kAgeing, "p99.9", 20000, "ns above idle (p99.9)"),
        Above(kAgeingControl, kAgeing, "max", 1e6, "ns (max)")}},
      {"tail_zeroing",
       {Above("BM_TailZeroingControl/iterations:1/manual_time",
              "BM_TailZeroing/iterations:1/manual_time", "p99", 2000, "ns above idle (p99)")}},
      {"tail_trim",
       {Above("BM_TailTrimControl/iterations:1/manual_time", "BM_TailTrim/iterations:1/manual_time",
              "max", 1e6, "ns above idle (max)")}},
      {"identify",
       {{"BM_ImportKnown/60000", "BM_ImportKnown/10", "", 1.2, "x Import at 10 handles"},
        {"BM_ImportNew/60000", "BM_ImportNew/10", "", 1.2, "x of new memory"}}},
      // A driver's hot file beside one that names a StatusOr.
      {"include_client",
       {{"BM_IncludeClient/iterations:1/manual_time", "", "x_seconds", 1.5, "x statusor.h"}}},
      // Figures. The array and the ring are less than a pool, and DPDK is faster than the bare ring.
      {"pool_vs_tls", {{kHot, "BM_TlsArrayHot/threads:1", "", 0, "x thread-local array"}}, false},
      {"burst", {{kBurst, "BM_DpdkMempoolBurst/32/threads:1", "", 0, "x DPDK"}}, false},
      {"cross_thread",
       {{kRead, "BM_BareRingHandOver/read/threads:2", "", 0, "x ring alone"},
        {kRead, "BM_DpdkMempoolHandOver/read/threads:2", "", 0, "x DPDK"}},
       false},
      {"drain",
       {{"BM_PoolDrain/asleep/iterations:1/manual_time", "", "", 0, "ns, threads asleep"},
        {"BM_PoolDrain/awake/iterations:1/manual_time", "", "", 0, "ns, one awake"}},
       false},
      {"include_manager",
       {{"BM_IncludeManager/iterations:1/manual_time", "", "x_seconds", 0, "x statusor.h"}},
       false},
      {"include_all",
       {{"BM_IncludeAll/iterations:1/manual_time", "", "x_seconds", 0, "x statusor.h"}},
       false},
      {"frame_handle_read",
       {{"BM_FrameHandleRead/manual_time", "BM_FrameRingMapped/manual_time", "", 0,
         "x plain, mapped each time"},
        {"BM_FrameHandleRead/manual_time", "", "calls", 0, "calls"}},
       false},
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

// The benchmark that a part is compared to; empty: none.
std::string_view Yardstick(const Part& part) { return part.over.empty() ? part.minus : part.over; }

absl::StatusOr<double> Value(const Results& run, const Part& part) {
  absl::StatusOr<double> value = Value(run, part.benchmark, part.counter);
  const std::string_view yardstick = Yardstick(part);
  if (!value.ok() || yardstick.empty()) return value;
  absl::StatusOr<double> other = Value(run, yardstick, part.counter);
  if (!other.ok()) return other;
  return part.over.empty() ? *value - *other : *value / *other;
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
  const std::string all = Text(goal.name, ": ", Join(figures, ", "));
  if (!goal.judged) return {Text("figure ", all), true};
  return {Text("goal ", all, " (wanted ", Join(wanted, ", "), ") ", met ? "met" : "missed"), met};
}

}  // namespace

absl::Status CheckOptimized(std::span<const Results> runs) {
  for (const Results& run : runs) {
    const auto optimized = run.context.find("optimized");
    if (optimized != run.context.end() && optimized->second == "yes") continue;
    const auto program = run.context.find("executable");
    return absl::FailedPreconditionError(
        Text(program == run.context.end() ? "a program" : program->second,
             " was compiled without optimization: its figures are no figures of the library; "
             "compile it with -c opt"));
  }
  return absl::OkStatus();
}

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
      if (!Yardstick(part).empty()) names.insert(Yardstick(part));
    }
  }
  return Text("^(", Join(names, "|"), ")$");
}

}  // namespace ion::bench
