// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The code in policies/PORTING.md, as it stands there: each block is cut out by the build
// (tests/BUILD) and compiled here. The last block runs the heap suite over the heap of the first.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/string_view.h"
#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/conformance/heap_conformance.h"
#include "tests/heap_porting_block_1.inc"  // IWYU pragma: keep: after what it needs
#include "tests/heap_porting_block_2.inc"  // IWYU pragma: keep
#include "tests/heap_porting_block_3.inc"  // IWYU pragma: keep

namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

TEST_CASE("PORTING: a Manager of the heap bounds its memory") {
  auto manager = Memory::Open();
  REQUIRE(manager.ok());
  const auto most = manager->Allocate({.bytes = 8_MiB});
  REQUIRE(most.ok());
  const auto more = manager->Allocate({.bytes = 1});
  CHECK(more.status().message().find("the heap's cap") != absl::string_view::npos);
}

}  // namespace
