// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A random machine over a Manager with pools and a carveout, beside a model of it: clients that
// come and go, leases, handles, shares, imports, mappings, trims and reports, in any order. The
// model knows which memory is behind each of them, and whose bytes it holds. What it does depends
// on the seed alone.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

using B = MemfdBackend<>;
constexpr HeapId kCarveoutId{2};
constexpr HeapSpec kCarveout{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB};
constexpr PoolSpec PoolsThatZero(Scrub when) {
  return {.capacity_bytes = 8_MiB,
          .capacity_blocks = 40,
          .high_bytes = 4_MiB,
          .low_bytes = 1_MiB,
          .age_ticks = 2,
          .largest_bytes = 2_MiB,
          .scrub = when};
}
template <Scrub kWhen>
using ManagerThatZeros =
    Manager<B, PooledHeap<SystemHeap<B>, PoolsThatZero(kWhen)>, CarveoutHeap<B, kCarveout>>;

// One piece of memory, whatever leads to it.
struct Memory {
  uint64_t bytes;
  std::string domain;  // which wrote to it last
  uint64_t tag = 0;    // what is at its Spots; 0: not known
};
using MemoryRef = std::shared_ptr<Memory>;

std::array<uint64_t, 3> Spots(uint64_t bytes) { return {0, bytes / 16 * 8, bytes - 8}; }
uint64_t WordAt(std::span<const std::byte> bytes, uint64_t at) {
  uint64_t word;
  std::memcpy(&word, bytes.data() + at, sizeof(word));
  return word;
}

template <class M>
class Machine {
 public:
  explicit Machine(uint64_t seed) : random_(seed) {
    B::Options options;
    options.budget = budget_;
    options.errors = errors_;
    auto manager = M::Open(options);
    REQUIRE(manager.ok());
    manager_.emplace(*std::move(manager));
    for (size_t i = 0; i < clients_.size(); ++i) Reopen(i);
  }

  void Run(int steps) {
    for (step_ = 0; step_ < steps; ++step_) {
      CAPTURE(step_);
      Step(Any(100));
      for (const User& user : clients_) CHECK(user.client->held_bytes() <= user.quota);
    }
  }
  // Ends in either order; then nothing is left.
  void End() {
    mappings_.clear();
    leases_.clear();
    shares_.clear();
    for (User& user : clients_) user.client.reset();
    manager_.reset();
    CHECK(budget_->held() == 0);
    CHECK(errors_->count() == 0);
  }

 private:
  using Client = typename M::Client;

  struct Held {
    Handle handle;
    MemoryRef memory;
    uint32_t count;
    bool imported;
  };
  struct User {
    std::optional<Client> client = std::nullopt;
    uint32_t life = 0;
    uint64_t quota = 0;
    std::string domain = {};
    bool as_is = false;
    std::vector<Held> handles = {};
    std::vector<Handle> freed = {};
  };
  struct Lease {
    Buffer buffer;
    MemoryRef memory;
    size_t user;
    uint32_t life;  // of the user, at the time
  };
  struct Mapped {
    ReadOnlyMapping mapping;
    MemoryRef memory;
  };
  struct Shared {
    UniqueFd fd;
    MemoryRef memory;
  };

  uint64_t Any(uint64_t below) { return random_() % below; }
  bool Sometimes(uint64_t one_in) { return Any(one_in) == 0; }
  User& AnyUser() { return clients_[Any(clients_.size())]; }

  void Step(uint64_t dice) {
    if (dice < 26) return Allocate();
    if (dice < 40) return Release();
    if (dice < 50) return Keep();
    if (dice < 58) return Share();
    if (dice < 62) return CloseShare();
    if (dice < 70) return Import();
    if (dice < 80) return Free();
    if (dice < 91) return Map();
    if (dice < 95) return Tick();
    if (dice < 99) return Report();
    Reopen(Any(clients_.size()));
  }

  void Reopen(size_t at) {
    User& user = clients_[at];
    user.client.reset();
    user = {.life = user.life + 1,
            .quota = (1 + Any(4)) * 1_MiB,
            .domain = Sometimes(8) ? ""
                      : at == 0    ? "viewer"
                                   : "capture",
            .as_is = Sometimes(2)};
    auto client = manager_->CreateClient({.name = "user",
                                          .quota_bytes = user.quota,
                                          .exact_quota = true,
                                          .domain = user.domain,
                                          .recycle_as_is = user.as_is});
    REQUIRE(client.ok());
    user.client.emplace(*std::move(client));
    if (user.domain.empty()) user.domain = "alone " + std::to_string(next_tag_++);
  }

