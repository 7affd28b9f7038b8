// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// One Manager over the dma-heaps, udmabuf and memfds of a real kernel: what becomes of a request if
// another program holds all contiguous memory, and that each block goes back where it came from.

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/allocate_chosen.h"
#include "ion/backend.h"
#include "ion/backends/all_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/choice_text.h"
#include "ion/constraints.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/heap_table.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/byte_socket.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/lent_pages.h"
#include "tests/support/pooled.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

using Several = AllOf<DmaHeapBackend<>, UdmabufBackend<>, MemfdBackend<>>;

constexpr HeapId kCma{4}, kPages{2}, kDmaBufs{1}, kCpuOnly{0};
constexpr HeapSpec kLadder[] = {{.type = HeapType::kDma, .id = kCma},
                                {.type = HeapType::kSystem, .id = kPages, .interface = "dma_heap"},
                                {.type = HeapType::kSystem, .id = kDmaBufs, .interface = "udmabuf"},
                                {.type = HeapType::kSystem, .id = kCpuOnly, .interface = "memfd"}};
using Board = platforms::TableManager<Several, kLadder>;
using PooledBoard = Manager<Several, Pooled<DmaOf<kLadder[0]>>, Pooled<SystemOf<kLadder[2]>>,
                            Pooled<SystemOf<kLadder[3]>>>;
constexpr HeapMask kFalling = kCma | kDmaBufs;

// The name of the machine's contiguous heap; nothing if one of the three kinds of memory is
// missing, of which the case says that it is skipped.
std::optional<std::string> ContiguousHeap() {
  const auto board = Board::Open();
  REQUIRE(board.ok());
  for (const HeapId id : {kCma, kDmaBufs, kCpuOnly}) {
    if (board->heaps().contains(id)) continue;
    Skip(id == kCma ? "no contiguous dma-heap" : id == kDmaBufs ? "no udmabuf" : "no memfd");
    return std::nullopt;
  }
  return std::string(board->HeapName(kCma));
}

// The pages of the region that are in use, as debugfs tells (CONFIG_CMA_DEBUGFS). Nothing: this
// kernel does not tell.
std::optional<uint64_t> UsedPages(const std::string& heap) {
  for (const std::string& name : {heap, std::string("reserved")}) {
    // Before Linux 5.14 with a prefix.
    for (const char* prefix : {"", "cma-"}) {
      std::ifstream file("/sys/kernel/debug/cma/" + (prefix + name) + "/used");
      if (uint64_t pages = 0; file >> pages) return pages;
    }
  }
  return std::nullopt;
}

// Takes all of the heap, the last page as well, says so, and keeps it until nobody listens.
std::string HoldAll(const std::string& heap, FdRef socket) {
  const std::string node = "/dev/dma_heap/" + heap;
  std::vector<UniqueFd> held;
  for (uint64_t bytes = 4_MiB; bytes >= PageBytes(); bytes /= 4) {
    for (;;) {
      UniqueFd memory = HeapDmaBuf(bytes, O_RDWR, node.c_str());
      if (!memory.valid()) break;
      held.push_back(std::move(memory));
    }
  }
  if (held.empty()) return "no memory at all from " + node;
  if (!SendByte(socket, 'f')) return "nobody listens";
  (void)ReceiveByte(socket);
  return "";
}

TEST_CASE("Several interfaces: a request falls from a region that a program holds to udmabuf") {
  const LeakCheck leaks;
  const std::optional<std::string> heap = ContiguousHeap();
  if (!heap.has_value()) return;
  const std::optional<uint64_t> used_before = UsedPages(*heap);
  const auto budget = std::make_shared<Budget>(256_MiB);
  OtherErrors errors;
  {
    Child holder([&](FdRef socket) { return HoldAll(*heap, socket); });
    REQUIRE(ReceiveByte(holder.socket()) == 'f');
    if (used_before.has_value()) CHECK(*UsedPages(*heap) > *used_before);
    auto board = Open<Board>({.budget = budget, .errors = errors.sink()});
    auto client = Make(board, {.name = "camera"});
    // One call.
    auto frame = client.Allocate({.bytes = 4_MiB, .heaps = kFalling, .name = "frame"});
    REQUIRE_MESSAGE(frame.ok(), frame.status().message());
    CHECK(board.HeapOf(*frame) == kDmaBufs);
    CHECK(frame->properties().contiguous.no());
    Write(*frame, 7);
    CHECK(Look(*frame, 7) == "ok");
    auto own = client.Allocate({.bytes = 1_MiB, .heaps = kCpuOnly});
    REQUIRE(own.ok());
    Write(*own, 8);
    CHECK(budget->held() == 5_MiB);

    // No other memory will do: the reason is told.
    const auto none = client.Allocate({.bytes = 4_MiB, .heaps = kCma});
    CHECK(ErrnoOf(none.status()) == ENOMEM);
    CHECK_MESSAGE(none.status().message().find("dma_heap " + *heap) != std::string::npos,
                  none.status().message());

    // The same of memory that is chosen by its users.
    constexpr Constraints kOneRun{.segments_max = 1};
    constexpr Constraints kImporter{.exporter_needs = ExporterNeeds::kExportByUs};
    constexpr Constraints kReader{.cpu_read = CpuUse::kOften};
    const Party easy[] = {{"encoder", kImporter}, {"cpu", kReader}};
    const Party picky[] = {{"codec", kOneRun}, {"cpu", kReader}};
    const HeapOffers offers = OffersOf(board);
    const HeapId prefer[] = {kCma, kDmaBufs};
    const ChoiceOptions options{.prefer = prefer};
    const Choice either = Choose(easy, offers.span(), options);
    REQUIRE_MESSAGE(either.ok(), Describe(either, easy, offers.span(), options));
    CHECK(either.best() == kCma);
    CHECK_FALSE(either.mask().contains(kCpuOnly));
    auto chosen = AllocateChosen(client, either, {.bytes = 4_MiB});
    REQUIRE_MESSAGE(chosen.ok(), chosen.status().message());
    CHECK(board.HeapOf(*chosen) == kDmaBufs);
    const Choice run = Choose(picky, offers.span(), options);
    REQUIRE_MESSAGE(run.ok(), Describe(run, picky, offers.span(), options));
    CHECK(run.mask() == HeapMask(kCma));
    CHECK(ErrnoOf(AllocateChosen(client, run, {.bytes = 4_MiB}).status()) == ENOMEM);

    // Memory of both interfaces goes to others and comes back.
    auto handle = client.MakeHandle(*std::move(frame));
    REQUIRE(handle.ok());
    auto fd = client.Share(*handle);
    REQUIRE(fd.ok());
    auto other = Make(board, {.name = "encoder"});
    CHECK(other.Import(fd->borrow()).ok());

    // When the program has gone, contiguous memory is there again.
    CHECK(holder.Join().text == "");
    auto again = client.Allocate({.bytes = 4_MiB, .heaps = kFalling});
    REQUIRE_MESSAGE(again.ok(), again.status().message());
    CHECK(board.HeapOf(*again) == kCma);
    CHECK(again->properties().contiguous.yes());
    if (used_before.has_value()) {
      CHECK(*UsedPages(*heap) == *used_before + 4_MiB / PageBytes());
    }
  }
  CHECK(budget->held() == 0);
  CHECK(errors.count() == 0);
  CHECK(UsedPages(*heap) == used_before);
}

