// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// References to clients of whatever Manager.

#include "ion/client_ref.h"

#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/cpu_copy.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/platforms/linux.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

using Pooled = Manager<MemfdBackend<>, PooledHeap<SystemHeap<MemfdBackend<>>>>;

// Holds memory, and is no template.
class Ring {
 public:
  explicit Ring(ClientRef client) : client_(client) {}
  bool Grow() {
    absl::StatusOr<Buffer> buffer = client_.Allocate({.bytes = 4_KiB, .name = "ring"});
    if (!buffer.ok()) return false;
    buffers_.push_back(*std::move(buffer));
    return true;
  }
  void Clear() { buffers_.clear(); }

 private:
  ClientRef client_;
  std::vector<Buffer> buffers_;
};

TEST_CASE("ClientRef: one class holds memory of any Manager, on the client's account") {
  const LeakCheck leaks;
  auto plain = platforms::Memfd::Open();
  auto pooled = Pooled::Open();
  auto one = plain->CreateClient({.name = "one", .quota_bytes = 8_KiB, .exact_quota = true});
  auto other = pooled->CreateClient({.name = "other"});
  Ring first(*one), second(*other);
  CHECK(first.Grow());
  CHECK(first.Grow());
  CHECK_FALSE(first.Grow());
  CHECK(second.Grow());
  CHECK(one->held_bytes() == 8_KiB);
  CHECK(other->held_bytes() == 4_KiB);
  second.Clear();
  CHECK(second.Grow());
  CHECK(pooled->MakeReport().pools.at(0).hits == 1);
}

TEST_CASE("ClientRef: each of its functions is the Client's") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  auto client = manager->CreateClient({.name = "camera", .heaps = HeapId{0}});
  const ClientRef ref = *client;
  CHECK(ref.name() == "camera");
  CHECK(ref.heaps() == HeapId{0});
  CHECK(ref.Prefill({.bytes = 4_KiB}, 2).ok());
  absl::StatusOr<Buffer> lease = ref.Allocate({.bytes = 4_KiB});
  REQUIRE(lease.ok());
  const auto handle = ref.MakeHandle(*std::move(lease));
  REQUIRE(handle.ok());
  CHECK(client->Info(*handle)->bytes == 4_KiB);
  CHECK(ref.Info(*handle)->heap_name == manager->HeapName(HeapId{0}));
  CHECK_FALSE(ref.Info(*handle)->heap_name.empty());
  CHECK(ref.held_bytes() == 4_KiB);
  const auto fd = ref.Share(*handle);
  REQUIRE(fd.ok());
  CHECK(ref.ShareRange(*handle)->bytes == 4_KiB);
  CHECK(*ref.Import(fd->borrow()) == *handle);
  CHECK(ErrnoOf(ref.SetName(*handle, "again")) == ErrnoOf(client->SetName(*handle, "again")));
  {
    const auto writable = ref.Map<MapMode::kWritable>(*handle);
    CHECK(CopyTo(*writable, std::as_bytes(std::span("text"))).ok());
    CHECK(ref.Map<MapMode::kReadOnly>(*handle)->bytes() == 4_KiB);
  }
  CHECK(ref.Free(*handle).ok());
  CHECK(ref.Free(*handle).ok());
  CHECK(ErrnoOf(ref.Free(*handle)) == EINVAL);
  CHECK(ref.AllocateShared({.bytes = 4_KiB})->bytes() == 4_KiB);
  CHECK(ref.AllocateShared({.bytes = 4_KiB}, 3)->size() == 3);
  CHECK(ref.held_bytes() == 0);
}

TEST_CASE("ClientRef: the client may be moved, and its buffers outlive it") {
  const LeakCheck leaks;
  auto manager = platforms::Memfd::Open();
  auto client = manager->CreateClient({.name = "camera"});
  Ring ring(*client);
  auto moved = *std::move(client);
  CHECK(ring.Grow());
  CHECK(moved.held_bytes() == 4_KiB);
  std::optional<platforms::Memfd::Client> gone(std::move(moved));
  gone.reset();
  ring.Clear();
}

#ifndef NDEBUG
TEST_CASE(
    "ClientRef: using one after its Client's end ends the program, also beside a new client") {
  auto manager = platforms::Memfd::Open();
  std::optional<platforms::Memfd::Client> client(*manager->CreateClient({.name = "camera"}));
  Ring ring(*client);
  client.reset();
  const auto next = manager->CreateClient({.name = "next"});
  const ChildEnd end = RunInChild([&] { return ring.Grow() ? "it grows" : "it does not grow"; });
  CHECK(end.text.find("a ClientRef was used after its Client had ended") != end.text.npos);
}
#endif

}  // namespace
}  // namespace ion::testing
