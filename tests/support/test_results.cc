// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#define DOCTEST_CONFIG_IMPLEMENT
#include "tests/support/test_results.h"

#include <cstdio>
#include <string>
#include <string_view>

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

struct RunningCase {
  std::string name;
  bool skipped = false;
  std::string reasons;
};

Results results;
RunningCase running;
ion::testing::Announce announced = ion::testing::Announce::kNothing;

class Counter final : public doctest::IReporter {
 public:
  explicit Counter(const doctest::ContextOptions& /*options*/) {}

  void test_case_start(const doctest::TestCaseData& test_case) override {
    running = {.name = test_case.m_name, .skipped = false, .reasons = {}};
    if (announced == ion::testing::Announce::kEachCase) std::printf("%s\n", test_case.m_name);
  }

  void test_case_end(const doctest::CurrentTestCaseStats& stats) override {
    if (!stats.testCaseSuccess) {
      ++results.failed;
    } else if (running.skipped) {
      results.AddSkipped(running.name, running.reasons);
    } else {
      ++results.passed;
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
  if (running.skipped) running.reasons += "; ";
  running.skipped = true;
  running.reasons += reason;
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
