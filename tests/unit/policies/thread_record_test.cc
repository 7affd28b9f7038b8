// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/policies/pool/thread_record.h"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/wiped_pages.h"
#include "ion/policies/pool/magazine.h"
#include "tests/support/child.h"
#include "tests/support/hooked_atomic.h"

namespace {

using ion::internal::kMaxPools;
using ion::testing::Interruption;
using ion::testing::RunInChild;

// A policy has statics of its own; each test that counts takes one.
struct Policy : ion::MagazinePolicy {};
struct Hooked : ion::MagazinePolicy {
  template <class V>
  using Atomic = ion::testing::HookedAtomic<V>;
};
using Record = ion::internal::ThreadRecord<Policy>;

// All bytes zero, as the pages that it lives in.
template <class P = Policy>
struct TestTable {
  using Table = ion::internal::PoolTable<P>;
  TestTable() : table(static_cast<Table*>(ion::internal::MapWiped(sizeof(Table)))) {
    REQUIRE(table != nullptr);
  }
  ~TestTable() {
    while (table->records.load(std::memory_order_relaxed) != nullptr) {
      auto* record = table->records.load(std::memory_order_relaxed);
      table->records.store(record->next, std::memory_order_relaxed);
      ion::internal::UnmapWiped(record, record->Bytes());
    }
    ion::internal::UnmapWiped(table, sizeof(Table));
  }
  Table* operator->() const { return table; }
  int CountRecords() const {
    int count = 0;
    table->ForEachRecord([&](auto&) { ++count; });
    return count;
  }
  Table* table;
};

ion::internal::PoolCore<Policy>* Core(uintptr_t number) {
  return reinterpret_cast<ion::internal::PoolCore<Policy>*>(number * 64);
}

TEST_CASE("PoolTable: ids are given out from the lowest, and again when they are free") {
  TestTable table;
  for (uint32_t id = 0; id < kMaxPools; ++id) REQUIRE(table->Open(Core(id + 1), id + 1) == id);
  CHECK(table->Open(Core(9), 9999) == kMaxPools);
  table->Close(500);
  table->Close(7);
  CHECK(table->Open(Core(9), 9999) == kMaxPools);  // closed is not yet free
  table->Free(500);
  table->Free(7);
  CHECK(table->Open(Core(9), 10000) == 7);
  CHECK(table->Open(Core(9), 10001) == 500);
  CHECK(table->Open(Core(9), 10002) == kMaxPools);
}

TEST_CASE("PoolTable: only the pool that lives under an id is pinned") {
  TestTable table;
  const uint32_t id = table->Open(Core(1), 41);
  CHECK(table->Pin(id, 40) == nullptr);
  CHECK(table->Pin(id, 42) == nullptr);
  CHECK(table->Pin(id, 0) == nullptr);
  CHECK(table->Pin(id + 1, 0) == Core(0));  // why nobody pins generation 0
  CHECK(table->Pin(id, 41) == Core(1));
  table->Unpin(id);
  table->Close(id);
  CHECK(table->Pin(id, 41) == nullptr);
  table->Free(id);
  CHECK(table->Open(Core(2), 43) == id);
  CHECK(table->Pin(id, 41) == nullptr);
  CHECK(table->Pin(id, 43) == Core(2));
}

TEST_CASE("PoolTable: the last generation is told from a pool that closes") {
  TestTable table;
  const uint32_t id = table->Open(Core(1), table->kMaxGeneration);
  CHECK(table->Pin(id, table->kMaxGeneration) == Core(1));
  table->Unpin(id);
  table->Close(id);
  CHECK(table->Pin(id, table->kMaxGeneration) == nullptr);
}

TEST_CASE("PoolTable: more pins than are counted are refused, and none is lost") {
  TestTable table;
  const uint32_t id = table->Open(Core(1), 5);
  uint64_t pins = 0;
  while (table->Pin(id, 5) != nullptr) ++pins;
  CHECK(pins == table->kPinMask);
  table->Unpin(id);
  CHECK(table->Pin(id, 5) == Core(1));
  CHECK(table->Pin(id, 5) == nullptr);
  for (; pins > 0; --pins) table->Unpin(id);
  table->Close(id);
}

TEST_CASE("PoolTable: closing waits for who has pinned, and nobody pins meanwhile") {
  TestTable table;
  const uint32_t id = table->Open(Core(1), 5);
  REQUIRE(table->Pin(id, 5) == Core(1));
  std::atomic<bool> closed{false};
  std::jthread closer([&] {
    table->Close(id);
    closed = true;
  });
  while (table->Pin(id, 5) != nullptr) table->Unpin(id);  // until the closer has begun
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK_FALSE(closed);
  table->Unpin(id);
  closer.join();
  CHECK(closed);
}

TEST_CASE("PoolTable: two that open at the same time, anywhere, have two ids and their own cores") {
  bool happened = true;
  for (int n = 0; happened; ++n) {
    TestTable<Hooked> table;
    auto* const one = reinterpret_cast<ion::internal::PoolCore<Hooked>*>(uintptr_t{64});
    auto* const two = reinterpret_cast<ion::internal::PoolCore<Hooked>*>(uintptr_t{128});
    uint32_t second = kMaxPools;
    Interruption between(n, [&] { second = table->Open(two, 2); });
    const uint32_t first = table->Open(one, 1);
    happened = between.happened();
    if (!happened) break;
    CHECK(first != second);
    CHECK(table->Pin(first, 1) == one);
    CHECK(table->Pin(second, 2) == two);
  }
}

TEST_CASE("PoolTable: a pin that meets a closing, anywhere, has the pool or is refused") {
  bool happened = true;
  for (int n = 0; happened; ++n) {
    TestTable<Hooked> table;
    auto* const core = reinterpret_cast<ion::internal::PoolCore<Hooked>*>(uintptr_t{64});
    const uint32_t id = table->Open(core, 1);
    bool pinned = false;
    std::jthread closer;
    {
      Interruption between(n, [&] {
        closer = std::jthread([&] { table->Close(id); });
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      });
      pinned = table->Pin(id, 1) != nullptr;
      happened = between.happened();
    }
    if (pinned) table->Unpin(id);
    if (closer.joinable()) closer.join();
    if (!happened) table->Close(id);
    CHECK(table->Pin(id, 1) == nullptr);
  }
}

TEST_CASE("PoolTable: a record that its thread gave up is taken again, one that is owned is not") {
  TestTable table;
  Record* first = table->TakeRecord();
  Record* second = table->TakeRecord();
  REQUIRE(first != nullptr);
  REQUIRE(second != nullptr);
  CHECK(first != second);
  CHECK(table.CountRecords() == 2);
  first->owned.store(0, std::memory_order_release);
  CHECK(table->TakeRecord() == first);
  CHECK(table.CountRecords() == 2);
}

TEST_CASE("PoolTable: threads that take records at the same time have one each") {
  constexpr int kThreads = 4;
  TestTable table;
  std::vector<Record*> taken(kThreads);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (Record*& record : taken) threads.emplace_back([&] { record = table->TakeRecord(); });
    threads.clear();
    CHECK(std::set<Record*>(taken.begin(), taken.end()).size() == kThreads);
    for (Record* record : taken) record->owned.store(0, std::memory_order_release);
  }
  CHECK(table.CountRecords() <= kThreads);
}

