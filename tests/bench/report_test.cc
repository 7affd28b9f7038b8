// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/chart.h"
#include "bench/exchange_names.h"
#include "bench/goals.h"
#include "bench/results.h"
#include "bench/table.h"
#include "doctest/doctest.h"
#include "tests/support/skip.h"

namespace ion::bench {
namespace {

#if ION_HAVE_NLOHMANN_JSON

std::string Median(std::string_view name, double ns) {
  return R"({"name": ")" + std::string(name) + R"(_median", "run_name": ")" + std::string(name) +
         R"(", "run_type": "aggregate", "repetitions": 9, "aggregate_name": "median",
         "iterations": 9, "real_time": )" +
         std::to_string(2 * ns) + R"(, "cpu_time": )" + std::to_string(ns) +
         R"(, "time_unit": "ns"},)";
}

// With counters: R"("refused": 1)".
std::string With(std::string_view counters, std::string_view name, double ns) {
  std::string entry = Median(name, ns);
  entry.insert(entry.rfind('}'), ", " + std::string(counters));
  return entry;
}

// A placement's.
std::string Refusing(std::string_view name, double ns, int refused) {
  return With(R"("refused": )" + std::to_string(refused), name, ns);
}

std::string Error(std::string_view name) {
  return R"({"name": ")" + std::string(name) + R"(", "run_name": ")" + std::string(name) +
         R"(", "run_type": "iteration", "repetitions": 9, "error_occurred": true,
         "error_message": "missing: install it"},)";
}

constexpr std::string_view kMemory =
    R"({"name": "BM_PoolMemory/iterations:1_median", "run_name": "BM_PoolMemory/iterations:1",
    "run_type": "aggregate", "repetitions": 9, "aggregate_name": "median", "iterations": 9,
    "real_time": 1, "cpu_time": 1, "time_unit": "ms", "reserved_per_object": 7.5,
    "resident_per_object": 5.0, "reserved_per_thread": 320.0}]})";

std::string Document(std::string_view entries) {
  return R"({"context": {"cpu_model": "A & B <C>", "executable": "bench/pool",
         "optimized": "yes", "load_avg": [0.25, 1, 2], "num_cpus": 2},
         "benchmarks": [)" +
         std::string(entries) + std::string(kMemory);
}

// Of the goals that other programs than pool have; all are met.
std::string OtherFigures() {
  std::string figures;
  for (const std::string_view name :
       {"BM_ClientLarge/threads:1", "BM_ClientLarge/threads:2", "BM_VectorLarge/threads:1",
        "BM_VectorLarge/threads:2", "BM_ClientZeroed/threads:1", "BM_ClientZeroed/threads:2",
        "BM_VectorZeroed/threads:1", "BM_FrameRing/manual_time", "BM_FrameKept/manual_time",
        "BM_FrameRingFd/manual_time", "BM_FrameRingMapped/manual_time", "BM_ImportKnown/10",
        "BM_ImportKnown/60000", "BM_ImportNew/10", "BM_ImportNew/60000"}) {
    figures += Median(name, 100);
  }
  for (const std::string_view name :
       {"BM_FrameFd/manual_time", "BM_FrameHandle/manual_time", "BM_FrameHandleRead/manual_time"}) {
    figures += With(R"("calls": 4.0)", name, 100);
  }
  for (const std::string_view name :
       {"BM_TailAgeing", "BM_TailAgeingControl", "BM_TailZeroing", "BM_TailZeroingControl",
        "BM_TailTrim", "BM_TailTrimControl", "BM_ReleaseWorst"}) {
    figures += With(R"("p99": 50.0, "p99.9": 70.0, "max": 90.0)",
                    std::string(name) + "/iterations:1/manual_time", 20);
  }
  for (const std::string_view name : {"BM_IncludeClient", "BM_IncludeManager", "BM_IncludeAll"}) {
    figures += With(R"("x_seconds": 1.4)", std::string(name) + "/iterations:1/manual_time", 2e9);
  }
  return figures + Median("BM_ScopeBare", 8) + Median("BM_ScopeWrite", 20) +
         Median("BM_Choose", 1300) + Median("BM_Layout/nv12", 100) +
         Median("BM_Layout/yuv420", 120);
}

