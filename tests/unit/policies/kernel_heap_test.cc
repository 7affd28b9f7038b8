// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The heaps that take each buffer from the kernel: sizes, and what is refused because it could not
// be guaranteed.

#include "ion/policies/kernel_heap.h"

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/heap_spec.h"
#include "ion/policies/size_classes.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

constexpr HeapSpec kContig{.type = HeapType::kSystemContig, .id = 1};

std::string Told(const Error& error) { return error.ok() ? "ok" : Describe(error); }
template <class T>
std::string Told(const Result<T>& result) {
  return Told(result.error());
}
bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

// What a heap gives for a request, released at once.
struct Gift {
  uint64_t bytes;
  bool contiguous;
};
template <class H>
Result<Gift> Given(H& heap, uint64_t bytes) {
  Block block;
  if (Error error = heap.Allocate({.bytes = bytes}, block); !error.ok()) return error;
  const Gift given{block.bytes, block.contiguous};
  CHECK(Told(heap.Free(block)) == "ok");
  return given;
}

TEST_CASE("SystemHeap: a buffer is a whole size class, and what that costs is counted") {
  const LeakCheck leaks;
  auto backend = MemfdBackend<>::Open({});
  REQUIRE(backend.ok());
  auto heap = SystemHeap<MemfdBackend<>, HeapSpec{}, QuarterSteps>::Bind(*backend);
  REQUIRE(heap.ok());
  const uint64_t quarter = PageBytes() / 4;
  CHECK(Given(*heap, 33 * quarter)->bytes == 40 * quarter);
  CHECK(Given(*heap, 1024 * quarter)->bytes == 1024 * quarter);
  CHECK(heap->rounding().asked_bytes == (33 + 1024) * quarter);
  CHECK(heap->rounding().wasted_bytes() == 7 * quarter);
  // What was refused has cost nothing.
  CHECK(Given(*heap, 0).error().code() == EINVAL);
  CHECK(Given(*heap, UINT64_MAX).error().code() == EINVAL);
  CHECK(heap->rounding().wasted_bytes() == 7 * quarter);
}

TEST_CASE("SystemHeap: without size classes only pages are rounded up to") {
  const LeakCheck leaks;
  auto backend = MemfdBackend<>::Open({});
  REQUIRE(backend.ok());
  auto heap = SystemHeap<MemfdBackend<>>::Bind(*backend);
  REQUIRE(heap.ok());
  CHECK(Given(*heap, 33 * PageBytes() - 1)->bytes == 33 * PageBytes());
  CHECK(heap->rounding().wasted_bytes() == 1);
}

// Of a backend whose memory is scattered: one page, and a sentence for more.
template <class B>
void GivesSinglePages(B& backend) {
  auto heap = SystemContigHeap<B>::Bind(backend);
  REQUIRE(Told(heap) == "ok");
  CHECK(heap->properties().contiguous);
  for (const uint64_t bytes : {uint64_t{1}, PageBytes()}) {
    const Result<Gift> given = Given(*heap, bytes);
    REQUIRE(Told(given) == "ok");
    CHECK(given->bytes == PageBytes());
    CHECK(given->contiguous);
  }
  const Error error = Given(*heap, PageBytes() + 1).error();
  CHECK(error.code() == ENOTSUP);
  CHECK(Contains(Told(error), "only single pages of its memory are contiguous"));
  CHECK(Given(*heap, UINT64_MAX).error().code() == ENOTSUP);
  CHECK(Given(*heap, 0).error().code() == EINVAL);
}

