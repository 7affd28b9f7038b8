// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/dma_heap.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/base/status.h"
#include "tests/support/absent_node.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

using B = DmaHeapBackend<>;

Result<B> OpenIn(const std::string& directory) {
  B::Options options;
  options.directory = directory;
  return B::Open(options);
}
bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_CASE("DmaHeapNameTraits: the names in use, and what their memory is") {
  struct Row {
    std::string_view name;
    HeapType type;
    Known cached;
  };
  constexpr HeapType kSystem = HeapType::kSystem, kDma = HeapType::kDma;
  for (const Row& row : {Row{"system", kSystem, true},
                         {"system-uncached", kSystem, false},
                         {"system-dma32", kSystem, true},
                         {"system-uncached-dma32", kSystem, false},
                         {"reserved", kDma, true},
                         {"linux,cma", kDma, true},
                         {"linux,cma-uncached", kDma, false},
                         {"default-pool", kDma, true},
                         {"default_cma_region", kDma, true},
                         {"cma", kDma, true},
                         {"cma-uncached", kDma, false},
                         {"vidbuf_cached", kDma, true},
                         {"qcom,secure-pixel", HeapType::kCustom, Known()},
                         {"frames-uncached", HeapType::kCustom, Known()},
                         {"systemd", HeapType::kCustom, Known()},
                         {"my-system", HeapType::kCustom, Known()},
                         {"", HeapType::kCustom, Known()}}) {
    CAPTURE(std::string(row.name));
    const DmaHeapTraits traits = DmaHeapNameTraits(row.name);
    CHECK(traits.type == row.type);
    CHECK(traits.cached == row.cached);
  }
}

TEST_CASE("DmaHeapBackend: without its directory it is ENOENT, and says what is missing") {
  const LeakCheck leaks;
  const TempDir dir;
  const Error error = OpenIn(dir.At("dma_heap")).error();
  CHECK(Kind(error) == "ENOENT open");
  CHECK(
      Contains(Describe(error), AbsentNodeAdvice("/sys/class/dma_heap", "CONFIG_DMABUF_HEAPS=y")));
  CHECK(error.node() == AsNode(dir.At("dma_heap")));
}

TEST_CASE("DmaHeapBackend: a file in place of its directory is ENOTDIR") {
  const LeakCheck leaks;
  const TempDir dir;
  CHECK(Kind(OpenIn(dir.File("dma_heap")).error()) == "ENOTDIR open");
}

TEST_CASE("DmaHeapBackend: an empty directory is ENODEV, and names the kernel options") {
  const LeakCheck leaks;
  const TempDir dir;
  const Error error = OpenIn(dir.path()).error();
  CHECK(Kind(error) == "ENODEV open");
  CHECK(Contains(Describe(error), "CONFIG_DMABUF_HEAPS_SYSTEM=y"));
  dir.Link(".hidden", "/dev/null");
  CHECK(Kind(OpenIn(dir.path()).error()) == "ENODEV open");
}

TEST_CASE("DmaHeapBackend: a file in place of a node is ENODEV, and no heap") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("system");
  const Error error = OpenIn(dir.path()).error();
  CHECK(Kind(error) == "ENODEV open");
  CHECK(Contains(Describe(error), "not a character device"));
}

TEST_CASE("DmaHeapBackend: a node that cannot be used stays in the list with its reason") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("reserved");
  dir.Link("absent", "/dev/does-not-exist");
  dir.Link("system", "/dev/null");
  REQUIRE(::mkfifo(dir.At("pipe").c_str(), 0600) == 0);
  Result<B> backend = OpenIn(dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  const std::span<const KernelHeap> heaps = backend->heaps();
  REQUIRE(heaps.size() == 4);
  CHECK(heaps[0].name == "absent");
  CHECK(Kind(heaps[0].unusable) == "ENOENT open");
  CHECK(heaps[1].name == "pipe");  // nobody writes to it, and nobody waits for that
  CHECK(Kind(heaps[1].unusable) == "ENODEV open");
  CHECK(heaps[2].name == "reserved");
  CHECK(Kind(heaps[2].unusable) == "ENODEV open");
  CHECK(heaps[3].name == "system");
  CHECK(heaps[3].unusable.ok());

  Block block;
  const Error error = backend->Allocate(2, 4_KiB, Flags::kNone, {}, block);
  CHECK(Kind(error) == "ENODEV open");
  CHECK(Contains(Describe(error), "not a character device"));
}

