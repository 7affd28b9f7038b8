// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Which memory is contiguous, by what a device is given: the scatter lists of tests/guest/probe,
// checked against the physical memory itself and against a driver that takes one piece only.

#include "tests/support/scatter_probe.h"

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "examples/v4l2_source.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "tests/support/attached_devices.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/physical_memory.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

constexpr const char* kSystemHeap = "/dev/dma_heap/system";
constexpr const char* kCmaHeap = "/dev/dma_heap/reserved";

bool Here() {
  if (!ScatterProbe::Here()) Skip(ScatterProbe::kAbsent);
  return ScatterProbe::Here();
}

UniqueFd FromHeap(const char* heap, uint64_t bytes) {
  UniqueFd fd = HeapDmaBuf(bytes, O_RDWR, heap);
  INFO(heap, ", ", bytes, " bytes: ", ErrnoName(errno));
  REQUIRE(fd.valid());
  return fd;
}
// The addresses of all pages, in their order.
std::vector<uint64_t> PagesOf(const std::vector<DmaSegment>& segments) {
  std::vector<uint64_t> pages;
  for (const auto& [address, length] : segments) {
    for (uint64_t at = 0; at < length; at += 4096) pages.push_back(address + at);
  }
  return pages;
}
UniqueFd FromUdmabuf(uint64_t bytes) {
  const UniqueFd memfd = Memfd(bytes);
  UniqueFd fd = UdmabufOf(memfd.borrow(), bytes);
  REQUIRE(fd.valid());
  return fd;
}

std::vector<DmaSegment> SegmentsOf(const UniqueFd& fd) {
  Result<std::vector<DmaSegment>> segments = ScatterProbe::List(fd.borrow());
  REQUIRE(Told(segments.error()) == "ok");
  return *std::move(segments);
}

