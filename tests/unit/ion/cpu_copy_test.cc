// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Copies to and from device memory, in one call.

#include "ion/cpu_copy.h"

#include <linux/dma-buf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/buffer_of.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/platforms/heaps.h"
#include "ion/platforms/linux.h"
#include "ion/shared_buffer.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/leak_check.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

std::string Told(const absl::Status& status) {
  return status.ok() ? "ok" : std::string(status.message());
}
auto Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// What is written is read again, and what is beyond the memory is refused.
template <class M>
void CopyAround(const M& memory) {
  CHECK(Told(CopyTo(memory, Bytes("abcdefgh"))) == "ok");
  CHECK(Told(CopyTo(memory, Bytes("XY"), 3)) == "ok");
  std::array<char, 8> all{};
  CHECK(Told(CopyFrom(memory, std::as_writable_bytes(std::span(all)))) == "ok");
  CHECK(std::string_view(all.data(), all.size()) == "abcXYfgh");
  std::array<char, 2> part{};
  CHECK(Told(CopyFrom(memory, std::as_writable_bytes(std::span(part)), 4)) == "ok");
  CHECK(std::string_view(part.data(), part.size()) == "Yf");

  const uint64_t size = memory.bytes();
  size_t length = 0;
  CHECK(Told(ReadBytes(
            memory,
            [&](std::span<const std::byte> bytes) {
              length = bytes.size();
              CHECK(std::ranges::equal(bytes.first(2), Bytes("fg")));
            },
            5)) == "ok");
  CHECK(length == size - 5);
  // A function may own something that cannot be copied.
  CHECK(Told(ReadBytes(memory, [&length, one = std::make_unique<size_t>(1)](
                                   std::span<const std::byte>) { length = *one; })) == "ok");
  CHECK(length == 1);
  CHECK(Told(ReadBytes(
            memory, [&](std::span<const std::byte> bytes) { length = bytes.size(); }, size)) ==
        "ok");
  CHECK(length == 0);

  const auto refused = [](const absl::Status& status) { return ErrnoOf(status) == EINVAL; };
  CHECK(refused(CopyTo(memory, Bytes("12"), size - 1)));
  CHECK(refused(CopyTo(memory, {}, size + 1)));
  CHECK(refused(CopyTo(memory, Bytes("12"), UINT64_MAX)));
  CHECK(refused(CopyTo(memory, Bytes("12"), (uint64_t{1} << 32) + 1)));
  CHECK(refused(CopyFrom(memory, std::as_writable_bytes(std::span(part)), size - 1)));
  CHECK(refused(CopyFrom(memory, std::as_writable_bytes(std::span(part)), UINT64_MAX - 1)));
  CHECK(refused(ReadBytes(
      memory, [](std::span<const std::byte>) { FAIL("called"); }, size + 1)));
  CHECK(std::string_view(part.data(), part.size()) == "Yf");
  CHECK(Told(CopyTo(memory, Bytes("."), size - 1)) == "ok");
  CHECK(Told(CopyTo(memory, {}, size)) == "ok");
}

TEST_CASE("CpuCopy: leases, shared buffers and mappings are written and read in one call") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "copies"});
  SUBCASE("a lease") {
    const absl::StatusOr<Buffer> lease = client->Allocate({.bytes = 8_KiB});
    CopyAround(*lease);
  }
  SUBCASE("a lease of a known heap") {
    const auto lease = client->Allocate<HeapId{0}>({.bytes = 8_KiB});
    CopyAround(*lease);
  }
  SUBCASE("a shared buffer") {
    const absl::StatusOr<SharedBuffer> buffer = client->AllocateShared({.bytes = 8_KiB});
    CopyAround(*buffer);
  }
  SUBCASE("a mapping of a part") {
    const absl::StatusOr<Buffer> lease = client->Allocate({.bytes = 4 * PageBytes()});
    const auto mapping =
        WritableMapping::Of(*lease, {.offset = PageBytes(), .bytes = 2 * PageBytes()});
    REQUIRE(mapping.ok());
    CopyAround(*mapping);
    std::array<char, 3> start{};
    CHECK(CopyFrom(*lease, std::as_writable_bytes(std::span(start)), PageBytes()).ok());
    CHECK(std::string_view(start.data(), start.size()) == "abc");
  }
}

TEST_CASE("CpuCopy: the kernel is told of a part as read and written, of all as written") {
  using Sys = WatchedSyscalls<FakeSyscalls>;
  Watch watch;
  auto manager = platforms::Heaps<DmaHeapBackend<Sys>>::Open(
      {.sys = Sys(&watch, FakeSyscalls(Linux612Machine()))});
  REQUIRE(Told(manager.status()) == "ok");
  auto client = manager->CreateClient({.name = "copies"});
  const absl::StatusOr<Buffer> lease = client->Allocate({.bytes = PageBytes()});
  REQUIRE(Told(lease.status()) == "ok");
  std::vector<std::byte> all(PageBytes());
  watch.syncs.clear();
  CHECK(CopyTo(*lease, all).ok());
  CHECK(watch.syncs == std::vector<uint64_t>{DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE,
                                             DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE});
  watch.syncs.clear();
  CHECK(CopyTo(*lease, std::span(all).first(1)).ok());
  CHECK(watch.syncs == std::vector<uint64_t>{DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW,
                                             DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW});
  watch.syncs.clear();
  CHECK(CopyFrom(*lease, all).ok());
  CHECK(watch.syncs == std::vector<uint64_t>{DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ,
                                             DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ});
  watch.syncs.clear();
  CHECK_FALSE(CopyFrom(*lease, all, 1).ok());
  CHECK(CopyTo(*lease, {}, 1).ok());
  CHECK(watch.syncs.empty());
}

}  // namespace
}  // namespace ion::testing
