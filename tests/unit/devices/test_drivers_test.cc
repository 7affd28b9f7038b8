// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// V4l2Queue and DrmNode over the kernel's test drivers (vivid, vim2m, vgem, vkms), in a guest.

#include <fcntl.h>
#include <linux/videodev2.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/device.h"
#include "ion/devices/drm_node.h"
#include "ion/devices/v4l2_queue.h"
#include "ion/dma_buf_holders.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/frames_as_bytes.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using Verdict = Acceptance::Verdict;
using Clock = std::chrono::steady_clock;

// A frame of 320 x 180 pixels of 2 bytes.
constexpr uint64_t kFrameBytes = 115'200;
constexpr const char* kContiguousHeap = "/dev/dma_heap/reserved";

Clock::time_point Soon() { return Clock::now() + std::chrono::seconds(30); }

// A dma-buf, with room for a frame.
class Memory {
 public:
  explicit Memory(UniqueFd fd, uint64_t bytes = *RoundUpToPages(kFrameBytes))
      : fd_(std::move(fd)), bytes_(bytes) {
    REQUIRE(fd_.valid());
  }
  DeviceMemory all() const { return {.range = {fd_.borrow(), 0, bytes_}}; }
  FdRef fd() const { return fd_.borrow(); }
  // Its references: descriptors, mappings and importers.
  uint64_t count() const {
    const Result<uint64_t> count =
        DmaBufCountIn(FdInfoOf(LinuxSyscalls(), fd_.borrow()), {"test", Operation::kProve});
    REQUIRE(count.ok());
    return *count;
  }
  // The first frame of it, as the CPU sees it now.
  std::vector<uint8_t> Frame() const {
    return WithMapping([](uint8_t*) {});
  }
  void Fill(uint8_t byte) {
    (void)WithMapping([&](uint8_t* at) { std::fill_n(at, kFrameBytes, byte); });
  }

 private:
  template <class F>
  std::vector<uint8_t> WithMapping(F f) const {
    void* const at = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    REQUIRE(at != MAP_FAILED);
    auto* const bytes = static_cast<uint8_t*>(at);
    f(bytes);
    std::vector<uint8_t> copy(bytes, bytes + kFrameBytes);
    REQUIRE(::munmap(at, bytes_) == 0);
    return copy;
  }

  UniqueFd fd_;
  uint64_t bytes_;
};

Memory System() { return Memory(HeapDmaBuf(*RoundUpToPages(kFrameBytes))); }
Memory Contiguous() {
  return Memory(HeapDmaBuf(*RoundUpToPages(kFrameBytes), O_RDWR, kContiguousHeap));
}
// Pages of a memfd, the last first: no two are one run.
Memory Reversed() {
  const UniqueFd memfd = Memfd(*RoundUpToPages(kFrameBytes));
  std::vector<uint64_t> pages(*RoundUpToPages(kFrameBytes) / 4096);
  std::iota(pages.rbegin(), pages.rend(), uint64_t{0});
  return Memory(UdmabufOfPages(memfd.borrow(), pages));
}

Result<V4l2Queue<>> OpenFrames(const std::string& node, uint32_t slots = 4) {
  return V4l2Queue<>::Open(
      {.node = node, .format = V4L2_PIX_FMT_YUYV, .width = 320, .height = 180, .slots = slots});
}

// The nodes of vivid: the guest has one whose queue is of vmalloc memory, and one that wants
// contiguous memory.
struct Vivid {
  std::string scattered, contiguous;
};
std::optional<Vivid> VividHere() {
  const std::vector<std::string> nodes = VideoNodesOf("vivid");
  if (nodes.size() == 2) return Vivid{nodes[0], nodes[1]};
  Skip("the two devices of vivid are not here");
  return std::nullopt;
}

V4l2Queue<> Opened(const std::string& node) {
  Result<V4l2Queue<>> queue = OpenFrames(node);
  REQUIRE(Told(queue.error()) == "ok");
  REQUIRE(queue->frame_bytes() == kFrameBytes);
  return *std::move(queue);
}

TEST_CASE("V4l2Queue: vivid's vmalloc queue takes memory of the system heap and of udmabuf") {
  const LeakCheck leaks;
  const std::optional<Vivid> vivid = VividHere();
  if (!vivid.has_value()) return;
  V4l2Queue<> queue = Opened(vivid->scattered);
  CHECK(queue.driver() == "vivid");
  CHECK(queue.card() == "vivid");
  CHECK(queue.stride() == 640);
  for (const Memory& memory : {System(), Contiguous()}) {
    const uint64_t count = memory.count();
    const Acceptance answer = queue.Accepts(memory.all());
    CHECK(VerdictName(answer.verdict) == "takes");
    CHECK(Told(answer.error) == "ok");
    CHECK(memory.count() == count);
  }
  // udmabuf of 5.10 gives the kernel's CPU no mapping.
  const Memory pages = Reversed();
  const uint64_t count = pages.count();
  CHECK(VerdictName(queue.Accepts(pages.all()).verdict) == (IsAs510() ? "refuses" : "takes"));
  CHECK(pages.count() == count);
}

