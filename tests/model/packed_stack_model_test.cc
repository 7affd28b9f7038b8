// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/model/packed_stack_model.h"

#include <atomic>
#include <cstdint>
#include <string>

#include "doctest/doctest.h"
#include "tests/model/report.h"

namespace {

using ion::model::ExploreStack;
using ion::model::StackModelPolicy;
using ion::model::Verdict;

struct RelaxedPush : StackModelPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};
struct NoTag : StackModelPolicy {
  static constexpr uint64_t kTagStep = 0;
};

TEST_CASE("PackedStack: 3 threads with 3 operations each, in every order") {
  const Verdict verdict = ExploreStack<StackModelPolicy>();
  ion::model::Print("PackedStack, 3 threads x 3 operations", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("PackedStack: without the tag, an older head is taken for the present one") {
  const Verdict verdict = ExploreStack<NoTag>();
  ion::model::Print("PackedStack without its tag", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("PackedStack: with a relaxed push, what was written before it is not seen") {
  const Verdict verdict = ExploreStack<RelaxedPush>();
  ion::model::Print("PackedStack with a relaxed push", verdict);
  CHECK(verdict.violation.find("did not happen before") != std::string::npos);
}

}  // namespace
