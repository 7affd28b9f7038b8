// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The ready-made Managers with pools.

#include <cstdint>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/buffer.h"
#include "ion/platforms/pooled.h"
#include "ion/report.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

template <class M>
void TakesTheSameAgain() {
  const LeakCheck leaks;
  absl::StatusOr<M> manager = M::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "isp", .recycle_as_is = true});
  uint64_t generation = 0;
  {
    const absl::StatusOr<Buffer> buffer = client->Allocate({.bytes = 1_MiB});
    REQUIRE(buffer.ok());
    generation = buffer->generation();
  }
  CHECK(client->Allocate({.bytes = 1_MiB})->generation() == generation);
  CHECK(manager->MakeReport().pools.at(0).hits == 1);
}

TEST_CASE("PooledMemfd: memory that was released is allocated again") {
  TakesTheSameAgain<platforms::PooledMemfd>();
}

TEST_CASE("PooledAny: the same over the first backend of the machine") {
  TakesTheSameAgain<platforms::PooledAny>();
}

}  // namespace
}  // namespace ion::testing
