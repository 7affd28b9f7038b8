// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/skip.h
//
// Says that the running test case cannot run here. doctest skips only what is known at compile
// time, and a case that returns early counts there as passed; with :test_main it counts as skipped,
// and its reason is printed. A failed assertion still fails the case. Call it on the thread that
// runs the test case.
//
// Example:
//   if (heaps.empty()) return ion::testing::Skip("no heap under /dev/dma_heap");

#ifndef ION_TESTS_SUPPORT_SKIP_H_
#define ION_TESTS_SUPPORT_SKIP_H_

#include <string_view>

namespace ion::testing {

void Skip(std::string_view reason);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SKIP_H_