TEST_CASE("V4l2Queue: vivid's contiguous queue refuses scattered memory, and takes that of CMA") {
  const LeakCheck leaks;
  const std::optional<Vivid> vivid = VividHere();
  if (!vivid.has_value()) return;
  V4l2Queue<> queue = Opened(vivid->contiguous);
  const Memory scattered = Reversed();
  const Memory contiguous = Contiguous();
  const uint64_t count = scattered.count();
  for (int i = 0; i < 20; ++i) {
    const Acceptance no = queue.Accepts(scattered.all());
    CHECK(VerdictName(no.verdict) == "refuses");
    CHECK(Kind(no.error) == "EFAULT attach");
    CHECK(Kind(queue.Map(scattered.all()).error()) == "EFAULT attach");
    CHECK(VerdictName(queue.Accepts(contiguous.all()).verdict) == "takes");
  }
  CHECK(scattered.count() == count);
  CHECK(contiguous.count() == count);
  // The system heap's chunks may lie side by side by luck.
  std::vector<Memory> chunks;
  int refused = 0;
  for (int i = 0; i < 10; ++i) {
    chunks.push_back(System());
    refused += queue.Accepts(chunks.back().all()).verdict == Verdict::kRefuses;
  }
  std::printf("of 10 buffers of the system heap %d are refused\n", refused);
  CHECK(refused > 0);
}

// Streams five frames through four buffers, and leaves nothing.
void Stream(const std::string& node, std::vector<Memory> memory) {
  std::vector<uint64_t> counts;
  for (Memory& one : memory) {
    one.Fill(0xa5);
    counts.push_back(one.count());
  }
  const std::vector<uint8_t> before = memory[0].Frame();
  {
    V4l2Queue<> queue = Opened(node);
    std::vector<Imported> slots;
    for (const Memory& one : memory) {
      const Result<Imported> slot = queue.Map(one.all());
      REQUIRE(Told(slot.error()) == "ok");
      slots.push_back(*slot);
      REQUIRE(Told(queue.Queue(*slot)) == "ok");
    }
    CHECK(VerdictName(queue.Accepts(memory[0].all()).verdict) == "cannot ask");
    REQUIRE(Told(queue.Start()) == "ok");
    CHECK(VerdictName(queue.Accepts(memory[0].all()).verdict) == "cannot ask");
    std::set<uint32_t> sequences;
    for (int frame = 0; frame < 5; ++frame) {
      const Result<V4l2Done> done = queue.Dequeue(Soon());
      REQUIRE(Told(done.error()) == "ok");
      CHECK_FALSE(done->spoilt);
      CHECK(done->bytes_used == kFrameBytes);
      CHECK(done->timestamp.count() > 0);
      sequences.insert(done->sequence);
      const auto at = std::ranges::find(slots, done->slot);
      REQUIRE(at != slots.end());
      Memory& filled = memory[static_cast<size_t>(at - slots.begin())];
      CHECK(filled.Frame() != before);
      filled.Fill(0xa5);
      REQUIRE(Told(queue.Queue(done->slot)) == "ok");
    }
    CHECK(sequences.size() >= 2);
    CHECK(Kind(queue.Unmap(slots[0])) == "EBUSY detach");
    REQUIRE(Told(queue.Stop()) == "ok");
    for (const Imported& slot : slots) CHECK(Told(queue.Unmap(slot)) == "ok");
    for (size_t i = 0; i < memory.size(); ++i) CHECK(memory[i].count() == counts[i]);
    // The queue begins again.
    CHECK(VerdictName(queue.Accepts(memory[0].all()).verdict) == "takes");
  }
  for (size_t i = 0; i < memory.size(); ++i) CHECK(memory[i].count() == counts[i]);
}

TEST_CASE("V4l2Queue: frames stream through memory of a heap, and nothing of it stays") {
  const LeakCheck leaks;
  const std::optional<Vivid> vivid = VividHere();
  if (!vivid.has_value()) return;
  std::vector<Memory> scattered, contiguous;
  for (int i = 0; i < 4; ++i) {
    scattered.push_back(System());
    contiguous.push_back(Contiguous());
  }
  Stream(vivid->scattered, std::move(scattered));
  Stream(vivid->contiguous, std::move(contiguous));
}

