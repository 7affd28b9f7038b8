// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "policies/pool.h"

#include <cstdint>
#include <set>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"

namespace {

using BlockPool = ion::Pool<ion::Block>;

BlockPool Make(std::vector<ion::Block>& blocks, const ion::PoolOptions& options = {}) {
  ion::Result<BlockPool> pool = BlockPool::Create(blocks, options);
  REQUIRE(pool.ok());
  return *std::move(pool);
}

TEST_CASE("Pool: a new pool is empty") {
  std::vector<ion::Block> blocks(8);
  BlockPool pool = Make(blocks);
  CHECK(pool.Acquire() == nullptr);
}

TEST_CASE("Pool: every descriptor that was released is found again, once") {
  std::vector<ion::Block> blocks(512);
  BlockPool pool = Make(blocks);
  for (ion::Block& block : blocks) REQUIRE(pool.Release(&block));
  CHECK(pool.counters().held == blocks.size());
  std::set<ion::Block*> found;
  while (ion::Block* block = pool.Acquire()) CHECK(found.insert(block).second);
  CHECK(found.size() == blocks.size());
  CHECK(pool.counters().held == 0);
}

}  // namespace
