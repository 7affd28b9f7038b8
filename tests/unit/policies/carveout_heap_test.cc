// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// CarveoutHeap over each of its regions. /dev/mem is a memfd on any machine, and itself where the
// guest has a range that was kept from its kernel.

#include "ion/policies/carveout/carveout_heap.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/heap.h"
#include "ion/manager.h"
#include "ion/policies/carveout/composed_region.h"
#include "ion/policies/carveout/first_fit.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/system_heap.h"
#include "tests/support/absent_node.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/leak_check.h"
#include "tests/support/lent_pages.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

constexpr uint64_t kPage = 4_KiB;
constexpr uint64_t kBytes = 16 * kPage;
constexpr uint64_t kBase = 0x3000'0000;  // what tests/guest/guest keeps from its kernel

constexpr HeapSpec kSpec{.type = HeapType::kCarveout, .id = 2, .bytes = kBytes};
constexpr HeapSpec kPhysSpec{.type = HeapType::kCarveout, .id = 2, .base = kBase, .bytes = kBytes};

// A /dev/mem whose physical memory is a memfd; or one that does not open, or cannot be mapped.
struct FakeMemory : LinuxSyscalls {
  static inline int memory = -1;
  static inline int errno_of_open = 0;
  static inline int flags = 0;

  long Open(const char* path, int with) const noexcept {
    if (std::string_view(path) != "/dev/mem") return LinuxSyscalls::Open(path, with);
    flags = with;
    return errno_of_open != 0 ? -errno_of_open : Fcntl(memory, F_DUPFD_CLOEXEC, 0);
  }
};

// What a carveout is tested over.
struct AllComesBack {
  static constexpr uint32_t stays = 0;  // blocks that were freed, and are given to nobody
};
struct OverMemfd : AllComesBack {
  using B = MemfdBackend<>;
  using Heap = CarveoutHeap<B, kSpec>;
  static std::string Missing() { return ""; }
};
struct FirstFitOverMemfd : OverMemfd {
  using Heap = CarveoutHeap<B, kSpec, FirstFit>;
};
struct OverUdmabuf : AllComesBack {
  using B = UdmabufBackend<>;
  using Heap = CarveoutHeap<B, kSpec>;
  static std::string Missing() {
    return ::access("/dev/udmabuf", F_OK) == 0 ? "" : "no /dev/udmabuf";
  }
};
struct OverComposed : OverUdmabuf {
  static inline uint32_t stays = 0;
  using Heap = CarveoutHeap<B, kSpec, SegregatedFit, ComposedRegion<B, MemfdBackend<>>>;
};
struct OverCma : AllComesBack {
  using B = DmaHeapBackend<>;
  using Heap = CarveoutHeap<
      B, HeapSpec{
             .type = HeapType::kCarveout, .id = 2, .name = "default_cma_region", .bytes = kBytes}>;
  static std::string Missing() {
    const Result<B> backend = B::Open({});
    if (!backend.ok()) return Describe(backend.error());
    for (const KernelHeap& heap : backend->heaps()) {
      if (heap.type == HeapType::kDma && heap.unusable.ok()) return "";
    }
    return "no CMA heap in /dev/dma_heap";
  }
};
struct OverFakeMemory : AllComesBack {
  using B = MemfdBackend<>;
  using Heap = CarveoutHeap<B, kPhysSpec, SegregatedFit, PhysRegion<B, FakeMemory>>;
  static std::string Missing() { return ""; }
};
struct OverMemory : AllComesBack {
  using B = MemfdBackend<>;
  using Heap = CarveoutHeap<B, kPhysSpec, SegregatedFit, PhysRegion<B>>;
  static std::string Missing() {
    const char* base = std::getenv("ION_RESERVED_BASE");
    if (base == nullptr) return "no physical range is kept from this kernel";
    return std::strtoull(base, nullptr, 0) == kBase ? "" : "another range is kept than is tested";
  }
};

#define ION_CARVEOUTS \
  OverMemfd, FirstFitOverMemfd, OverUdmabuf, OverComposed, OverCma, OverFakeMemory, OverMemory

