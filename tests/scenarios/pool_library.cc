// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A shared library that has a pool inside: pool_library_test loads two of it, built with default
// and with hidden visibility.

#include "tests/scenarios/pool_library.h"

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "ion/block.h"
#include "ion/policies/pool/pool.h"

namespace {

std::vector<ion::Block>& Blocks() {
  static std::vector<ion::Block> blocks(100);
  return blocks;
}
std::optional<ion::Pool<ion::Block>>& ThePool() {
  static std::optional<ion::Pool<ion::Block>> pool;
  return pool;
}

}  // namespace

[[gnu::visibility("default")]] extern const PoolLibrary pool_library = {
    .open =
        [] {
          ion::Result<ion::Pool<ion::Block>> pool = ion::Pool<ion::Block>::Create(Blocks(), {});
          if (!pool.ok()) return false;
          ThePool().emplace(*std::move(pool));
          for (ion::Block& block : Blocks()) {
            if (!ThePool()->Release(&block)) return false;
          }
          return true;
        },
    .swing =
        [](int count) {
          std::vector<ion::Block*> taken;
          for (int i = 0; i < count; ++i) {
            if (ion::Block* block = ThePool()->Acquire()) taken.push_back(block);
          }
          for (ion::Block* block : taken) {
            if (!ThePool()->Release(block)) return -1;
          }
          return static_cast<int>(taken.size());
        },
    .close =
        [] {
          int given = 0;
          ThePool()->Close([&](ion::Block&) { ++given; });
          ThePool().reset();
          return given;
        },
    .statics =
        [] { return static_cast<const void*>(&ion::internal::Statics<ion::PoolPolicy>::table); },
};