// In a child without root's rights: "" where opening `directory` says EACCES and the udev rule.
std::string OpenAsNobody(const std::string& directory) {
  if (::geteuid() == 0 &&
      (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)) {
    return "it cannot drop its rights";
  }
  const Error error = OpenIn(directory).error();
  if (Kind(error) != "EACCES open") return Told(error);
  const bool helps = Contains(Describe(error), "SUBSYSTEM==\"dma_heap\", GROUP=\"video\"");
  return helps ? "" : Describe(error);
}

TEST_CASE("DmaHeapBackend: a node without permission is EACCES, with the udev rule") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("system");
  if (::geteuid() != 0) std::filesystem::permissions(dir.At("system"), std::filesystem::perms{0});
  CHECK(RunInChild([&] { return OpenAsNobody(dir.path()); }).text == "");
}

TEST_CASE("DmaHeapBackend: the kernel's own nodes are root's, and say so with the udev rule") {
  const LeakCheck leaks;
  const char* const directory = "/dev/dma_heap";
  if (::access(directory, F_OK) != 0) return Skip("no /dev/dma_heap");
  if (::geteuid() != 0) return Skip("only root can drop its rights");
  CHECK(RunInChild([&] { return OpenAsNobody(directory); }).text == "");
}

TEST_CASE("DmaHeapBackend: the kernel's heap that has not enough is ENOMEM, and costs nothing") {
  const LeakCheck leaks;
  if (::access("/dev/dma_heap", F_OK) != 0) return Skip("no /dev/dma_heap");
  std::ifstream meminfo("/proc/meminfo");
  std::string word;
  uint64_t cma_kib = 0;
  while (meminfo >> word) {
    if (word == "CmaTotal:") meminfo >> cma_kib;
  }
  B::Options options;
  options.budget = std::make_shared<Budget>(UINT64_MAX / 2);
  Result<B> backend = B::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  bool found = false;
  for (uint32_t heap = 0; heap < backend->heaps().size(); ++heap) {
    if (backend->heaps()[heap].type != HeapType::kDma) continue;
    found = true;
    Block block;
    const Error error = backend->Allocate(heap, (cma_kib << 10) + 1_MiB, Flags::kNone, {}, block);
    CHECK(Kind(error) == "ENOMEM allocate");
    CHECK(std::string(error.what()) == "DMA_HEAP_IOCTL_ALLOC: more than the region has");
    REQUIRE(error.room().has_value());
    CHECK(error.room()->total <= cma_kib << 10);
    CHECK(error.room()->free <= error.room()->total);
    CHECK_FALSE(block.filled());
    CHECK(backend->budget().held() == 0);
    const Memory next(*backend, heap, 1_MiB);
  }
  if (!found) Skip("no contiguous heap");
}

TEST_CASE("DmaHeapBackend: a node that is no dma-heap fails with the kernel's ENOTTY") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.Link("system", "/dev/null");
  Result<B> backend = OpenIn(dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  CHECK(Kind(backend->Allocate(0, 4_KiB, Flags::kNone, {}, block)) == "ENOTTY allocate");
  CHECK(backend->budget().held() == 0);
}

TEST_CASE("DmaHeapBackend: what is refused first never reaches the node") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.Link("system", "/dev/null");
  Watch watch;
  DmaHeapBackend<WatchedSyscalls<>>::Options options;
  options.sys = WatchedSyscalls(&watch);
  options.directory = dir.path();
  options.budget = std::make_shared<Budget>(1_MiB);
  auto backend = DmaHeapBackend<WatchedSyscalls<>>::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  CHECK_FALSE(backend->Allocate(0, 0, Flags::kNone, {}, block).ok());
  CHECK_FALSE(backend->Allocate(0, 2_MiB, Flags::kNone, {}, block).ok());
  CHECK_FALSE(backend->Allocate(0, 4_KiB, HeapPrivate(0), {}, block).ok());
  CHECK_FALSE(backend->Allocate(1, 4_KiB, Flags::kNone, {}, block).ok());
  CHECK(watch.ioctls == 0);
}

}  // namespace
}  // namespace ion::testing
