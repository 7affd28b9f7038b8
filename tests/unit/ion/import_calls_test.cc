// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a client asks the kernel for when memory comes and goes by descriptors, call by call; and that
// it finds the right memory with so few.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/counting_syscalls.h"
#include "bench/pooled_memfd.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/client.h"
#include "ion/client_ref.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/shared_buffer.h"
#include "tests/support/open_files.h"

namespace ion::testing {
namespace {

using Counted = MemfdBackend<bench::CountingSyscalls>;
using Memfds = Manager<Counted, bench::UnclaimedMemfd<HeapId{0}, Counted>>;

// A Manager and a client of it, and a count of its calls.
struct Side {
  Side() {
    auto opened = Memfds::Open({.sys = bench::CountingSyscalls(calls)});
    REQUIRE(opened.ok());
    manager.emplace_back(*std::move(opened));
    auto created = manager[0].CreateClient({.name = "side"});
    REQUIRE(created.ok());
    clients.push_back(*std::move(created));
  }
  Memfds::Client& client() { return clients[0]; }
  // The calls since the last time.
  uint64_t Calls() { return std::exchange(calls, 0); }

  uint64_t calls = 0;
  std::vector<Memfds> manager;
  std::vector<Memfds::Client> clients;
};

UniqueFd CopyOf(FdRef fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }

// Another open file of the same memory.
UniqueFd ReopenedForReading(FdRef fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  return UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
}

std::byte FirstByte(Side& side, const Handle& handle) {
  const auto mapping = side.client().Map<MapMode::kReadOnly>(handle);
  REQUIRE(mapping.ok());
  return mapping->unsynced()[0];
}

void Fill(const SharedBuffer& buffer, std::byte value) {
  const auto mapping = WritableMapping::Of(buffer);
  REQUIRE(mapping.ok());
  auto cpu = CpuWrite::Begin(*mapping);
  REQUIRE(cpu.ok());
  cpu->bytes()[0] = value;
}

// --- a ring that comes in order ------------------------------------------------------------------

TEST_CASE("memory that is known, and comes in its order, is found by one call") {
  constexpr uint32_t kRing = 4;
  Side owner, peer;
  auto ring = owner.client().AllocateShared({.bytes = PageBytes()}, kRing);
  REQUIRE(ring.ok());
  std::vector<Handle> known;
  for (uint32_t i = 0; i < kRing; ++i) {
    Fill((*ring)[i], static_cast<std::byte>(i + 1));
    const auto handle = peer.client().Import((*ring)[i].fd());
    REQUIRE(handle.ok());
    known.push_back(*handle);
  }
  const auto import = [&](uint32_t i) {
    const auto handle = peer.client().Import((*ring)[i].fd());
    REQUIRE(handle.ok());
    CHECK(*handle == known[i]);
    CHECK(FirstByte(peer, *handle) == static_cast<std::byte>(i + 1));
    CHECK(peer.client().Free(*handle).ok());
  };
  // The order was learned as they came, and is believed once it came true.
  for (uint32_t i = 0; i < kRing; ++i) import(i);
  peer.Calls();
  for (uint32_t i = 0; i < 3 * kRing; ++i) {
    import(i % kRing);
    CHECK(peer.Calls() == 1);
  }
  // Another order: the memory is the right one each time, and after one wrong guess nothing is
  // guessed until the order is seen to be one.
  const std::array<uint32_t, 10> strange{3, 3, 0, 2, 1, 0, 3, 1, 2, 2};
  uint64_t most = 0;
  for (const uint32_t i : strange) {
    import(i);
    most = std::max(most, peer.Calls());
  }
  CHECK(most == 4);  // a wrong guess, F_GET_SEALS, fstat, and a proof that it is the same
  // One that is expected and was freed meanwhile is not found.
  for (uint32_t i = 0; i < 2 * kRing; ++i) import(i % kRing);
  CHECK(peer.client().Free(known[0]).ok());
  const auto again = peer.client().Import((*ring)[0].fd());
  REQUIRE(again.ok());
  CHECK(*again != known[0]);
  CHECK(FirstByte(peer, *again) == std::byte{1});
}

TEST_CASE(
    "a descriptor that may only be read does not take the place of the one that is expected") {
  Side owner, peer;
  auto buffer = owner.client().AllocateShared({.bytes = PageBytes()});
  REQUIRE(buffer.ok());
  const UniqueFd reading = ReopenedForReading(buffer->fd());
  REQUIRE(reading.valid());
  const auto first = peer.client().Import(reading.borrow());
  REQUIRE(first.ok());
  CHECK_FALSE(peer.client().Map<MapMode::kWritable>(*first).ok());
  for (int i = 0; i < 4; ++i) {
    const auto same = peer.client().Import(reading.borrow());
    REQUIRE(same.ok());
    CHECK(*same == *first);
  }
  // The better descriptor comes, and is taken.
  const auto better = peer.client().Import(buffer->fd());
  REQUIRE(better.ok());
  CHECK(*better == *first);
  CHECK(peer.client().Map<MapMode::kWritable>(*first).ok());

  // The same for one that came in the place of another, which was expected and has gone.
  auto other = owner.client().AllocateShared({.bytes = PageBytes()});
  REQUIRE(other.ok());
  Side late;
  for (int i = 0; i < 4; ++i) CHECK(late.client().Import(buffer->fd()).ok());
  const auto expected = late.client().Import(buffer->fd());
  REQUIRE(expected.ok());
  for (int i = 0; i < 5; ++i) CHECK(late.client().Free(*expected).ok());
  const auto instead = late.client().Import(ReopenedForReading(other->fd()));
  REQUIRE(instead.ok());
  CHECK(late.client().Import(other->fd()).value() == *instead);
  CHECK(late.client().Map<MapMode::kWritable>(*instead).ok());
}

// --- a descriptor that is given away -------------------------------------------------------------

TEST_CASE("a descriptor that is given away is not copied") {
  Side owner, peer;
  auto buffer = owner.client().AllocateShared({.bytes = 2 * PageBytes()});
  REQUIRE(buffer.ok());
  Fill(*buffer, std::byte{7});
  const std::string before = DescriptorLines();
  UniqueFd fd = CopyOf(buffer->fd());
  const int number = fd.get();
  peer.Calls();
  const auto handle = peer.client().Import(std::move(fd));
  REQUIRE(handle.ok());
  CHECK(peer.Calls() == 3);  // F_GET_SEALS, fstat, F_GETFL
  CHECK(::fcntl(number, F_GETFD) >= 0);
  CHECK(FirstByte(peer, *handle) == std::byte{7});
  const auto info = peer.client().Info(*handle);
  REQUIRE(info.ok());
  CHECK(info->bytes == 2 * PageBytes());
  CHECK(info->properties.cached.yes());

  // Known memory: the descriptor is closed.
  for (int i = 0; i < 4; ++i) {
    const auto same = peer.client().Import(CopyOf(buffer->fd()));
    REQUIRE(same.ok());
    CHECK(*same == *handle);
    CHECK(peer.client().Free(*same).ok());
  }
  CHECK(peer.client().Free(*handle).ok());
  CHECK(DescriptorLines() == before);
}

TEST_CASE("a descriptor that is given away and refused is closed") {
  Side owner;
  auto limited = owner.manager[0].CreateClient({.name = "limited", .max_buffers = 0});
  REQUIRE(limited.ok());
  auto buffer = owner.client().AllocateShared({.bytes = PageBytes()});
  REQUIRE(buffer.ok());
  const std::string before = DescriptorLines();
  CHECK(limited->Import(CopyOf(buffer->fd())).status().code() ==
        absl::StatusCode::kResourceExhausted);
  CHECK_FALSE(owner.client().Import(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC))).ok());
  CHECK_FALSE(owner.client().Import(UniqueFd()).ok());
  // A memfd that its owner may cut.
  UniqueFd unsealed(::memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::ftruncate(unsealed.get(), 4096) == 0);
  CHECK_FALSE(owner.client().Import(std::move(unsealed)).ok());
  CHECK(DescriptorLines() == before);
  const ClientRef ref = owner.client();
  const auto known = ref.Import(CopyOf(buffer->fd()));
  REQUIRE(known.ok());
  CHECK(*known == buffer->handle());
  CHECK(DescriptorLines() == before);
}

