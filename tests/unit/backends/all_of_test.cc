// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/all_of.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/budget.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/cpu_mapping.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/platforms/all_backend.h"
#include "ion/platforms/heap_table.h"
#include "ion/platforms/heaps.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/claim.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "third_party/ion_uapi/ion.h"

namespace ion {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

using testing::ChildEnd;
using testing::FakeMachine;
using testing::FakeSyscalls;
using testing::Faults;
using testing::FaultSyscallsOver;
using testing::Fill;
using testing::Kind;
using testing::LeakCheck;
using testing::Linux;
using testing::Look;
using testing::Memfd;
using testing::Memory;
using testing::RunInChild;
using testing::Told;

template <class Sys>
using Three = AllOf<DmaHeapBackend<Sys>, UdmabufBackend<Sys>, MemfdBackend<Sys>>;
using All = Three<FakeSyscalls>;
static_assert(BackendCheck<All>::kOk);
static_assert(All::kCaps == BackendCaps{.composes = true,
                                        .proves_unshared = true,
                                        .fences = true,
                                        .compares = true,
                                        .relists = true});

constexpr HeapId kCma{4}, kPages{2}, kDmaBufs{1}, kCpuOnly{0};
constexpr HeapSpec kLadder[] = {{.type = HeapType::kDma, .id = kCma},
                                {.type = HeapType::kSystem, .id = kPages, .interface = "dma_heap"},
                                {.type = HeapType::kSystem, .id = kDmaBufs, .interface = "udmabuf"},
                                {.type = HeapType::kSystem, .id = kCpuOnly, .interface = "memfd"}};
using Board = platforms::TableManager<All, kLadder>;

// A board whose contiguous memory is 4 MiB, and that has udmabuf, and memfds as any.
FakeMachine CmaAndUdmabuf() {
  return {.linux = Linux(6, 12),
          .dma_heaps = {{.name = "reserved", .type = ion_uapi::kHeapTypeDma, .bytes = 4_MiB}},
          .udmabuf = true};
}
FakeMachine OnlyMemfds() { return {.linux = Linux(6, 12)}; }

All OpenOn(const FakeSyscalls& sys, const std::shared_ptr<Budget>& budget = nullptr) {
  auto all = All::Open({.sys = sys, .budget = budget});
  REQUIRE(Told(all.error()) == "ok");
  return *std::move(all);
}

std::vector<std::string> Names(const All& all) {
  std::vector<std::string> names;
  for (const KernelHeap& heap : all.heaps()) {
    names.push_back(std::string(heap.interface) + ":" + heap.name);
  }
  return names;
}
// The heaps that a machine lists with these interfaces have these numbers.
constexpr uint32_t kOfCma = 0, kOfUdmabuf = 1, kOfMemfd = 2;

TEST_CASE("AllOf: opens all that there are, and keeps why the others did not open") {
  const LeakCheck leaks;
  using Five = AllBackend<FakeSyscalls>;
  const auto all = Five::Open({.sys = FakeSyscalls(CmaAndUdmabuf())});
  REQUIRE(Told(all.error()) == "ok");
  CHECK(std::string(all->name()) == "all");
  REQUIRE(all->open_errors().size() == 2);
  CHECK(std::string(all->open_errors()[0].backend()) == "ion");
  CHECK(std::string(all->open_errors()[1].backend()) == "ion_legacy");
  CHECK(Kind(all->open_errors()[0]) == "ENOENT open");
  CHECK(Kind(all->OpenErrorOf("ion")) == "ENOENT open");
  CHECK(all->OpenErrorOf("udmabuf").ok());
  CHECK(Kind(all->OpenErrorOf("nobody")) == "EINVAL open");
  CHECK(all.refusals().empty());
}

TEST_CASE("AllOf: lists the heaps of each interface, in the order of the interfaces") {
  const LeakCheck leaks;
  const FakeSyscalls sys(CmaAndUdmabuf());
  const All all = OpenOn(sys);
  CHECK(Names(all) ==
        std::vector<std::string>{"dma_heap:reserved", "udmabuf:udmabuf", "memfd:memfd"});
  const auto turned = All::Open({.sys = sys, .order = {"memfd", "dma_heap", "memfd"}});
  REQUIRE(turned.ok());
  CHECK(Names(*turned) == std::vector<std::string>{"memfd:memfd", "dma_heap:reserved"});
  CHECK(Kind(turned->OpenErrorOf("udmabuf")) == "ENODEV open");
}

TEST_CASE("AllOf: a name of no backend, and no name at all, are EINVAL") {
  const LeakCheck leaks;
  const auto unknown = All::Open({.sys = FakeSyscalls(OnlyMemfds()), .order = {"memfd", "nobody"}});
  CHECK(Kind(unknown.error()) == "EINVAL open");
  CHECK(unknown.error().node() == "nobody");
  CHECK(Kind(All::Open({.sys = FakeSyscalls(OnlyMemfds()), .order = {}}).error()) == "EINVAL open");
}

TEST_CASE("AllOf: if none opens, the Status has each reason, and the last one's errno") {
  const LeakCheck leaks;
  const All::Options options{.sys = FakeSyscalls(OnlyMemfds()), .require_dma_buf = true};
  const auto all = All::Open(options);
  CHECK(Kind(all.error()) == "EOPNOTSUPP open");
  REQUIRE(all.refusals().size() == 3);
  CHECK(Kind(all.refusals()[0]) == "ENOENT open");
  const auto manager = platforms::Heaps<All>::Open(options);
  CHECK(manager.status() == ToStatus(all));
  CHECK(std::string(manager.status().message()) == DescribeEach(all.refusals()));
}

TEST_CASE("AllOf: each backend's own options are used") {
  All::Options options{.sys = FakeSyscalls(CmaAndUdmabuf())};
  std::get<DmaHeapBackend<FakeSyscalls>::Options>(options.each).directory = "/nowhere";
  const auto all = All::Open(options);
  REQUIRE(all.ok());
  REQUIRE(all->open_errors().size() == 1);
  CHECK(all->open_errors()[0].node() == "/nowhere");
}

TEST_CASE("AllOf: a request falls from a full CMA heap to udmabuf in one call, and all goes back") {
  const LeakCheck leaks;
  const FakeSyscalls sys(CmaAndUdmabuf());
  const auto budget = std::make_shared<Budget>(64_MiB);
  const auto errors = std::make_shared<ErrorSink>();
  {
    auto board = Board::Open({.sys = sys, .budget = budget, .errors = errors});
    REQUIRE(board.ok());
    CHECK(board->heaps() == (kCma | kDmaBufs | kCpuOnly));
    const HeapMask wanted = kCma | board->default_heaps();
    std::vector<Buffer> frames;
    std::vector<unsigned> from;
    for (int i = 0; i < 4; ++i) {
      auto frame = board->Allocate({.bytes = 2_MiB, .heaps = wanted, .name = "frame"});
      REQUIRE(frame.ok());
      testing::Write(*frame, static_cast<uint8_t>(i));
      from.push_back(board->HeapOf(*frame)->value());
      frames.push_back(*std::move(frame));
    }
    CHECK(from == std::vector<unsigned>{4, 4, 1, 1});
    auto own = board->Allocate({.bytes = 1_MiB, .heaps = kCpuOnly});
    REQUIRE(own.ok());
    CHECK(sys.kernel().LeftInDmaHeap("reserved") == 0);
    CHECK(budget->held() == 9_MiB);
    for (int i = 0; i < 4; ++i) CHECK(testing::Look(frames[i], static_cast<uint8_t>(i)) == "ok");
    // Given back, a frame of the region is contiguous again.
    frames.erase(frames.begin());
    auto again = board->Allocate({.bytes = 2_MiB, .heaps = wanted});
    REQUIRE(again.ok());
    CHECK(board->HeapOf(*again) == kCma);
  }
  CHECK(sys.kernel().LeftInDmaHeap("reserved") == 4_MiB);
  CHECK(budget->held() == 0);
  CHECK(errors->count() == 0);
}

TEST_CASE("AllOf: if every heap of the mask fails, the Status has the reason of each") {
  const LeakCheck leaks;
  const FakeSyscalls sys(CmaAndUdmabuf());
  auto board = Board::Open({.sys = sys});
  REQUIRE(board.ok());
  const auto none = board->Allocate({.bytes = 80_MiB, .heaps = kCma | kDmaBufs});
  CHECK(ErrnoOf(none.status()) == EINVAL);
  const std::string text(none.status().message());
  CHECK(text.find("dma_heap reserved: allocate 83886080 bytes") != text.npos);
  CHECK(text.find("udmabuf: allocate 83886080 bytes (past the module's size_limit_mb)") !=
        text.npos);
}

TEST_CASE("AllOf: a memfd serves requests that name it, and others only if nothing else is open") {
  const LeakCheck leaks;
  const auto among = Board::Open({.sys = FakeSyscalls(CmaAndUdmabuf())});
  REQUIRE(among.ok());
  CHECK(among->default_heaps() == HeapMask(kDmaBufs));

  auto only = Board::Open({.sys = FakeSyscalls(OnlyMemfds())});
  REQUIRE(only.ok());
  CHECK(only->default_heaps() == HeapMask(kCpuOnly));
  CHECK(only->Allocate({.bytes = 1}).ok());

  // Beside contiguous memory alone.
  FakeMachine machine = CmaAndUdmabuf();
  machine.udmabuf = false;
  auto scarce = Board::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(scarce.ok());
  CHECK(scarce->default_heaps().empty());
  const auto unnamed = scarce->Allocate({.bytes = 1});
  CHECK(ErrnoOf(unnamed.status()) == ENODEV);
  CHECK(unnamed.status().message().find("heaps that a request has to name") != std::string::npos);
  CHECK(scarce->Allocate({.bytes = 1, .heaps = kCpuOnly}).ok());
}

TEST_CASE("AllOf: a carveout of a memfd is named only, as the memfd is") {
  const LeakCheck leaks;
  constexpr static HeapSpec kRing{
      .type = HeapType::kCarveout, .id = 7, .interface = "memfd", .bytes = 1_MiB};
  constexpr static HeapSpec kOther{
      .type = HeapType::kCarveout, .id = 8, .interface = "udmabuf", .bytes = 1_MiB};
  using M = Manager<All, Carveout<kRing>, Carveout<kOther>>;
  const auto manager = M::Open({.sys = FakeSyscalls(CmaAndUdmabuf())});
  REQUIRE(manager.ok());
  CHECK(manager->heaps() == (HeapId{7} | HeapId{8}));
  CHECK(manager->default_heaps() == HeapMask(HeapId{8}));
}

TEST_CASE("AllOf: a heap is found by its type, and by its interface where it names one") {
  const All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  const auto claim = [&](const HeapSpec& spec) { return ClaimKernelHeapOf(all, spec); };
  CHECK(*claim({.type = HeapType::kSystem}) == kOfUdmabuf);
  CHECK(*claim({.type = HeapType::kSystem, .ordinal = 1}) == kOfMemfd);
  CHECK(*claim({.type = HeapType::kSystem, .interface = "memfd"}) == kOfMemfd);
  CHECK(*claim({.type = HeapType::kSystem, .name = "mem*", .interface = "memfd"}) == kOfMemfd);
  CHECK(*claim({.type = HeapType::kDma, .interface = "dma_heap"}) == kOfCma);
  CHECK(Kind(claim({.type = HeapType::kSystem, .interface = "dma_heap"}).error()) == "ENODEV open");
  CHECK(Kind(claim({.type = HeapType::kSystem, .interface = "nobody"}).error()) == "EINVAL open");
  // Of one that did not open: why.
  const auto two = AllBackend<FakeSyscalls>::Open({.sys = FakeSyscalls(OnlyMemfds())});
  REQUIRE(two.ok());
  const Result<uint32_t> absent =
      ClaimKernelHeapOf(*two, {.type = HeapType::kSystem, .interface = "udmabuf"});
  CHECK(Kind(absent.error()) == "ENOENT open");
  CHECK(std::string(absent.error().backend()) == "udmabuf");
  // The same table fits a backend that is one interface.
  const auto alone = UdmabufBackend<FakeSyscalls>::Open({.sys = FakeSyscalls(CmaAndUdmabuf())});
  REQUIRE(alone.ok());
  CHECK(*ClaimKernelHeapOf(*alone, {.type = HeapType::kSystem, .interface = "udmabuf"}) == 0);
  CHECK_FALSE(ClaimKernelHeapOf(*alone, {.type = HeapType::kSystem, .interface = "memfd"}).ok());
}

TEST_CASE("AllOf: the ladder of the platform takes the interfaces that there are") {
  const LeakCheck leaks;
  FakeMachine machine = testing::Linux612Machine();
  auto both = platforms::AllHeaps<AllBackend<FakeSyscalls>>::Open({.sys = FakeSyscalls(machine)});
  REQUIRE(both.ok());
  CHECK(both->heaps() == (HeapId{18} | HeapId{11} | HeapId{8} | HeapId{0}));
  CHECK(both->default_heaps() == (HeapId{11} | HeapId{8}));
  CHECK(both->HeapOf(*both->Allocate({.bytes = 1})) == HeapId{11});
  const auto first =
      both->Allocate({.bytes = 1, .heaps = platforms::kAllContiguous | both->default_heaps()});
  CHECK(both->HeapOf(*first) == HeapId{18});

  using OnIon = platforms::AllHeaps<AllBackend<FakeSyscalls>>;
  auto ion = OnIon::Open({.sys = FakeSyscalls(testing::Linux42Machine())});
  REQUIRE(ion.ok());
  CHECK(ion->default_heaps() == HeapMask(HeapId{9}));
}

// ---- Import ----

TEST_CASE("AllOf: the kind of a descriptor decides which interface imports it") {
  const LeakCheck leaks;
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  for (const uint32_t heap : {kOfCma, kOfUdmabuf, kOfMemfd}) {
    CAPTURE(heap);
    const bool is_memfd = heap == kOfMemfd;
    const Memory memory(all, heap, 64_KiB, "theirs");
    CHECK(memory.block.kernel_heap == heap);
    REQUIRE(Fill(all, memory.block, 3) == "ok");
    const Result<UniqueFd> shared = all.Share(memory.block);
    REQUIRE(shared.ok());
    const auto imported = Memory<All>::Imported(all, shared->borrow());
    CHECK(imported.block.foreign);
    CHECK(imported.block.bytes == 64_KiB);
    CHECK(Look(all, imported.block, 3) == "ok");
    // A dma-buf can be renamed.
    CHECK(Kind(all.SetName(imported.block, "ours")) == (is_memfd ? "EOPNOTSUPP name" : "ok"));
    const auto a = all.Identify(shared->borrow(), Operation::kImport);
    const auto b = all.Identify(imported.block.range().fd, Operation::kImport);
    REQUIRE((a.ok() && b.ok()));
    CHECK(a->known());
    CHECK(*a == *b);
    CHECK(all.SameBuffer(shared->borrow(), imported.block.range().fd));
  }
}

TEST_CASE("AllOf: a descriptor of no memory is refused with the errno of its kind") {
  const LeakCheck leaks;
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  Block block;
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd unsealed = Memfd(64_KiB, 0);
  CHECK(Kind(all.Import(null.borrow(), block)) == "EINVAL import");
  CHECK(Kind(all.Import(unsealed.borrow(), block)) == "EINVAL import");
  CHECK(Told(all.Import(unsealed.borrow(), block)).find("F_SEAL_SHRINK") != std::string::npos);
  CHECK(Kind(all.Import(FdRef(-1), block)) == "EBADF import");
  CHECK(Kind(all.Identify(FdRef(-1), Operation::kKeep).error()) == "EBADF keep");
  CHECK_FALSE(block.filled());

  // An interface that is not open takes nothing.
  auto dma_bufs = All::Open({.sys = FakeSyscalls(CmaAndUdmabuf()), .require_dma_buf = true});
  REQUIRE(dma_bufs.ok());
  const UniqueFd memfd = Memfd(64_KiB);
  CHECK(Kind(dma_bufs->Import(memfd.borrow(), block)) == "EINVAL import");
  All memfds = OpenOn(FakeSyscalls(OnlyMemfds()));
  CHECK(Memory<All>::Imported(memfds, memfd.borrow()).block.filled());
  CHECK(Kind(memfds.Import(null.borrow(), block)) == "EINVAL import");
}

TEST_CASE("AllOf: a part of an imported dma-buf is unmapped with its whole") {
  const LeakCheck leaks;
  // Unmap is not told whose mapping it is.
  for (const auto& order :
       {std::vector<std::string_view>{"udmabuf", "memfd"}, {"memfd", "udmabuf"}}) {
    auto all = All::Open({.sys = FakeSyscalls(CmaAndUdmabuf()), .order = order});
    REQUIRE(all.ok());
    const uint64_t page = PageBytes();
    const Memory memory(*all, order[0] == "udmabuf" ? 0 : 1, 16 * page);
    REQUIRE(Fill(*all, memory.block, 9) == "ok");
    const auto imported = Memory<All>::Imported(*all, memory.block.range().fd);
    const std::string before = testing::DeviceMappings();
    const auto part = all->Map(imported.block, 2 * page, page, MapMode::kReadOnly);
    REQUIRE(part.ok());
    CHECK(testing::LookAtPages(std::span(*part, page), 9, 2) == "ok");
    CHECK(Kind(all->Unmap(*part, page)) == "ok");
    CHECK(testing::DeviceMappings() == before);
  }
}

// ---- One budget, one sink ----

TEST_CASE("AllOf: one bound holds the bytes of all interfaces") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(1_MiB);
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()), budget);
  CHECK(&all.budget() == budget.get());
  const Memory a(all, kOfCma, 512_KiB), b(all, kOfUdmabuf, 256_KiB), c(all, kOfMemfd, 256_KiB);
  CHECK(budget->held() == 1_MiB);
  for (const uint32_t heap : {kOfCma, kOfUdmabuf, kOfMemfd}) {
    Block block;
    CHECK(Kind(all.Allocate(heap, 1, Flags::kNone, {}, block)) == "ENOMEM allocate");
    CHECK_FALSE(block.filled());
  }
  Block block;
  CHECK(Kind(all.Allocate(3, 1, Flags::kNone, {}, block)) == "ENODEV allocate");
}

