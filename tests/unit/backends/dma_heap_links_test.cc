// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a heap is follows from the name that the kernel gives its device, not from the entries of
// /dev/dma_heap that lead to it; and entries that lead to one memory are one heap. On fake boards
// with links, as Raspberry Pi OS makes them, and with the two names of Linux 7.2; and over links to
// the nodes of this machine.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/cma_region.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/claim.h"
#include "ion/policies/dma_heap.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

using B = DmaHeapBackend<FakeSyscalls>;
constexpr HeapType kSystem = HeapType::kSystem, kDma = HeapType::kDma, kCustom = HeapType::kCustom;
constexpr HeapSpec kVideo{.type = kDma, .id = 5, .name = "vidbuf_cached"};

FakeMachine Board(std::vector<FakeHeap> heaps, std::vector<FakeLink> links, bool sysfs = true) {
  FakeMachine machine;
  machine.dma_heaps = std::move(heaps);
  machine.links = std::move(links);
  machine.sysfs = sysfs;
  return machine;
}
FakeMachine Pi5(bool sysfs) {
  return Board({{.name = "linux,cma", .type = 4}, {.name = "system"}},
               {{"vidbuf_cached", "system"}, {"aaa", "vidbuf_cached"}}, sysfs);
}

template <class Backend>
Backend OpenOn(const typename Backend::Options& options) {
  Result<Backend> backend = Backend::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  return *std::move(backend);
}
std::vector<std::string> NamesOf(std::span<const KernelHeap> heaps) {
  std::vector<std::string> names;
  for (const KernelHeap& heap : heaps) names.push_back(heap.name);
  return names;
}
bool HasAlias(const KernelHeap& heap, std::string_view name) {
  return std::ranges::find(heap.aliases, name) != heap.aliases.end();
}
uint32_t Claimed(std::span<const KernelHeap> heaps, const HeapSpec& spec) {
  const Result<uint32_t> index = ClaimKernelHeap(heaps, spec, "dma_heap");
  REQUIRE(Told(index.error()) == "ok");
  return *index;
}

TEST_CASE("DmaHeapBackend: a link to system is system, whatever its name promises") {
  const LeakCheck leaks;
  for (const bool sysfs : {true, false}) {
    CAPTURE(sysfs);
    const B backend = OpenOn<B>({.sys = FakeSyscalls(Pi5(sysfs))});
    CHECK(NamesOf(backend.heaps()) == std::vector<std::string>{"linux,cma", "system"});
    const KernelHeap& system = backend.heaps()[1];
    CHECK(system.type == kSystem);
    CHECK(system.properties.contiguous.no());
    CHECK(HasAlias(system, "vidbuf_cached"));
    CHECK(HasAlias(system, "aaa"));
    CHECK(ClaimKernelHeap(backend.heaps(), kVideo, "dma_heap").error().code() == EINVAL);
    CHECK(Claimed(backend.heaps(), {.type = kSystem, .name = "vidbuf_cached"}) == 1);
    CHECK(Claimed(backend.heaps(), {.type = kDma}) == 0);
  }
}

TEST_CASE("DmaHeapBackend: a link to contiguous memory is an alias of it") {
  const LeakCheck leaks;
  auto manager = Manager<B, DmaHeap<B, kVideo>>::Open(
      {.sys = FakeSyscalls(Board({{.name = "linux,cma", .type = 4}, {.name = "system"}},
                                 {{"vidbuf_cached", "linux,cma"}}))});
  REQUIRE(manager.ok());
  CHECK(manager->HeapName(HeapId{5}) == "linux,cma");
  CHECK(manager->Guarantees(HeapId{5}).contiguous.yes());
  CHECK(manager->Allocate({.bytes = 1, .heaps = HeapId{5}}).ok());
}

TEST_CASE("DmaHeapBackend: a link that leads nowhere, or to what is no heap, promises nothing") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.Link("linux,cma", "/dev/does-not-exist");
  dir.Link("reserved", "/dev/null");
  dir.Link("system", "reserved");
  DmaHeapBackend<>::Options options;
  options.directory = dir.path();
  const auto backend = OpenOn<DmaHeapBackend<>>(options);
  CHECK(NamesOf(backend.heaps()) == std::vector<std::string>{"linux,cma", "reserved"});
  for (const KernelHeap& heap : backend.heaps()) {
    CHECK(heap.type == kCustom);
    CHECK(heap.properties == Properties{.alignment = PageBytes()});
  }
  CHECK(Kind(backend.heaps()[0].unusable) == "ENOENT open");
  CHECK(HasAlias(backend.heaps()[1], "system"));
}

TEST_CASE("DmaHeapBackend: both names of the default CMA region are one heap") {
  const LeakCheck leaks;
  for (const char* old : {"reserved", "linux,cma", "default-pool"}) {
    CAPTURE(old);
    const B backend = OpenOn<B>(
        {.sys = FakeSyscalls(Board({{.name = "default_cma_region", .type = 4, .region = "cma"},
                                    {.name = old, .type = 4, .region = "cma"},
                                    {.name = "system"}},
                                   {{"vidbuf", old}}))});
    CHECK(NamesOf(backend.heaps()) == std::vector<std::string>{"default_cma_region", "system"});
    for (const std::string_view name : kDefaultCmaNames) {
      CHECK(Claimed(backend.heaps(), {.type = kDma, .name = *HeapName::From(name)}) == 0);
    }
    CHECK(Claimed(backend.heaps(), {.type = kDma, .name = "vidbuf"}) == 0);
    CHECK(ClaimKernelHeap(backend.heaps(), {.type = kDma, .ordinal = 1}, "").error().code() ==
          ENODEV);
  }
}