// --- a descriptor that is lent -------------------------------------------------------------------

TEST_CASE("lending a handle's descriptor makes no call, and keeps the memory meanwhile") {
  Side owner;
  auto lease = owner.client().Allocate({.bytes = PageBytes()});
  REQUIRE(lease.ok());
  const auto handle = owner.client().MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  owner.Calls();
  const std::string before = DescriptorLines();
  absl::Status status = owner.client().Lend(*handle, [&](FdRef fd) {
    CHECK(owner.Calls() == 0);
    CHECK(::fcntl(fd.get(), F_GETFD) >= 0);
    CHECK(DescriptorLines() == before);
    // Freed, as by another thread.
    CHECK(owner.client().Free(*handle).ok());
    CHECK(::fcntl(fd.get(), F_GETFD) >= 0);
    return absl::AbortedError("as f says");
  });
  CHECK(status.code() == absl::StatusCode::kAborted);
  // With the loan the last count has gone.
  CHECK_FALSE(owner.client().Info(*handle).ok());
  CHECK(DescriptorLines() != before);
  bool called = false;
  const ClientRef ref = owner.client();
  CHECK_FALSE(ref.Lend(*handle,
                       [&](FdRef) {
                         called = true;
                         return absl::OkStatus();
                       })
                  .ok());
  CHECK_FALSE(called);
}

