// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pools behind a heap, over memfds: whose memory goes to whom, what it reads as, how much is kept
// and for how long.

#include "ion/policies/pooled_heap.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "bench/pooled_memfd.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/recycling/pool_classes.h"
#include "ion/policies/recycling/pool_directory.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_heap.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "tests/support/refuse_call.h"
#include "tests/support/skip.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing {
namespace {

const uint64_t kPage = PageBytes();

using B = MemfdBackend<>;
template <PoolSpec kSpec = kUsualPools, class Scrubber = PlainScrubber>
using Pooled = Manager<B, PooledHeap<SystemHeap<B>, kSpec, Scrubber>>;

TEST_CASE("PoolClasses: each size has the smallest class that has room, as QuarterSteps has it") {
  CHECK(PoolClasses::Of(0) > 200);
  for (uint64_t bytes = 1; bytes < 70'000'000; bytes += 1 + bytes / 97) {
    const uint32_t at = PoolClasses::Of(bytes);
    CHECK(PoolClasses::Bytes(at) == QuarterSteps::RoundUp(bytes));
    CHECK(PoolClasses::Of(PoolClasses::Bytes(at)) == at);
    CHECK(PoolClasses::Of(PoolClasses::Bytes(at) + 1) == at + 1);
  }
}

TEST_CASE("PooledHeap: a client's memory comes back to it, mapped, and reads as zero") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager);
  int fd;
  {
    Buffer buffer = Take(client, 100'000);
    CHECK(LeaseAccess::BlockOf(buffer).mapping != nullptr);
    CHECK(buffer.bytes() == RoundUpToPages(114'688));  // a size class
    fd = buffer.fd().get();
    Write(buffer, 7);
  }
  Buffer again = Take(client, 110'000);
  CHECK(again.fd().get() == fd);
  CHECK(Look(again, 0, ZeroByte) == "ok");
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.hits == 1);
  CHECK(sum.misses == 1);
  CHECK(sum.scrubs == 1);
}

TEST_CASE(
    "PooledHeap: who takes memory as it is finds what the domain left, and nobody else does") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto one = Make(manager, {.domain = "camera", .recycle_as_is = true});
  auto other = Make(manager, {.domain = "camera", .recycle_as_is = true});
  auto zeroed = Make(manager, {.domain = "camera"});
  auto stranger = Make(manager, {.recycle_as_is = true});
  int fd;
  {
    Buffer buffer = Take(one, kPage);
    fd = buffer.fd().get();
    Write(buffer, 7);
  }
  {
    Buffer same = Take(other, kPage);
    CHECK(same.fd().get() == fd);
    CHECK(same.properties().zeroed.no());
    CHECK(Look(same, 7) == "ok");
  }
  // What lies idle elsewhere comes before the kernel, zeroed.
  manager.Trim(0);  // drains: what a thread has at hand is not moved
  {
    Buffer moved = Take(zeroed, kPage);
    CHECK(moved.fd().get() == fd);
    CHECK(moved.properties().zeroed);
    CHECK(Look(moved, 0, ZeroByte) == "ok");
    Write(moved, 9);
  }
  manager.Trim(0);
  Buffer moved = Take(stranger, kPage);
  CHECK(moved.properties().zeroed.no());
  CHECK(Look(moved, 0, ZeroByte) == "ok");
  CHECK(Sum(manager.MakeReport()).moves <= 2);
}

template <Scrub kScrub>
void ZeroesWhen(uint64_t after_release, uint64_t after_tick, uint64_t after_allocation) {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.scrub = kScrub}>>();
  auto client = Make(manager);
  {
    Buffer buffer = Take(client, 2 * kPage);
    Write(buffer, 3);
  }
  CHECK(Sum(manager.MakeReport()).scrubs == after_release);
  CHECK(Sum(manager.MakeReport()).held_bytes == 2 * kPage);
  manager.Tick();
  CHECK(Sum(manager.MakeReport()).scrubs == after_tick);
  Buffer again = Take(client, 2 * kPage);
  CHECK(Look(again, 0, ZeroByte) == "ok");
  CHECK(Sum(manager.MakeReport()).scrubs == after_allocation);
  CHECK(Sum(manager.MakeReport()).misses == 1);
}
TEST_CASE("PooledHeap: zeroed when it is allocated") { ZeroesWhen<Scrub::kOnAllocate>(0, 0, 1); }
TEST_CASE("PooledHeap: zeroed when it is freed") { ZeroesWhen<Scrub::kOnFree>(1, 1, 1); }
TEST_CASE("PooledHeap: zeroed in the background") { ZeroesWhen<Scrub::kBackground>(0, 1, 1); }
TEST_CASE("PooledHeap: what the background has not zeroed yet, the next request zeroes") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.scrub = Scrub::kBackground}>>();
  auto client = Make(manager);
  {
    Buffer buffer = Take(client, 2 * kPage);
    Write(buffer, 3);
  }
  Buffer again = Take(client, 2 * kPage);
  CHECK(Look(again, 0, ZeroByte) == "ok");
  CHECK(Sum(manager.MakeReport()).misses == 1);
}

// Zeroing that goes on until somebody has said that it may end, or has not for long.
struct SlowScrubber {
  static Error Scrub(B& backend, Block& block) noexcept {
    begun = true;
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!may_end && !gave_up) {
      std::this_thread::yield();
      gave_up = std::chrono::steady_clock::now() > patience;
    }
    return PlainScrubber::Scrub(backend, block);
  }
  static inline std::atomic<bool> begun{false}, may_end{false}, gave_up{false};
};
TEST_CASE("PooledHeap: while a tick zeroes memory nobody waits for it, and it counts as idle") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.scrub = Scrub::kBackground}, SlowScrubber>>();
  auto client = Make(manager);
  { Buffer buffer = Take(client, kPage); }
  std::thread ticking([&] { manager.Tick(); });
  while (!SlowScrubber::begun) std::this_thread::yield();
  Buffer fresh = Take(client, 2 * kPage);
  const Report report = manager.MakeReport();
  manager.Tick();  // finds the other at it
  CHECK_FALSE(SlowScrubber::gave_up);
  SlowScrubber::may_end = true;
  ticking.join();
  CHECK(report.buffers.size() == 1);
  CHECK(Sum(report).held_bytes == kPage);
  Buffer known = Take(client, kPage);
  CHECK(Sum(manager.MakeReport()).hits == 1);
}

TEST_CASE("PooledHeap: what waits to be zeroed is within the capacity, and goes back first") {
  if (PageBytes() != 4096) return Skip("its bounds are of pages of 4 KiB");
  const LeakCheck leaks;
  constexpr PoolSpec kSmall{.capacity_bytes = 4 * 4096,
                            .high_bytes = 2 * 4096,
                            .low_bytes = 0,
                            .scrub = Scrub::kBackground};
  auto manager = Open<Pooled<kSmall>>();
  auto client = Make(manager);
  {
    std::vector<Buffer> four;
    for (int i = 0; i < 4; ++i) four.push_back(Take(client, kPage));
  }
  CHECK(Sum(manager.MakeReport()).held_bytes == 4 * kPage);
  {
    std::vector<Buffer> five;
    for (int i = 0; i < 5; ++i) five.push_back(Take(client, kPage));
  }
  CHECK(Sum(manager.MakeReport()).held_bytes == 4 * kPage);
  CHECK(Given(manager.MakeReport(), GiveBack::kCapacity) == kPage);
  CHECK(manager.Trim(kPage) == kPage);
  CHECK(Sum(manager.MakeReport()).scrubs == 4);  // by those who got it
}

