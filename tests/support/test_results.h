// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/test_results.h
//
// Runs test cases and counts them, for a main() that has more to do than that of test_main.cc.
// After doctest's own output come `skipped: CASE -- REASON` for each case that was skipped, with
// `CASE, PART` for a part of one, and the
// last line `N passed, N failed, N skipped`; ./dev test reads both.
//
// Example:
//   doctest::Context context;
//   ion::testing::CountSkipped("backend udmabuf", "no such device");
//   return ion::testing::RunTestCases(context);

#ifndef ION_TESTS_SUPPORT_TEST_RESULTS_H_
#define ION_TESTS_SUPPORT_TEST_RESULTS_H_

#include <string_view>

#include "doctest/doctest.h"

namespace ion::testing {

// Adds to the count what was never begun.
void CountSkipped(std::string_view what, std::string_view reason);

enum class Announce { kNothing, kEachCase };  // by its name, on a line, before it runs

// What main() returns. Where nothing ran and nothing was skipped, that is a failure.
int RunTestCases(doctest::Context& context, Announce announce = Announce::kNothing);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_TEST_RESULTS_H_