TEST_CASE("V4l2Queue: one slot's memory is let go while the others stream, where the kernel can") {
  const LeakCheck leaks;
  const std::optional<Vivid> vivid = VividHere();
  if (!vivid.has_value()) return;
  std::vector<Memory> memory;
  for (int i = 0; i < 4; ++i) memory.push_back(System());
  const uint64_t count = memory[0].count();
  V4l2Queue<> queue = Opened(vivid->scattered);
  std::vector<Imported> slots;
  for (const Memory& one : memory) slots.push_back(*queue.Map(one.all()));
  for (const Imported& slot : slots) REQUIRE(Told(queue.Queue(slot)) == "ok");
  REQUIRE(Told(queue.Start()) == "ok");
  const Result<V4l2Done> done = queue.Dequeue(Soon());
  REQUIRE(Told(done.error()) == "ok");
  const auto at = static_cast<size_t>(std::ranges::find(slots, done->slot) - slots.begin());
  REQUIRE(at < slots.size());
  CHECK(memory[at].count() > count);
  CHECK(Told(queue.Unmap(done->slot)) == "ok");
  CHECK((memory[at].count() == count) == !IsBefore(6, 10));
  // Other memory takes its place in the stream.
  const Memory late = System();
  const Result<Imported> slot = queue.Map(late.all());
  REQUIRE(Told(slot.error()) == "ok");
  CHECK(memory[at].count() == count);
  REQUIRE(Told(queue.Queue(*slot)) == "ok");
  bool came = false;
  for (int frame = 0; frame < 8 && !came; ++frame) {
    const Result<V4l2Done> next = queue.Dequeue(Soon());
    REQUIRE(Told(next.error()) == "ok");
    came = next->slot == *slot;
    REQUIRE(Told(queue.Queue(next->slot)) == "ok");
  }
  CHECK(came);
  slots[at] = *slot;
  REQUIRE(Told(queue.Stop()) == "ok");
  for (const Imported& one : slots) CHECK(Told(queue.Unmap(one)) == "ok");
  for (const Memory& one : memory) CHECK(one.count() == count);
  CHECK(late.count() == count);
}

TEST_CASE("V4l2Queue: a queue that another file has is busy, and what is no such device is told") {
  const LeakCheck leaks;
  const std::optional<Vivid> vivid = VividHere();
  if (!vivid.has_value()) return;
  const Memory memory = System();
  V4l2Queue<> second = Opened(vivid->scattered);
  V4l2Queue<> first = Opened(vivid->scattered);
  const Result<Imported> slot = first.Map(memory.all());
  REQUIRE(Told(slot.error()) == "ok");
  const Acceptance answer = second.Accepts(memory.all());
  CHECK(VerdictName(answer.verdict) == "cannot ask");
  CHECK(Kind(answer.error) == "EBUSY attach");
  CHECK(Kind(second.Map(memory.all()).error()) == "EBUSY attach");
  CHECK(Kind(OpenFrames(vivid->scattered).error()) == "EBUSY open");
  CHECK(Told(first.Unmap(*slot)) == "ok");
  CHECK(VerdictName(second.Accepts(memory.all()).verdict) == "takes");
  CHECK(Kind(V4l2Queue<>::Open({.node = vivid->scattered, .format = FourccOf("none")}).error()) ==
        "EINVAL open");
  CHECK(
      Kind(V4l2Queue<>::Open({.node = vivid->scattered, .kind = V4l2QueueKind::kOutput}).error()) ==
      "ENODEV open");
  CHECK(Kind(V4l2Queue<>::Open({.node = "/dev/null"}).error()) == "ENODEV open");
  const UniqueFd memfd = Memfd(*RoundUpToPages(kFrameBytes));
  CHECK(VerdictName(
            second.Accepts({.range = {memfd.borrow(), 0, *RoundUpToPages(kFrameBytes)}}).verdict) ==
        "refuses");
}