// The memory of FakeMemory, as long as it is needed.
class Physical {
 public:
  Physical() {
    FakeMemory::memory = static_cast<int>(LinuxSyscalls().MemfdCreate("physical", MFD_CLOEXEC));
    REQUIRE(::ftruncate(FakeMemory::memory, kBase + kBytes) == 0);
  }
  Physical(const Physical&) = delete;
  Physical& operator=(const Physical&) = delete;
  ~Physical() { ::close(FakeMemory::memory); }
};

// Calls f(heap, backend) and looks after what must be true at the end of each case.
template <class T, class F>
void OnCarveout(F f) {
  const LeakCheck leaks;
  if (const std::string missing = T::Missing(); !missing.empty()) return Skip(missing);
  const Physical physical;
  const auto budget = std::make_shared<Budget>(64_MiB);
  const OtherErrors errors;
  typename T::B::Options options;
  options.budget = budget;
  options.errors = errors.sink();
  auto backend = T::B::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  {
    auto heap = T::Heap::Bind(*backend);
    REQUIRE(Told(heap.error()) == "ok");
    f(*heap, *backend);
    CHECK(heap->figures().live == T::stays);
    if (T::stays == 0) CHECK(heap->figures().largest_hole == kBytes);
  }
  CHECK(budget->held() == 0);
  CHECK(errors.count() == 0);
}

// A block of a heap, freed at the end.
template <class H>
class Piece {
 public:
  Piece(H& heap, uint64_t bytes) : heap_(&heap) {
    REQUIRE(Told(heap.Allocate({.bytes = bytes}, block)) == "ok");
  }
  Piece(Piece&& other) noexcept : block(std::exchange(other.block, Block{})), heap_(other.heap_) {}
  Piece& operator=(Piece&&) = delete;
  ~Piece() { Free(); }
  void Free() {
    if (block.filled()) CHECK(Told(heap_->Free(block)) == "ok");
  }

  Block block;

 private:
  H* heap_;
};
template <class H>
Piece(H&, uint64_t) -> Piece<H>;

