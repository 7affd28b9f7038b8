// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/keeper.h
//
// The former names of ion/core/reclaimer.h, until 0.3.
#ifndef ION_ION_CORE_KEEPER_H_
#define ION_ION_CORE_KEEPER_H_

#include <chrono>
#include <optional>

#include "ion/base/pressure.h"
#include "ion/core/reclaimer.h"

namespace ion {

// The options of Manager::StartKeeper; those of StartReclaimer are ReclaimerOptions.
struct KeeperOptions {
  std::chrono::milliseconds tick = std::chrono::seconds(1);
  std::optional<PressureOptions> pressure = PressureOptions();
  unsigned least_available_percent = 6;
};

}  // namespace ion

#endif  // ION_ION_CORE_KEEPER_H_
