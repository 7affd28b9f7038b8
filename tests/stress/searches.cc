// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/stress/searches.h"

#include <atomic>

#include "tests/model/magazine_model.h"
#include "tests/model/packed_stack_model.h"

namespace ion::stress {
namespace {

struct RelaxedPush : model::StackModelPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};

}  // namespace

std::string ExploreRelaxedPush() { return model::ExploreStack<RelaxedPush>().violation; }

std::string ExploreNoMembarrier() {
  return model::ExploreMagazine(model::MagazineBug::kNoBarrier).violation;
}

}  // namespace ion::stress