// Maps a block by its heap, with CPU access around it as the heap wants it.
template <class H, class B, class F>
std::string WithPiece(H& heap, B& backend, const Block& block, F f) {
  const auto sync = [&](auto&& via, auto act) {
    return Kind((via.*act)(block, Direction::kReadWrite));
  };
  const Result<std::byte*> at = heap.Map(block, 0, block.bytes, MapMode::kWritable);
  if (!at.ok()) return Kind(at.error());
  std::string begun, ended;
  if constexpr (H::kCaps.syncs) {
    begun = sync(heap, &H::BeginCpuAccess);
  } else {
    begun = sync(backend, &B::BeginCpuAccess);
  }
  const std::string answer = f(std::span(*at, block.bytes));
  if constexpr (H::kCaps.syncs) {
    ended = sync(heap, &H::EndCpuAccess);
  } else {
    ended = sync(backend, &B::EndCpuAccess);
  }
  std::string unmapped = Kind(heap.Unmap(*at, block.bytes));
  for (const std::string& step : {begun, answer, ended}) {
    if (step != "ok") return step;
  }
  return unmapped;
}
template <class H, class B>
std::string FillPiece(H& heap, B& backend, const Block& block, uint8_t seed) {
  return WithPiece(heap, backend, block, [&](std::span<std::byte> bytes) {
    FillPages(bytes, seed);
    return std::string("ok");
  });
}
template <class H, class B>
std::string LookAtPiece(H& heap, B& backend, const Block& block, uint8_t seed,
                        int (*byte_of)(uint8_t, uint64_t) = PageByte) {
  return WithPiece(heap, backend, block, [&](std::span<std::byte> bytes) {
    return LookAtPages(bytes, seed, 0, byte_of);
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: its blocks are ranges of one descriptor, in whole pages", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    const Piece a(heap, 1), b(heap, 3 * kPage + 1);
    CHECK(a.block.fd == b.block.fd);
    CHECK(a.block.bytes == kPage);
    CHECK(b.block.bytes == 4 * kPage);
    CHECK((a.block.offset + a.block.bytes <= b.block.offset ||
           b.block.offset + b.block.bytes <= a.block.offset));
    CHECK(heap.figures().live == 2);
    CHECK(heap.figures().waste == 2 * (kPage - 1));
    CHECK(a.block.zeroed);
    CHECK(a.block.contiguous == heap.properties().contiguous);
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: a block reads as zero, whatever was there before", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto& backend) {
    Piece all(heap, kBytes);
    CHECK(LookAtPiece(heap, backend, all.block, 0, ZeroByte) == "ok");
    CHECK(FillPiece(heap, backend, all.block, 7) == "ok");
    all.Free();
    const Piece some(heap, 5 * kPage), more(heap, 11 * kPage);
    CHECK(LookAtPiece(heap, backend, some.block, 0, ZeroByte) == "ok");
    CHECK(LookAtPiece(heap, backend, more.block, 0, ZeroByte) == "ok");
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: neighbours do not see each other, and outlive each other", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto& backend) {
    const Piece first(heap, 2 * kPage);
    Piece middle(heap, 3 * kPage);
    const Piece last(heap, 2 * kPage);
    CHECK(FillPiece(heap, backend, first.block, 1) == "ok");
    CHECK(FillPiece(heap, backend, middle.block, 2) == "ok");
    CHECK(FillPiece(heap, backend, last.block, 3) == "ok");
    CHECK(LookAtPiece(heap, backend, first.block, 1) == "ok");
    CHECK(LookAtPiece(heap, backend, middle.block, 2) == "ok");
    middle.Free();
    const Piece other(heap, 3 * kPage);
    CHECK(LookAtPiece(heap, backend, other.block, 0, ZeroByte) == "ok");
    CHECK(LookAtPiece(heap, backend, first.block, 1) == "ok");
    CHECK(LookAtPiece(heap, backend, last.block, 3) == "ok");
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: a range that ends past the block is not mapped", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    const Piece piece(heap, 2 * kPage), neighbour(heap, kPage);
    CHECK(heap.Map(piece.block, kPage, 2 * kPage, MapMode::kReadOnly).error().code() == EINVAL);
    CHECK(heap.Map(piece.block, 0, 3 * kPage, MapMode::kReadOnly).error().code() == EINVAL);
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: without room it says ENOMEM, and how much there is", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    std::vector<Piece<std::remove_reference_t<decltype(heap)>>> pieces;
    for (int i = 0; i < 16; ++i) pieces.emplace_back(heap, kPage);
    const auto refused = [&](uint64_t bytes) {
      Block block;
      const Error error = heap.Allocate({.bytes = bytes}, block);
      CHECK(error.code() == ENOMEM);
      CHECK_FALSE(block.filled());
      REQUIRE(error.room().has_value());
      return Describe(error);
    };
    const auto has = [](const std::string& text, std::string_view part) {
      return text.find(part) != text.npos;
    };
    const std::string full = refused(1);
    CHECK(has(full, "the region is full"));
    CHECK(has(full, "ENOMEM: 0 bytes are free, 0 of them in one piece"));
    // Every second one: whichever page each has, no three free ones lie side by side.
    for (auto& piece : pieces) {
      if (piece.block.offset / kPage % 2 == 0) piece.Free();
    }
    const std::string fragmented = refused(2 * kPage);
    CHECK(has(fragmented, "the region is fragmented"));
    CHECK(has(fragmented, "32768 bytes are free, 4096 of them in one piece"));
    CHECK(has(refused(kBytes + 1), "more than the region has"));
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: what makes no sense is EINVAL", T, ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    const bool cached = heap.properties().cached;
    for (const Request& request : {
             Request{.bytes = 0},
             Request{.bytes = UINT64_MAX},
             Request{.bytes = 1, .alignment = 0},
             Request{.bytes = 1, .alignment = 3 * kPage},
             Request{.bytes = 1, .flags = cached ? Flags::kUncached : Flags::kCached},
             Request{.bytes = 1, .flags = HeapPrivate(0)},
         }) {
      CAPTURE(request.bytes);
      Block block;
      CHECK(heap.Allocate(request, block).code() == EINVAL);
      CHECK_FALSE(block.filled());
    }
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: alignments past a page are for regions that know their address",
                   T, ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    const Piece first(heap, kPage);
    Block block;
    const Error error = heap.Allocate({.bytes = 1, .alignment = 8 * kPage}, block);
    using H = std::remove_reference_t<decltype(heap)>;
    if constexpr (H::kCaps.knows_phys) {
      REQUIRE(Told(error) == "ok");
      CHECK(PhysOf(heap, block) % (8 * kPage) == 0);
      CHECK(block.properties().alignment == 8 * kPage);
      CHECK(Told(heap.Free(block)) == "ok");
    } else {
      CHECK(error.code() == EINVAL);
    }
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: what is freed twice is EINVAL, and frees nothing", T,
                   ION_CARVEOUTS) {
  OnCarveout<T>([](auto& heap, auto&) {
    Piece piece(heap, 2 * kPage);
    Block copy = piece.block;
    copy.mapping = nullptr;
    piece.Free();
    const PlacementFigures before = heap.figures();
    CHECK(heap.Free(copy).code() == EINVAL);
    CHECK_FALSE(copy.filled());
    CHECK(heap.figures() == before);
  });
}

TEST_CASE_TEMPLATE("CarveoutHeap: where only the region has a descriptor, a share is refused", T,
                   OverMemfd, OverUdmabuf, OverCma, OverFakeMemory) {
  OnCarveout<T>([](auto& heap, auto&) {
    const Piece piece(heap, kBytes);
    const Error error = heap.Share(piece.block).error();
    CHECK(error.code() == ENOTSUP);
    CHECK(error.operation() == Operation::kShare);
  });
}

// Whether who maps the dma-buf can lend its pages to a pipe (Linux 5.10): nobody counts that.
bool LendsPages(int fd) {
  void* const at = ::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(at != MAP_FAILED);
  const bool lends = ::madvise(at, kPage, MADV_DONTNEED) == 0;
  REQUIRE(::munmap(at, kPage) == 0);
  return lends;
}

TEST_CASE("CarveoutHeap: over a ComposedRegion a share is exactly the block") {
  OnCarveout<OverComposed>([](auto& heap, auto& backend) {
    const Piece before(heap, kPage), piece(heap, 3 * kPage), after(heap, kPage);
    CHECK(FillPiece(heap, backend, before.block, 1) == "ok");
    CHECK(FillPiece(heap, backend, piece.block, 2) == "ok");
    CHECK(FillPiece(heap, backend, after.block, 3) == "ok");
    const uint64_t held = backend.budget().held();
    Result<UniqueFd> share = heap.Share(piece.block);
    REQUIRE(Told(share.error()) == "ok");
    CHECK((::fcntl(share->get(), F_GETFD) & FD_CLOEXEC) != 0);
    OverComposed::stays = LendsPages(share->get()) ? 1 : 0;
    CHECK(backend.budget().held() == held);
    const Memory<UdmabufBackend<>> theirs =
        Memory<UdmabufBackend<>>::Imported(backend, share->borrow());
    CHECK(theirs.block.bytes == 3 * kPage);
    CHECK(Look(backend, theirs.block, 2) == "ok");
    CHECK(Fill(backend, theirs.block, 9) == "ok");
    CHECK(LookAtPiece(heap, backend, piece.block, 9) == "ok");
    CHECK(LookAtPiece(heap, backend, before.block, 1) == "ok");
    CHECK(LookAtPiece(heap, backend, after.block, 3) == "ok");
  });
  OverComposed::stays = 0;
}

// The region asks a policy that it makes for itself: here of the one fake kernel there is.
struct InfoOfFake : LinuxSyscalls {
  static inline const FakeSyscalls* fake = nullptr;
  static inline long hidden = 0;  // what the open of a file of /proc answers

  long Open(const char* path, int flags) const noexcept {
    const bool hides = hidden != 0 && std::string_view(path).starts_with("/proc/");
    return hides ? hidden : fake->Open(path, flags);
  }
  long Read(int fd, void* to, size_t bytes) const noexcept { return fake->Read(fd, to, bytes); }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    return fake->Madvise(at, bytes, advice);
  }
};

// Shares a block of all there is, which its holder names; frees it, and tells whether there is
// memory then, and once the holder has gone. What was reported is appended to `told`.
std::pair<bool, bool> FreeWhileShared(const FakeMachine& machine, const char* their_name,
                                      std::vector<std::string>* told = nullptr) {
  const LeakCheck leaks;
  const FakeSyscalls sys(machine);
  InfoOfFake::fake = &sys;
  using U = UdmabufBackend<FakeSyscalls>;
  const auto errors = std::make_shared<ErrorSink>(
      [](const Error& error, void* to) {
        if (to != nullptr) static_cast<std::vector<std::string>*>(to)->push_back(Told(error));
      },
      told);
  auto backend = U::Open({.sys = sys, .errors = errors});
  REQUIRE(backend.ok());
  using Region = ComposedRegion<U, MemfdBackend<FakeSyscalls>, InfoOfFake>;
  auto heap = CarveoutHeap<U, kSpec, SegregatedFit, Region>::Bind(*backend);
  REQUIRE(heap.ok());
  Block block;
  REQUIRE(heap->Allocate({.bytes = kBytes}, block).ok());
  Result<UniqueFd> theirs = heap->Share(block);
  REQUIRE(theirs.ok());
  char name[DMA_BUF_NAME_LEN] = {};
  std::string_view(their_name).copy(name, sizeof(name) - 1);
  REQUIRE(sys.Ioctl(theirs->get(), DMA_BUF_SET_NAME, name) == 0);
  REQUIRE(heap->Free(block).ok());
  const auto has_memory = [&] {
    Block other;
    return heap->Allocate({.bytes = kPage}, other).ok() && heap->Free(other).ok();
  };
  const bool at_once = has_memory();
  REQUIRE(sys.Close(theirs->release()) == 0);
  return {at_once, has_memory()};
}

TEST_CASE("ComposedRegion: what was shared is given out again when its holder has gone") {
  CHECK(FreeWhileShared(Linux612Machine(), "theirs") == std::pair(false, true));
}

TEST_CASE("ComposedRegion: who holds a share cannot hide behind the name that he gives it") {
  CHECK(FreeWhileShared(Linux612Machine(), "x\ncount:\t1\n") == std::pair(false, true));
}

TEST_CASE("ComposedRegion: whose pages may be lent on is not given out again, which is told once") {
  std::vector<std::string> told;
  CHECK(FreeWhileShared(Linux510Machine(), "theirs", &told) == std::pair(false, false));
  REQUIRE(told.size() == 1);
  CHECK(told[0].find("a newer kernel maps its dma-bufs") != std::string::npos);
}

TEST_CASE("ComposedRegion: that the kernel hides who holds a share is told once") {
  std::vector<std::string> told;
  InfoOfFake::hidden = -ENOENT;
  CHECK(FreeWhileShared(Linux612Machine(), "theirs", &told) == std::pair(false, false));
  InfoOfFake::hidden = 0;
  REQUIRE(told.size() == 1);
  CHECK(told[0].find("without /proc memory that was shared is never") != std::string::npos);
}

TEST_CASE_TEMPLATE("CarveoutHeap: a block's bytes lie at its physical address", T, OverFakeMemory,
                   OverMemory) {
  OnCarveout<T>([](auto& heap, auto& backend) {
    const Piece before(heap, kPage), piece(heap, 2 * kPage);
    CHECK(PhysOf(heap, piece.block) == kBase + kPage);
    ForEachSegment(heap, piece.block, [&](const Segment& run) {
      CHECK(run == Segment{.offset = 0, .bytes = piece.block.bytes, .phys = kBase + kPage});
    });
    CHECK(FillPiece(heap, backend, piece.block, 5) == "ok");
    const UniqueFd memory(static_cast<int>(std::is_same_v<T, OverMemory>
                                               ? LinuxSyscalls().Open("/dev/mem", O_RDWR | O_SYNC)
                                               : FakeMemory().Open("/dev/mem", O_RDWR | O_SYNC)));
    REQUIRE(memory.valid());
    const long at = LinuxSyscalls().Mmap(2 * kPage, PROT_READ, memory.get(),
                                         static_cast<off_t>(PhysOf(heap, piece.block)));
    REQUIRE_FALSE(Failed(at));
    auto* bytes = reinterpret_cast<std::byte*>(at);
    CHECK(LookAtPages(std::span(bytes, 2 * kPage), 5) == "ok");
    LinuxSyscalls().Munmap(bytes, 2 * kPage);
  });
}

TEST_CASE("PhysRegion: it is opened uncached, and never inherited") {
  OnCarveout<OverFakeMemory>([](auto& heap, auto&) {
    const Piece piece(heap, 1);
    CHECK(FakeMemory::flags == (O_RDWR | O_SYNC));
    CHECK((::fcntl(piece.block.fd, F_GETFD) & FD_CLOEXEC) != 0);
    CHECK_FALSE(piece.block.cached);
    CHECK(piece.block.contiguous);
  });
}

TEST_CASE("PhysRegion: a /dev/mem that does not open says why, and what to do") {
  const LeakCheck leaks;
  auto backend = MemfdBackend<>::Open({});
  REQUIRE(backend.ok());
  for (const auto& [code, hint] :
       {std::pair(ENOENT, AbsentNodeAdvice("/sys/class/mem/mem", "CONFIG_DEVMEM")),
        {EACCES, "CAP_SYS_RAWIO"}}) {
    FakeMemory::errno_of_open = code;
    const Error error = OverFakeMemory::Heap::Bind(*backend).error();
    FakeMemory::errno_of_open = 0;
    CHECK(error.code() == code);
    CHECK(error.node() == "/dev/mem");
    CHECK(Describe(error).find(hint) != std::string::npos);
  }
}

// Fails a call of the n-th from now; 0 is the next.
struct Refusal {
  int mmaps_before = -1;
};
class RefusingSyscalls : public LinuxSyscalls {
 public:
  RefusingSyscalls() = default;
  explicit RefusingSyscalls(Refusal* refusal) noexcept : refusal_(refusal) {}
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    if (refusal_ != nullptr && refusal_->mmaps_before-- == 0) return -EAGAIN;
    return LinuxSyscalls::Mmap(bytes, protection, fd, offset);
  }

 private:
  Refusal* refusal_ = nullptr;
};
// A backend whose CPU access does not begin, or not end, where a test says so.
class RefusingBackend : public MemfdBackend<RefusingSyscalls> {
 public:
  static Result<RefusingBackend> Open(const Options& options) noexcept {
    auto base = MemfdBackend<RefusingSyscalls>::Open(options);
    if (!base.ok()) return base.error();
    return RefusingBackend(*std::move(base));
  }
  Error BeginCpuAccess(const Block&, Direction) noexcept { return Say(refuse_begin); }
  Error EndCpuAccess(const Block&, Direction) noexcept { return Say(refuse_end); }