TEST_CASE("PoolTable: where there is no memory for a record, nullptr") {
  CHECK(RunInChild([] {
          auto* table = ion::internal::Table<Policy>();
          const rlimit none{1, 1};
          if (::setrlimit(RLIMIT_AS, &none) != 0) return "no limit";
          return table->TakeRecord() == nullptr ? "" : "a record out of nothing";
        }).text == "");
}

TEST_CASE("ThreadRecord: magazines lie apart, in lines of their own, and inside") {
  CHECK(Record::Offset(0) >= sizeof(Record));
  for (uint32_t id = 0; id < kMaxPools; ++id) {
    REQUIRE(Record::Offset(id) % 64 == 0);
    REQUIRE(Record::Offset(id) + sizeof(ion::Magazine<Policy>) <= Record::Offset(id + 1));
  }
  CHECK(Record::Offset(kMaxPools) == Record::Bytes());
}

TEST_CASE("ThreadRecord: those that were bound are visited, each once, from the lowest") {
  TestTable table;
  Record* record = table->TakeRecord();
  REQUIRE(record != nullptr);
  const std::vector<uint32_t> ids = {0, 1, 63, 64, 500, kMaxPools - 1};
  for (uint32_t id : ids) {
    record->bound[id / 64].fetch_or(uint64_t{1} << id % 64, std::memory_order_release);
  }
  std::vector<uint32_t> visited;
  record->ForEachBound([&](uint32_t id, ion::Magazine<Policy>& magazine) {
    visited.push_back(id);
    CHECK(&magazine == &record->At(Record::Offset(id)));
  });
  CHECK(visited == ids);
  uint32_t bound = 0;
  for (uint32_t id = 0; id < kMaxPools; ++id) bound += record->IsBound(id) ? 1 : 0;
  CHECK(bound == ids.size());
}

TEST_CASE("ThreadRecord: in a forked child the table is empty, and a record must be linked again") {
  TestTable table;
  Record* record = table->TakeRecord();
  const uint32_t id = table->Open(Core(1), 5);
  record->bound[0].fetch_or(1, std::memory_order_release);
  CHECK(RunInChild([&] {
          if (table.CountRecords() != 0) return "a record of the parent's is linked";
          if (record->linked.load(std::memory_order_relaxed) != 0) return "not known as wiped";
          if (record->IsBound(0)) return "a magazine of the parent's is bound";
          if (table->Pin(id, 5) != nullptr) return "a pool of the parent's lives";
          table->Link(*record);
          if (table.CountRecords() != 1) return "not linked";
          return table->TakeRecord() != record ? "" : "taken from its owner";
        }).text == "");
  CHECK(table.CountRecords() == 1);
}

struct Apart : ion::MagazinePolicy {};

TEST_CASE("Statics: one table for a policy, however many threads ask first") {
  constexpr int kThreads = 4;
  std::vector<ion::internal::PoolTable<Apart>*> tables(kThreads);
  {
    std::vector<std::jthread> threads;
    threads.reserve(kThreads);
    for (auto*& table : tables)
      threads.emplace_back([&] { table = ion::internal::Table<Apart>(); });
  }
  CHECK(tables[0] != nullptr);
  for (auto* table : tables) CHECK(table == tables[0]);
  CHECK(static_cast<void*>(tables[0]) != static_cast<void*>(ion::internal::Table<Policy>()));
}

TEST_CASE("Statics: a thread that has no record yet has nobody's, where no magazine is entered") {
  using Statics = ion::internal::Statics<Apart>;
  auto* const record = Statics::record;
  REQUIRE(record == &Statics::nobodys.record);
  for (const uint32_t id : {0u, 1u, kMaxPools - 1}) {
    auto& magazine = record->At(record->Offset(id));
    CHECK_FALSE(magazine.Enter(ion::Magazine<Apart>::OpenGate(1)));
    CHECK_FALSE(magazine.Claim(ion::Magazine<Apart>::OpenGate(1)));
    CHECK_FALSE(magazine.busy());
    CHECK_FALSE(record->IsBound(id));
  }
  CHECK(sizeof(Statics::nobodys) >= record->Bytes());
}

}  // namespace
