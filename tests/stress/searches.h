// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/stress/searches.h
//
// Negative controls for the builds in which a run cannot show the bug. Each says what a search over
// all orders finds; empty: nothing.
#ifndef ION_TESTS_STRESS_SEARCHES_H_
#define ION_TESTS_STRESS_SEARCHES_H_

#include <string>

namespace ion::stress {

// A PackedStack whose push does not release.
std::string ExploreRelaxedPush();
// A Magazine that is drained without a membarrier.
std::string ExploreNoMembarrier();

}  // namespace ion::stress

#endif  // ION_TESTS_STRESS_SEARCHES_H_