TEST_CASE("a descriptor that may be replaced meanwhile is lent as a copy") {
  Side owner, peer;
  auto buffer = owner.client().AllocateShared({.bytes = PageBytes()});
  REQUIRE(buffer.ok());
  const auto handle = peer.client().Import(ReopenedForReading(buffer->fd()));
  REQUIRE(handle.ok());
  const absl::Status status = peer.client().Lend(*handle, [&](FdRef fd) {
    // The import closes the one that may only be read.
    CHECK(peer.client().Import(buffer->fd()).ok());
    CHECK(::fcntl(fd.get(), F_GETFL) >= 0);
    CHECK((::fcntl(fd.get(), F_GETFL) & O_ACCMODE) == O_RDONLY);
    return absl::OkStatus();
  });
  CHECK(status.ok());
}

// --- mappings ------------------------------------------------------------------------------------

TEST_CASE("a handle that is freed on another thread while it is mapped gives its memory back") {
  Side owner;
  std::vector<Handle> handles;
  std::atomic<uint32_t> mapped{0};
  constexpr uint32_t kHandles = 200;
  for (uint32_t i = 0; i < kHandles; ++i) {
    auto lease = owner.client().Allocate({.bytes = PageBytes()});
    REQUIRE(lease.ok());
    const auto handle = owner.client().MakeHandle(*std::move(lease));
    REQUIRE(handle.ok());
    handles.push_back(*handle);
  }
  std::thread freeing([&] {
    for (uint32_t i = 0; i < kHandles; ++i) {
      while (mapped.load() <= i) {
      }
      CHECK(owner.client().Free(handles[i]).ok());
    }
  });
  for (uint32_t i = 0; i < kHandles; ++i) {
    const auto first = owner.client().Map<MapMode::kReadOnly>(handles[i]);
    REQUIRE(first.ok());
    mapped.store(i + 1);
    while (owner.client().Map<MapMode::kReadOnly>(handles[i]).ok()) {
    }
  }
  freeing.join();
  CHECK(owner.manager[0].MakeReport().buffers.empty());
}

}  // namespace
}  // namespace ion::testing