TEST_CASE("AllOf: a mapping that one interface keeps is ended at a call of another") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();

  using Sys = FaultSyscallsOver<testing::FakeSyscallsOf<CmaAndUdmabuf>>;
  auto all = Three<Sys>::Open({.sys = Sys(faults)});
  REQUIRE(Told(all.error()) == "ok");
  Block block;
  REQUIRE(all->Allocate(kOfUdmabuf, 64_KiB, Flags::kNone, {}, block).ok());
  const auto at = all->MapToKeep(block);
  REQUIRE(at.ok());
  block.mapping = *at;
  faults->Begin({.n = 0, .call = "munmap", .code = EINVAL});
  CHECK(Kind(all->Release(block)) == "EINVAL unmap");
  faults->End();
  CHECK(all->kept_mappings() == 1);
  CHECK(all->budget().held() == 64_KiB);
  Block other;
  REQUIRE(all->Allocate(kOfMemfd, 1, Flags::kNone, {}, other).ok());
  CHECK(all->kept_mappings() == 0);
  CHECK(all->Release(other).ok());
  CHECK(all->budget().held() == 0);
}

// ---- Hooks that not each interface has ----

TEST_CASE("AllOf: an interface says of its blocks which proofs it cannot give") {
  const LeakCheck leaks;
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  for (const uint32_t heap : {kOfCma, kOfUdmabuf, kOfMemfd}) {
    CAPTURE(heap);
    Memory memory(all, heap, 4_KiB);
    const auto at = all.MapToKeep(memory.block);
    REQUIRE(at.ok());
    memory.block.mapping = *at;
    const Result<bool> alone = all.IsUnshared(memory.block);
    if (heap == kOfMemfd) {
      CHECK(Kind(alone.error()) == "EOPNOTSUPP prove unshared");
      CHECK(std::string(alone.error().backend()) == "memfd");
    } else {
      REQUIRE(Told(alone.error()) == "ok");
      CHECK(*alone);
    }
    CHECK(*all.IsIdle(memory.block));
  }
}