  bool refuse_begin = false;
  bool refuse_end = false;

 private:
  explicit RefusingBackend(MemfdBackend<RefusingSyscalls>&& base) noexcept
      : MemfdBackend<RefusingSyscalls>(std::move(base)) {}
  static Error Say(bool no) noexcept {
    return no ? Error(EIO, "the test refuses", {kName, Operation::kBeginAccess}) : Error();
  }
};

TEST_CASE("CarveoutHeap: a block that cannot be zeroed is not given out, and its range is free") {
  const LeakCheck leaks;
  Refusal refusal;
  RefusingBackend::Options options;
  options.sys = RefusingSyscalls(&refusal);
  auto backend = RefusingBackend::Open(options);
  REQUIRE(backend.ok());
  auto heap = CarveoutHeap<RefusingBackend, kSpec>::Bind(*backend);
  REQUIRE(Told(heap.error()) == "ok");
  Block block;
  block.generation = 77;
  int code = EIO;
  SUBCASE("no mapping") {
    refusal.mmaps_before = 0;
    code = EAGAIN;
  }
  SUBCASE("no begin of CPU access") { backend->refuse_begin = true; }
  SUBCASE("no end of CPU access") { backend->refuse_end = true; }
  CHECK(heap->Allocate({.bytes = kBytes}, block).code() == code);
  CHECK_FALSE(block.filled());
  CHECK(block.generation == 77);
  CHECK(heap->figures().largest_hole == kBytes);
  backend->refuse_begin = backend->refuse_end = false;
  REQUIRE(Told(heap->Allocate({.bytes = kBytes}, block)) == "ok");
  CHECK(Told(heap->Free(block)) == "ok");
  CHECK(backend->errors().count() == 0);
}

