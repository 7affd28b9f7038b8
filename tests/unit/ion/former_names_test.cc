// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The names that users had until 0.2: each does what its successor does.

#include <cerrno>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/pressure.h"
#include "ion/base/status.h"
#include "ion/core/keeper.h"
#include "ion/platforms/linux.h"
#include "tests/support/leak_check.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace ion::testing {
namespace {

TEST_CASE("Former names: Client::Keep and Client::Reserve") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  auto client = manager->CreateClient({.name = "old"});
  CHECK(client->Reserve({.bytes = 4_KiB}, 2).ok());
  auto lease = client->Allocate({.bytes = 4_KiB});
  const auto handle = client->Keep(*std::move(lease));
  REQUIRE(handle.ok());
  CHECK(client->Free(*handle).ok());
}

TEST_CASE("Former names: Manager::StartKeeper says why it does not watch, and runs all the same") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  const KeeperOptions options{.tick = std::chrono::hours(1),
                              .pressure = PressureOptions{.file = "/nothing/there"},
                              .least_available_percent = 0};
  CHECK(ErrnoOf(manager->StartKeeper(options)) == ENOENT);
  CHECK(ErrnoOf(manager->StartKeeper(options)) == EALREADY);
  auto other = platforms::Memfd::Open();
  CHECK(other->StartKeeper({.tick = std::chrono::hours(1), .pressure = std::nullopt}).ok());
}

}  // namespace
}  // namespace ion::testing