TEST_CASE("AllOf: pages are composed by the interface that can, and by none where it is not open") {
  const LeakCheck leaks;
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  const uint64_t page = PageBytes();
  const UniqueFd pages = Memfd(16 * page);
  const PageRange range{pages.borrow(), page, 2 * page};
  Block block;
  REQUIRE(Told(all.Compose(std::span(&range, 1), block)) == "ok");
  CHECK(block.bytes == 2 * page);
  CHECK(Fill(all, block, 5) == "ok");
  CHECK(Kind(all.SetName(block, "composed")) == "ok");
  CHECK(all.Release(block).ok());

  FakeMachine machine = CmaAndUdmabuf();
  machine.udmabuf = false;
  All without = OpenOn(FakeSyscalls(machine));
  const Error none = without.Compose(std::span(&range, 1), block);
  CHECK(Kind(none) == "ENOENT open");
  CHECK(std::string(none.backend()) == "udmabuf");
  CHECK_FALSE(block.filled());
}

TEST_CASE("AllOf: commands are for the interface that has some") {
  using Five = AllBackend<FakeSyscalls>;
  static_assert(Five::kCaps.customs);
  auto without = Five::Open({.sys = FakeSyscalls(CmaAndUdmabuf())});
  REQUIRE(without.ok());
  const Error none = without->Custom(1, 2);
  CHECK(Kind(none) == "ENOTTY custom command");
  CHECK(std::string(none.backend()) == "all");
  auto with = Five::Open({.sys = FakeSyscalls(testing::Linux42Machine())});
  REQUIRE(with.ok());
  CHECK(std::string(with->Custom(1, 2).backend()) == "ion_legacy");
}