  void Allocate() {
    constexpr uint64_t kBytes[] = {1,     4095,  4096,  4097,  8192,  12288,     16384,
                                   16385, 40960, 65536, 1_MiB, 2_MiB, 2_MiB + 1, 115'200};
    constexpr uint64_t kBad[] = {0,        UINT64_MAX, UINT64_MAX - 4095,      uint64_t{1} << 63,
                                 4096_GiB, 65536_GiB,  (uint64_t{1} << 50) + 1};
    const size_t at = Any(clients_.size());
    User& user = clients_[at];
    Request request{.bytes = kBytes[Any(std::size(kBytes))]};
    const uint64_t held = user.client->held_bytes();
    const uint64_t dice = Any(16);
    if (dice == 0) request.bytes = kBad[Any(std::size(kBad))];
    if (dice == 1) request.alignment = Sometimes(2) ? 0 : 3;
    if (dice == 2) request.heaps = HeapMask(kCarveoutId);
    if (dice == 3) request.heaps = kCarveoutId | HeapId{0};
    absl::StatusOr<Buffer> buffer = user.client->Allocate(request);
    if (dice < 2) REQUIRE_FALSE(buffer.ok());
    if (!buffer.ok()) {
      CHECK(ErrnoOf(buffer.status()) != 0);
      CHECK(user.client->held_bytes() == held);
      return;
    }
    CHECK(buffer->bytes() >= request.bytes);
    CHECK(IsPageAligned(buffer->bytes()));
    CHECK(user.client->held_bytes() == held + buffer->bytes());
    auto memory = std::make_shared<Memory>(Memory{buffer->bytes(), user.domain});
    LookAtFresh(*buffer, user);
    if (Sometimes(2)) Write(*buffer, *memory);
    leases_.push_back({*std::move(buffer), std::move(memory), at, user.life});
  }
  // Nobody sees another domain's bytes, and only who asked for it its own.
  void LookAtFresh(const Buffer& buffer, const User& user) {
    if (!user.as_is) CHECK(buffer.properties().zeroed);
    const auto mapping = ReadOnlyMapping::Of(buffer);
    REQUIRE(mapping.ok());
    const auto cpu = CpuRead::Begin(*mapping);
    REQUIRE(cpu.ok());
    for (const uint64_t at : Spots(buffer.bytes())) {
      const uint64_t found = WordAt(cpu->bytes(), at);
      if (found == 0) continue;
      CHECK_FALSE(buffer.properties().zeroed);
      CHECK(writers_[found] == user.domain);
    }
  }
  void Write(const Buffer& buffer, Memory& memory) {
    const auto mapping = WritableMapping::Of(buffer);
    REQUIRE(mapping.ok());
    auto cpu = CpuWrite::Begin(*mapping);
    REQUIRE(cpu.ok());
    memory.tag = next_tag_++;
    writers_[memory.tag] = memory.domain;
    for (const uint64_t at : Spots(memory.bytes)) {
      std::memcpy(cpu->bytes().data() + at, &memory.tag, sizeof(memory.tag));
    }
    CHECK(std::move(*cpu).End().ok());
  }
  template <class Mapping>
  void Look(const Mapping& mapping, const Memory& memory) {
    if (memory.tag == 0) return;
    for (const uint64_t at : Spots(memory.bytes)) {
      CHECK(WordAt(mapping.unsynced(), at) == memory.tag);
    }
  }

  auto AnyLease() { return std::next(leases_.begin(), static_cast<long>(Any(leases_.size()))); }
  void EndMappings(const MemoryRef& memory) {
    for (const Mapped& mapped : mappings_) Look(mapped.mapping, *mapped.memory);
    mappings_.remove_if([&](const Mapped& mapped) { return mapped.memory == memory; });
  }
  void Release() {
    if (leases_.empty()) return;
    const auto lease = AnyLease();
    EndMappings(lease->memory);
    if (Sometimes(6)) std::jthread([&] { lease->buffer = Buffer(); }).join();
    leases_.erase(lease);
  }
  void Keep() {
    if (leases_.empty()) return;
    const auto lease = AnyLease();
    const size_t at = Sometimes(4) ? Any(clients_.size()) : lease->user;
    User& user = clients_[at];
    auto handle = user.client->MakeHandle(std::move(lease->buffer));
    if (at != lease->user || user.life != lease->life) {
      CHECK_FALSE(handle.ok());
      CHECK(lease->buffer.valid());
      return;
    }
    REQUIRE(handle.ok());
    user.handles.push_back({*handle, lease->memory, 1, false});
    leases_.erase(lease);
  }
  void Share() {
    User& user = AnyUser();
    if (user.handles.empty() || shares_.size() > 30) return;
    const Held& held = user.handles[Any(user.handles.size())];
    const auto info = user.client->Info(held.handle);
    REQUIRE(info.ok());
    CHECK(info->bytes == held.memory->bytes);
    auto fd = user.client->Share(held.handle);
    CHECK(fd.ok() == (info->heap != kCarveoutId));
    if (fd.ok()) shares_.push_back({*std::move(fd), held.memory});
  }
  void CloseShare() {
    if (shares_.empty()) return;
    std::swap(shares_[Any(shares_.size())], shares_.back());
    shares_.pop_back();
  }
  void Import() {
    if (shares_.empty()) return;
    User& user = AnyUser();
    const Shared& shared = shares_[Any(shares_.size())];
    const auto handle = user.client->Import(shared.fd.borrow());
    if (!handle.ok()) {
      CHECK(ErrnoOf(handle.status()) == EDQUOT);
      return;
    }
    for (Held& held : user.handles) {
      if (held.handle == *handle) {
        CHECK(held.memory == shared.memory);
        ++held.count;
        return;
      }
      CHECK(held.memory != shared.memory);
    }
    user.handles.push_back({*handle, shared.memory, 1, true});
    const auto mapping = user.client->template Map<MapMode::kReadOnly>(*handle);
    REQUIRE(mapping.ok());
    Look(*mapping, *shared.memory);
  }
  void Free() {
    User& user = AnyUser();
    if (!user.freed.empty() && Sometimes(3)) {
      CHECK_FALSE(user.client->Free(user.freed[Any(user.freed.size())]).ok());
      return;
    }
    const User& other = AnyUser();
    if (&other != &user && !other.handles.empty() && Sometimes(6)) {
      CHECK_FALSE(user.client->Free(other.handles[Any(other.handles.size())].handle).ok());
      return;
    }
    if (user.handles.empty()) return;
    const size_t at = Any(user.handles.size());
    Held& held = user.handles[at];
    const auto info = user.client->Info(held.handle);
    REQUIRE(info.ok());
    CHECK(info->count == held.count);
    EndMappings(held.memory);
    CHECK(user.client->Free(held.handle).ok());
    if (--held.count > 0) return;
    CHECK_FALSE(user.client->Info(held.handle).ok());
    user.freed.push_back(held.handle);
    user.handles.erase(user.handles.begin() + static_cast<long>(at));
  }
  void Map() {
    constexpr MapRange kBad[] = {{1, 4096}, {0, 0}, {UINT64_MAX, 1}, {4096, UINT64_MAX - 4096}};
    if (mappings_.size() > 20) return mappings_.pop_front();
    if (!leases_.empty() && Sometimes(2)) {
      const auto lease = AnyLease();
      if (Sometimes(8)) {
        CHECK_FALSE(ReadOnlyMapping::Of(lease->buffer, kBad[Any(std::size(kBad))]).ok());
        return;
      }
      auto mapping = ReadOnlyMapping::Of(lease->buffer);
      REQUIRE(mapping.ok());
      Look(*mapping, *lease->memory);
      if (Sometimes(2)) Write(lease->buffer, *lease->memory);
      mappings_.push_back({*std::move(mapping), lease->memory});
      return;
    }
    User& user = AnyUser();
    if (user.handles.empty()) return;
    const Held& held = user.handles[Any(user.handles.size())];
    auto mapping = user.client->template Map<MapMode::kReadOnly>(held.handle);
    REQUIRE(mapping.ok());
    Look(*mapping, *held.memory);
    mappings_.push_back({*std::move(mapping), held.memory});
  }
  void Tick() {
    switch (Any(4)) {
      case 0:
        return manager_->Tick();
      case 1:
        return (void)manager_->Trim(Any(2_MiB));
      case 2:
        return (void)manager_->Trim();
      default:
        for (int i = 0; i < 5; ++i) manager_->Tick();
    }
  }
  // Whatever is alive is told of, and a text has a line for it.
  void Report() {
    const ion::Report report = manager_->MakeReport();
    uint64_t told = 0, known = 0;
    for (const BufferReport& buffer : report.buffers) {
      if (buffer.heap.has_value()) told += buffer.bytes;
    }
    std::vector<const Memory*> seen;
    const auto add = [&](const Memory& memory) {
      if (std::ranges::find(seen, &memory) != seen.end()) return;
      seen.push_back(&memory);
      known += memory.bytes;
    };
    for (const Lease& lease : leases_) add(*lease.memory);
    for (const User& user : clients_) {
      for (const Held& held : user.handles) {
        if (!held.imported) add(*held.memory);
      }
    }
    CHECK(told >= known);
    CHECK(HeapText(report, HeapId{0}).find("total") != std::string::npos);
  }

  std::mt19937_64 random_;
  int step_ = 0;
  uint64_t next_tag_ = 1;
  std::map<uint64_t, std::string> writers_;  // by tag
  std::shared_ptr<Budget> budget_ = std::make_shared<Budget>(64_MiB);
  std::shared_ptr<ErrorSink> errors_ = std::make_shared<ErrorSink>();
  std::optional<M> manager_;
  std::array<User, 3> clients_;
  std::list<Lease> leases_;
  std::list<Mapped> mappings_;
  std::vector<Shared> shares_;
};

template <class M>
void RunSeeds(uint64_t from, uint64_t to) {
  for (uint64_t seed = from; seed < to; ++seed) {
    CAPTURE(seed);
    const LeakCheck leaks;
    Machine<M> machine(seed);
    machine.Run(1500);
    machine.End();
  }
}

TEST_CASE("Manager: beside a model, in any order, with pools that zero on allocation") {
  RunSeeds<ManagerThatZeros<Scrub::kOnAllocate>>(0, 10);
}
TEST_CASE("Manager: beside a model, in any order, with pools that zero on free") {
  RunSeeds<ManagerThatZeros<Scrub::kOnFree>>(10, 20);
}
TEST_CASE("Manager: beside a model, in any order, with pools that zero at a tick") {
  RunSeeds<ManagerThatZeros<Scrub::kBackground>>(20, 30);
}

}  // namespace
}  // namespace ion::testing
