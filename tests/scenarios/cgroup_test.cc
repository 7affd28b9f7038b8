// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// In a cgroup of 128 MiB, as in a container: a process that takes all it gets is told ENOMEM and
// lives, and what lies idle goes back before the limit. For a guest: a process that loses is
// killed.

#include "tests/support/cgroup.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/memory_limit.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/core/reclaimer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

using Memfd = ion::MemfdBackend<>;
using Udmabuf = ion::UdmabufBackend<>;
using DmaHeap = ion::DmaHeapBackend<>;
TYPE_TO_STRING_AS("memfd", Memfd);
TYPE_TO_STRING_AS("udmabuf", Udmabuf);
TYPE_TO_STRING_AS("dma_heap", DmaHeap);

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

// Neither watermark nor age gives anything back.
constexpr PoolSpec kHoldsAll{.capacity_bytes = uint64_t{1} << 30,
                             .high_bytes = uint64_t{1} << 30,
                             .low_bytes = uint64_t{1} << 30,
                             .age_ticks = 1 << 30};
template <class B>
using Hoard = Manager<B, PooledHeap<SystemHeap<B>, kHoldsAll>>;

// The same beside a pool whose memory goes back after four ticks: that it has gone tells how often
// the reclaimer has looked.
constexpr PoolSpec kAges{.age_ticks = 2};
constexpr HeapId kAging{0};
template <class B>
using HoardAndClock =
    Manager<B, PooledHeap<SystemHeap<B, HeapSpec{.type = HeapType::kSystem, .id = kAging}>, kAges>,
            PooledHeap<SystemHeap<B, HeapSpec{.type = HeapType::kSystem, .id = 1}>, kHoldsAll>>;

// Waits until is() is true. False: not within a time in which a reclaimer ticks a thousand times.
template <class F>
bool Until(F is) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!is()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

bool Write(Buffer& buffer) {
  auto mapping = WritableMapping::Of(buffer);
  if (!mapping.ok()) return false;
  auto access = CpuWrite::Begin(*mapping);
  if (!access.ok()) return false;
  for (size_t at = 0; at < access->bytes().size(); at += 4096) access->bytes()[at] = std::byte{1};
  return true;
}
// Takes and writes buffers until there is an error, which is returned.
template <class M>
absl::Status TakeAll(M& manager, std::vector<Buffer>& buffers) {
  while (true) {
    auto buffer = manager.Allocate({.bytes = 1_MiB});
    if (!buffer.ok()) return buffer.status();
    if (!Write(*buffer)) return absl::InternalError("a buffer cannot be written");
    buffers.push_back(*std::move(buffer));
  }
}

TEST_CASE_TEMPLATE("MemoryLimit: a process in a group of 128 MiB is told ENOMEM, and lives", B,
                   Memfd, Udmabuf, DmaHeap) {
  if (!B::Open({}).ok()) return Skip("there is no such backend here");
  const LeakCheck leaks;
  const Cgroup group("128M");
  if (!group.ok()) return Skip(group.why());
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (!group.Enter()) return "the group cannot be entered";
    auto manager = Hoard<B>::Open();
    if (!manager.ok()) return std::string(manager.status().message());
    if (manager->backend().budget().limit() != 64_MiB) return "the bound is not half of the limit";
    for (int times = 0; times < 3; ++times) {
      std::vector<Buffer> buffers;
      const absl::Status status = TakeAll(*manager, buffers);
      if (ErrnoOf(status) != ENOMEM) return std::string(status.message());
      if (buffers.size() != 64) return "it got " + std::to_string(buffers.size()) + " MiB";
    }
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.signal == 0);
}

TEST_CASE_TEMPLATE("Reclaimer: idle memory goes back before a limit that is lowered", B, Memfd,
                   Udmabuf) {
  if (!B::Open({}).ok()) return Skip("there is no such backend here");
  const LeakCheck leaks;
  const Cgroup group("128M");
  if (!group.ok()) return Skip(group.why());
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (!group.Enter()) return "the group cannot be entered";
    auto manager = HoardAndClock<B>::Open();
    if (!manager.ok()) return std::string(manager.status().message());
    const auto held = [&] { return manager->backend().budget().held(); };
    uint64_t aging = 0;
    {
      auto buffer = manager->Allocate({.bytes = 1, .heaps = kAging});
      if (!buffer.ok()) return std::string(buffer.status().message());
      aging = buffer->bytes();
      std::vector<Buffer> buffers;
      if (ErrnoOf(TakeAll(*manager, buffers)) != ENOMEM) return "it was not told ENOMEM";
    }
    if (held() != 63_MiB + aging) return "the pools hold " + std::to_string(held());
    const ReclaimerOptions options{.interval = std::chrono::milliseconds(10),
                                   .pressure = std::nullopt,
                                   .min_available_percent = 40};
    const auto started = manager->StartReclaimer(options);
    if (!started.ok() || !started->pressure.ok()) return "no reclaimer";
    if (!Until([&] { return held() != 63_MiB + aging; })) return "the reclaimer does not tick";
    if (held() != 63_MiB) return "memory went back that nobody needs";
    if (!group.Put("memory.max", "80M")) return "the limit cannot be lowered";
    if (!Until([&] { return held() <= 60_MiB; })) return "nothing went back before the limit";
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.signal == 0);
}

TEST_CASE("MemoryLimit: a container with a namespace of its own knows its limit") {
  const LeakCheck leaks;
  const Cgroup group("128M");
  if (!group.ok()) return Skip(group.why());
  const TempDir dir;
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (!group.Enter()) return "the group cannot be entered";
    if (::unshare(CLONE_NEWCGROUP | CLONE_NEWNS) != 0) return "no namespaces";
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("cgroup2", dir.path().c_str(), "cgroup2", 0, nullptr) != 0) {
      return "the hierarchy cannot be mounted";
    }
    const auto limit = MemoryLimit::Read("test");
    if (!limit.ok()) return "it cannot be read";
    return limit->bytes == 128_MiB ? "" : "it is " + std::to_string(limit->bytes);
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
}

}  // namespace
}  // namespace ion::testing
