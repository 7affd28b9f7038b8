// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Shared buffers, over every backend that opens here.

#include "ion/shared_buffer.h"

#include <fcntl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <latch>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/cpu_copy.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/linux.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/open_files.h"
#include "tests/support/setting.h"

namespace ion::testing {
namespace {

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST_CASE_TEMPLATE("SharedBuffer: it knows its size and its descriptor, and frees itself", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  int number = -1;
  {
    const SharedBuffer buffer = s.Shared(100'000);
    CHECK(buffer.valid());
    CHECK(buffer.bytes() == *RoundUpToPages(100'000));
    number = buffer.fd().get();
    CHECK(IsOpen(number));
    CHECK((::fcntl(number, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(s.client->held_bytes() == buffer.bytes());
    CHECK(s.client->Info(buffer.handle())->count == 1);
  }
  CHECK_FALSE(IsOpen(number));
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.manager->MakeReport().buffers.empty());
}

TEST_CASE_TEMPLATE("SharedBuffer: mapping it is the act that a lease has, and may outlive it", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  std::optional<SharedBuffer> buffer(s.Shared());
  REQUIRE(CopyTo(*buffer, std::as_bytes(std::span("through the buffer"))).ok());
  const absl::StatusOr<ReadOnlyMapping> mapping = ReadOnlyMapping::Of(*buffer);
  REQUIRE(Told(mapping.status()) == "ok");
  CHECK(mapping->bytes() == buffer->bytes());
  const auto page = WritableMapping::Of(*buffer, {.offset = PageBytes(), .bytes = PageBytes()});
  REQUIRE(Told(page.status()) == "ok");
  CHECK(ErrnoOf(WritableMapping::Of(*buffer, {.offset = 64_KiB}).status()) == EINVAL);
  buffer.reset();
  char text[8] = {};
  CHECK(CopyFrom(*mapping, std::as_writable_bytes(std::span(text)).first(7)).ok());
  CHECK(std::string_view(text) == "through");
}

TEST_CASE_TEMPLATE("SharedBuffer: its descriptor leads to the same memory, also for its client", M,
                   EVERY_BACKEND) {
  const LeakCheck leaks;
  Setting<M> s;
  if (!s.client) return;
  const SharedBuffer buffer = s.Shared();
  const absl::StatusOr<Handle> handle = s.client->Import(buffer.fd());
  REQUIRE(Told(handle.status()) == "ok");
  CHECK(*handle == buffer.handle());
  CHECK(s.client->held_bytes() == buffer.bytes());
  CHECK(s.client->Free(*handle).ok());
}

TEST_CASE("SharedBuffer: many are allocated, or none") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "camera", .quota_bytes = 256_KiB, .exact_quota = true});
  {
    const auto ring = s.client->AllocateShared({.bytes = 64_KiB}, 4);
    REQUIRE(Told(ring.status()) == "ok");
    CHECK(ring->size() == 4);
    CHECK(s.client->held_bytes() == 256_KiB);
    for (const SharedBuffer& buffer : *ring) CHECK(buffer.bytes() == 64_KiB);
  }
  const std::string before = DescriptorLines();
  CHECK(ErrnoOf(s.client->AllocateShared({.bytes = 64_KiB}, 5).status()) == EDQUOT);
  CHECK(s.client->held_bytes() == 0);
  CHECK(DescriptorLines() == before);
  CHECK(s.client->AllocateShared({.bytes = 64_KiB}, 0)->empty());
  CHECK(ErrnoOf(s.client->AllocateShared({.bytes = 64_KiB}, UINT32_MAX).status()) == EDQUOT);
}

TEST_CASE("SharedBuffer: an empty one has nothing, and mapping it is an error") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  SharedBuffer empty;
  SharedBuffer full = s.Shared();
  const int number = full.fd().get();
  const SharedBuffer moved = std::move(full);
  CHECK(moved.fd().get() == number);
  for (const SharedBuffer* buffer : {&empty, &full}) {  // NOLINT: this is the point
    CHECK_FALSE(buffer->valid());
    CHECK(buffer->bytes() == 0);
    CHECK(buffer->fd() == FdRef());
    CHECK(buffer->handle() == Handle());
    const absl::Status status = ReadOnlyMapping::Of(*buffer).status();
    CHECK(ErrnoOf(status) == EINVAL);
    CHECK(Told(status) ==
          "client: map (an empty SharedBuffer): EINVAL: it was moved from, or its Client has "
          "ended");
  }
}

TEST_CASE("SharedBuffer: an assignment frees the former memory") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  SharedBuffer buffer = s.Shared(64_KiB);
  buffer = s.Shared(128_KiB);
  CHECK(s.client->held_bytes() == 128_KiB);
  buffer = SharedBuffer();
  CHECK(s.client->held_bytes() == 0);
}

TEST_CASE("SharedBuffer: after its Client's end it is empty and harmless") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  std::optional<SharedBuffer> buffer(s.Shared());
  absl::StatusOr<WritableMapping> mapping = WritableMapping::Of(*buffer);
  REQUIRE(mapping.ok());
  s.client.reset();
  CHECK_FALSE(buffer->valid());
  CHECK(buffer->bytes() == 0);
  CHECK(buffer->fd() == FdRef());
  CHECK(ErrnoOf(ReadOnlyMapping::Of(*buffer).status()) == EINVAL);
  // Another client gets the slot of the first one's account.
  auto next = s.manager->CreateClient({.name = "next"});
  REQUIRE(next.ok());
  const auto others = next->AllocateShared({.bytes = 64_KiB});
  REQUIRE(others.ok());
  SUBCASE("when it ends before the Manager") { buffer.reset(); }
  SUBCASE("when it ends after the Manager") {
    mapping = absl::CancelledError();
    s.manager.reset();
    buffer.reset();
  }
  CHECK(others->valid());
  CHECK(next->held_bytes() == 64_KiB);
  CHECK(next->Info(others->handle()).ok());
}

TEST_CASE("SharedBuffer: a handle that its user freed is not freed again") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  std::optional<SharedBuffer> buffer(s.Shared());
  CHECK(s.client->Free(buffer->handle()).ok());
  const SharedBuffer next = s.Shared();
  CHECK(ErrnoOf(ReadOnlyMapping::Of(*buffer).status()) == EINVAL);
  buffer.reset();
  CHECK(s.client->held_bytes() == 64_KiB);
  CHECK(s.client->Info(next.handle()).ok());
}