TEST_CASE("Runs: counts pieces of memory, not entries") {
  CHECK(Runs({}) == 0);
  CHECK(Runs({{.address = 0, .bytes = 4096}}) == 1);
  CHECK(Runs({{.address = 8192, .bytes = 4096}, {.address = 12'288, .bytes = 4096}}) == 1);
  CHECK(Runs({{.address = 8192, .bytes = 4096}, {.address = 16'384, .bytes = 4096}}) == 2);
  CHECK(Runs({{.address = 8192, .bytes = 4096}, {.address = 4096, .bytes = 4096}}) == 2);
}

TEST_CASE("ScatterProbe: memory of the CMA heap is one piece") {
  const LeakCheck leaks;
  if (!Here()) return;
  for (uint64_t bytes = 4_KiB; bytes <= 8_MiB; bytes *= 2) {
    for (const uint64_t wanted : {bytes, bytes + 4_KiB}) {
      CAPTURE(wanted);
      const std::vector<DmaSegment> segments = SegmentsOf(FromHeap(kCmaHeap, wanted));
      CHECK(Runs(segments) == 1);
      CHECK(TotalBytes(segments) == wanted);
    }
  }
}

TEST_CASE("ScatterProbe: memory of the system heap is all there, but not in one piece") {
  const LeakCheck leaks;
  if (!Here()) return;
  std::vector<UniqueFd> held;
  size_t scattered = 0;
  for (int i = 0; i < 8; ++i) {
    for (const uint64_t bytes : {4_KiB, 116_KiB, 256_KiB, 3_MiB}) {
      CAPTURE(bytes);
      held.push_back(FromHeap(kSystemHeap, bytes));
      const std::vector<DmaSegment> segments = SegmentsOf(held.back());
      CHECK(TotalBytes(segments) == bytes);
      if (Runs(segments) > 1) ++scattered;
      if (bytes == 4_KiB) CHECK(Runs(segments) == 1);
    }
  }
  CHECK(scattered > 0);
}

TEST_CASE("ScatterProbe: a udmabuf is the pages of its memfd, in their order") {
  const LeakCheck leaks;
  if (!Here()) return;
  const UniqueFd memfd = Memfd(1_MiB);
  const std::vector<DmaSegment> whole = SegmentsOf(UdmabufOf(memfd.borrow(), 1_MiB));
  const std::vector<DmaSegment> half = SegmentsOf(UdmabufOf(memfd.borrow(), 512_KiB));
  CHECK(TotalBytes(whole) == 1_MiB);
  CHECK(TotalBytes(half) == 512_KiB);
  // 6.12 makes an entry of each page, 5.10 and 7.2 one of those that lie side by side.
  if (!IsAs510() && !MayBeAs72()) CHECK(whole.size() == 256);
  const std::vector<uint64_t> all = PagesOf(whole);
  REQUIRE(all.size() == 256);
  CHECK(std::ranges::equal(PagesOf(half), std::span(all).first(128)));
}

TEST_CASE("ScatterProbe: what it names is where the memory is") {
  const LeakCheck leaks;
  if (!Here()) return;
  constexpr uint64_t kBytes = 1_MiB + 116_KiB;
  for (const auto& memory : {std::pair("CMA heap", FromHeap(kCmaHeap, kBytes)),
                             std::pair("system heap", FromHeap(kSystemHeap, kBytes)),
                             std::pair("udmabuf", FromUdmabuf(kBytes))}) {
    CAPTURE(memory.first);
    const UniqueFd& fd = memory.second;
    void* const at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    REQUIRE(at != MAP_FAILED);
    const std::span bytes(static_cast<std::byte*>(at), kBytes);
    FillPages(bytes, 1);
    uint64_t page = 0;
    for (const auto& [address, length] : SegmentsOf(fd)) {
      const PhysicalMapping there({.base = address, .bytes = length});
      INFO("/dev/mem: ", ErrnoName(there.errno_code()));
      REQUIRE(there.ok());
      // Before it is written: where it is not ours, the guest would die of it.
      REQUIRE(LookAtPages(there.bytes(), 1, page) == "ok");
      FillPages(there.bytes(), 2, page);
      page += length / PageBytes();
    }
    CHECK(LookAtPages(bytes, 2) == "ok");
    ::munmap(at, kBytes);
  }
}

TEST_CASE("ScatterProbe: what is no dma-buf is refused") {
  const LeakCheck leaks;
  if (!Here()) return;
  const auto said = [](FdRef fd) { return Kind(ScatterProbe::List(fd).error()); };
  CHECK(said(Memfd(4_KiB).borrow()) == "EINVAL import");
  CHECK(said(OpenNode(kSystemHeap, O_RDONLY).borrow()) == "EINVAL import");
  CHECK(said(OpenNode(ScatterProbe::kNode).borrow()) == "EINVAL import");
  CHECK(said(FdRef(-1)) == "EBADF import");
  CHECK(said(FdRef(1'000'000)) == "EBADF import");
}

// The interface itself, with a system call of the test's own.
struct RawProbe {
  RawProbe() { list.fd = fd.get(); }
  std::string Ask(unsigned long request = SCATTER_PROBE_IOCTL_LIST) { return Ask(&list, request); }
  std::string Ask(scatter_probe_list* at, unsigned long request = SCATTER_PROBE_IOCTL_LIST) const {
    return ::ioctl(node.get(), request, at) == 0 ? "ok" : ErrnoName(errno);
  }

  const UniqueFd node = OpenNode(ScatterProbe::kNode);
  // One page again and again: of others, those that lie side by side may become one entry.
  const UniqueFd memfd = Memfd(4_KiB);
  const UniqueFd fd = UdmabufOfPages(memfd.borrow(), std::vector<uint64_t>(16, 0));
  scatter_probe_segment segments[16] = {};
  scatter_probe_list list = {};
};

TEST_CASE("ScatterProbe: gives as many entries as there is room for, and their number") {
  const LeakCheck leaks;
  if (!Here()) return;
  RawProbe probe;
  CHECK(probe.Ask() == "ok");
  CHECK(probe.list.count == 16);
  CHECK(probe.list.bytes == 64_KiB);
  probe.list.segments = reinterpret_cast<uintptr_t>(probe.segments);
  probe.list.capacity = 3;
  CHECK(probe.Ask() == "ok");
  CHECK(probe.list.count == 16);
  CHECK(probe.segments[2].bytes == 4096);
  CHECK(probe.segments[3].bytes == 0);
  probe.list.capacity = UINT32_MAX;
  CHECK(probe.Ask() == "ok");
  CHECK(probe.segments[15].bytes == 4096);
  CHECK(IsHeldByUsAlone(probe.fd, "scatter_probe"));
}

TEST_CASE("ScatterProbe: a call that fails, early or half-way, leaves nothing behind") {
  const LeakCheck leaks;
  if (!Here()) return;
  RawProbe probe;
  probe.list.capacity = 16;

  SUBCASE("no address for the entries") { CHECK(probe.Ask() == "EFAULT"); }
  SUBCASE("an address of the kernel's") {
    probe.list.segments = UINT64_MAX - 15;
    CHECK(probe.Ask() == "EFAULT");
  }
  SUBCASE("an address that ends after some entries") {
    auto* const pages = static_cast<std::byte*>(
        ::mmap(nullptr, 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(pages != MAP_FAILED);
    REQUIRE(::munmap(pages + 4096, 4096) == 0);
    auto* const first = reinterpret_cast<scatter_probe_segment*>(pages + 4096) - 2;
    probe.list.segments = reinterpret_cast<uintptr_t>(first);
    CHECK(probe.Ask() == "EFAULT");
    CHECK(first[1].bytes == 4096);
    ::munmap(pages, 4096);
  }
  SUBCASE("an answer that cannot be written") {
    probe.list.capacity = 0;
    auto* const page = static_cast<scatter_probe_list*>(
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(page != MAP_FAILED);
    *page = probe.list;
    REQUIRE(::mprotect(page, 4096, PROT_READ) == 0);
    CHECK(probe.Ask(page) == "EFAULT");
    ::munmap(page, 4096);
  }
  SUBCASE("no question at all") { CHECK(probe.Ask(nullptr) == "EFAULT"); }
  SUBCASE("a reserved field that is set") {
    probe.list.reserved = 1;
    CHECK(probe.Ask() == "EINVAL");
  }
  SUBCASE("another number") { CHECK(probe.Ask(SCATTER_PROBE_IOCTL_LIST + 1) == "ENOTTY"); }
  CHECK(IsHeldByUsAlone(probe.fd, "scatter_probe"));
}

// Whether a capture device takes a dma-buf for a frame: "ok", or errno.
std::string Takes(const UniqueFd& device, const UniqueFd& dma_buf) {
  v4l2_requestbuffers request{};
  request.count = 1;
  request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  request.memory = V4L2_MEMORY_DMABUF;
  REQUIRE(::ioctl(device.get(), VIDIOC_REQBUFS, &request) == 0);
  v4l2_buffer buffer{};
  buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  buffer.memory = V4L2_MEMORY_DMABUF;
  buffer.m.fd = dma_buf.get();
  std::string said = ::ioctl(device.get(), VIDIOC_QBUF, &buffer) == 0 ? "ok" : ErrnoName(errno);
  request.count = 0;
  REQUIRE(::ioctl(device.get(), VIDIOC_REQBUFS, &request) == 0);
  return said;
}

TEST_CASE("ScatterProbe: a camera driver that wants one piece takes what the probe calls one") {
  const LeakCheck leaks;
  if (!Here()) return;
  std::vector<UniqueFd> pieces, scattered;
  for (const uint64_t bytes : {1_MiB, 1_MiB + 116_KiB, 3_MiB, 5_MiB}) {
    for (int i = 0; i < 3; ++i) {
      pieces.push_back(FromHeap(kCmaHeap, bytes));
      REQUIRE(Runs(SegmentsOf(pieces.back())) == 1);
      UniqueFd fd = FromHeap(kSystemHeap, bytes);
      (Runs(SegmentsOf(fd)) == 1 ? pieces : scattered).push_back(std::move(fd));
    }
  }
  REQUIRE(!scattered.empty());
  int contiguous_queues = 0;
  for (const std::string& path : demo::FindVividNodes()) {
    CAPTURE(path);
    const UniqueFd device = OpenNode(path.c_str());
    REQUIRE(device.valid());
    for (const UniqueFd& fd : pieces) CHECK(Takes(device, fd) == "ok");
    const bool wants_one_piece = Takes(device, scattered.front()) != "ok";
    if (wants_one_piece) ++contiguous_queues;
    for (const UniqueFd& fd : scattered) {
      CHECK(Takes(device, fd) == (wants_one_piece ? "EFAULT" : "ok"));
    }
  }
  if (contiguous_queues == 0) Skip("no vivid device with a dma-contig queue");
}

}  // namespace
}  // namespace ion::testing
