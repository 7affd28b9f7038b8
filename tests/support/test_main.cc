// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// main() of every test binary that has none of its own: being the only thing in its object file, it
// is taken from the library just then.

#include "doctest/doctest.h"
#include "tests/support/test_results.h"

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  return ion::testing::RunTestCases(context);
}