TEST_CASE("SharedBuffer: in a forked child its end closes the child's descriptor, and no more") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  std::optional<SharedBuffer> buffer(s.Shared());
  const int number = buffer->fd().get();
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (!IsOpen(number)) return "the child has no copy";
    if (ErrnoOf(WritableMapping::Of(*buffer).status()) != EPERM) return "the child maps it";
    if (ErrnoOf(s.client->AllocateShared({.bytes = 4_KiB}).status()) != EPERM)
      return "it gets more";
    const size_t before = OpenDescriptors().size();
    buffer.reset();
    if (IsOpen(number)) return "the child's copy is open";
    if (OpenDescriptors().size() != before - 1) return "another was closed, too";
    s.client.reset();
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(IsOpen(number));
  CHECK(CopyTo(*buffer, std::as_bytes(std::span("still there"))).ok());
  CHECK(s.client->held_bytes() == 64_KiB);
}

TEST_CASE("SharedBuffer: in a forked child its end is the same after the child's Client's") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s;
  std::optional<SharedBuffer> buffer(s.Shared());
  const int number = buffer->fd().get();
  const ChildEnd end = RunInChild([&]() -> std::string {
    s.client.reset();
    s.manager.reset();
    buffer.reset();
    return IsOpen(number) ? "the child's copy is open" : "";
  });
  CHECK(end.text == "");
  CHECK(buffer->valid());
}

TEST_CASE("SharedBuffer: a range of a region that cannot be shared is refused, and given back") {
  static constexpr HeapSpec kRegion{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB};
  using B = MemfdBackend<>;
  const LeakCheck leaks;
  Setting<Manager<B, CarveoutHeap<B, kRegion>>> s;
  const auto shared = s.client->AllocateShared({.bytes = 1_MiB, .heaps = HeapId{2}});
  CHECK(ErrnoOf(shared.status()) == ENOTSUP);
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.client->Allocate({.bytes = 1_MiB, .heaps = HeapId{2}}).ok());
}

TEST_CASE("SharedBuffer: more handles than a client may have are refused, and nothing is lost") {
  const LeakCheck leaks;
  Setting<platforms::Memfd> s({.name = "camera", .max_handles = 2});
  const std::string before = DescriptorLines();
  CHECK(ErrnoOf(s.client->AllocateShared({.bytes = 4_KiB}, 3).status()) == EDQUOT);
  CHECK(s.client->held_bytes() == 0);
  CHECK(DescriptorLines() == before);
  CHECK(s.client->AllocateShared({.bytes = 4_KiB}, 2).ok());
}

TEST_CASE("SharedBuffer: memory that was in a pool is shared, and goes back to the kernel") {
  using B = MemfdBackend<>;
  const LeakCheck leaks;
  Setting<Manager<B, PooledHeap<SystemHeap<B>>>> s;
  { const auto lease = s.client->Allocate({.bytes = 64_KiB}); }
  { const SharedBuffer buffer = s.Shared(); }
  CHECK(s.client->held_bytes() == 0);
  CHECK(s.manager->Trim() == 0);
}

TEST_CASE("SharedBuffer: buffers end on one thread while their Client ends on another") {
  const LeakCheck leaks;
  for (int round = 0; round < 50; ++round) {
    Setting<platforms::Memfd> s;
    auto ring = s.client->AllocateShared({.bytes = 4_KiB}, 8);
    REQUIRE(ring.ok());
    std::latch both(2);
    std::thread other([&] {
      both.arrive_and_wait();
      ring->clear();
    });
    both.arrive_and_wait();
    s.client.reset();
    other.join();
    CHECK(s.manager->MakeReport().buffers.empty());
  }
}

}  // namespace
}  // namespace ion::testing
