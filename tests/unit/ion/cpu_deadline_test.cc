// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Scopes of CPU access with a deadline: over fake kernels whose fences the test holds, with each of
// their calls failing; and in a guest with real fences on real memory.

#include <linux/dma-buf.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/all_of.h"
#include "ion/backends/any_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/direction.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/sync_file.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/child.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "tests/support/skip.h"
#include "tests/support/sw_sync.h"
#include "tests/support/vgem_fence.h"

namespace ion::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The fences on a kernel's only buffer, and what was asked of the kernel: "in" and "out" for a poll
// that waits for writers and for all, "R", "W" and "RW" for a begin, "end" for an end.
struct Fences {
  bool writes = false, reads = false;  // a device's, and not signalled
  std::vector<std::string> asked;
  std::string fails;  // the call that fails with EIO

  bool Pending(short events) const { return writes || (events == POLLOUT && reads); }
  // Notes a call. Returns true if it fails.
  bool Note(const std::string& call) {
    asked.push_back(call);
    return call == fails;
  }
  std::string Asked() {
    std::string all;
    for (const std::string& call : std::exchange(asked, {})) all += (all.empty() ? "" : " ") + call;
    return all;
  }
};

// A kernel whose polls and begins find these fences. A begin that would wait for ever says so.
template <class Kernel>
class FencedSyscalls : public Kernel {
 public:
  FencedSyscalls() = default;
  explicit FencedSyscalls(Fences* fences) : fences_(fences) {}

  long Poll(struct pollfd* polled, unsigned, int time) const noexcept {
    if (fences_->Note(polled->events == POLLIN ? "in" : "out")) return -EIO;
    if (!fences_->Pending(polled->events)) return (polled->revents = polled->events, 1);
    if (time == -1) return (fences_->Note("waits for ever"), -EIO);
    std::this_thread::sleep_for(milliseconds(time));
    return 0;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (request == DMA_BUF_IOCTL_SYNC) {
      const uint64_t flags = static_cast<dma_buf_sync*>(argument)->flags;
      const bool reads = (flags & DMA_BUF_SYNC_READ) != 0, writes = (flags & DMA_BUF_SYNC_WRITE);
      const bool ends = (flags & DMA_BUF_SYNC_END) != 0;
      if (!ends && fences_->Pending(writes ? POLLOUT : POLLIN)) fences_->Note("waits for ever");
      const char* const begin = reads && writes ? "RW" : writes ? "W" : "R";
      if (fences_->Note(ends ? "end" : begin)) return -EIO;
    }
    return Kernel::Ioctl(fd, request, argument);
  }

 private:
  Fences* fences_ = nullptr;
};

template <class Sys>
using AllOfThree = AllOf<DmaHeapBackend<Sys>, UdmabufBackend<Sys>, MemfdBackend<Sys>>;
template <class Sys>
using AnyOfThree = AnyOf<DmaHeapBackend<Sys>, UdmabufBackend<Sys>, MemfdBackend<Sys>>;

// Of one parameter, for clang 14.
template <class Sys>
using IonLegacyOf = IonLegacyBackend<Sys>;

template <template <class> class B, class Kernel, Flags kMemory = Flags::kNone>
struct Platform {
  using Sys = FencedSyscalls<Kernel>;
  using Backend = B<Sys>;
  static constexpr Flags kFlags = kMemory;
  // False: the memory is uncached, or its begin is no DMA_BUF_IOCTL_SYNC.
  static constexpr bool kBegins = true;
};
using FakeDmaHeaps = Platform<DmaHeapBackend, FakeLinux612>;
using FakeUdmabufs = Platform<UdmabufBackend, FakeLinux612>;
using FakeIons = Platform<IonBackend, FakeLinux510, Flags::kCached>;
using FakeAll = Platform<AllOfThree, FakeLinux612>;
using FakeAny = Platform<AnyOfThree, FakeLinux612>;
struct UncachedIons : Platform<IonBackend, FakeLinux510, Flags::kUncached> {
  static constexpr bool kBegins = false;
};

}  // namespace
}  // namespace ion::testing

TYPE_TO_STRING_AS("fake dma_heap", ion::testing::FakeDmaHeaps);
TYPE_TO_STRING_AS("fake udmabuf", ion::testing::FakeUdmabufs);
TYPE_TO_STRING_AS("fake ion", ion::testing::FakeIons);
TYPE_TO_STRING_AS("fake ion, uncached", ion::testing::UncachedIons);
TYPE_TO_STRING_AS("fake all", ion::testing::FakeAll);
TYPE_TO_STRING_AS("fake any", ion::testing::FakeAny);

