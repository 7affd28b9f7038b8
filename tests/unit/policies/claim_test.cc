// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a HeapSpec is, and which kernel heap it means: over lists written here, and over the
// dma_heap backend on a fake kernel.

#include "ion/policies/claim.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/base/linux_release.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

constexpr HeapType kSystem = HeapType::kSystem, kDma = HeapType::kDma, kCustom = HeapType::kCustom;

KernelHeap Of(const std::string& name, HeapType type, Error unusable = {}) {
  return {.name = name,
          .type = type,
          .properties = {.alignment = 4096},
          .unusable = unusable,
          .aliases = DmaHeapNameTraits(name).aliases};
}
Error Closed() { return Error(EACCES, "open", {"test", Operation::kOpen}); }

// The name of the heap that `spec` claims, or the error's text.
std::string Claimed(const std::vector<KernelHeap>& heaps, const HeapSpec& spec) {
  const Result<uint32_t> index = ClaimKernelHeap(heaps, spec, "test");
  return index.ok() ? heaps[*index].name : Describe(index.error());
}
bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

TEST_CASE("HeapName: a text of up to 63 characters, compared by its characters") {
  constexpr HeapName kName = "linux,cma";
  static_assert(kName.view() == "linux,cma" && !kName.empty() && HeapName().empty());
  CHECK(kName == *HeapName::From("linux,cma"));
  CHECK_FALSE(kName == HeapName("linux,cma-uncached"));
  CHECK(HeapName("system\0x") == HeapName("system"));
  const std::string longest(63, 'n');
  CHECK(HeapName::From(longest)->view() == longest);
  CHECK_FALSE(HeapName::From(longest + "n").has_value());
  CHECK_FALSE(HeapName::From(std::string_view("a\0b", 3)).has_value());
}

TEST_CASE("ClaimKernelHeap: without a name, the first of the type that can be used") {
  const std::vector<KernelHeap> heaps = {Of("reserved", kDma), Of("system", kSystem, Closed()),
                                         Of("system-uncached", kSystem), Of("x", kCustom)};
  CHECK(Claimed(heaps, {.type = kSystem}) == "system-uncached");
  CHECK(Claimed(heaps, {.type = kDma}) == "reserved");
  CHECK(Claimed(heaps, {.type = kCustom}) == "x");
}

TEST_CASE("ClaimKernelHeap: an ordinal counts the heaps of the type that can be used") {
  const std::vector<KernelHeap> heaps = {Of("cma", kDma), Of("isp", kDma, Closed()),
                                         Of("vidbuf_cached", kDma), Of("system", kSystem)};
  CHECK(Claimed(heaps, {.type = kDma, .ordinal = 0}) == "cma");
  CHECK(Claimed(heaps, {.type = kDma, .ordinal = 1}) == "vidbuf_cached");
  CHECK(Contains(Claimed(heaps, {.type = kDma, .ordinal = 2}), "EACCES"));
  CHECK(Contains(Claimed(heaps, {.type = kSystem, .ordinal = 1}),
                 "the backend has not so many heaps of this type): ENODEV"));
}

TEST_CASE("ClaimKernelHeap: with a name, the heap of this name and no other") {
  const std::vector<KernelHeap> heaps = {Of("system", kSystem), Of("system-uncached", kSystem)};
  CHECK(Claimed(heaps, {.type = kSystem, .name = "system-uncached"}) == "system-uncached");
  CHECK(Claimed(heaps, {.type = kSystem, .name = "system"}) == "system");
  CHECK(Claimed(heaps, {.type = kSystem, .name = "system-dma32"}) ==
        "test system-dma32: open (the backend has no heap of this name): ENODEV: the backend's "
        "heaps() has the names; without one, the first heap of the type is taken");
}