// A run in which everything is met, `pool_ns` long at 1 thread.
std::string Run(double pool_ns,
                const std::string& dpdk_hot = Median("BM_DpdkMempoolHot/threads:1", 5)) {
  return Document(
      Median("BM_PoolHot/threads:1", pool_ns) + Median("BM_PoolHot/threads:2", 1.9) +
      Median("BM_PoolHot/threads:16", 1.9) + Median("BM_TlsArrayHot/threads:1", 1.8) + dpdk_hot +
      Median("BM_PoolBurst/32/threads:1", 2) + Median("BM_DpdkMempoolBurst/32/threads:1", 6) +
      Median("BM_PoolHandOver/read/threads:2", 44) +
      Median("BM_BareRingHandOver/read/threads:2", 43) +
      Median("BM_DpdkMempoolHandOver/read/threads:2", 60) +
      Median("BM_PoolDrain/asleep/iterations:1/manual_time", 600) +
      Median("BM_PoolDrain/awake/iterations:1/manual_time", 900) + Median("BM_ClientPathQuota", 7) +
      Median("BM_SegregatedFit/small/iterations:400000", 27) +
      Median("BM_MapFirstFit/small/iterations:400000", 300) +
      Refusing("BM_SegregatedFit/camera/iterations:400000", 24, 8600) +
      Refusing("BM_MapFirstFit/camera/iterations:400000", 200, 10000) +
      Median("BM_MemfdKernel/4096", 8000) + Median("BM_MemfdHit/4096", 6) +
      Median("BM_MemfdKernel/1048576", 300000) + Median("BM_MemfdHit/1048576", 6) +
      Median("BM_MemfdScrubbed/1048576", 20000) + Median("BM_MemfdSharedUsed/3145728", 800000) +
      Median("BM_MemfdSharedUsedKernel/3145728", 1000000) + OtherFigures());
}

