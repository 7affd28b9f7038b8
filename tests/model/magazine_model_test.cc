// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/model/magazine_model.h"

#include "doctest/doctest.h"
#include "tests/model/report.h"

namespace {

using ion::model::ExploreMagazine;
using ion::model::MagazineBug;
using ion::model::Verdict;

TEST_CASE("Magazine: an owner and two drainers with 3 operations each, in every order") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kNone);
  ion::model::Print("Magazine, owner and 2 drainers x 3 operations", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("Magazine: an owner, a signal handler on its thread, and a drainer, in every order") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kNone, /*handler=*/true);
  ion::model::Print("Magazine, owner and drainer x 3 operations, handler x 2", verdict);
  CHECK_MESSAGE(verdict.violation.empty(), ion::model::Words(verdict));
  CHECK(verdict.ends > 0);
}

TEST_CASE("Magazine: a drainer without membarrier takes what the owner is taking") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kNoBarrier);
  ion::model::Print("Magazine without membarrier", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: a drainer that takes while the owner is busy is found") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kTakesWhileBusy);
  ion::model::Print("Magazine, taken while busy", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: a drainer that finds it busy and keeps its claim is found") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kForgetsClaim);
  ion::model::Print("Magazine, a claim never given back", verdict);
  CHECK_FALSE(verdict.violation.empty());
}

TEST_CASE("Magazine: an owner that forgets to flush is found") {
  const Verdict verdict = ExploreMagazine(MagazineBug::kForgetsFlush);
  ion::model::Print("Magazine, a flush forgotten", verdict);
  CHECK(verdict.violation == "the magazine stays closed to its owner");
}

}  // namespace
