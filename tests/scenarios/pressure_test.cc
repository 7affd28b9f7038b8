// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A machine that is nearly full of idle memory, and a process that wants it. For a guest of 256 MiB
// (./dev test guest): whoever loses here is killed.

#include "ion/base/pressure.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/buffer.h"
#include "ion/core/reclaimer.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/recycling.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

// Neither watermark nor age gives anything back.
constexpr PoolSpec kHoldsAll{.capacity_bytes = uint64_t{1} << 30,
                             .high_bytes = uint64_t{1} << 30,
                             .low_bytes = uint64_t{1} << 30,
                             .age_ticks = 1 << 30};
using B = DmaHeapBackend<>;
using Hoard = Manager<B, PooledHeap<SystemHeap<B>, kHoldsAll>>;

// A figure of a file of /proc: "MemAvailable:" of meminfo, "oom_kill" of vmstat.
uint64_t Figure(const char* file, const std::string& name) {
  std::ifstream lines(file);
  std::string word;
  uint64_t figure = 0;
  while (lines >> word) {
    if (word == name && lines >> figure) return figure;
  }
  return 0;
}
uint64_t AvailableBytes() { return Figure("/proc/meminfo", "MemAvailable:") * 1024; }
uint64_t Kills() { return Figure("/proc/vmstat", "oom_kill"); }

constexpr const char* kTooLarge = "the machine has more than 256 MiB";
bool IsSmall() { return Figure("/proc/meminfo", "MemTotal:") <= 256 * 1024; }
// What is left of the machine: 64 MiB of it are for CMA, and not for a system heap.
constexpr uint64_t kLeft = 96_MiB;

// Touches so many bytes of its own, and is who is killed where there are too few.
std::string Touch(uint64_t bytes) {
  std::ofstream("/proc/self/oom_score_adj") << 1000;
  // Else the kernel may take its code from it, and read it again, for minutes.
  if (::mlockall(MCL_CURRENT) != 0) return "mlockall failed";
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return "mmap failed";
  for (uint64_t i = 0; i < bytes; i += 4096) static_cast<volatile std::byte*>(at)[i] = std::byte{1};
  return "";
}

// A process takes more than the machine has left beside what lies idle with `reclaimer`'s Manager.
struct Squeezed {
  ChildEnd end;
  uint64_t kills = 0;
  uint64_t given_back = 0;
};
Squeezed Squeeze(const ReclaimerOptions* reclaimer) {
  // Before the Manager opens, as it would hold the descriptors of all that it inherits.
  Child child([](FdRef told) -> std::string {
    uint64_t bytes = 0;
    if (::read(told.get(), &bytes, sizeof(bytes)) != sizeof(bytes)) return "it was told nothing";
    return Touch(bytes);
  });
  auto manager = Hoard::Open({.budget = std::make_shared<Budget>(uint64_t{1} << 30)});
  REQUIRE(manager.ok());
  {
    std::vector<Buffer> buffers;
    while (AvailableBytes() > kLeft) {
      auto buffer = manager->Allocate({.bytes = 1_MiB});
      REQUIRE(buffer.ok());
      buffers.push_back(*std::move(buffer));
    }
  }
  const uint64_t held = manager->backend().budget().held();
  CHECK(held > 64_MiB);
  if (reclaimer != nullptr) {
    const auto started = manager->StartReclaimer(*reclaimer);
    REQUIRE(started.ok());
    CHECK(started->pressure.ok());
  }
  const uint64_t wanted = AvailableBytes() + held / 2;
  const uint64_t kills = Kills();
  REQUIRE(::write(child.socket().get(), &wanted, sizeof(wanted)) == sizeof(wanted));
  Squeezed squeezed{.end = child.Join(), .kills = Kills() - kills};
  for (const PoolReport& pool : manager->MakeReport().pools) {
    squeezed.given_back += pool.given_back_bytes[static_cast<size_t>(GiveBack::kPressure)];
  }
  return squeezed;
}

TEST_CASE("Reclaimer: without one, who allocates is killed while memory lies idle") {
  if (!IsSmall()) return Skip(kTooLarge);
  const LeakCheck leaks;
  const Squeezed squeezed = Squeeze(nullptr);
  CHECK(squeezed.end.signal == SIGKILL);
  CHECK(squeezed.kills == 1);
}

TEST_CASE("Reclaimer: idle memory goes back before anybody is killed") {
  if (!IsSmall()) return Skip(kTooLarge);
  const LeakCheck leaks;
  const ReclaimerOptions options{
      .interval = std::chrono::milliseconds(20),
      .pressure = PressureOptions{.stall = std::chrono::milliseconds(10),
                                  .window = std::chrono::milliseconds(500)},
      .min_available_percent = 20};
  const Squeezed squeezed = Squeeze(&options);
  CHECK(squeezed.end.exit_code == 0);
  CHECK(squeezed.end.text == "");
  CHECK(squeezed.kills == 0);
  CHECK(squeezed.given_back > 0);
}

}  // namespace
}  // namespace ion::testing