// ---- Interfaces and heaps that come ----

// A kernel whose udmabuf comes with a module.
class Module : public FakeSyscalls {
 public:
  Module() : Module(CmaAndUdmabuf()) {}
  explicit Module(FakeMachine machine) : FakeSyscalls(std::move(machine)) {}

  long Open(const char* path, int flags) const noexcept {
    if (!*loaded_ && std::string_view(path) == "/dev/udmabuf") return -ENOENT;
    return FakeSyscalls::Open(path, flags);
  }
  void Load() const { *loaded_ = true; }

 private:
  std::shared_ptr<bool> loaded_ = std::make_shared<bool>(false);
};

TEST_CASE("AllOf: an interface that comes later is opened, and heaps that come are appended") {
  const LeakCheck leaks;
  const Module sys;
  auto all = Three<Module>::Open({.sys = sys});
  REQUIRE(all.ok());
  CHECK(Kind(all->OpenErrorOf("udmabuf")) == "ENOENT open");
  REQUIRE(all->heaps().size() == 2);
  const KernelHeap* const first = all->heaps().data();
  CHECK_FALSE(all->LookAgain());
  sys.Load();
  sys.kernel().AddDmaHeap({.name = "system"});
  CHECK(all->LookAgain());
  CHECK_FALSE(all->LookAgain());
  CHECK(all->heaps().data() == first);
  REQUIRE(all->heaps().size() == 4);
  CHECK(all->heaps()[2].name == "system");
  CHECK(all->heaps()[2].interface == "dma_heap");
  CHECK(all->heaps()[3].interface == "udmabuf");
  CHECK(all->OpenErrorOf("udmabuf").ok());
  CHECK(all->open_errors().size() == 1);
  for (uint32_t heap = 0; heap < 4; ++heap) {
    const Memory memory(*all, heap, 4_KiB);
    CHECK(memory.block.contiguous.yes() == (heap == 0));
    CHECK(Fill(*all, memory.block, 1) == "ok");
  }
}