struct BrokenScrubber {
  static Error Scrub(B&, Block& block) noexcept {
    return Error(EIO, "broken", {B::kName, Operation::kRelease, {}, block.bytes});
  }
};
TEST_CASE("PooledHeap: what cannot be zeroed goes to the kernel, and the error is told") {
  const LeakCheck leaks;
  const auto errors = std::make_shared<ErrorSink>();
  SUBCASE("on allocation") {
    auto manager = Open<Pooled<kUsualPools, BrokenScrubber>>({.errors = errors});
    auto client = Make(manager);
    {
      Buffer buffer = Take(client, kPage);
      Write(buffer, 3);
    }
    Buffer again = Take(client, kPage);
    CHECK(Look(again, 0, ZeroByte) == "ok");
    CHECK(Given(manager.MakeReport(), GiveBack::kRefused) == kPage);
    CHECK(manager.backend().budget().held() == kPage);
  }
  SUBCASE("on free") {
    auto manager =
        Open<Pooled<PoolSpec{.scrub = Scrub::kOnFree}, BrokenScrubber>>({.errors = errors});
    auto client = Make(manager);
    { Buffer buffer = Take(client, kPage); }
    CHECK(manager.backend().budget().held() == 0);
  }
  CHECK(errors->count() == 1);
}

TEST_CASE("PooledHeap: a shared memfd goes back to the kernel, as nobody can tell who has it") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager);
  auto handle = client.MakeHandle(Take(client, kPage));
  REQUIRE(handle.ok());
  CHECK(client.Free(*handle).ok());
  CHECK(manager.backend().budget().held() == 0);
  CHECK(Given(manager.MakeReport(), GiveBack::kRefused) == kPage);
}

TEST_CASE(
    "PooledHeap: what goes back to the kernel whenever it was shared is not prepared for reuse") {
  const LeakCheck leaks;
  using F = MemfdBackend<FaultSyscalls>;
  const auto faults = std::make_shared<Faults>();
  auto manager = Open<Manager<F, PooledHeap<SystemHeap<F>>>>({.sys = FaultSyscalls(faults)});
  auto client = Make(manager), reader = Make(manager);
  const auto share = [&] {
    CHECK(client.Free(client.MakeHandle(Take(client, 3 << 20)).value()).ok());
  };
  share();
  faults->Begin({});
  for (int i = 0; i < 5; ++i) share();
  faults->End();
  CHECK(faults->Count("mmap") == 0);
  CHECK(faults->Count("madvise MADV_POPULATE_WRITE") == 0);
  // What is used here is mapped then, and recycled all the same; another domain finds zeros.
  for (int i = 0; i < 3; ++i) {
    Buffer buffer = Take(client, 3 << 20);
    CHECK(Look(buffer, 0, ZeroByte) == "ok");
    Write(buffer, 7);
  }
  CHECK(Sum(manager.MakeReport()).hits == 2);
  Buffer moved = Take(reader, 3 << 20);
  CHECK(Look(moved, 0, ZeroByte) == "ok");
  { const Buffer untouched = Take(client, 3 << 20); }
  Buffer again = Take(client, 3 << 20);
  CHECK(Look(again, 0, ZeroByte) == "ok");
  CHECK(Sum(manager.MakeReport()).hits == 4);
}

constexpr HeapSpec kProtected{
    .type = HeapType::kSystem, .id = 0, .name = "acme,protected", .cpu_mappable = false};

TEST_CASE("PooledHeap: memory that the CPU may not map is not mapped because it is recycled") {
  using F = DmaHeapBackend<FakeSyscalls>;
  const FakeHeap heap{.name = "acme,protected", .type = ion_uapi::kHeapTypeSystem, .bytes = 64_MiB};
  auto manager = Open<Manager<F, ion::Pooled<SystemOf<kProtected>>>>(
      {.sys = FakeSyscalls({.linux = Linux(6, 12), .dma_heaps = {heap}})});
  auto client = Make(manager, {.name = "decoder", .recycle_as_is = true});
  const Buffer lease = Take(client, kPage);
  CHECK(ErrnoOf(ReadOnlyMapping::Of(lease).status()) == EACCES);
  CHECK(ErrnoOf(ReadOnlyMapping::Of(lease, {.bytes = kPage}).status()) == EACCES);
}

TEST_CASE("PooledHeap: the refusal of a quota names the size class, and no byte of the request") {
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.name = "small", .quota_bytes = 9 * kPage, .exact_quota = true});
  const absl::Status refused = client.Allocate({.bytes = 9 * kPage - 1}).status();
  CHECK(ErrnoOf(refused) == EDQUOT);
  CAPTURE(refused.ToString());
  CHECK(refused.message().find("it holds 0 bytes of") != std::string_view::npos);
  CHECK(refused.message().find("the size class of the request takes " + std::to_string(10 * kPage) +
                               " bytes") != std::string_view::npos);
}

TEST_CASE("PooledHeap: four frames do not fit a quota of their sum, and the refusal says why") {
  constexpr uint64_t kFrame = 3'110'400;  // 1920x1080 NV12
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.quota_bytes = 4 * kFrame, .exact_quota = true});
  std::vector<Buffer> frames;
  for (int i = 0; i < 3; ++i) frames.push_back(Take(client, kFrame));
  const absl::Status refused = client.Allocate({.bytes = kFrame}).status();
  CHECK(ErrnoOf(refused) == EDQUOT);
  CAPTURE(refused.ToString());
  CHECK(refused.message().find("3110400 bytes") != std::string_view::npos);
  CHECK(refused.message().find("request takes 3145728 bytes") != std::string_view::npos);
  auto none = Make(manager, {.quota_bytes = 0});
  const absl::Status rounded = none.Allocate({.bytes = 1}).status();
  CAPTURE(rounded.ToString());
  CHECK(rounded.message().find("the request takes " + std::to_string(kPage) +
                               " bytes in whole pages") != std::string_view::npos);
}

