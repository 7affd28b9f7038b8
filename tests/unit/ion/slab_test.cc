// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/slab.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/block.h"
#include "ion/buffer_identity.h"

namespace {

using ion::Block;
using ion::BlockTable;
using ion::internal::kBlocksPerSlab;
using ion::internal::SlabOf;

// Two slabs and a bit.
constexpr size_t kMany = 2 * kBlocksPerSlab + 10;

// A table, its owner and its operations; nothing is left in it at the end.
struct Fixture {
  ~Fixture() {
    for (Block* block : blocks) table.Delete(block);
    CHECK(table.live() == 0);
  }
  Block* New() {
    blocks.push_back(table.New());
    return blocks.back();
  }

  const ion::LeaseOps ops{};
  int owner = 0;
  BlockTable table{&ops, &owner};
  std::vector<Block*> blocks;
};

TEST_CASE("BlockTable: a new block is empty") {
  Fixture fixture;
  const Block& block = *fixture.New();
  CHECK_FALSE(block.filled());
  CHECK_FALSE(block.reserved());
  CHECK(block.mapping == nullptr);
  CHECK(block.mappings == 0);
  CHECK_FALSE(block.cpu_sync.open());
  CHECK(fixture.table.live() == 1);
}

TEST_CASE("BlockTable: a block is one cache line of its own") {
  Fixture fixture;
  std::set<Block*> seen;
  for (size_t i = 0; i < kMany; ++i) {
    Block* block = fixture.New();
    CHECK(reinterpret_cast<uintptr_t>(block) % 64 == 0);
    CHECK(seen.insert(block).second);
  }
  CHECK(fixture.table.live() == kMany);
}

TEST_CASE("BlockTable: each block of each slab finds its owner") {
  Fixture fixture, other;
  std::set<const void*> slabs;
  for (size_t i = 0; i < kMany; ++i) {
    const ion::internal::SlabHeader& slab = SlabOf(*fixture.New());
    CHECK(slab.owner == &fixture.owner);
    CHECK(slab.ops == &fixture.ops);
    slabs.insert(&slab);
    CHECK(SlabOf(*other.New()).owner == &other.owner);
  }
  CHECK(slabs.size() == 3);
}

TEST_CASE("BlockTable: a block that comes again is empty, of a later generation") {
  Fixture fixture;
  Block* block = fixture.table.New();
  const uint32_t generation = block->generation;
  block->fd = 7;
  block->bytes = 4096;
  block->mappings = 1;
  CHECK(fixture.table.Delete(block) == 0);
  Block* again = fixture.New();
  CHECK(again == block);
  CHECK(again->generation == generation + 1);
  CHECK_FALSE(again->filled());
  CHECK(again->bytes == 0);
  CHECK(again->mappings == 0);
}

ion::BlockNote NoteOf(uint64_t bytes, const ion::BufferIdentity& identity = {}) {
  ion::BlockNote note;
  note.bytes = bytes;
  note.identity = identity;
  return note;
}

// The blocks that a look for lent ones finds.
std::set<const Block*> Lent(BlockTable& table) {
  std::set<const Block*> lent;
  table.ForEachLent([&](Block& block, ion::BlockNote&) { lent.insert(&block); });
  return lent;
}

TEST_CASE(
    "BlockTable: a look for lent blocks finds each, in whichever slab, as long as it is lent") {
  Fixture fixture;
  for (size_t i = 0; i < kMany; ++i) {
    fixture.table.List(*fixture.New(), NoteOf(4096));
  }
  CHECK(Lent(fixture.table).empty());
  Block& first = *fixture.blocks.front();
  Block& last = *fixture.blocks.back();
  ion::internal::MarkLent(first);
  ion::internal::MarkLent(last);
  for (int i = 0; i < 3; ++i) CHECK(Lent(fixture.table) == std::set<const Block*>{&first, &last});
  first.ClearLent();
  CHECK(Lent(fixture.table) == std::set<const Block*>{&last});
  CHECK(SlabOf(first).lent == 0);
  ion::internal::MarkLent(first);
  CHECK(Lent(fixture.table) == std::set<const Block*>{&first, &last});
}

TEST_CASE("BlockTable: a block that is listed again keeps its identity, and a new one has none") {
  Fixture fixture;
  Block* block = fixture.table.New();
  const ion::BufferIdentity identity{.device = 1, .inode = 2};
  fixture.table.List(*block, NoteOf(4096, identity));
  fixture.table.List(*block, NoteOf(4096));
  CHECK(fixture.table.Unlist(*block).identity == identity);
  fixture.table.List(*block, NoteOf(4096, identity));
  fixture.table.Delete(block);
  block = fixture.New();
  fixture.table.List(*block, NoteOf(4096));
  CHECK_FALSE(fixture.table.Unlist(*block).identity.known());
}

TEST_CASE("BlockTable: a generation is given once, whichever block gets it") {
  Fixture fixture;
  std::set<uint32_t> given;
  for (int round = 0; round < 3; ++round) {
    Block* first = fixture.table.New();
    Block* second = fixture.table.New();
    CHECK(given.insert(first->generation).second);
    CHECK(given.insert(second->generation).second);
    fixture.table.Delete(first);
    fixture.table.Delete(second);
  }
}

TEST_CASE("BlockTable: a generation does not come back after 2^32 others") {
  static constexpr ion::LeaseOps kOps{};
  constexpr uint64_t kWrap = uint64_t{1} << 32;
  BlockTable table(&kOps, nullptr, nullptr, kWrap - 2);
  std::set<uint64_t> given;
  for (uint64_t i = 0; i < 4; ++i) {
    Block* block = table.New();
    CHECK(ion::internal::GenerationOf(*block) == kWrap - 2 + i);
    CHECK(given.insert(ion::internal::GenerationOf(*block)).second);
    CHECK(table.Delete(block) == 0);
  }
}

TEST_CASE("BlockTable: slabs are kept and used again") {
  Fixture fixture;
  std::set<Block*> first;
  for (size_t i = 0; i < kMany; ++i) first.insert(fixture.New());
  for (Block* block : fixture.blocks) fixture.table.Delete(block);
  fixture.blocks.clear();
  for (size_t i = 0; i < kMany; ++i) CHECK(first.contains(fixture.New()));
}

TEST_CASE("BlockTable: Delete tells how many are live") {
  Fixture fixture;
  Block* first = fixture.table.New();
  Block* second = fixture.table.New();
  CHECK(fixture.table.Delete(first) == 1);
  CHECK(fixture.table.Delete(second) == 0);
}

TEST_CASE("BlockTable: two threads never have the same block") {
  Fixture fixture;
  constexpr size_t kHeld = 300, kRounds = 50;
  const auto work = [&](uint64_t mark, size_t& stolen) {
    for (size_t round = 0; round < kRounds; ++round) {
      std::vector<Block*> held;
      for (size_t i = 0; i < kHeld; ++i) {
        held.push_back(fixture.table.New());
        held.back()->cookie = mark;
      }
      for (Block* block : held) {
        stolen += block->cookie != mark;
        fixture.table.Delete(block);
      }
    }
  };
  size_t stolen[4] = {};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] { work(i + 1, stolen[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const size_t count : stolen) CHECK(count == 0);
  CHECK(fixture.table.live() == 0);
}

}  // namespace