TEST_CASE("AllOf: a Manager binds a heap whose interface comes later") {
  const LeakCheck leaks;
  const Module sys;
  auto board = platforms::TableManager<Three<Module>, kLadder>::Open({.sys = sys});
  REQUIRE(board.ok());
  CHECK(board->heaps() == (kCma | kCpuOnly));
  const auto absent = board->Allocate({.bytes = 1, .heaps = kDmaBufs});
  CHECK(ErrnoOf(absent.status()) == ENOENT);
  sys.Load();
  const auto buffer = board->Allocate({.bytes = 1, .heaps = kDmaBufs});
  REQUIRE(buffer.ok());
  CHECK(board->HeapOf(*buffer) == kDmaBufs);
  CHECK(board->default_heaps() == HeapMask(kDmaBufs));
}

TEST_CASE("AllOf: numbers of heaps that a block can name are never those of imports") {
  FakeMachine machine = CmaAndUdmabuf();
  for (int i = 0; i < 300; ++i) {
    machine.dma_heaps.push_back({.name = "acme," + std::to_string(i)});
  }
  const LeakCheck leaks;
  const FakeSyscalls sys(machine);
  // The first interface alone has more.
  All all = OpenOn(sys);
  CHECK(all.heaps().size() == 253);
  const Memory last(all, 252, 4_KiB);
  CHECK(last.block.kernel_heap == 252);
  const UniqueFd memfd = Memfd(4_KiB);
  const auto imported = Memory<All>::Imported(all, memfd.borrow());
  CHECK(imported.block.kernel_heap >= 253);
  CHECK(Kind(all.SetName(imported.block, "no")) == "EOPNOTSUPP name");
}