// The old name of a region, which only others may open.
class OldNameRefused : public FakeSyscalls {
 public:
  using FakeSyscalls::FakeSyscalls;
  long Open(const char* path, int flags) const noexcept {
    const bool old = std::string_view(path).ends_with("/reserved");
    return old && (flags & O_PATH) == 0 ? -EACCES : FakeSyscalls::Open(path, flags);
  }
};

TEST_CASE(
    "DmaHeapBackend: a name of a heap that cannot be opened is reported, and the heap serves") {
  const LeakCheck leaks;
  std::vector<int> reported;
  const auto sink = std::make_shared<ErrorSink>(
      [](const Error& error, void* to) {
        static_cast<std::vector<int>*>(to)->push_back(error.code());
      },
      &reported);
  auto backend = OpenOn<DmaHeapBackend<OldNameRefused>>(
      {.sys = OldNameRefused(Board({{.name = "default_cma_region", .type = 4, .region = "cma"},
                                    {.name = "reserved", .type = 4, .region = "cma"}},
                                   {})),
       .errors = sink});
  CHECK(reported == std::vector<int>{EACCES});
  REQUIRE(backend.heaps().size() == 1);
  CHECK(backend.heaps()[0].unusable.ok());
  CHECK(!backend.LookAgain());
  CHECK(reported.size() == 1);
}

TEST_CASE("DmaHeapBackend: other contiguous heaps stay heaps of their own") {
  const LeakCheck leaks;
  const B backend = OpenOn<B>({.sys = FakeSyscalls(Board({{.name = "default_cma_region", .type = 4},
                                                          {.name = "reserved-uncached", .type = 4},
                                                          {.name = "npu", .type = 4},
                                                          {.name = "cma", .type = 4}},
                                                         {}))});
  CHECK(backend.heaps().size() == 4);
}

TEST_CASE("DmaHeapBackend: links to this machine's nodes are other names of its heaps") {
  const LeakCheck leaks;
  if (::access("/dev/dma_heap/system", R_OK) != 0) return Skip("no /dev/dma_heap/system");
  const TempDir dir;
  for (const char* link : {"vidbuf_cached", "reserved", "linux,cma-uncached"}) {
    dir.Link(link, "/dev/dma_heap/system");
  }
  DmaHeapBackend<>::Options options;
  options.directory = dir.path();
  auto backend = OpenOn<DmaHeapBackend<>>(options);
  REQUIRE(backend.heaps().size() == 1);
  CHECK(backend.heaps()[0].type == kSystem);
  CHECK(backend.heaps()[0].properties.contiguous.no());
  CHECK(backend.heaps()[0].properties.cached.yes());
  CHECK(HasAlias(backend.heaps()[0], "system"));
  const Memory memory(backend, 0, 65536);
  CHECK(memory.block.contiguous.no());
}

TEST_CASE("CmaRoomOf: sysfs tells the room of this machine's region, and a buffer takes of it") {
  const LeakCheck leaks;
  if (::access("/dev/dma_heap", R_OK) != 0) return Skip("no /dev/dma_heap");
  auto backend = OpenOn<DmaHeapBackend<>>({});
  const auto heaps = backend.heaps();
  const auto cma = std::ranges::find(heaps, kDma, &KernelHeap::type);
  if (cma == heaps.end()) return Skip("no contiguous heap");
  std::vector<std::string_view> names(cma->aliases.begin(), cma->aliases.end());
  names.push_back(cma->name);
  const std::optional<Room> before = CmaRoomOf(LinuxSyscalls(), names);
  if (!before.has_value()) return Skip("the kernel's sysfs does not tell the pages of its regions");
  const std::optional<Room> all = CmaRoomOfAll(LinuxSyscalls());
  REQUIRE(all.has_value());
  CHECK(before->total <= all->total);
  CHECK(before->free <= before->total);
  const Memory memory(backend, static_cast<uint32_t>(cma - heaps.begin()), 8 << 20);
  const std::optional<Room> after = CmaRoomOf(LinuxSyscalls(), names);
  REQUIRE(after.has_value());
  CHECK(after->total == before->total);
  CHECK(after->free + (8 << 20) <= before->free);
}

TEST_CASE("DmaHeapBackend: this machine's heaps have the names that sysfs tells") {
  const LeakCheck leaks;
  if (::access("/dev/dma_heap", R_OK) != 0) return Skip("no /dev/dma_heap");
  const auto backend = OpenOn<DmaHeapBackend<>>({});
  for (const KernelHeap& heap : backend.heaps()) {
    CAPTURE(heap.name);
    CHECK(heap.type == DmaHeapNameTraits(heap.name).type);
  }
}

}  // namespace
}  // namespace ion::testing