TEST_CASE("ClaimKernelHeap: the default CMA region is found under each name that it has had") {
  for (const char* present :
       {"default_cma_region", "reserved", "linux,cma", "default-pool", "cma"}) {
    for (const std::string_view wanted : kDefaultCmaNames) {
      const HeapSpec spec{.type = kDma, .name = *HeapName::From(wanted)};
      CHECK(Claimed({Of("vidbuf_cached", kDma), Of(present, kDma)}, spec) == present);
    }
    // Its uncached twin is other memory to a CPU.
    CHECK(Contains(Claimed({Of(present, kDma)}, {.type = kDma, .name = "cma-uncached"}), "ENODEV"));
  }
  CHECK(Claimed({Of("cma", kDma), Of("linux,cma-uncached", kDma)},
                {.type = kDma, .name = "cma-uncached"}) == "linux,cma-uncached");
}

TEST_CASE("ClaimKernelHeap: the exact name goes before another name of the same region") {
  const std::vector<KernelHeap> heaps = {Of("default_cma_region", kDma, Closed()),
                                         Of("reserved", kDma)};
  CHECK(Claimed(heaps, {.type = kDma, .name = "reserved"}) == "reserved");
  CHECK(Contains(Claimed(heaps, {.type = kDma, .name = "default_cma_region"}), "EACCES"));
  CHECK(Claimed(heaps, {.type = kDma, .name = "linux,cma"}) == "reserved");
}

TEST_CASE("ClaimKernelHeap: a heap that nobody knows is what its spec says") {
  const std::vector<KernelHeap> heaps = {Of("vpu-region", kCustom), Of("system", kSystem)};
  CHECK(Claimed(heaps, {.type = kDma, .name = "vpu-region"}) == "vpu-region");
  CHECK(Claimed(heaps, {.type = kCustom, .name = "vpu-region"}) == "vpu-region");
}

TEST_CASE("HeapName: a pattern matches what has its beginning and its end") {
  constexpr HeapName kAny = "*", kVendor = "qcom,*", kUncached = "*-uncached", kBoth = "a*a";
  static_assert(kVendor.is_pattern() && !HeapName("qcom").is_pattern());
  CHECK(kAny.Matches(""));
  CHECK(kVendor.Matches("qcom,display"));
  CHECK(kVendor.Matches("qcom,"));
  CHECK_FALSE(kVendor.Matches("qcom"));
  CHECK(kUncached.Matches("cma-uncached"));
  CHECK(kBoth.Matches("aa"));
  CHECK_FALSE(kBoth.Matches("a"));
  CHECK(kVendor.MayMeet(kUncached));
  CHECK(kVendor.MayMeet("qcom,*-cached"));
  CHECK(kVendor.MayMeet("qcom,x"));
  CHECK_FALSE(kVendor.MayMeet("mtk*"));
  CHECK_FALSE(kUncached.MayMeet("*-cached"));
}

TEST_CASE("ClaimKernelHeap: a pattern counts the heaps that match, of its type or of none") {
  const std::vector<KernelHeap> heaps = {Of("qcom,adsp", kCustom, Closed()),
                                         Of("qcom,display", kCustom), Of("qcom,user", kCustom),
                                         Of("reserved", kDma), Of("system", kSystem)};
  CHECK(Claimed(heaps, {.type = kDma, .name = "qcom,*"}) == "qcom,display");
  CHECK(Claimed(heaps, {.type = kDma, .name = "qcom,*", .ordinal = 1}) == "qcom,user");
  CHECK(Contains(Claimed(heaps, {.type = kDma, .name = "qcom,*", .ordinal = 2}), "EACCES"));
  CHECK(Claimed(heaps, {.type = kDma, .name = "*", .ordinal = 2}) == "reserved");
  CHECK(Contains(Claimed(heaps, {.type = kDma, .name = "*r*", .ordinal = 9}), "no heap of such"));
  CHECK(Contains(Claimed(heaps, {.type = kSystem, .name = "s*", .ordinal = 1}),
                 "not so many heaps of such a name): ENODEV"));
}

TEST_CASE("ClaimKernelHeap: no kernel before 5.6 is told to have dma-heaps") {
  const auto told = [](LinuxRelease linux) {
    return Describe(ClaimKernelHeap({}, {.type = kDma}, "test", linux).error());
  };
  CHECK_FALSE(Contains(told({4, 19}), "dma_heap"));
  CHECK(Contains(told({4, 19}), "cma=64M"));
  CHECK(Contains(told({5, 6}), "dma_heap"));
  CHECK(Contains(told({}), "dma_heap"));
}