// ---- Pools, threads, children ----

using PooledBoard = Manager<All, Pooled<DmaOf<kLadder[0]>>, Pooled<SystemOf<kLadder[2]>>,
                            Pooled<SystemOf<kLadder[3]>>>;

TEST_CASE("AllOf: pools over several interfaces recycle each block where it came from") {
  const LeakCheck leaks;
  const FakeSyscalls sys(CmaAndUdmabuf());
  const auto budget = std::make_shared<Budget>(64_MiB);
  {
    auto board = testing::Open<PooledBoard>({.sys = sys, .budget = budget});
    auto client = testing::Make(board, {.name = "isp", .domain = "camera"});
    for (int round = 0; round < 3; ++round) {
      std::vector<Buffer> frames;
      for (int i = 0; i < 3; ++i) {
        auto frame = client.Allocate({.bytes = 2_MiB, .heaps = kCma | kDmaBufs});
        REQUIRE(frame.ok());
        CHECK(board.HeapOf(*frame) == (i < 2 ? kCma : kDmaBufs));
        CHECK(testing::Look(*frame, 0, testing::ZeroByte) == "ok");
        testing::Write(*frame, 7);
        frames.push_back(*std::move(frame));
      }
      auto own = client.Allocate({.bytes = 2_MiB, .heaps = kCpuOnly});
      REQUIRE(own.ok());
      CHECK(board.HeapOf(*own) == kCpuOnly);
    }
    CHECK(testing::Sum(board.MakeReport()).hits >= 4);
    CHECK(sys.kernel().LeftInDmaHeap("reserved") == 0);
    CHECK(board.Trim() >= 8_MiB);
    CHECK(sys.kernel().LeftInDmaHeap("reserved") == 4_MiB);
    CHECK(budget->held() == 0);
  }
  CHECK(budget->held() == 0);
}