TEST_CASE("PooledHeap: memory whose pages cannot be put in place is an error of Allocate") {
  const LeakCheck leaks;
  using F = MemfdBackend<FaultSyscalls>;
  for (const int code : {ENOMEM, EFAULT, EHWPOISON}) {
    const auto faults = std::make_shared<Faults>();
    const auto errors = std::make_shared<ErrorSink>();
    auto manager = Open<Manager<F, PooledHeap<SystemHeap<F>>>>(
        {.sys = FaultSyscalls(faults), .errors = errors});
    auto client = Make(manager);
    faults->Begin({.n = 0, .call = "madvise MADV_POPULATE_WRITE", .code = code});
    const absl::StatusOr<Buffer> refused = client.Allocate({.bytes = kPage});
    faults->End();
    CHECK(ErrnoOf(refused.status()) == code);
    CHECK(refused.status().message().find("MADV_POPULATE_WRITE") != std::string_view::npos);
    CHECK(errors->count() == 0);
    CHECK(client.held_bytes() == 0);
    CHECK(manager.backend().budget().held() == 0);
    { Buffer buffer = Take(client, kPage); }
    Buffer again = Take(client, kPage);
    CHECK(Sum(manager.MakeReport()).hits == 1);
  }
}

TEST_CASE(
    "PooledHeap: where a sandbox refuses to put pages in place they come when they are used") {
  const LeakCheck leaks;
  using F = MemfdBackend<FaultSyscalls>;
  for (const int code : {EINVAL, EPERM, ENOSYS}) {
    const auto faults = std::make_shared<Faults>();
    auto manager = Open<Manager<F, PooledHeap<SystemHeap<F>>>>({.sys = FaultSyscalls(faults)});
    auto client = Make(manager);
    faults->Begin({.n = 0, .call = "madvise MADV_POPULATE_WRITE", .code = code});
    { Buffer buffer = Take(client, kPage); }
    faults->End();
    Buffer again = Take(client, kPage);
    CHECK(Look(again, 0, ZeroByte) == "ok");
    CHECK(Sum(manager.MakeReport()).hits == 1);
  }
}

TEST_CASE("PooledHeap: a pool of a heap that is tried later is found, too") {
  const LeakCheck leaks;
  using Two = Manager<B, bench::PooledMemfd<HeapId{0}>, bench::PooledMemfd<HeapId{1}>>;
  auto manager = Open<Two>({.budget = std::make_shared<Budget>(2 * kPage)});
  auto client = Make(manager, {.recycle_as_is = true});
  auto low = client.Allocate({.bytes = kPage, .heaps = HeapId{0}});
  auto high = client.Allocate({.bytes = kPage, .heaps = HeapId{1}});
  REQUIRE((low.ok() && high.ok()));
  *low = Buffer();
  const auto found = client.Allocate({.bytes = kPage});
  REQUIRE(found.ok());
  CHECK(manager.HeapOf(*found) == HeapId{0});
  CHECK(Sum(manager.MakeReport()).misses == 2);
}

TEST_CASE("PooledHeap: a request may get a block of a larger class, within the bound") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.most_percent = 150}>>();
  auto client = Make(manager);
  { Buffer buffer = Take(client, 6 * kPage); }
  Buffer larger = Take(client, 4 * kPage);
  CHECK(larger.bytes() == 6 * kPage);
  CHECK(client.held_bytes() == 6 * kPage);
  Buffer fresh = Take(client, 4 * kPage);
  CHECK(fresh.bytes() == 4 * kPage);
  larger = Buffer();
  // 7 of 4 pages is more than half as much again.
  { Buffer buffer = Take(client, 7 * kPage); }
  Buffer another = Take(client, 4 * kPage);
  CHECK(another.bytes() == 6 * kPage);
  Buffer own = Take(client, 4 * kPage);
  CHECK(own.bytes() == 4 * kPage);
}

TEST_CASE("PooledHeap: a larger block that the quota has no room for is left where it is") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.most_percent = 150}>>();
  auto rich = Make(manager, {.domain = "camera"});
  auto poor = Make(manager, {.quota_bytes = 5 * kPage, .exact_quota = true, .domain = "camera"});
  { Buffer buffer = Take(rich, 6 * kPage); }
  Buffer fresh = Take(poor, 4 * kPage);
  CHECK(fresh.bytes() == 4 * kPage);
  CHECK(poor.held_bytes() == 4 * kPage);
  Buffer larger = Take(rich, 4 * kPage);
  CHECK(larger.bytes() == 6 * kPage);
}

template <PoolSpec kNone>
void KeepsNothing() {
  const LeakCheck leaks;
  auto manager = Open<Pooled<kNone>>();
  auto client = Make(manager);
  {
    Buffer buffer = Take(client, kPage + 1);
    CHECK(buffer.bytes() == 2 * kPage);
  }
  CHECK(manager.backend().budget().held() == 0);
  CHECK(manager.MakeReport().pools.empty());
  CHECK(manager.Trim() == 0);
}
TEST_CASE("PooledHeap: capacity 0 keeps nothing, and works") {
  KeepsNothing<PoolSpec{.capacity_bytes = 0, .high_bytes = 0, .low_bytes = 0}>();
  KeepsNothing<PoolSpec{.capacity_blocks = 0}>();
}

TEST_CASE("PooledHeap: past its capacity memory goes back at once, and no more than that") {
  const LeakCheck leaks;
  constexpr PoolSpec kSmall{.capacity_bytes = 8 << 20, .high_bytes = 4 << 20, .low_bytes = 1 << 20};
  auto manager = Open<Pooled<kSmall>>();
  auto client = Make(manager);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 32; ++i) buffers.push_back(Take(client, 1 << 20));
  CHECK(manager.backend().budget().held() == 32 << 20);
  buffers.clear();
  // A thread has one such block at hand.
  CHECK(manager.backend().budget().held() >= 8 << 20);
  CHECK(manager.backend().budget().held() <= (8 + 1) << 20);
  CHECK(Given(manager.MakeReport(), GiveBack::kCapacity) >= 23 << 20);
  manager.Tick();
  CHECK(manager.backend().budget().held() <= 4 << 20);
}

TEST_CASE("ManagerOptions::pools: a program lowers the bounds of idle memory when it opens") {
  const LeakCheck leaks;
  constexpr HeapId kHeap{0};
  const auto open = [](HeapPools pools) {
    auto manager = Pooled<>::Open({}, {.pools = {pools}});
    REQUIRE(manager.ok());
    return *std::move(manager);
  };
  const auto fill = [](auto& client, int count, uint64_t bytes) {
    std::vector<Buffer> buffers;
    for (int i = 0; i < count; ++i) buffers.push_back(Take(client, bytes));
  };
  SUBCASE("capacity in bytes, which lowers the watermarks") {
    auto manager = open({.heap = kHeap, .capacity_bytes = 8 << 20});
    auto client = Make(manager);
    fill(client, 32, 1 << 20);
    CHECK(manager.backend().budget().held() <= (8 + 1) << 20);
    CHECK(Given(manager.MakeReport(), GiveBack::kCapacity) >= 23 << 20);
  }
  SUBCASE("watermarks") {
    auto manager = open({.heap = kHeap, .high_bytes = 4 << 20, .low_bytes = 1 << 20});
    auto client = Make(manager);
    fill(client, 7, 1 << 20);
    manager.Trim(0);  // drains
    manager.Tick();
    CHECK(manager.backend().budget().held() == 1 << 20);
    CHECK(Given(manager.MakeReport(), GiveBack::kWatermark) == 6 << 20);
  }
  SUBCASE("capacity in blocks") {
    auto manager = open({.heap = kHeap, .capacity_blocks = 64});
    auto client = Make(manager);
    fill(client, 300, kPage);
    CHECK(manager.backend().budget().held() <= (64 + 2 * 32) * kPage);
  }
  SUBCASE("no pools") {
    auto manager = open({.heap = kHeap, .capacity_bytes = 0});
    auto client = Make(manager);
    fill(client, 1, 100 * kPage);
    CHECK(manager.backend().budget().held() == 0);
    CHECK(manager.MakeReport().pools.empty());
  }
}