TEST_CASE("V4l2Queue: vim2m reads one buffer and writes another, by the two queues of one file") {
  const LeakCheck leaks;
  const std::vector<std::string> nodes = VideoNodesOf("vim2m");
  if (nodes.empty()) return Skip("vim2m is not here");
  Result<V4l2Queue<>> from = V4l2Queue<>::Open({.node = nodes[0], .kind = V4l2QueueKind::kOutput});
  REQUIRE(Told(from.error()) == "ok");
  Result<V4l2Queue<>> to = V4l2Queue<>::Open({.node = nodes[0], .file = from->file()});
  REQUIRE(Told(to.error()) == "ok");
  const uint64_t bytes = *RoundUpToPages(std::max(from->frame_bytes(), to->frame_bytes()));
  REQUIRE(bytes >= kFrameBytes);
  Memory source(HeapDmaBuf(bytes), bytes), result(HeapDmaBuf(bytes), bytes);
  const uint64_t count = source.count();
  CHECK(VerdictName(from->Accepts(source.all()).verdict) == "takes");
  CHECK(VerdictName(to->Accepts(result.all()).verdict) == "takes");
  source.Fill(0x5a);
  result.Fill(0);
  const std::vector<uint8_t> before = result.Frame();
  const Result<Imported> read = from->Map(source.all());
  const Result<Imported> written = to->Map(result.all());
  REQUIRE(Told(read.error()) == "ok");
  REQUIRE(Told(written.error()) == "ok");
  REQUIRE(Told(from->Queue(*read)) == "ok");
  REQUIRE(Told(to->Queue(*written)) == "ok");
  REQUIRE(Told(from->Start()) == "ok");
  REQUIRE(Told(to->Start()) == "ok");
  CHECK(Told(to->Dequeue(Soon()).error()) == "ok");
  CHECK(Told(from->Dequeue(Soon()).error()) == "ok");
  CHECK(result.Frame() != before);
  CHECK(Told(from->Unmap(*read)) == "ok");
  CHECK(Told(to->Unmap(*written)) == "ok");
  CHECK(source.count() == count);
  CHECK(result.count() == count);
}

// The node of a driver, with framebuffers or without.
std::optional<DrmNode<>> NodeOf(const char* driver, bool framebuffers = false) {
  for (int card = 0; card < 4; ++card) {
    Result<DrmNode<>> node = DrmNode<>::Open(
        {.node = "/dev/dri/card" + std::to_string(card), .framebuffers = framebuffers});
    if (node.ok() && node->driver() == driver) return *std::move(node);
  }
  Skip(std::string(driver) + " is not here");
  return std::nullopt;
}

TEST_CASE("DrmNode: vgem imports memory of any kind, which is no evidence, and nothing stays") {
  const LeakCheck leaks;
  std::optional<DrmNode<>> node = NodeOf("vgem");
  if (!node.has_value()) return;
  for (const Memory& memory : {System(), Contiguous(), Reversed()}) {
    const uint64_t count = memory.count();
    CHECK(VerdictName(node->Accepts(memory.all()).verdict) == "no evidence");
    CHECK(memory.count() == count);
    const Result<Imported> one = node->Map(memory.all());
    const Result<Imported> two = node->Map(memory.all());
    REQUIRE(Told(one.error()) == "ok");
    REQUIRE(Told(two.error()) == "ok");
    CHECK(*one == *two);
    CHECK(memory.count() > count);
    CHECK(Told(node->Unmap(*one)) == "ok");
    CHECK(memory.count() > count);
    REQUIRE(Told(node->Take(*two)) == "ok");
    CHECK(Kind(node->Unmap(*two)) == "EBUSY detach");
    REQUIRE(Told(node->Return(*two)) == "ok");
    CHECK(Told(node->Unmap(*two)) == "ok");
    CHECK(memory.count() == count);
  }
  const UniqueFd memfd = Memfd(4096);
  CHECK(VerdictName(node->Accepts({.range = {memfd.borrow(), 0, 4096}}).verdict) == "refuses");
  CHECK(Kind(DrmNode<>::Open({.node = "/dev/null"}).error()) == "ENODEV open");
  CHECK(Kind(V4l2Queue<>::Open({.node = node->node()}).error()) == "ENODEV open");
}

TEST_CASE("DrmNode: vkms makes a framebuffer of an image, and refuses one of another format") {
  const LeakCheck leaks;
  // vkms of 5.10 never lets go of an import.
  if (IsAs510()) return Skip("vkms of this kernel keeps what it imports");
  std::optional<DrmNode<>> node = NodeOf("vkms", true);
  if (!node.has_value()) return;
  const Memory memory = System();
  const uint64_t count = memory.count();
  constexpr ImageLayout kImage =
      LayoutOf<ImageSpec{.format = PixelFormat::kXrgb8888, .width = 160, .height = 90}>();
  DeviceMemory of_image = memory.all();
  of_image.image = &kImage;
  CHECK(VerdictName(node->Accepts(of_image).verdict) == "no evidence");
  const Result<Imported> framebuffer = node->Map(of_image);
  REQUIRE(Told(framebuffer.error()) == "ok");
  CHECK(framebuffer->kind == Imported::Kind::kFramebuffer);
  CHECK(memory.count() > count);
  CHECK(Told(node->Unmap(*framebuffer)) == "ok");
  CHECK(memory.count() == count);
  ImageLayout wrong = kImage;
  wrong.plane[0].stride = 4;
  of_image.image = &wrong;
  CHECK(VerdictName(node->Accepts(of_image).verdict) == "refuses");
  CHECK(Kind(node->Map(of_image).error()) == "EINVAL attach");
  CHECK(memory.count() == count);
}

}  // namespace
}  // namespace ion::testing