TEST_CASE("AllOf: threads allocate, map, share, import and release over all interfaces at once") {
  const LeakCheck leaks;
  const FakeSyscalls sys(CmaAndUdmabuf());
  const auto budget = std::make_shared<Budget>(64_MiB);
  const auto errors = std::make_shared<ErrorSink>();
  std::atomic<int> rounds{0};
  {
    auto board = testing::Open<PooledBoard>({.sys = sys, .budget = budget, .errors = errors});
    const auto use = [&](unsigned seed) {
      auto client = board.CreateClient({.name = "thread"});
      if (!client.ok()) return;
      std::vector<Buffer> held;
      for (unsigned i = 0; i < 60; ++i) {
        const HeapMask masks[] = {kCma | kDmaBufs, kDmaBufs | kCpuOnly, kCpuOnly,
                                  kCma | kDmaBufs | kCpuOnly};
        auto buffer = client->Allocate(
            {.bytes = (1 + (i + seed) % 7) * 128_KiB, .heaps = masks[(i + seed) % 4]});
        if (!buffer.ok()) return;
        if (i % 3 == 0) {
          auto mapping = WritableMapping::Of(*buffer);
          if (!mapping.ok()) return;
        }
        if (i % 5 == 0 && !client->Import(buffer->fd()).ok()) return;
        held.push_back(*std::move(buffer));
        if (held.size() > 3) held.erase(held.begin() + static_cast<long>(i % held.size()));
        ++rounds;
      }
    };
    {
      std::vector<std::jthread> threads;
      for (unsigned seed = 0; seed < 4; ++seed) threads.emplace_back(use, seed);
    }
  }
  CHECK(rounds == 4 * 60);
  CHECK(sys.kernel().LeftInDmaHeap("reserved") == 4_MiB);
  CHECK(budget->held() == 0);
  CHECK(errors->count() == 0);
}

TEST_CASE("AllOf: a child closes the descriptors that it inherits, of each interface") {
  const LeakCheck leaks;
  All all = OpenOn(FakeSyscalls(CmaAndUdmabuf()));
  Memory a(all, kOfCma, 4_KiB), b(all, kOfUdmabuf, 4_KiB), c(all, kOfMemfd, 4_KiB);
  const ChildEnd end = RunInChild([&]() -> std::string {
    for (Block* block : {&a.block, &b.block, &c.block}) {
      const int fd = block->fd;
      if (!all.Abandon(*block).ok() || block->filled()) return "not abandoned";
      if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) return "not closed";
    }
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(Fill(all, a.block, 1) == "ok");
}

TEST_CASE("AllOf: a Manager over all that this machine has gives memory") {
  const LeakCheck leaks;
  auto manager = platforms::AllHeaps<>::Open();
  REQUIRE(manager.ok());
  auto buffer = manager->Allocate({.bytes = 1, .heaps = manager->heaps()});
  REQUIRE(buffer.ok());
  testing::Write(*buffer, 3);
  CHECK(testing::Look(*buffer, 3) == "ok");
}

}  // namespace
}  // namespace ion