TEST_CASE("ManagerOptions::pools: refused with the bound, its ceiling and a remedy") {
  constexpr PoolSpec kSpec{.capacity_bytes = 8 << 20, .high_bytes = 4 << 20, .low_bytes = 1 << 20};
  using Memory =
      Manager<B, PooledHeap<SystemHeap<B>, kSpec>, SystemHeap<B, HeapSpec{.id = HeapId{1}}>>;
  constexpr HeapId kHeap{0};
  const auto refusal = [](std::vector<HeapPools> pools) {
    const absl::Status status = Memory::Open({}, {.pools = std::move(pools)}).status();
    CHECK(ErrnoOf(status) == EINVAL);
    return std::string(status.message());
  };
  const auto has = [](const std::string& text, std::string_view part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  const std::string past = refusal({{.heap = kHeap, .capacity_bytes = 16 << 20}});
  has(past, "capacity_bytes of heap 0 is 16777216, and its ceiling is 8388608");
  has(past, "ask for no more, or give the heap's Pooled a PoolSpec with more");
  has(refusal({{.heap = kHeap, .capacity_blocks = 513}}), "capacity_blocks of heap 0 is 513");
  has(refusal({{.heap = kHeap, .high_bytes = 5 << 20}}), "high_bytes of heap 0 is 5242880");
  has(refusal({{.heap = kHeap, .low_bytes = 2 << 20}}), "low_bytes of heap 0 is 2097152");
  has(refusal({{.heap = kHeap, .capacity_bytes = 1 << 20, .high_bytes = 2 << 20}}),
      "the watermarks are the wrong way round");
  has(refusal({{.heap = HeapId{1}, .capacity_bytes = 1}}), "this heap has no pools");
  has(refusal({{.heap = HeapId{2}, .capacity_bytes = 1}}), "no heap of this Manager has this id");
  has(refusal({{.heap = kHeap}, {.heap = kHeap}}), "this heap is named twice");
  CHECK(Memory::Open({}, {.pools = {{.heap = kHeap, .capacity_bytes = 8 << 20}}}).ok());
}

TEST_CASE("PooledHeap: what is large counts wherever it lies") {
  const LeakCheck leaks;
  constexpr PoolSpec kSmall{.capacity_bytes = 8 << 20, .high_bytes = 8 << 20, .low_bytes = 0};
  auto manager = Open<Pooled<kSmall>>();
  auto client = Make(manager, {.recycle_as_is = true});
  std::vector<Buffer> buffers;
  for (uint64_t bytes = 2 << 20; bytes <= 64 << 20; bytes *= 2) {
    buffers.push_back(Take(client, bytes));
  }
  buffers.clear();
  CHECK(manager.backend().budget().held() <= 8 << 20);
  { const Buffer buffer = Take(client, 4 << 20); }
  CHECK(Sum(manager.MakeReport()).hits == 1);
}

TEST_CASE(
    "PooledHeap: large blocks that threads have at hand count in the capacity, as half of it") {
  const LeakCheck leaks;
  constexpr uint64_t kLarge = 2_MiB;
  constexpr uint32_t kThreads = 6;
  auto manager = Open<Pooled<PoolSpec{
      .capacity_bytes = 8 * kLarge, .high_bytes = 8 * kLarge, .low_bytes = 8 * kLarge}>>();
  auto client = Make(manager, {.recycle_as_is = true});
  // Each thread stays, with what it has at hand, until all have released.
  std::atomic<uint32_t> done{0};
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (uint32_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      std::vector<Buffer> taken;
      for (int k = 0; k < 3; ++k) taken.push_back(Take(client, kLarge));
      taken.clear();
      ++done;
      while (done < kThreads) std::this_thread::yield();
      const PoolReport sum = Sum(manager.MakeReport());
      CHECK(sum.held_bytes <= 8 * kLarge);
      ++done;
      while (done < 2 * kThreads) std::this_thread::yield();
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(manager.Trim(UINT64_MAX) <= 8 * kLarge);
  CHECK(Sum(manager.MakeReport()).held_bytes == 0);
}

TEST_CASE("PooledHeap: room for large blocks that are in use is no idle memory at a tick") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{
      .capacity_bytes = 16_MiB, .high_bytes = 8_MiB, .low_bytes = 4_MiB, .age_ticks = 100}>>();
  auto client = Make(manager, {.recycle_as_is = true});
  std::vector<Buffer> large, small;
  const auto take = [&] {
    for (int i = 0; i < 4; ++i) large.push_back(Take(client, 2_MiB));
  };
  take();
  large.clear();
  take();
  for (int i = 0; i < 4; ++i) small.push_back(Take(client, 1_MiB));
  small.clear();
  manager.Tick();
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.given_back_bytes[static_cast<size_t>(GiveBack::kWatermark)] == 0);
  CHECK(sum.held_bytes == 4_MiB);
}

TEST_CASE("PooledHeap: a lease of a large block, as it was left, comes from the thread's hand") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.recycle_as_is = true});
  // The first release takes its room.
  (void)Take(client, 8_MiB);
  for (int i = 0; i < 100; ++i) (void)Take(client, 8_MiB);
  CHECK(Sum(manager.MakeReport()).hits == 100);
  // Nothing is left in the depot, from which another thread could take it without a drain.
  CHECK(manager.Trim(0) == 0);
  CHECK(Sum(manager.MakeReport()).held_bytes == 8_MiB);
}

TEST_CASE("PooledHeap: a pool that served memory as it was left zeroes it for its next domain") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  for (int round = 0; round < 4; ++round) {
    {
      auto as_is = Make(manager, {.recycle_as_is = true});
      Buffer buffer = Take(as_is, kPage);
      Write(buffer, 7);
    }
    manager.Trim(UINT64_MAX);
    for (int i = 0; i < 20; ++i) manager.Tick();  // the closed domain's pool is free
    auto zeroed = Make(manager);
    for (int i = 0; i < 3; ++i) {
      Buffer buffer = Take(zeroed, kPage);
      CHECK(buffer.properties().zeroed);
      CHECK(Look(buffer, 0, ZeroByte) == "ok");
      Write(buffer, 9);
    }
  }
}

TEST_CASE("PooledHeap: what lies idle is bounded in blocks, too, as each holds a descriptor") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.capacity_blocks = 64}>>();
  auto client = Make(manager);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 300; ++i) buffers.push_back(Take(client, i % 2 == 0 ? kPage : 2 * kPage));
  buffers.clear();
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.held_bytes >= 32 * kPage);
  CHECK(manager.backend().budget().held() <= (64 + 2 * 32) * 2 * kPage);
  CHECK(sum.given_back_bytes[static_cast<size_t>(GiveBack::kCapacity)] >= 172 * kPage);
}