TEST_CASE("SystemHeap: an alignment that its memory does not promise is refused, not dropped") {
  const LeakCheck leaks;
  Result<MemfdBackend<>> backend = MemfdBackend<>::Open({});
  REQUIRE(Told(backend) == "ok");
  auto heap = SystemHeap<MemfdBackend<>>::Bind(*backend);
  REQUIRE(Told(heap) == "ok");
  Block block;
  for (const uint64_t alignment : {uint64_t{0}, uint64_t{3}, 2 * PageBytes()}) {
    const Error error = heap->Allocate({.bytes = 1, .alignment = alignment}, block);
    CHECK(error.code() == EINVAL);
    CHECK_FALSE(block.filled());
    CHECK(Contains(Told(error), ": at most " + std::to_string(PageBytes()) + " bytes here: "));
    const bool power = alignment != 0 && alignment != 3;
    CHECK(Contains(Told(error), "no power of two") != power);
    CHECK(Contains(Told(error), "its memory does not promise") == power);
  }
  REQUIRE(Told(heap->Allocate({.bytes = 1, .alignment = PageBytes()}, block)) == "ok");
  CHECK(Told(heap->Free(block)) == "ok");
}

TEST_CASE_TEMPLATE("SystemContigHeap: of scattered memory it gives single pages, and no more", B,
                   MemfdBackend<>, UdmabufBackend<>, DmaHeapBackend<>) {
  const LeakCheck leaks;
  auto backend = B::Open({});
  if (backend.error().code() == ENOENT) return Skip(std::string("no ") + B::kName);
  REQUIRE(Told(backend) == "ok");
  GivesSinglePages(*backend);
}

TEST_CASE("SystemContigHeap: of a CMA heap that its spec names it gives up to the spec's bytes") {
  const LeakCheck leaks;
  auto backend = DmaHeapBackend<>::Open({});
  if (::access("/dev/dma_heap/reserved", F_OK) != 0) return Skip("no /dev/dma_heap/reserved");
  REQUIRE(Told(backend) == "ok");
  const bool renamed = ::access("/dev/dma_heap/default_cma_region", F_OK) == 0;  // Linux 6.17
  constexpr HeapSpec kRings{
      .type = HeapType::kSystemContig, .id = 1, .name = "linux,cma", .bytes = 1048576};
  auto heap = SystemContigHeap<DmaHeapBackend<>, kRings>::Bind(*backend);
  REQUIRE(Told(heap) == "ok");
  CHECK(heap->name() == (renamed ? "default_cma_region" : "reserved"));
  const Result<Gift> given = Given(*heap, 1_MiB);
  REQUIRE(Told(given) == "ok");
  CHECK(given->contiguous);
  const Error error = Given(*heap, 1_MiB + 1).error();
  CHECK(error.code() == EINVAL);
  CHECK(Contains(Told(error), "more than the largest buffer of its spec"));
}

TEST_CASE("SystemContigHeap: a CMA heap that it was not given is not touched") {
  const LeakCheck leaks;
  using B = DmaHeapBackend<FakeSyscalls>;
  FakeMachine machine;
  machine.dma_heaps = {{.name = "reserved", .type = 4}};
  auto backend = B::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(Told(backend) == "ok");
  CHECK(SystemContigHeap<B>::Bind(*backend).error().code() == ENODEV);
  machine.dma_heaps.push_back({.name = "system"});
  machine.dma_heaps.push_back({.name = "contig", .type = 4});
  auto with_more = B::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(Told(with_more) == "ok");
  CHECK(SystemContigHeap<B>::Bind(*with_more)->name() == "system");
  // A heap of which only the spec knows what it is: any size, as of CMA.
  constexpr HeapSpec kNamed{.type = HeapType::kSystemContig, .id = 1, .name = "contig"};
  auto named = SystemContigHeap<B, kNamed>::Bind(*with_more);
  REQUIRE(Told(named) == "ok");
  CHECK(named->properties().contiguous);
  CHECK(Given(*named, 2 * PageBytes())->bytes == 2 * PageBytes());
}

TEST_CASE("SystemContigHeap: an id may be had beside a SystemHeap over the same kernel heap") {
  const LeakCheck leaks;
  auto backend = MemfdBackend<>::Open({});
  REQUIRE(backend.ok());
  CHECK(SystemHeap<MemfdBackend<>>::Bind(*backend)->name() ==
        SystemContigHeap<MemfdBackend<>, kContig>::Bind(*backend)->name());
}

}  // namespace
}  // namespace ion::testing