namespace ion::testing {
namespace {

constexpr uint64_t kBytes = 64 << 10;

Deadline In(int time) { return steady_clock::now() + milliseconds(time); }
std::string Told(const absl::Status& status) {
  return status.ok() ? "ok" : std::string(status.message());
}

// A buffer of that platform, mapped.
template <class P>
struct Fixture {
  using M = Manager<typename P::Backend, SystemHeap<typename P::Backend>>;

  static M OpenWith(Fences* fences) {
    typename P::Backend::Options options;
    options.sys = typename P::Sys(fences);
    return Open<M>(options);
  }

  Fences fences;
  M manager = OpenWith(&fences);
  typename M::Client client = Make(manager);
  Buffer buffer = Take(client, kBytes, P::kFlags);
  WritableMapping mapping = WritableMapping::Of(buffer).value();
  const std::string opened = fences.Asked();
};

// Waits 50 ms for a scope, in vain.
template <class Access, class P>
void TimesOut(Fixture<P>& f) {
  const Deadline start = steady_clock::now();
  const absl::Status status = Access::Begin(f.mapping, start + milliseconds(50)).status();
  CHECK(status.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(ErrnoOf(status) == ETIMEDOUT);
  CHECK(steady_clock::now() - start >= milliseconds(50));
  CHECK(steady_clock::now() - start < milliseconds(2000));
  const std::string text = Told(status);
  CHECK(text.find("begin CPU access 65536 bytes (poll): ETIMEDOUT") != text.npos);
}

#define ION_FAKES FakeDmaHeaps, FakeUdmabufs, FakeIons, UncachedIons, FakeAll, FakeAny

TEST_CASE_TEMPLATE("CpuAccess: one with a deadline waits by poll, then begins", P, ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  const auto sends = [](const char* poll, const char* begin) {
    return P::kBegins ? std::string(poll) + " " + begin + " end" : std::string(poll);
  };
  { const auto cpu = CpuRead::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == sends("in", "R"));
  { const auto cpu = CpuWrite::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == sends("out", "W"));
  { const auto cpu = CpuReadWrite::Begin(f.mapping, kNoDeadline).value(); }
  CHECK(f.fences.Asked() == sends("out", "RW"));
  // A deadline in the past is a look.
  { const auto cpu = CpuRead::Begin(f.mapping, In(-5)).value(); }
  CHECK(f.fences.Asked() == sends("in", "R"));
  // One without a deadline polls nothing.
  { const auto cpu = CpuReadWrite::Begin(f.mapping).value(); }
  CHECK(f.fences.Asked() == (P::kBegins ? "RW end" : ""));
}

TEST_CASE_TEMPLATE("CpuAccess: past its deadline nothing has begun", P, ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  f.fences.writes = true;
  TimesOut<CpuRead>(f);
  TimesOut<CpuWrite>(f);
  TimesOut<CpuReadWrite>(f);
  CHECK(f.fences.Asked().find_first_of("RWe") == std::string::npos);
  f.fences.writes = false;
  // The mapping can go: it has no scope.
  { const auto cpu = CpuReadWrite::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == (P::kBegins ? "out RW end" : "out"));
}

TEST_CASE_TEMPLATE("CpuAccess: a device that reads is waited for by writers alone", P, ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  f.fences.reads = true;
  { const auto cpu = CpuRead::Begin(f.mapping, In(50)).value(); }
  TimesOut<CpuWrite>(f);
  TimesOut<CpuReadWrite>(f);
  CHECK(f.fences.Asked().find("waits for ever") == std::string::npos);
}

TEST_CASE_TEMPLATE("CpuAccess: reading in an open write waits for all that its begin waits for", P,
                   ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  const auto writes = CpuWrite::Begin(f.mapping, In(50)).value();
  (void)f.fences.Asked();
  f.fences.reads = true;
  TimesOut<CpuRead>(f);
  CHECK(f.fences.Asked().find_first_of("RWe") == std::string::npos);
  f.fences.reads = false;
  { const auto reads = CpuRead::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == (P::kBegins ? "out end RW" : "out"));
}

// What an open scope covers sends nothing, and is waited for all the same.
TEST_CASE_TEMPLATE("CpuAccess: a covered scope waits, too", P, ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  const auto all = CpuReadWrite::Begin(f.mapping).value();
  (void)f.fences.Asked();
  { const auto cpu = CpuRead::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == "out");
  f.fences.writes = true;
  TimesOut<CpuRead>(f);
}

TEST_CASE_TEMPLATE("CpuAccess: each call of a scope with a deadline may fail", P, ION_FAKES) {
  const LeakCheck leaks;
  Fixture<P> f;
  f.fences.fails = "out";
  const absl::Status polled = CpuReadWrite::Begin(f.mapping, In(50)).status();
  CHECK(ErrnoOf(polled) == EIO);
  CHECK(Told(polled).find("begin CPU access 65536 bytes (poll): EIO") != std::string::npos);
  CHECK(f.fences.Asked() == "out");
  if (P::kBegins) {
    f.fences.fails = "RW";
    const absl::Status begun = CpuReadWrite::Begin(f.mapping, In(50)).status();
    CHECK(ErrnoOf(begun) == EIO);
    CHECK(Told(begun).find("(DMA_BUF_IOCTL_SYNC): EIO") != std::string::npos);
    CHECK(f.fences.Asked() == "out RW");
    f.fences.fails = "end";
    auto cpu = CpuReadWrite::Begin(f.mapping, In(50)).value();
    CHECK(ErrnoOf(std::move(cpu).End()) == EIO);
    CHECK(f.fences.Asked() == "out RW end");
  }
  f.fences.fails = "";
  { const auto cpu = CpuReadWrite::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == (P::kBegins ? "out RW end" : "out"));
}

TEST_CASE("CpuAccess: memory that has no fences is begun with a deadline without a call") {
  const LeakCheck leaks;
  Fixture<Platform<MemfdBackend, FakeLinux612>> f;
  f.fences.writes = true;
  { const auto cpu = CpuReadWrite::Begin(f.mapping, In(-5)).value(); }
  CHECK(f.fences.Asked() == "");
}

// The ION of Linux 4.2 waits by poll itself: its begin is nothing else.
TEST_CASE("CpuAccess: with a deadline over the ION that had handles") {
  const LeakCheck leaks;
  Fixture<Platform<IonLegacyOf, FakeLinux42, Flags::kCached>> f;
  { const auto cpu = CpuRead::Begin(f.mapping, In(50)).value(); }
  CHECK(f.fences.Asked() == "in in");
  f.fences.writes = true;
  TimesOut<CpuRead>(f);
}

// ---- Real fences ----

template <class B>
using Real =
    Manager<B, PooledHeap<SystemHeap<B>, PoolSpec{.age_ticks = 8, .quarantine_blocks = 2}>>;
using RealDmaHeaps = Real<DmaHeapBackend<>>;
using RealUdmabufs = Real<UdmabufBackend<>>;

}  // namespace
}  // namespace ion::testing

TYPE_TO_STRING_AS("dma_heap", ion::testing::RealDmaHeaps);
TYPE_TO_STRING_AS("udmabuf", ion::testing::RealUdmabufs);

namespace ion::testing {
namespace {

// A device that works on a buffer until the test says that it has ended: sw_sync, whose fence is
// imported, or before Linux 6.0 vgem.
class Device {
 public:
  // Returns nothing, "skip", or what is wrong.
  std::string WorkOn(FdRef dma_buf, Direction direction) {
    const absl::Status put = ImportSyncFile(dma_buf, fence_.borrow(), direction);
    if (put.ok()) return "";
    if (ErrnoOf(put) != ENOTTY || !IsBefore(6, 0)) return Told(put);
    older_ = true;
    if (!vgem_.exists()) return "skip";
    return vgem_.PutOn(dma_buf, direction) ? "" : "vgem";
  }
  bool exists() const { return fence_.valid(); }
  bool End() const { return older_ ? vgem_.Signal() : line_.Signal(); }