TEST_CASE("PooledHeap: a tick finds more than the high watermark, and leaves the low one") {
  const LeakCheck leaks;
  constexpr PoolSpec kMarks{.capacity_bytes = 8 << 20, .high_bytes = 4 << 20, .low_bytes = 1 << 20};
  auto manager = Open<Pooled<kMarks>>();
  auto client = Make(manager);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 7; ++i) buffers.push_back(Take(client, 1 << 20));
  buffers.clear();
  CHECK(manager.Trim(0) == 0);  // drains
  CHECK(manager.backend().budget().held() == 7 << 20);
  manager.Tick();
  CHECK(manager.backend().budget().held() == 1 << 20);
  CHECK(Given(manager.MakeReport(), GiveBack::kWatermark) == 6 << 20);
}

TEST_CASE("PooledHeap: what nobody needs goes back within twice its age") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.age_ticks = 3}>>();
  auto client = Make(manager);
  // All over the window, and in the worst place: at a thread's hand.
  for (int start = 0; start < 3; ++start) {
    {
      const Buffer buffer = Take(client, kPage), other = Take(client, 1 << 20);
    }
    CHECK(manager.backend().budget().held() == kPage + (1 << 20));
    int ticks = 0;
    while (manager.backend().budget().held() != 0 && ticks < 100) {
      manager.Tick();
      ++ticks;
    }
    CHECK(ticks >= 3);
    CHECK(ticks <= 6);
    manager.Tick();
  }
  CHECK(Given(manager.MakeReport(), GiveBack::kAge) == 3 * (kPage + (1 << 20)));
}

TEST_CASE("PooledHeap: what nobody needs goes back, however often a report is made") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.age_ticks = 3}>>();
  auto client = Make(manager);
  { const Buffer buffer = Take(client, kPage), other = Take(client, 1 << 20); }
  for (int i = 0; i < 6; ++i) {
    CHECK(manager.MakeReport().buffers.empty());
    manager.Tick();
  }
  CHECK(manager.backend().budget().held() == 0);
}

TEST_CASE("PooledHeap: what is needed in each window stays") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.age_ticks = 2}>>();
  auto client = Make(manager);
  for (int i = 0; i < 20; ++i) {
    {
      Buffer buffer = Take(client, kPage);
    }
    manager.Tick();
  }
  CHECK(Sum(manager.MakeReport()).misses == 1);
}

TEST_CASE("PooledHeap: Trim gives back at least what was asked for, and says how much") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 10; ++i) buffers.push_back(Take(client, 64 << 10));
  buffers.clear();
  const uint64_t held = manager.backend().budget().held();
  CHECK(held == 10 * (64 << 10));
  CHECK(manager.Trim(100'000) == 2 * (64 << 10));
  CHECK(manager.backend().budget().held() == held - 2 * (64 << 10));
  CHECK(manager.Trim() == 8 * (64 << 10));
  CHECK(manager.backend().budget().held() == 0);
  CHECK(manager.Trim() == 0);
}

// Contiguous memory beside the system's, of a fake kernel that has 64 MiB of it.
using D = DmaHeapBackend<FakeLinux612>;
using TwoHeaps = Manager<D, PooledHeap<SystemHeap<D>>, PooledHeap<DmaHeap<D>>>;
constexpr HeapMask kUsual = HeapId{0}, kScarce = HeapId{4};

// Takes so many buffers of 1 MiB at once, and lets them go.
template <class C>
void Leave(C& client, HeapMask heap, int buffers) {
  std::vector<Buffer> taken;
  for (int i = 0; i < buffers; ++i) {
    auto buffer = client.Allocate({.bytes = 1 << 20, .heaps = heap});
    REQUIRE(buffer.ok());
    taken.push_back(*std::move(buffer));
  }
}

TEST_CASE("PooledHeap: Trim goes from heap to heap until it has what was asked for") {
  const LeakCheck leaks;
  auto manager = Open<TwoHeaps>();
  auto client = Make(manager);
  Leave(client, kUsual, 4);
  Leave(client, kScarce, 4);
  const Budget& budget = manager.backend().budget();
  CHECK(budget.held() == 8 << 20);
  CHECK(manager.Trim(6 << 20) == 6 << 20);
  CHECK(budget.held() == 2 << 20);
  CHECK(manager.Trim() == 2 << 20);
  CHECK(budget.held() == 0);
}

TEST_CASE("PooledHeap: of contiguous memory less lies idle, and for less long") {
  const LeakCheck leaks;
  auto manager = Open<TwoHeaps>();
  auto client = Make(manager);
  const Budget& budget = manager.backend().budget();
  // A thread has one such block at hand.
  Leave(client, kScarce, 48);
  CHECK(budget.held() <= (32 + 1) << 20);
  manager.Trim();
  Leave(client, kUsual, 48);
  CHECK(budget.held() == 48 << 20);
  manager.Trim();
  // What lies idle at a tick, past a high watermark of 16 MiB.
  Leave(client, kScarce, 20);
  manager.Trim(0);  // drains
  manager.Tick();
  CHECK(budget.held() == 0);
  // What nobody needs.
  Leave(client, kScarce, 1);
  Leave(client, kUsual, 1);
  for (int i = 0; i < 4; ++i) manager.Tick();
  CHECK(budget.held() == 1 << 20);
  manager.Trim();
  // What is large.
  CHECK(client.Allocate({.bytes = 20 << 20, .heaps = kScarce}).ok());
  CHECK(budget.held() == 0);
  CHECK(client.Allocate({.bytes = 20 << 20, .heaps = kUsual}).ok());
  CHECK(budget.held() == 20 << 20);
}

TEST_CASE("PooledHeap: a shortage empties the pools once, and the request is tried again") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>({.budget = std::make_shared<Budget>(1 << 20)});
  auto client = Make(manager);
  { Buffer buffer = Take(client, 512 << 10); }
  { Buffer buffer = Take(client, 256 << 10); }
  Buffer large = Take(client, 1 << 20);
  CHECK(Given(manager.MakeReport(), GiveBack::kShortage) == 768 << 10);
  CHECK(ErrnoOf(client.Allocate({.bytes = kPage}).status()) == ENOMEM);
}

// Memory that runs out as the test says.
class Scarce : public MemfdBackend<> {
 public:
  static Result<Scarce> Open(const Options& options) noexcept {
    Result<MemfdBackend<>> opened = MemfdBackend<>::Open(options);
    if (!opened.ok()) return opened.error();
    return Scarce(*std::move(opened));
  }

  Error Allocate(uint32_t heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    if (const int code = next.exchange(0); code != 0) {
      return Error(code, "as planned", {kName, Operation::kAllocate});
    }
    Error error = MemfdBackend<>::Allocate(heap, bytes, flags, name, block);
    // Until all of them have failed.
    if (!error.ok() && together.load() != 0) {
      together.fetch_sub(1);
      while (together.load() != 0) std::this_thread::yield();
    }
    return error;
  }
  static inline std::atomic<int> next{0};           // what the next request gets, once
  static inline std::atomic<uint32_t> together{0};  // how many fail at the same time

