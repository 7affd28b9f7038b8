// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/test_results.h"

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "tests/support/skip.h"

namespace {

struct Results {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
  std::string skip_lines;

  void AddSkipped(std::string_view what, std::string_view reason) {
    ++skipped;
    (skip_lines += "skipped: ") += what;
    (skip_lines += " -- ") += reason;
    skip_lines += '\n';
  }
};

struct Skipped {
  std::string what;
  std::string reason;
};

struct RunningCase {
  std::string name;
  bool skipped = false;
  std::string reasons;

  bool at_part = false;  // the last of `parts` is what Skip() is said of
  int parts_run = 0;
  int parts_skipped = 0;
  std::vector<Skipped> parts = {};  // with no reason: not skipped

  bool SkippedWhole() const { return skipped || (parts_run == 0 && parts_skipped > 0); }
  std::string WholeReason() const {
    std::string all = reasons;
    for (const Skipped& part : parts) {
      if (part.reason.empty()) continue;
      if (!all.empty()) all += "; ";
      all += part.what + ": " + part.reason;
    }
    return all;
  }
};

Results results;
RunningCase running;
ion::testing::Announce announced = ion::testing::Announce::kNothing;

class Counter final : public doctest::IReporter {
 public:
  explicit Counter(const doctest::ContextOptions& /*options*/) {}

  void test_case_start(const doctest::TestCaseData& test_case) override {
    running = {};
    running.name = test_case.m_name;
    if (announced == ion::testing::Announce::kEachCase) std::printf("%s\n", test_case.m_name);
  }

  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++results.failed;
    } else if (running.SkippedWhole()) {
      results.AddSkipped(running.name, running.WholeReason());
    } else {
      ++results.passed;
      for (const Skipped& part : running.parts) {
        if (part.reason.empty()) continue;
        results.AddSkipped(running.name + ", " + part.what, part.reason);
      }
    }
  }

  void report_query(const doctest::QueryData& /*data*/) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& /*stats*/) override {}
  void test_case_reenter(const doctest::TestCaseData& /*test_case*/) override {}
  void test_case_exception(const doctest::TestCaseException& /*exception*/) override {}
  void subcase_start(const doctest::SubcaseSignature& /*subcase*/) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData& /*assertion*/) override {}
  void log_message(const doctest::MessageData& /*message*/) override {}
  void test_case_skipped(const doctest::TestCaseData& /*test_case*/) override {}
};

REGISTER_LISTENER("ion_counter", 0, Counter);

}  // namespace

void ion::testing::Skip(std::string_view reason) {
  std::string& reasons = running.at_part ? running.parts.back().reason : running.reasons;
  if (!reasons.empty()) reasons += "; ";
  reasons += reason;
  if (!running.at_part) running.skipped = true;
}

void ion::testing::SkipPart(std::string_view part, std::string_view reason) {
  Skipped skipped{.what = std::string(part), .reason = std::string(reason)};
  if (!running.at_part) return running.parts.push_back(std::move(skipped));
  skipped.what = running.parts.back().what + ", " + skipped.what;
  running.parts.insert(running.parts.end() - 1, std::move(skipped));
}

ion::testing::CasePart::CasePart(std::string name) {
  running.at_part = true;
  running.parts.push_back({.what = std::move(name), .reason = {}});
}
ion::testing::CasePart::~CasePart() {
  running.at_part = false;
  ++(running.parts.back().reason.empty() ? running.parts_run : running.parts_skipped);
}

void ion::testing::CountSkipped(std::string_view what, std::string_view reason) {
  results.AddSkipped(what, reason);
}

int ion::testing::RunTestCases(doctest::Context& context, Announce announce) {
  announced = announce;
  int exit_code = context.run();
  if (context.shouldExit()) return exit_code;  // A query, such as --list-test-cases.

  if (results.passed + results.failed + results.skipped == 0) {
    std::puts("no test case ran: check the filters, and that the test's sources are linked");
    exit_code = 1;
  }
  std::printf("%s%d passed, %d failed, %d skipped\n", results.skip_lines.c_str(), results.passed,
              results.failed, results.skipped);
  return exit_code;
}