TEST_CASE("ClaimKernelHeap: what cannot be is refused, with what to do") {
  const std::vector<KernelHeap> heaps = {Of("system", kSystem), Of("cma", kDma, Closed())};
  CHECK(Contains(Claimed(heaps, {.type = kDma, .name = "system"}),
                 "the heap of this name is of another type): EINVAL"));
  CHECK(Contains(Claimed(heaps, {.type = kSystem, .name = "system", .alignment = 8192}),
                 "less alignment than its spec wants): EINVAL"));
  CHECK(Claimed(heaps, {.type = kSystem, .name = "system", .alignment = 4096}) == "system");
  CHECK(Contains(Claimed(heaps, {.type = kDma}), "EACCES"));
  CHECK(Contains(Claimed({}, {.type = kDma}), "CONFIG_DMABUF_HEAPS_CMA=y"));
  CHECK(Contains(Claimed({}, {.type = kSystem}), "take another backend"));
  CHECK(Contains(Claimed({}, {.type = kSystem}), "ENODEV"));
}

TEST_CASE("KernelHeapPolicy: several heaps of one type, each under its name") {
  const LeakCheck leaks;
  FakeMachine machine;
  for (const char* name : {"reserved", "system", "system-uncached", "vpu", "isp"}) {
    machine.dma_heaps.push_back({.name = name});
  }
  using B = DmaHeapBackend<FakeSyscalls>;
  using Board =
      Manager<B, SystemHeap<B>, SystemHeap<B, HeapSpec{.id = 1, .name = "system-uncached"}>,
              DmaHeap<B>, DmaHeap<B, HeapSpec{.type = kDma, .id = 5, .name = "vpu"}>,
              DmaHeap<B, HeapSpec{.type = kDma, .id = 6, .name = "isp"}>,
              DmaHeap<B, HeapSpec{.type = kDma, .id = 7, .name = "gpu"}>>;
  auto board = Board::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(board.ok());
  CHECK(board->HeapName(HeapId{0}) == "system");
  CHECK(board->HeapName(HeapId{1}) == "system-uncached");
  CHECK(board->HeapName(HeapId{4}) == "reserved");
  CHECK(board->HeapName(HeapId{5}) == "vpu");
  CHECK(board->HeapName(HeapId{6}) == "isp");
  CHECK_FALSE(board->heaps().contains(HeapId{7}));
  CHECK(ErrnoOf(board->Allocate({.bytes = 1, .heaps = HeapId{7}}).status()) == ENODEV);
  // Contiguous because the board says so; whether it is cached nobody has said.
  CHECK(board->Guarantees(HeapId{5}).contiguous);
  CHECK_FALSE(board->default_heaps().contains(HeapId{5}));
  for (const Flags flags : {Flags::kCached, Flags::kUncached}) {
    const auto refused = board->Allocate({.bytes = 1, .heaps = HeapId{5}, .flags = flags});
    CHECK(ErrnoOf(refused.status()) == EINVAL);
  }
}

TEST_CASE("KernelHeapPolicy: a buffer is contiguous where its spec vouches for a heap") {
  const LeakCheck leaks;
  if (::access("/dev/dma_heap/reserved", F_OK) != 0) return Skip("no /dev/dma_heap/reserved");
  const TempDir dir;
  dir.Link("vpu", "/dev/dma_heap/reserved");
  using B = DmaHeapBackend<>;
  B::Options options;
  options.directory = dir.path();
  auto board =
      Manager<B, DmaHeap<B, HeapSpec{.type = kDma, .id = 5, .name = "vpu"}>>::Open(options);
  REQUIRE(board.ok());
  const absl::StatusOr<Buffer> buffer = board->Allocate({.bytes = 1, .heaps = HeapId{5}});
  REQUIRE(buffer.ok());
  CHECK(buffer->properties().contiguous);
}

}  // namespace
}  // namespace ion::testing