Results Parse(std::string_view json) {
  absl::StatusOr<Results> results = ParseResults(json);
  REQUIRE_MESSAGE(results.ok(), std::string(results.status().message()));
  return *std::move(results);
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("Results: a benchmark's figure is its median, in nanoseconds") {
  const Results results = Parse(Document(
      R"({"name": "BM_A_mean", "run_name": "BM_A", "run_type": "aggregate", "aggregate_name": "mean",
          "repetitions": 3, "real_time": 1, "cpu_time": 1, "time_unit": "us"},
         {"name": "BM_A_median", "run_name": "BM_A", "run_type": "aggregate",
          "aggregate_name": "median", "repetitions": 3, "real_time": 2, "cpu_time": 3,
          "time_unit": "us"},)"));
  REQUIRE(results.Find("BM_A") != nullptr);
  CHECK(results.Find("BM_A")->ns == 3000);
}

TEST_CASE("Results: a benchmark that was not repeated stands for itself") {
  const Results results = Parse(Document(
      R"({"name": "BM_A", "run_name": "BM_A", "run_type": "iteration", "repetitions": 1,
          "real_time": 2, "cpu_time": 3, "time_unit": "ns"},)"));
  REQUIRE(results.Find("BM_A") != nullptr);
  CHECK(results.Find("BM_A")->ns == 3);
}

TEST_CASE("Results: the label of a benchmark is kept") {
  const Results results = Parse(Document(
      R"({"name": "BM_A", "run_name": "BM_A", "run_type": "iteration", "repetitions": 1,
          "real_time": 2, "cpu_time": 3, "time_unit": "ns", "label": "recycled"},)"));
  REQUIRE(results.Find("BM_A") != nullptr);
  CHECK(results.Find("BM_A")->label == "recycled");
}

TEST_CASE("Results: a manual time is taken for the time") {
  const Results results = Parse(Run(2));
  CHECK(results.Find("BM_PoolDrain/asleep/iterations:1/manual_time")->ns == 1200);
}

TEST_CASE("Results: counters are kept, and the fields of every benchmark are none") {
  const Results results = Parse(Run(2));
  const Figure* memory = results.Find("BM_PoolMemory/iterations:1");
  REQUIRE(memory != nullptr);
  CHECK(memory->counters.size() == 3);
  CHECK(memory->counters.at("resident_per_object") == 5.0);
}

TEST_CASE("Results: a text that is no result is refused") {
  for (const std::string_view json :
       {"", "{", "[]", R"({"benchmarks": 1})", R"({"context": {}, "benchmarks": [{}]})"}) {
    CAPTURE(json);
    CHECK(ParseResults(json).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

// The verdict on the goal or figure of this name.
Verdict VerdictOn(std::string_view name, const std::vector<Results>& runs) {
  const std::string all[] = {"goal " + std::string(name) + ":",
                             "figure " + std::string(name) + ":"};
  Verdict found;
  for (const Verdict& verdict : JudgeGoals(runs)) {
    if (verdict.line.starts_with(all[0]) || verdict.line.starts_with(all[1])) found = verdict;
  }
  REQUIRE_MESSAGE(!found.line.empty(), name);
  return found;
}
Verdict VerdictOn(std::string_view name, std::string_view json) {
  return VerdictOn(name, std::vector<Results>{Parse(json)});
}

// Run(1.85) with `to` in place of `from`.
std::string RunWith(std::string_view from, std::string_view to) {
  std::string text = Run(1.85);
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

TEST_CASE("Goals: all are met where all figures are small enough") {
  const std::vector<Results> runs(3, Parse(Run(1.85)));
  const std::vector<Verdict> verdicts = JudgeGoals(runs);
  CHECK(verdicts.size() == 33);
  for (const Verdict& verdict : verdicts) CHECK_MESSAGE(verdict.met, verdict.line);
  CHECK(verdicts[0].line == "goal pool_vs_dpdk: 0.37 x DPDK (wanted <= 0.50) met");
}

TEST_CASE("Goals: a figure that is too large is missed, with the figure") {
  const std::vector<Verdict> verdicts = JudgeGoals(std::vector<Results>{Parse(Run(3))});
  CHECK(verdicts[0].line == "goal pool_vs_dpdk: 0.60 x DPDK (wanted <= 0.50) missed");
  CHECK(!verdicts[0].met);
}

TEST_CASE("Goals: a figure without a bound is printed, and never missed") {
  const Verdict slow = VerdictOn("pool_vs_tls", Run(900));
  CHECK(slow.line == "figure pool_vs_tls: 500 x thread-local array");
  CHECK(slow.met);
  const Verdict absent =
      VerdictOn("burst", RunWith(Median("BM_DpdkMempoolBurst/32/threads:1", 6), ""));
  CHECK(absent.line == "figure burst: BM_DpdkMempoolBurst/32/threads:1 was not run");
  CHECK(absent.met);
}

TEST_CASE("Goals: one bad run of three does not count, two do") {
  const Results good = Parse(Run(1.85));
  const Results bad = Parse(Run(9));
  CHECK(JudgeGoals(std::vector<Results>{good, bad, good})[0].met);
  CHECK(!JudgeGoals(std::vector<Results>{bad, good, bad})[0].met);
}

TEST_CASE("Goals: each part of a goal has to be met") {
  const Verdict verdict =
      VerdictOn("memory", RunWith("\"reserved_per_object\": 7.5", "\"reserved_per_object\": 8.5"));
  CHECK(!verdict.met);
  CHECK(Contains(verdict.line, "8.50 B per object, 5.00 B per object resident"));
}

TEST_CASE("Goals: a counter is compared to the yardstick's, not to its time") {
  CHECK(VerdictOn("placement_fit", Run(1.85)).line ==
        "goal placement_fit: 0.86 x first fit's refusals (wanted <= 1.00) met");
  const std::string refusing = RunWith("\"refused\": 8600", "\"refused\": 10001");
  CHECK(!VerdictOn("placement_fit", refusing).met);
}

TEST_CASE("Goals: some figures have to be large enough") {
  const std::string hit = Median("BM_MemfdHit/4096", 6);
  CHECK(VerdictOn("kernel_4k", Run(1.85)).line ==
        "goal kernel_4k: 1333 x a hit (wanted >= 1000) met");
  CHECK(VerdictOn("kernel_4k", RunWith(hit, Median("BM_MemfdHit/4096", 10))).line ==
        "goal kernel_4k: 800 x a hit (wanted >= 1000) missed");
}

TEST_CASE("Goals: some figures have a bound of their own") {
  CHECK(VerdictOn("choice", Run(1.85)).line == "goal choice: 1300 ns (wanted <= 2000) met");
  const std::string slow =
      RunWith(Median("BM_Layout/yuv420", 120), Median("BM_Layout/yuv420", 201));
  CHECK(VerdictOn("layout", slow).line ==
        "goal layout: 100 ns, 201 ns, three planes (wanted <= 200, <= 200) missed");
}

TEST_CASE("Goals: some figures are judged by the difference to a control") {
  CHECK(VerdictOn("scope", Run(1.85)).line ==
        "goal scope: 12 ns above a bare hit (wanted <= 15) met");
  const std::string slow = RunWith(Median("BM_ScopeWrite", 20), Median("BM_ScopeWrite", 40));
  CHECK(VerdictOn("scope", slow).line ==
        "goal scope: 32 ns above a bare hit (wanted <= 15) missed");
  const std::string alone = RunWith(Median("BM_ScopeBare", 8), "");
  CHECK(VerdictOn("scope", alone).line ==
        "goal scope: BM_ScopeBare was not run (wanted <= 15) missed");
}

TEST_CASE("Goals: the difference of a counter is taken of the same counter of the control") {
  CHECK(VerdictOn("tail_ageing", Run(1.85)).line ==
        "goal tail_ageing: 0.00 ns above idle (p99.9), 0.00 ns (max) "
        "(wanted <= 20000, <= 1000000) met");
  const std::string name = "BM_TailAgeing/iterations:1/manual_time";
  const std::string fine = With(R"("p99": 50.0, "p99.9": 70.0, "max": 90.0)", name, 20);
  const std::string slow = With(R"("p99": 50.0, "p99.9": 20170.0, "max": 90.0)", name, 20);
  const Verdict verdict = VerdictOn("tail_ageing", RunWith(fine, slow));
  CHECK(Contains(verdict.line, "20100 ns above idle (p99.9), 0.00 ns (max)"));
  CHECK(!verdict.met);
}

TEST_CASE("Goals: the filter names controls and yardsticks, also those of figures") {
  const std::string filter = GoalsFilter();
  for (const std::string_view name :
       {"BM_ScopeBare", "BM_FrameRing/manual_time", "BM_TailTrimControl/iterations:1/manual_time",
        "BM_TlsArrayHot/threads:1", "BM_ImportNew/10"}) {
    CAPTURE(name);
    CHECK((Contains(filter, "|" + std::string(name) + "|") ||
           Contains(filter, "(" + std::string(name) + "|")));
  }
  CHECK(!Contains(filter, "||"));
}

TEST_CASE("Goals: a program that is not optimized is not judged") {
  CHECK(CheckOptimized(std::vector<Results>{Parse(Run(1.85))}).ok());
  for (const std::string_view other : {"\"optimized\": \"no\"", "\"optimised\": \"yes\""}) {
    CAPTURE(other);
    const absl::Status refused = CheckOptimized(
        std::vector<Results>{Parse(Run(1.85)), Parse(RunWith("\"optimized\": \"yes\"", other))});
    CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
    CHECK(std::string(refused.message()).starts_with("bench/pool was compiled without"));
  }
}

TEST_CASE("Goals: runs of several programs are judged together") {
  const Results pool = Parse(
      Document(Median("BM_PoolHot/threads:1", 1.85) + Median("BM_DpdkMempoolHot/threads:1", 5)));
  const Results placement =
      Parse(Document(Refusing("BM_SegregatedFit/camera/iterations:400000", 24, 8600) +
                     Refusing("BM_MapFirstFit/camera/iterations:400000", 200, 10000)));
  const std::vector<Results> runs{pool, placement, pool, placement};
  CHECK(VerdictOn("pool_vs_dpdk", runs).met);
  CHECK(VerdictOn("placement_fit", runs).met);
  const Verdict time = VerdictOn("placement_time", runs);
  CHECK(!time.met);
  CHECK(Contains(time.line, "BM_SegregatedFit/small/iterations:400000 was not run"));
}

TEST_CASE("Goals: an absent yardstick is a missed goal that says what to install") {
  const Verdict verdict =
      VerdictOn("pool_vs_dpdk", Run(1.85, Error("BM_DpdkMempoolHot/threads:1")));
  CHECK(!verdict.met);
  CHECK(Contains(verdict.line, "missing: install it"));
}

TEST_CASE("Goals: a benchmark that was not run is a missed goal") {
  const Verdict verdict = VerdictOn("pool_vs_dpdk", Run(1.85, ""));
  CHECK(!verdict.met);
  CHECK(Contains(verdict.line, "BM_DpdkMempoolHot/threads:1 was not run"));
}

TEST_CASE("Table: ratios to the pool, the fastest first") {
  const std::string table = FormatTable(Parse(Run(1.85)));
  CHECK(Contains(table, "processor   A & B <C>"));
  CHECK(Contains(table, "5.00 (2.70 x)"));
  CHECK(table.find("thread-local array") < table.find("ion::Pool  "));
}

TEST_CASE("Table: a missing contender says so, last") {
  const std::string table = FormatTable(Parse(Run(1.85, Error("BM_DpdkMempoolHot/threads:1"))));
  CHECK(Contains(table, "missing: install it"));
  CHECK(table.find("DPDK") > table.find("ion::Pool  "));
}

TEST_CASE("Chart: bars for measured contenders, words escaped") {
  const std::string chart = DrawChart(Parse(Run(1.85, Error("BM_DpdkMempoolHot/threads:1"))));
  CHECK(Contains(chart, "A &amp; B &lt;C>"));
  CHECK(Contains(chart, ">ion::Pool</text>"));
  CHECK(chart.ends_with("</svg>\n"));
}

TEST_CASE("Chart: a bar that dwarfs the others is cut") {
  const std::string chart = DrawChart(Parse(Run(1.85, Median("BM_DpdkMempoolHot/threads:1", 500))));
  CHECK(Contains(chart, "class='cut'"));
  CHECK(!Contains(DrawChart(Parse(Run(1.85))), "class='cut'"));
}

TEST_CASE("Chart: a frame has a bar for each step, with its system calls, ours marked") {
  const Results results =
      Parse(Document(With(R"("calls": 6.0)", "BM_FrameFd/manual_time", 3700) +
                     With(R"("calls": 2.0)", "BM_FrameRing/manual_time", 2500) +
                     Error("BM_FrameKept/manual_time") + Median("BM_ScopeBare", 8)));
  const std::string chart = DrawChart(results);
  CHECK(Contains(chart, ">plain ring, index: 2 calls</text>"));
  CHECK(Contains(chart, ">kept, descriptor: 6 calls</text>"));
  CHECK(Contains(chart, ">7400</text>"));
  CHECK(!Contains(chart, ">kept, index"));
  CHECK(chart.find("class='bar'") < chart.find("class='ours'"));
  CHECK(chart.ends_with("</svg>\n"));
}

#else

TEST_CASE("Results: read from JSON") { return testing::Skip("built without nlohmann-json3-dev"); }

#endif

TEST_CASE("ExchangeName: contender, exchange and threads") {
  const auto name = ParseExchangeName("BM_DpdkMempoolBurst/32/threads:2");
  REQUIRE(name.has_value());
  CHECK(name->contender == "DPDK rte_mempool");
  CHECK(name->exchange == "Burst/32");
  CHECK(name->threads == "2");
  CHECK(!ParseExchangeName("BM_PoolDrain/asleep/iterations:1/manual_time").has_value());
  CHECK(!ParseExchangeName("BM_PoolDrain/threads:1").has_value());
}

}  // namespace
}  // namespace ion::bench