 private:
  explicit Scarce(MemfdBackend<>&& opened) noexcept : MemfdBackend<>(std::move(opened)) {}
};
using PooledScarce = Manager<Scarce, PooledHeap<SystemHeap<Scarce>>>;

TEST_CASE(
    "PooledHeap: memory and descriptors of the process or of the machine: each is a shortage") {
  const LeakCheck leaks;
  for (const int code : {ENOMEM, ENFILE, EMFILE, EIO}) {
    CAPTURE(code);
    auto manager = Open<PooledScarce>();
    auto client = Make(manager);
    { Buffer idle = Take(client, kPage); }
    Scarce::next = code;
    CHECK(ErrnoOf(client.Allocate({.bytes = 2 * kPage}).status()) == (code == EIO ? EIO : 0));
    CHECK(Given(manager.MakeReport(), GiveBack::kShortage) == (code == EIO ? 0 : kPage));
  }
}

TEST_CASE("PooledHeap: of two that are short at once, both try again") {
  const LeakCheck leaks;
  auto manager = Open<PooledScarce>({.budget = std::make_shared<Budget>(1 << 20)});
  auto client = Make(manager);
  {
    std::vector<Buffer> all;
    for (int i = 0; i < 4; ++i) all.push_back(Take(client, 256 << 10));
  }
  Scarce::together = 2;
  const Request request{.bytes = 320 << 10};
  absl::StatusOr<Buffer> other;
  std::thread thread([&] { other = client.Allocate(request); });
  const absl::StatusOr<Buffer> ours = client.Allocate(request);
  thread.join();
  CHECK(ours.ok());
  CHECK(other.ok());
}

TEST_CASE("PooledHeap: a heap's shortage is seen, whatever the next one answers") {
  const LeakCheck leaks;
  using Two = Manager<B, PooledHeap<SystemHeap<B, HeapSpec{.id = 1}>>,
                      SystemHeap<B, HeapSpec{.id = 0, .name = "nowhere"}>>;
  auto manager = Open<Two>({.budget = std::make_shared<Budget>(1 << 20)});
  auto client = Make(manager);
  { Buffer buffer = Take(client, 512 << 10); }
  CHECK(client.Allocate({.bytes = 1 << 20, .heaps = HeapId{1} | HeapId{0}}).ok());
}

TEST_CASE("PooledHeap: where no descriptor is left, the pools have some") {
  const LeakCheck leaks;
  const ChildEnd end = RunInChild([]() -> std::string {
    auto manager = Pooled<>::Open();
    if (!manager.ok()) return "it did not open";
    for (const uint64_t bytes : {kPage, 2 * kPage}) {
      if (!manager->Allocate({.bytes = bytes}).ok()) return "it has no memory";
    }
    const UniqueFd last(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto most = static_cast<rlim_t>(last.get());
    const rlimit limit{most, most};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) return "setrlimit failed";
    const auto other = manager->Allocate({.bytes = 1 << 20});
    if (!other.ok()) return other.status().ToString();
    if (Given(manager->MakeReport(), GiveBack::kShortage) != kPage + 2 * kPage)
      return "not drained";
    // One of the two descriptors is left, and then there is nothing to drain.
    const auto second = manager->Allocate({.bytes = 2 << 20});
    if (!second.ok()) return "the second: " + second.status().ToString();
    if (ErrnoOf(manager->Allocate({.bytes = 3 << 20}).status()) != EMFILE) return "a third";
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
}

TEST_CASE("PooledHeap: Reserve fills the pools") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager);
  CHECK(client.Prefill({.bytes = 1 << 20}, 5).ok());
  CHECK(client.held_bytes() == 0);
  CHECK(Sum(manager.MakeReport()).held_bytes == 5 << 20);
  std::vector<Buffer> buffers;
  for (int i = 0; i < 5; ++i) buffers.push_back(Take(client, 1 << 20));
  CHECK(Sum(manager.MakeReport()).misses == 5);
  auto small = Make(manager, {.quota_bytes = 2 * kPage, .exact_quota = true});
  CHECK(ErrnoOf(small.Prefill({.bytes = kPage}, 3)) == EDQUOT);
  CHECK(ErrnoOf(small.Prefill({.bytes = kPage}, UINT32_MAX)) == EDQUOT);
}

TEST_CASE("PooledHeap: what was reserved is of the line that reserved it") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.recycle_as_is = true});  // a hit tells nobody
  CHECK(client.Prefill({.bytes = kPage}, 1).ok());
  const uint32_t line = __LINE__ - 1;
  const Buffer buffer = Take(client, kPage);
  const Report report = manager.MakeReport();
  REQUIRE(report.buffers.size() == 1);
  CHECK(std::string_view(report.buffers[0].file) == __FILE__);
  CHECK(report.buffers[0].line == line);
}

TEST_CASE("PooledHeap: reports show leases, not what lies idle") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.name = "camera"});
  Buffer held = Take(client, kPage);
  { Buffer idle = Take(client, kPage); }
  const Report report = manager.MakeReport();
  CHECK(report.bytes() == kPage);
  REQUIRE(report.pools.size() == 1);
  CHECK(report.pools[0].held_bytes == kPage);
  CHECK(report.pools[0].block_bytes == kPage);
  CHECK(report.pools[0].cached);
  CHECK(report.pools[0].open);
}

TEST_CASE("PoolText: a line for each pool, and why memory went back") {
  if (PageBytes() != 4096) return Skip("its lines are of pages of 4 KiB");
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager);
  Buffer held = Take(client, 8192);
  { Buffer idle = Take(client, 4096); }
  manager.Trim();
  { const Buffer again = Take(client, 4096), other = Take(client, 4096); }
  { Buffer hit = Take(client, 4096); }
  const std::string head =
      "            heap domain       size                hits     misses         held  quarantined "
      " "
      "   scrubs      moves  given back\n";
  CHECK(PoolText(manager.MakeReport()) == head +
                                              "           memfd      2       8192   cached         "
                                              " 0          1            0            0 "
                                              "         0          0  nothing\n"
                                              "           memfd      2       4096   cached         "
                                              " 1          3         8192            0 "
                                              "         1          0  trim 4096\n");
  { const auto gone = std::move(client); }
  CHECK(PoolText(manager.MakeReport()).find("   gone       8192   cached ") != std::string::npos);
  CHECK(PoolText(Report()) == head);
}

TEST_CASE("PooledHeap: when a domain's last client goes, its slot and its pools can be another's") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  Buffer survivor;
  for (int i = 0; i < 600; ++i) {
    auto client = Make(manager, {.recycle_as_is = true});
    Buffer buffer = Take(client, kPage);
    CHECK(Look(buffer, 0, ZeroByte) == "ok");
    Write(buffer, 7);
    if (i == 100) survivor = std::move(buffer);
  }
  // One block went round, and another was out while its domain ended.
  CHECK(manager.backend().budget().held() <= 3 * kPage);
  CHECK(Look(survivor, 7) == "ok");
  survivor = Buffer();
  auto last = Make(manager, {.recycle_as_is = true});
  for (int i = 0; i < 3; ++i) {
    Buffer buffer = Take(last, kPage);
    CHECK(Look(buffer, 0, ZeroByte) == "ok");
  }
}

