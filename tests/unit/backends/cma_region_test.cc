// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The error of contiguous memory that is not there tells how large the region is, what is left of
// it and how to enlarge it.

#include "ion/backends/cma_region.h"

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/status.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

using B = DmaHeapBackend<FakeSyscalls>;

B OpenOn(unsigned linux, std::vector<FakeHeap> heaps) {
  FakeMachine machine;
  machine.linux = linux;
  machine.dma_heaps = std::move(heaps);
  Result<B> backend = B::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(Told(backend.error()) == "ok");
  return *std::move(backend);
}
std::string Refusal(B& backend, uint64_t bytes) {
  Block block;
  const Error error = backend.Allocate(0, bytes, Flags::kNone, {}, block);
  CHECK(error.code() == ENOMEM);
  return Describe(error);
}
bool Contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}
std::string Advice(int mebibytes) {
  return "enlarge the region: cma=" + std::to_string(mebibytes) + "M on the kernel's command line";
}

// The region is called as its heap, or has the name that was the heap's before Linux 6.17; and a
// kernel that counts pages in no file of the region has sums of all in /proc/meminfo.
void TellsOfARegion(unsigned linux, const FakeHeap& heap) {
  const LeakCheck leaks;
  B backend = OpenOn(linux, {heap, {.name = "system"}});
  const std::string much = Refusal(backend, 9_MiB);
  CHECK(Contains(much, "more than the region has"));
  CHECK(Contains(much, "8388608 bytes are free of the region's 8388608: ask for less"));
  CHECK(Contains(much, Advice(16)));
  const Memory memory(backend, 0, 6_MiB);
  const std::string full = Refusal(backend, 3_MiB);
  CHECK(Contains(full, "the region is full"));
  CHECK(Contains(full, "2097152 bytes are free of the region's 8388608: release some buffers"));
  CHECK(Contains(full, Advice(16)));
  // What was asked for, beside the 6 MiB that are in use.
  CHECK(Contains(Refusal(backend, 100_MiB), Advice(112)));
  CHECK(Contains(Refusal(backend, 256_MiB), Advice(272)));
}

TEST_CASE("EnoughFor: what is in use and what is asked for, in whole steps of 16 MiB") {
  CHECK(EnoughFor({.free = 0, .total = 320_MiB}, 4096) == 336_MiB);
  CHECK(EnoughFor({.free = 300_MiB, .total = 320_MiB}, 300_MiB + 4096) == 336_MiB);
  // So much is free, and in no piece of it.
  CHECK(EnoughFor({.free = 64_MiB, .total = 320_MiB}, 64_MiB) == 384_MiB);
}

TEST_CASE("DmaHeapBackend: a full region of CMA tells its size, what is left, and what to do") {
  TellsOfARegion(Linux(6, 12), {.name = "linux,cma", .type = 4, .bytes = 8_MiB});
}
TEST_CASE("DmaHeapBackend: a region that kept its old name is found under it") {
  TellsOfARegion(Linux(6, 17),
                 {.name = "default_cma_region", .type = 4, .bytes = 8_MiB, .region = "reserved"});
}
TEST_CASE("DmaHeapBackend: without files of the region, /proc/meminfo tells") {
  TellsOfARegion(Linux(5, 10), {.name = "reserved", .type = 4, .bytes = 8_MiB});
}
TEST_CASE("DmaHeapBackend: a region of the device tree is found by its own name") {
  TellsOfARegion(Linux(6, 19), {.name = "npu-region", .type = 4, .bytes = 8_MiB});
}

TEST_CASE("DmaHeapBackend: of a heap that may be no region of CMA, no size and no cma= is told") {
  const LeakCheck leaks;
  B backend = OpenOn(Linux(5, 10), {{.name = "secure", .type = 4, .bytes = 1_MiB}});
  const std::string full = Refusal(backend, 2_MiB);
  CHECK_FALSE(Contains(full, "region"));
  CHECK_FALSE(Contains(full, "cma="));
}

}  // namespace
}  // namespace ion::testing