 private:
  SwSync line_;
  VgemFence vgem_;
  UniqueFd fence_ = line_.MakeFence();
  bool older_ = false;
};

// Lets a device work on a new buffer, then calls f(its Manager, its client, the buffer, the device)
// in a child that ends if a call does not. `f` returns nothing, "skip", or what is wrong.
template <class M, class F>
void WithDevice(Direction direction, F f) {
  const LeakCheck leaks;
  const absl::StatusOr<M> manager = M::Open();
  if (!manager.ok()) {
    CHECK(ErrnoOf(manager.status()) == ENOENT);
    return Skip(Told(manager.status()));
  }
  if (!Device().exists()) return Skip("no sw_sync");
  const ChildEnd end = RunInChild([&]() -> std::string {
    EndAfter(60);
    auto mine = Open<M>();
    auto client = Make(mine);
    Device device;
    Buffer buffer = Take(client, kBytes);
    const std::string wrong = device.WorkOn(buffer.fd(), direction);
    return wrong.empty() ? f(mine, client, std::move(buffer), device) : wrong;
  });
  if (end.text == "skip") return Skip("neither DMA_BUF_IOCTL_IMPORT_SYNC_FILE nor vgem");
  CHECK(end.text == "");
  CHECK(end.signal == 0);
}

// Returns nothing, or what was wrong with a scope that must not begin within 50 ms.
template <class Access>
std::string Late(const WritableMapping& mapping) {
  const Deadline start = steady_clock::now();
  const absl::Status status = Access::Begin(mapping, start + milliseconds(50)).status();
  const auto took = steady_clock::now() - start;
  if (status.code() != absl::StatusCode::kDeadlineExceeded) return "it began: " + Told(status);
  if (took < milliseconds(50)) return "too early";
  return took < milliseconds(2000) ? "" : "too late";
}

TEST_CASE_TEMPLATE("CpuAccess: a real fence that is never signalled ends at the deadline", M,
                   RealDmaHeaps, RealUdmabufs) {
  WithDevice<M>(Direction::kWrite, [](auto&, auto&, Buffer buffer, const Device& device) {
    const auto mapping = WritableMapping::Of(buffer).value();
    std::string wrong =
        Late<CpuRead>(mapping) + Late<CpuWrite>(mapping) + Late<CpuReadWrite>(mapping);
    if (!wrong.empty()) return wrong;
    const Deadline start = steady_clock::now();
    const std::jthread signals([&] {
      std::this_thread::sleep_for(milliseconds(30));
      if (!device.End()) std::abort();
    });
    const auto cpu = CpuReadWrite::Begin(mapping, In(10'000));
    if (steady_clock::now() - start < milliseconds(30)) return std::string("it did not wait");
    return cpu.ok() ? "" : Told(cpu.status());
  });
}

TEST_CASE_TEMPLATE("CpuAccess: a real device that reads is waited for by writers alone", M,
                   RealDmaHeaps, RealUdmabufs) {
  WithDevice<M>(Direction::kRead, [](auto&, auto&, Buffer buffer, const Device& device) {
    const auto mapping = WritableMapping::Of(buffer).value();
    {
      const auto cpu = CpuRead::Begin(mapping, In(50));
      if (!cpu.ok()) return Told(cpu.status());
    }
    std::string wrong = Late<CpuWrite>(mapping) + Late<CpuReadWrite>(mapping);
    if (!wrong.empty()) return wrong;
    if (!device.End()) return std::string("it cannot end");
    return Told(CpuReadWrite::Begin(mapping, In(0)).status()).substr(2);
  });
}

// Other memory has no fence, and its scope begins.
TEST_CASE_TEMPLATE("CpuAccess: memory that a real device still uses is lent to nobody else", M,
                   RealDmaHeaps, RealUdmabufs) {
  WithDevice<M>(Direction::kWrite,
                [](M& manager, auto& client, Buffer buffer, const Device& device) -> std::string {
                  const int used = buffer.fd().get();
                  { const Buffer ended = std::move(buffer); }
                  auto other = Make(manager);
                  const auto begins = [&](auto& of) {
                    Buffer next = Take(of, kBytes);
                    const auto mapping = WritableMapping::Of(next).value();
                    return next.fd().get() != used && CpuReadWrite::Begin(mapping, In(0)).ok();
                  };
                  if (!begins(client)) return "its own domain got it";
                  if (!begins(other)) return "another domain got it";
                  if (!device.End()) return "it cannot end";
                  manager.Tick();
                  const Buffer one = Take(client, kBytes), two = Take(client, kBytes),
                               three = Take(client, kBytes);
                  for (const Buffer* again : {&one, &two, &three}) {
                    if (again->fd().get() == used) return "";
                  }
                  return "nobody got it again";
                });
}

}  // namespace
}  // namespace ion::testing
