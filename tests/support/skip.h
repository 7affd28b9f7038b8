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
// A case may have parts: it runs on each heap of several, or with several sizes. A part that cannot
// run counts as skipped in a line of its own, and the case counts as passed where another part ran.
//
// Example:
//   if (heaps.empty()) return ion::testing::Skip("no heap under /dev/dma_heap");
//   for (const Heap& heap : heaps) {
//     const ion::testing::CasePart part("heap " + heap.name);  // Skip() is said of it alone
//     …
//   }

#ifndef ION_TESTS_SUPPORT_SKIP_H_
#define ION_TESTS_SUPPORT_SKIP_H_

#include <string>
#include <string_view>

namespace ion::testing {

void Skip(std::string_view reason);

// Counts a part that is never begun, and leaves the others as they are.
void SkipPart(std::string_view part, std::string_view reason);

// The part that the running case is at.
class CasePart {
 public:
  explicit CasePart(std::string name);
  CasePart(const CasePart&) = delete;
  CasePart& operator=(const CasePart&) = delete;
  ~CasePart();
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SKIP_H_