TEST_CASE("PooledHeap: pools that one size has left can be another size's") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  {
    std::vector<Pooled<>::Client> clients;
    for (int i = 0; i < 127; ++i) {
      clients.push_back(Make(manager));
      { const Buffer buffer = Take(clients.back(), 9 * kPage); }
    }
    CHECK(manager.MakeReport().pools.size() == 127);
    auto late = Make(manager);
    { const Buffer buffer = Take(late, kPage); }
    CHECK(manager.MakeReport().pools.size() == 127);  // the table is full, and it works
    CHECK(Sum(manager.MakeReport()).held_bytes == 127 * 10 * kPage);
  }
  manager.Trim();
  auto client = Make(manager);
  for (int i = 0; i < 100; ++i) {
    const Buffer small = Take(client, kPage), large = Take(client, 1 << 20);
  }
  const PoolReport sum = Sum(manager.MakeReport());
  CHECK(sum.hits == 198);
  CHECK(sum.held_bytes == kPage + (1 << 20));
}

// More sizes than there are pools for, each left by clients that go, on threads of their own.
TEST_CASE("PooledHeap: pools change their size while others are on their way out of them") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  constexpr uint32_t kThreads = 3;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&manager, t] {
      for (uint32_t round = 0; round < 100; ++round) {
        const uint64_t bytes = PoolClasses::Bytes((round * kThreads + t) % 28);
        std::vector<Pooled<>::Client> clients;
        for (int i = 0; i < 16; ++i) {
          clients.push_back(Make(manager, {.recycle_as_is = true}));
          for (int lease = 0; lease < 3; ++lease) {
            const Buffer buffer = Take(clients.back(), bytes);
            REQUIRE(buffer.bytes() >= bytes);
          }
        }
        clients.clear();
        manager.Trim();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  manager.Tick();
  CHECK(manager.MakeReport().pools.empty());
  CHECK(manager.backend().budget().held() == 0);
}

TEST_CASE("PooledHeap: a client that outlives its Manager gets memory, and none is kept") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(1 << 20);
  {
    std::optional<Pooled<>> manager = Open<Pooled<>>({.budget = budget});
    auto client = Make(*manager, {.recycle_as_is = true});
    { Buffer known = Take(client, kPage); }
    manager.reset();
    // The second time its thread has a magazine of each pool.
    for (int i = 0; i < 3; ++i) Buffer known = Take(client, kPage), fresh = Take(client, 2 * kPage);
    CHECK(budget->held() == 0);
  }
  CHECK(budget.use_count() == 1);
}

TEST_CASE("PooledHeap: a Manager leaves nothing where membarrier is refused since it was opened") {
  const ChildEnd end = RunInChild([]() -> std::string {
    const auto budget = std::make_shared<Budget>(1 << 20);
    {
      auto manager = Open<Pooled<>>({.budget = budget});
      auto client = Make(manager);
      { const Buffer buffer = Take(client, kPage); }
      if (!RefuseCall(SYS_membarrier, EPERM)) return "no filter";
    }
    return budget->held() == 0 ? "" : "something was left";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
}

// Zeroing what waits is a touch of what a child has not mapped.
TEST_CASE("PooledHeap: a forked child leaves alone what waits to be zeroed") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<PoolSpec{.scrub = Scrub::kBackground}>>();
  auto client = Make(manager);
  { Buffer waiting = Take(client, kPage); }
  const ChildEnd end = RunInChild([&]() -> std::string {
    manager.Tick();
    return manager.Trim() == 0 ? "" : "it gives memory back";
  });
  CHECK(end.signal == 0);
  CHECK(end.text == "");
  manager.Tick();
  CHECK(Sum(manager.MakeReport()).held_bytes == kPage);
}

TEST_CASE("PooledHeap: a pool that was another domain's counts from zero") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  {
    auto client = Make(manager);
    for (int i = 0; i < 5; ++i) Buffer buffer = Take(client, kPage);
    CHECK(Sum(manager.MakeReport()).hits == 4);
  }
  manager.Trim();
  auto client = Make(manager);
  Buffer buffer = Take(client, kPage);
  const Report report = manager.MakeReport();
  REQUIRE(report.pools.size() == 1);
  CHECK(report.pools[0].hits == 0);
  CHECK(report.pools[0].misses == 1);
}

TEST_CASE("PooledHeap: clients that are many and idle take no pools from the next one") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  std::vector<decltype(Make(manager))> clients;
  for (int i = 0; i < 1000; ++i) clients.push_back(Make(manager));
  auto camera = Make(manager, {.domain = "capture", .recycle_as_is = true});
  for (int i = 0; i < 10; ++i) Buffer buffer = Take(camera, kPage);
  CHECK(Sum(manager.MakeReport()).misses == 1);
  CHECK(manager.errors().count() == 0);
}

TEST_CASE("PooledHeap: a client with many sizes leaves pools to others") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  // More than one client can have: each takes all the sizes that there are.
  std::vector<Pooled<>::Client> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(Make(manager, {.recycle_as_is = true}));
    for (uint32_t size = 0; size < 40; ++size) {
      const Buffer buffer = Take(clients.back(), PoolClasses::Bytes(size));
    }
  }
  auto late = Make(manager, {.recycle_as_is = true});
  for (int i = 0; i < 10; ++i) Buffer buffer = Take(late, kPage);
  uint64_t hits = 0;
  for (const PoolReport& pool : manager.MakeReport().pools) {
    if (pool.domain.slot == 5) hits += pool.hits;
  }
  CHECK(hits >= 9);
}

TEST_CASE("PooledHeap: a client that no pool is left for is told, once, and works") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  std::vector<Pooled<>::Client> clients;
  for (int i = 0; i < 127; ++i) {
    clients.push_back(Make(manager));
    { const Buffer buffer = Take(clients.back(), kPage); }
  }
  CHECK(manager.MakeReport().unpooled == 0);
  auto late = Make(manager);
  for (int i = 0; i < 5; ++i) Buffer buffer = Take(late, 2 * kPage);
  CHECK(manager.errors().count() == 1);
  const Report report = manager.MakeReport();
  CHECK(report.unpooled == 5);
  CHECK(PoolText(report).find("no pool was left for 5 leases\n") != std::string::npos);
  // A domain that goes leaves its pool to the next, with what lies idle in it.
  clients.erase(clients.begin());
  for (int i = 0; i < 5; ++i) Buffer buffer = Take(late, 2 * kPage);
  CHECK(manager.MakeReport().unpooled == 5);
  CHECK(Sum(manager.MakeReport()).hits == 4);
}