TEST_CASE("CarveoutHeap: a region that cannot be had is told when it is bound") {
  const LeakCheck leaks;
  auto backend = MemfdBackend<>::Open({.budget = std::make_shared<Budget>(kBytes - 1)});
  REQUIRE(backend.ok());
  CHECK(OverMemfd::Heap::Bind(*backend).error().code() == ENOMEM);
  constexpr HeapSpec kNamed{
      .type = HeapType::kCarveout, .id = 2, .name = "nobody's", .bytes = kPage};
  CHECK(CarveoutHeap<MemfdBackend<>, kNamed>::Bind(*backend).error().code() == ENODEV);
  constexpr HeapSpec kAligned{
      .type = HeapType::kCarveout, .id = 2, .bytes = kPage, .alignment = 1_MiB};
  CHECK(CarveoutHeap<MemfdBackend<>, kAligned>::Bind(*backend).error().code() == EINVAL);
}

TEST_CASE("CarveoutHeap: in a Manager it is the heap that is tried first, and falls through") {
  const LeakCheck leaks;
  using B = MemfdBackend<>;
  auto manager = Manager<B, SystemHeap<B>, CarveoutHeap<B, kSpec>>::Open();
  REQUIRE(manager.ok());
  const HeapMask both = HeapId{0} | HeapId{2};
  absl::StatusOr<Buffer> first = manager->Allocate({.bytes = kBytes, .heaps = both});
  absl::StatusOr<Buffer> second = manager->Allocate({.bytes = kBytes, .heaps = both});
  REQUIRE((first.ok() && second.ok()));
  CHECK(manager->HeapOf(*first) == HeapId{2});
  CHECK(manager->HeapOf(*second) == HeapId{0});
  auto mapping = WritableMapping::Of(*first);
  REQUIRE(mapping.ok());
  auto access = CpuWrite::Begin(*mapping);
  REQUIRE(access.ok());
  FillPages(access->bytes(), 3);
  CHECK(std::move(*access).End().ok());
  const absl::Status refused = manager->Allocate({.bytes = 1, .heaps = HeapId{2}}).status();
  CHECK(ErrnoOf(refused) == ENOMEM);
  CHECK(std::string(refused.message()).find("0 bytes are free") != std::string::npos);
}

TEST_CASE("CarveoutHeap: eight threads never have the same bytes") {
  OnCarveout<OverMemfd>([](auto& heap, auto& backend) {
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    std::atomic<int> served{0};
    for (uint8_t seed = 1; seed <= 8; ++seed) {
      threads.emplace_back([&, seed] {
        for (int i = 0; i < 200; ++i) {
          Block block;
          if (!heap.Allocate({.bytes = (1u + i % 4) * kPage}, block).ok()) continue;
          ++served;
          if (LookAtPiece(heap, backend, block, 0, ZeroByte) != "ok") ++wrong;
          if (FillPiece(heap, backend, block, seed) != "ok") ++wrong;
          if (LookAtPiece(heap, backend, block, seed) != "ok") ++wrong;
          if (!heap.Free(block).ok()) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
    CHECK(served > 100);
  });
}

}  // namespace
}  // namespace ion::testing
