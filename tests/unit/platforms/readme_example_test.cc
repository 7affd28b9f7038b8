// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The code in README.md, docs/choosing-memory.md, backends/PORTING.md and devices/README.md, as it stands there: each block is
// cut out by the build (tests/BUILD) and compiled here, and run where that needs no device.

#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/types.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/allocate_frame.h"
#include "ion/archetypes.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/check_pipeline.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/devices/node_file.h"
#include "ion/heap_offers.h"
#include "ion/heap_spec.h"
#include "ion/pipeline.h"
#include "ion/pixel_format.h"
#include "ion/platforms/all.h"
#include "ion/platforms/heap_table.h"
#include "ion/policies/pool/pool.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/report.h"
#include "tests/devices_block_1.inc"  // IWYU pragma: keep: after what it needs
#include "tests/porting_block_1.inc"  // IWYU pragma: keep: after what it needs
#include "tests/porting_block_2.inc"  // IWYU pragma: keep

namespace {

absl::Status Chosen(ion::platforms::Memfd& manager, ion::platforms::Memfd::Client& client){
#include "tests/choosing_block_1.inc"
}

TEST_CASE("docs/choosing-memory.md: memory for devices that it does not suit is refused by name") {
  auto manager = ion::platforms::Memfd::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({});
  REQUIRE(client.ok());
  const absl::Status status = Chosen(*manager, *client);
  CHECK(ion::ErrnoOf(status) == ENODEV);
  CHECK(std::string(status.message()).find("codec") != std::string::npos);
}

namespace choosing {

struct Camera {
  static constexpr ion::PartyName kName = "camera";
  static constexpr ion::Constraints kConstraints{.segments_max = 1};
};
struct Npu {
  static constexpr ion::PartyName kName = "npu";
  static constexpr ion::Constraints kConstraints{.stride_multiple = 64};
};
constexpr ion::HeapSpec kBoard[] = {{.type = ion::HeapType::kSystem, .id = 0},
                                    {.type = ion::HeapType::kDma, .id = 4}};

absl::Status Opened(){
#include "tests/choosing_block_2.inc"
}

TEST_CASE("docs/choosing-memory.md: a machine is not other than the board that is described") {
  CHECK(ion::ErrnoOf(Opened()) != EINVAL);
}

}  // namespace choosing

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

#include "tests/readme_block_4.inc"

TEST_CASE("README: the whole job") {
#include "tests/readme_block_1.inc"
  REQUIRE(fd.ok());
  CHECK(fd->valid());
  const auto read = ion::CpuRead::Begin(*mapping);
  REQUIRE(read.ok());
  CHECK(std::ranges::all_of(read->bytes(), [](std::byte b) { return b == std::byte{0x5a}; }));
}

TEST_CASE("README: memory that is shared, and copies, in one call") {
  auto manager = ion::platforms::Memfd::Open();
  auto client = manager->CreateClient({.name = "camera"});
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const ion::UniqueFd ours(ends[0]), theirs(ends[1]);
  const ion::FdRef socket = ours.borrow();
#include "tests/readme_block_2.inc"
  CHECK(copied.ok());
  REQUIRE(sent.ok());
  char text[sizeof("two frames")];
  const auto received = ion::ReceiveFds(theirs.borrow(), std::as_writable_bytes(std::span(text)));
  REQUIRE(received.ok());
  CHECK(received->size() == 2);
  CHECK(frame->bytes() == 8_MiB);
  CHECK(ring->size() == 4);
}

TEST_CASE("README: a backend that is chosen when the program runs") {
#include "tests/readme_block_3.inc"
  CHECK(memory->backend().refusals().size() <= 1);
}

TEST_CASE("README: a request that names its heaps") {
  auto opened = Camera<ion::MemfdBackend<>>::Open();
  REQUIRE(opened.ok());
  auto& manager = *opened;
#include "tests/readme_block_5.inc"
  REQUIRE(scanout.ok());
  CHECK(manager.HeapOf(*scanout) == ion::HeapId{0});
  CHECK_FALSE(manager.Allocate({.bytes = 8_MiB, .heaps = kContiguous}).ok());
}

TEST_CASE("README: the pool") {
#include "tests/readme_block_6.inc"
  CHECK(surplus.size() == 412);
  CHECK(pool->counters().held == 100);
}

TEST_CASE("README: pools behind the heaps") {
#include "tests/readme_block_7.inc"
  // The machine may not let us watch pressure; the reclaimer runs all the same.
  CHECK(reclaimer.ok());
  CHECK(ion::ErrnoOf(manager->StartReclaimer().status()) == EALREADY);
  CHECK(frame.ok());
  const ion::Report report = manager->MakeReport();
  REQUIRE(report.pools.size() == 1);
  CHECK(report.pools[0].hits == 1);
  CHECK(report.pools[0].scrubs == 0);
}

TEST_CASE("PORTING: the backend is one") {
  CHECK(ion::Backend<AcmeBackend<>>);
  const auto opened = AcmeBackend<>::Open({});
  REQUIRE_FALSE(opened.ok());
  CHECK(ion::Describe(opened.error()) == "acme /dev/acme: open (open): ENOENT: load acme.ko");
}

TEST_CASE("PORTING: a vendor's ION is a backend, and its heap knows physical addresses") {
  CHECK(ion::Backend<NxpIonBackend<>>);
  CHECK(ion::Heap<NxpDmaHeap<NxpIonBackend<>>, NxpIonBackend<>>);
}

TEST_CASE("devices/README.md: the accelerator is a device") {
  CHECK(ion::Device<Npu<>>);
  const auto opened = Npu<>::Open("/dev/npu", std::make_shared<ion::ErrorSink>());
  REQUIRE_FALSE(opened.ok());
  CHECK(ion::Describe(opened.error()) == "npu /dev/npu: open (open): ENOENT");
  const auto other = Npu<>::Open("/dev/null", std::make_shared<ion::ErrorSink>());
  REQUIRE_FALSE(other.ok());
  CHECK(other.error().code() == ENODEV);
}

}  // namespace