TEST_CASE("PoolDirectory: sizes that are the same in whole pages share a pool") {
  using Directory = ion::internal::PoolDirectory<uint64_t{64} << 20>;
  for (const uint64_t page : {uint64_t{4} << 10, uint64_t{16} << 10, uint64_t{64} << 10}) {
    CAPTURE(page);
    std::set<uint64_t> sizes;
    for (uint64_t bytes = 1; bytes <= uint64_t{64} << 20; bytes += 1 + bytes / 97) {
      const uint64_t block = PoolClasses::Bytes(Directory::ClassOf(bytes, page));
      REQUIRE(block >= bytes);
      REQUIRE(block % page == 0);
      // Less than a page, or a fifth, is wasted.
      REQUIRE((block - bytes < page || block - bytes <= bytes / 4));
      sizes.insert(block / page);
    }
    for (uint64_t pages = 1; pages <= 4; ++pages) CHECK(sizes.count(pages) == 1);
  }
  CHECK(Directory::ClassOf(4096, 65536) == Directory::ClassOf(65536, 65536));
  CHECK(Directory::ClassOf(0, 65536) >= Directory::kClasses);
}

TEST_CASE("PooledHeap: after a hit the report names the client that holds the memory") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  std::optional camera(Make(manager, {.name = "camera", .domain = "d", .recycle_as_is = true}));
  std::optional codec(Make(manager, {.name = "codec", .domain = "d", .recycle_as_is = true}));
  const auto only = [&] {
    const Report report = manager.MakeReport();
    REQUIRE(report.buffers.size() == 1);
    return report.buffers[0];
  };
  { const auto frame = camera->Allocate({.bytes = kPage, .name = "frame"}); }
  auto taken = codec->Allocate({.bytes = kPage, .name = "bitstream"});
  REQUIRE(taken.ok());
  CHECK(Sum(manager.MakeReport()).hits == 1);
  CHECK(only().client == "codec");
  CHECK(only().name != "frame");
  CHECK(only().line == 0);
  CHECK(ClientText(manager.MakeReport(), "camera").find(std::to_string(kPage)) ==
        std::string::npos);
  CHECK(ClientText(manager.MakeReport(), "codec").find(std::to_string(kPage)) != std::string::npos);
  camera.reset();
  CHECK_FALSE(only().orphaned);
  CHECK(HeapText(manager.MakeReport(), HeapId{0}).find("codec") != std::string::npos);
  // Its lease outlives it: still its own, also once another client is there.
  codec.reset();
  auto other = Make(manager, {.name = "other", .domain = "d", .recycle_as_is = true});
  CHECK(only().client == "codec");
  CHECK(only().orphaned);
}

// Of what a thread has at hand, and of what is too large for that.
TEST_CASE("PooledHeap: a report empties no pool") {
  const LeakCheck leaks;
  for (const uint64_t bytes : {kPage, uint64_t{3} << 20}) {
    auto manager = Open<Pooled<>>();
    auto client = Make(manager, {.recycle_as_is = true});
    {
      const Buffer one = Take(client, bytes), two = Take(client, bytes);
      CHECK(manager.MakeReport().buffers.size() == 2);
    }
    CHECK(manager.MakeReport().buffers.empty());
    std::atomic<bool> done{false};
    std::thread reporting([&] {
      while (!done) (void)manager.MakeReport();
    });
    for (int i = 0; i < 20'000; ++i) Buffer buffer = Take(client, bytes);
    done = true;
    reporting.join();
    CHECK(Sum(manager.MakeReport()).misses == 2);
    CHECK(manager.MakeReport().buffers.empty());
  }
}

TEST_CASE("PooledHeap: a flag that its memory cannot honour is refused, whatever lies in a pool") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.recycle_as_is = true});
  { Buffer buffer = Take(client, kPage); }
  { Buffer cached = Take(client, kPage, Flags::kCached); }
  CHECK(ErrnoOf(client.Allocate({.bytes = kPage, .flags = Flags::kUncached}).status()) == EINVAL);
  CHECK(ErrnoOf(client.Allocate({.bytes = kPage, .flags = Flags::kCached | Flags::kUncached})
                    .status()) == EINVAL);
  CHECK(ErrnoOf(client.Allocate({.bytes = kPage, .alignment = 3}).status()) == EINVAL);
  CHECK(client.Allocate({.bytes = kPage, .alignment = kPage}).ok());
  CHECK(Sum(manager.MakeReport()).misses == 1);
}

TEST_CASE(
    "PooledHeap: a forked child closes what it inherited, and takes nothing from the parent") {
  const LeakCheck leaks;
  auto manager = Open<Pooled<>>();
  auto client = Make(manager, {.recycle_as_is = true});
  Buffer lease = Take(client, kPage);
  auto handle = client.MakeHandle(Take(client, kPage));
  REQUIRE(handle.ok());
  { Buffer idle = Take(client, 2 * kPage); }
  Write(lease, 5);
  const ChildEnd end = RunInChild([&]() -> std::string {
    const int fd = lease.fd().get();
    lease = Buffer();
    if (::fcntl(fd, F_GETFD) != -1) return "the descriptor is still open";
    if (ErrnoOf(client.Allocate({.bytes = kPage}).status()) != EPERM) return "it allocates";
    if (ErrnoOf(manager.CreateClient({}).status()) != EPERM) return "it makes clients";
    if (ErrnoOf(manager.StartReclaimer().status()) != EPERM) return "it starts a reclaimer";
    if (manager.Trim() != 0) return "it gives memory back";
    manager.Tick();
    if (!manager.MakeReport().buffers.empty()) return "it tells of buffers";
    { const auto gone = std::move(client); }
    { const auto gone = std::move(manager); }
    return "";
  });
  CHECK(end.text == "");
  CHECK(Look(lease, 5) == "ok");
  CHECK(client.Free(*handle).ok());
  CHECK(manager.backend().budget().held() == kPage + 2 * kPage);
}

TEST_CASE("PooledHeap: under strict seccomp, a hit makes no system call") {
  if (PoolPolicy::kOwnerFences) return Skip("TSan does not survive strict seccomp");
  const ChildEnd end = RunInChild([]() -> std::string {
    auto manager = Open<Pooled<>>();
    auto client = Make(manager, {.recycle_as_is = true});
    std::byte* at;
    {
      Buffer buffer = Take(client, kPage);
      at = LeaseAccess::BlockOf(buffer).mapping;
    }
    { const auto buffer = client.Allocate({.bytes = kPage}); }
    if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0) return "no strict mode";
    // Any system call but read, write, exit and sigreturn kills us from here on.
    uint64_t missed = 0;
    for (int i = 0; i < 1'000'000; ++i) {
      const auto buffer = client.Allocate({.bytes = kPage});
      if (!buffer.ok() || LeaseAccess::BlockOf(*buffer).mapping != at) ++missed;
      *at = static_cast<std::byte>(i);
    }
    ::syscall(SYS_exit, missed == 0 ? 0 : 1);
    return "not gone";
  });
  CHECK(end.text == "");
  CHECK(end.signal == 0);
  CHECK(end.exit_code == 0);
}

}  // namespace
}  // namespace ion::testing