TEST_CASE("Several interfaces: pools give each block back to the interface that it came from") {
  const LeakCheck leaks;
  const std::optional<std::string> heap = ContiguousHeap();
  if (!heap.has_value()) return;
  const std::optional<uint64_t> used_before = UsedPages(*heap);
  const auto budget = std::make_shared<Budget>(256_MiB);
  OtherErrors errors;
  {
    auto board = Open<PooledBoard>({.budget = budget, .errors = errors.sink()});
    auto client = Make(board, {.name = "isp"});
    for (int round = 0; round < 3; ++round) {
      CAPTURE(round);
      std::vector<Buffer> frames;
      // Until the region is full, and two more.
      for (int scattered = 0; scattered < 2;) {
        REQUIRE(frames.size() < 64);
        auto frame = client.Allocate({.bytes = 4_MiB, .heaps = kFalling});
        REQUIRE_MESSAGE(frame.ok(), frame.status().message());
        if (board.HeapOf(*frame) == kDmaBufs) ++scattered;
        CHECK(Look(*frame, 0, ZeroByte) == "ok");
        Write(*frame, 7);
        frames.push_back(*std::move(frame));
      }
      CHECK(board.HeapOf(frames.front()) == kCma);
      auto own = client.Allocate({.bytes = 4_MiB, .heaps = kCpuOnly});
      REQUIRE(own.ok());
      CHECK(board.HeapOf(*own) == kCpuOnly);
    }
    CHECK(Sum(board.MakeReport()).hits > 0);
    board.Trim();
    CHECK(budget->held() == 0);
    CHECK(UsedPages(*heap) == used_before);
  }
  CHECK(budget->held() == 0);
  CHECK(errors.count() == 0);
  CHECK(UsedPages(*heap) == used_before);
}

TEST_CASE("Several interfaces: threads that meet a full region at once lose nothing") {
  const LeakCheck leaks;
  const std::optional<std::string> heap = ContiguousHeap();
  if (!heap.has_value()) return;
  const std::optional<uint64_t> used_before = UsedPages(*heap);
  const auto budget = std::make_shared<Budget>(256_MiB);
  OtherErrors errors;
  constexpr unsigned kThreads = 4, kRounds = 40;
  std::atomic<unsigned> served{0}, contiguous{0}, wrong{0};
  {
    auto board = Open<PooledBoard>({.budget = budget, .errors = errors.sink()});
    const auto use = [&](unsigned seed) {
      auto client = board.CreateClient({.name = "thread"});
      if (!client.ok()) return;
      constexpr HeapMask kMasks[] = {kFalling, kFalling, kDmaBufs | kCpuOnly, kCpuOnly};
      std::vector<Buffer> held;
      for (unsigned i = 0; i < kRounds; ++i) {
        const HeapMask mask = kMasks[(i + seed) % 4];
        auto buffer = client->Allocate({.bytes = (1 + (i + seed) % 4) * 1_MiB, .heaps = mask});
        if (!buffer.ok()) return;
        const std::optional<HeapId> from = board.HeapOf(*buffer);
        if (!from.has_value() || !mask.contains(*from)) ++wrong;
        if (from == kCma) ++contiguous;
        if (i % 3 == 0 && !WritableMapping::Of(*buffer).ok()) ++wrong;
        if (i % 5 == 0 && !client->Import(buffer->fd()).ok()) ++wrong;
        held.push_back(*std::move(buffer));
        // Together more than the region has.
        if (held.size() > 12) held.erase(held.begin() + static_cast<long>(i % held.size()));
        ++served;
      }
    };
    std::vector<std::jthread> threads;
    for (unsigned seed = 0; seed < kThreads; ++seed) threads.emplace_back(use, seed);
  }
  CHECK(served == kThreads * kRounds);
  CHECK(contiguous > 0);
  CHECK(wrong == 0);
  CHECK(budget->held() == 0);
  CHECK(errors.count() == 0);
  CHECK(UsedPages(*heap) == used_before);
}

}  // namespace
}  // namespace ion::testing
