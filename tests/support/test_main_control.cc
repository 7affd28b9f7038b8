// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What test_main_test.sh counts: one case that passes, one that is skipped twice, two that fail,
// and cases with parts.

#include "doctest/doctest.h"
#include "tests/support/skip.h"

namespace {

TEST_CASE("a case that passes") { CHECK(true); }

TEST_CASE("a case that is skipped") {
  ion::testing::Skip("no heap");
  ion::testing::Skip("no device");
}

TEST_CASE("a case of which a part is skipped") {
  for (const char* const heap : {"one", "two"}) {
    const ion::testing::CasePart part(heap);
    if (*heap == 't') {
      ion::testing::Skip("no access");
      continue;
    }
    ion::testing::SkipPart("8 MiB", "no room");
  }
}

TEST_CASE("a case of which each part is skipped") {
  for (const char* const heap : {"one", "two"}) {
    const ion::testing::CasePart part(heap);
    ion::testing::Skip("no access");
  }
}

TEST_CASE("a case that fails") { CHECK(1 == 2); }

TEST_CASE("a case that is skipped, then fails") {
  ion::testing::Skip("not the last word");
  REQUIRE(1 == 2);
}

}  // namespace
