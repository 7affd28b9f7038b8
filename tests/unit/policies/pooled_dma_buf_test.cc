// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Pools behind heaps of dma-bufs: what was shared waits until nobody else holds it, what nobody
// lets go of goes back to the kernel, and a hit of uncached memory costs no call.

#include <linux/dma-buf.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "examples/vgem.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/support/byte_socket.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "tests/support/skip.h"
#include "tests/support/sw_sync.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

constexpr uint64_t kPage = 4096;
constexpr PoolSpec kSmall{.age_ticks = 8, .quarantine_blocks = 2};

// Which calls may find a fence that no device has signalled yet. An access that is begun then would
// wait: it is counted instead.
template <Syscalls Kernel>
class FencedSyscalls : public Kernel {
 public:
  FencedSyscalls() = default;
  explicit FencedSyscalls(const bool* fenced) : fenced_(fenced) {}
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    const long answer = Kernel::Poll(polled, count, milliseconds);
    if (fenced_ == nullptr || !*fenced_) return answer;
    polled->revents = POLLIN;
    return 1;
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (fenced_ != nullptr && *fenced_ && request == DMA_BUF_IOCTL_SYNC) ++waits;
    return Kernel::Ioctl(fd, request, argument);
  }
  static inline int waits = 0;

 private:
  const bool* fenced_ = nullptr;
};

template <template <class> class B, class Kernel>
struct Platform {
  using Sys = FencedSyscalls<Kernel>;
  using Backend = B<Sys>;
  using Pooled = Manager<Backend, PooledHeap<SystemHeap<Backend>, kSmall>>;
};
using FakeDmaHeaps = Platform<DmaHeapBackend, FakeLinux612>;
using FakeUdmabufs = Platform<UdmabufBackend, FakeLinux612>;
using FakeIons = Platform<IonBackend, FakeLinux510>;
using DmaHeaps = Platform<DmaHeapBackend, LinuxSyscalls>;
using Udmabufs = Platform<UdmabufBackend, LinuxSyscalls>;
using Ions = Platform<IonBackend, LinuxSyscalls>;

}  // namespace
}  // namespace ion::testing

TYPE_TO_STRING_AS("fake dma_heap", ion::testing::FakeDmaHeaps);
TYPE_TO_STRING_AS("fake udmabuf", ion::testing::FakeUdmabufs);
TYPE_TO_STRING_AS("fake ion", ion::testing::FakeIons);
TYPE_TO_STRING_AS("dma_heap", ion::testing::DmaHeaps);
TYPE_TO_STRING_AS("udmabuf", ion::testing::Udmabufs);
TYPE_TO_STRING_AS("ion", ion::testing::Ions);

namespace ion::testing {
namespace {

// A Manager and a client, and a block that it shares and frees.
template <class P>
struct Fixture {
  using M = typename P::Pooled;
  static constexpr bool kLendsOn510 = std::is_same_v<P, DmaHeaps> || std::is_same_v<P, Udmabufs>;

  // False, and skipped: the machine has no such memory.
  bool Opened() {
    typename P::Backend::Options options;
    options.sys = typename P::Sys(&fenced);
    // There a mapping's pages may be lent to a pipe, and nothing is proven.
    if (kLendsOn510 && IsAs510()) {
      Skip("its pages may be lent");
      return false;
    }
    auto opened = M::Open(options);
    if (!opened.ok()) {
      CHECK(ErrnoOf(opened.status()) == ENOENT);
      Skip(std::string(opened.status().message()));
      return false;
    }
    manager.emplace(*std::move(opened));
    client.emplace(Make(*manager));
    return true;
  }
  // A descriptor for a peer, of memory that has been freed since.
  UniqueFd ShareAndFree() {
    const Handle handle = Shared();
    UniqueFd fd = client->Share(handle).value();
    Free(handle);
    return fd;
  }
  Handle Shared() { return client->MakeHandle(Take(*client, kPage)).value(); }
  void Free(const Handle& handle) { CHECK(client->Free(handle).ok()); }

  uint64_t Waiting() { return Sum(manager->MakeReport()).quarantined_bytes; }
  // What waits once all of it has been examined.
  uint64_t StillWaiting() {
    manager->Tick();
    return Waiting();
  }
  uint64_t Idle() { return Sum(manager->MakeReport()).held_bytes; }
  uint64_t Held() { return manager->backend().budget().held(); }
  // What is held back is nobody's; what is not is the next request's.
  void HeldBackUntil(const auto& let_go) {
    CHECK(StillWaiting() == kPage);
    { const Buffer other = Take(*client, kPage); }
    CHECK(Held() == 2 * kPage);
    CHECK(StillWaiting() == kPage);
    let_go();
    CHECK(StillWaiting() == 0);
    CHECK(Idle() == 2 * kPage);
    const Buffer one = Take(*client, kPage), two = Take(*client, kPage);
    CHECK(Held() == 2 * kPage);
  }

  LeakCheck leaks;
  bool fenced = false;
  std::optional<M> manager;
  std::optional<typename M::Client> client;
};

// A fake counts the descriptors and mappings of its own process only.
#define ION_ON_ALL FakeDmaHeaps, FakeUdmabufs, FakeIons, DmaHeaps, Udmabufs, Ions
#define ION_ON_REAL DmaHeaps, Udmabufs, Ions

TEST_CASE_TEMPLATE("PooledHeap: what was shared, and is no more, is recycled", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  f.ShareAndFree().reset();
  CHECK(f.StillWaiting() == 0);
  f.Free(f.Shared());
  CHECK(f.Held() == kPage);
}

TEST_CASE_TEMPLATE("PooledHeap: a peer's descriptor holds memory back", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  UniqueFd fd = f.ShareAndFree();
  f.HeldBackUntil([&] { fd.reset(); });
}

TEST_CASE_TEMPLATE("PooledHeap: a peer's mapping holds memory back", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  const typename P::Sys sys;
  UniqueFd fd = f.ShareAndFree();
  const long at = sys.Mmap(kPage, PROT_READ, fd.get(), 0);
  REQUIRE(!Failed(at));
  fd.reset();
  f.HeldBackUntil([&] { CHECK(sys.Munmap(reinterpret_cast<void*>(at), kPage) == 0); });
}

TEST_CASE_TEMPLATE("PooledHeap: an import by another client holds memory back", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  auto other = Make(*f.manager);
  const Handle imported = other.Import(f.ShareAndFree().borrow()).value();
  f.HeldBackUntil([&] { CHECK(other.Free(imported).ok()); });
}

TEST_CASE_TEMPLATE("PooledHeap: an unsignalled fence holds memory back", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  f.fenced = true;
  f.ShareAndFree().reset();
  f.HeldBackUntil([&] { f.fenced = false; });
}

TEST_CASE_TEMPLATE("PooledHeap: a device's fence holds memory back", P, ION_ON_REAL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  SwSync device;
  const UniqueFd fence = device.MakeFence();
  if (!fence.valid()) return Skip("no sw_sync");
  {
    const Handle handle = f.Shared();
    const UniqueFd fd = f.client->Share(handle).value();
    dma_buf_import_sync_file import{.flags = DMA_BUF_SYNC_WRITE, .fd = fence.get()};
    if (::ioctl(fd.get(), DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) != 0) {
      CHECK(errno == ENOTTY);  // before Linux 6.0
      f.Free(handle);
      return Skip("no DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
    }
    f.Free(handle);
  }
  f.HeldBackUntil([&] { CHECK(device.Signal()); });
}

// Memory that a device can have.
template <class C>
Buffer TakeAndLend(C& client) {
  Buffer buffer = Take(client, kPage);
  CHECK(buffer.fd().get() >= 0);
  return buffer;
}

// What a lease leaves behind that a device has not finished with stops nobody: not its own domain,
// and not another one's requests, releases, ticks, or the Manager's end. For each way of zeroing,
// which is where the library begins an access on its own behalf.
template <class P, Scrub kScrub>
void AFenceStopsNobody() {
  const LeakCheck leaks;
  using B = typename P::Backend;
  using M = Manager<B, PooledHeap<SystemHeap<B>, PoolSpec{.age_ticks = 8, .scrub = kScrub}>>;
  bool fenced = false;
  typename B::Options options;
  options.sys = typename P::Sys(&fenced);
  {
    auto manager = Open<M>(options);
    auto client = Make(manager);
    {
      const Buffer lease = TakeAndLend(client), second = TakeAndLend(client);
      fenced = true;
    }
    P::Sys::waits = 0;
    // Its own domain gets other memory; while each release finds a device at work, all of it waits.
    { const Buffer next = TakeAndLend(client); }
    CHECK(P::Sys::waits == 0);
    manager.Tick();
    CHECK(P::Sys::waits == 0);
    auto other = Make(manager);
    { const Buffer stranger = TakeAndLend(other); }
    manager.Tick();
    CHECK(P::Sys::waits == 0);
    fenced = false;
    manager.Tick();
    CHECK(Sum(manager.MakeReport()).quarantined_bytes == 0);
    CHECK(Sum(manager.MakeReport()).held_bytes == manager.backend().budget().held());
    { const Buffer lease = TakeAndLend(client); }
    fenced = true;
    P::Sys::waits = 0;
  }
  CHECK(P::Sys::waits == 0);
}
#define ION_ON_FAKES FakeDmaHeaps, FakeUdmabufs, FakeIons
TEST_CASE_TEMPLATE("PooledHeap: a fence that a lease leaves behind stops nobody", P, ION_ON_FAKES) {
  AFenceStopsNobody<P, Scrub::kOnAllocate>();
  AFenceStopsNobody<P, Scrub::kOnFree>();
  AFenceStopsNobody<P, Scrub::kBackground>();
}

// A client that takes its domain's memory unzeroed begins no access, which would find the fence.
template <class P>
void AFenceHoldsWhatNobodyZeroes() {
  const LeakCheck leaks;
  bool fenced = false;
  typename P::Backend::Options options;
  options.sys = typename P::Sys(&fenced);
  auto manager = Open<typename P::Pooled>(options);
  auto client = Make(manager, {.recycle_as_is = true});
  const auto waiting = [&] { return Sum(manager.MakeReport()).quarantined_bytes; };
  int busy;
  {
    const Buffer lease = TakeAndLend(client);
    busy = lease.fd().get();
    fenced = true;
  }
  CHECK(waiting() == kPage);
  {
    const Buffer other = Take(client, kPage);
    CHECK(other.fd().get() != busy);
  }
  fenced = false;
  manager.Tick();
  CHECK(waiting() == 0);
  const Buffer one = Take(client, kPage), two = Take(client, kPage);
  CHECK(manager.backend().budget().held() == 2 * kPage);
}
TEST_CASE_TEMPLATE("PooledHeap: a fence holds back memory that nobody zeroes", P, ION_ON_FAKES) {
  AFenceHoldsWhatNobodyZeroes<P>();
}

// Uncached memory is begun without a word to the kernel, which would not wait.
TEST_CASE("PooledHeap: uncached memory with a pending fence is not zeroed either") {
  const LeakCheck leaks;
  using B = FakeIons::Backend;
  bool fenced = false;
  B::Options options;
  options.sys = FakeIons::Sys(&fenced);
  auto manager = Open<Manager<B, PooledHeap<SystemHeap<B>, kSmall>>>(options);
  auto client = Make(manager);
  int fd;
  {
    const Buffer lease = Take(client, kPage, Flags::kUncached);
    fd = lease.fd().get();
    CHECK_FALSE(lease.properties().cached);
  }
  fenced = true;
  const Buffer other = Take(client, kPage, Flags::kUncached);
  CHECK(other.fd().get() != fd);
  CHECK(Sum(manager.MakeReport()).quarantined_bytes == kPage);
  fenced = false;
  const Buffer again = Take(client, kPage, Flags::kUncached);
  CHECK(again.fd().get() == fd);
}

template <class P>
std::string LeaveARealFence() {
  typename P::Backend::Options options;
  options.sys = typename P::Sys(nullptr);
  SwSync device;
  const UniqueFd fence = device.MakeFence();
  {
    auto manager = Open<typename P::Pooled>(options);
    auto client = Make(manager);
    {
      const Buffer lease = Take(client, kPage);
      dma_buf_import_sync_file import{.flags = DMA_BUF_SYNC_WRITE, .fd = fence.get()};
      if (::ioctl(lease.fd().get(), DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) != 0) return "skip";
    }
    // Each of these would wait for ever.
    auto other = Make(manager);
    { const Buffer next = Take(client, kPage); }
    (void)manager.Trim(0);
    { const Buffer stranger = Take(other, kPage); }
    manager.Tick();
    if (Sum(manager.MakeReport()).quarantined_bytes != kPage) return "it does not wait aside";
    if (!device.Signal()) return "signal";
    manager.Tick();
    if (Sum(manager.MakeReport()).quarantined_bytes != 0) return "it waits for ever";
    {
      const Buffer lease = Take(client, kPage);
      const UniqueFd second = device.MakeFence(2);
      dma_buf_import_sync_file import{.flags = DMA_BUF_SYNC_WRITE, .fd = second.get()};
      if (::ioctl(lease.fd().get(), DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &import) != 0) return "import";
    }
  }
  return "";
}
TEST_CASE_TEMPLATE("PooledHeap: a real fence that a lease leaves behind stops nobody", P,
                   ION_ON_REAL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  if (!SwSync().MakeFence().valid()) return Skip("no sw_sync");
  f.client.reset();
  f.manager.reset();
  const ChildEnd end = RunInChild([]() -> std::string {
    EndAfter(60);
    return LeaveARealFence<P>();
  });
  if (end.text == "skip") return Skip("no DMA_BUF_IOCTL_IMPORT_SYNC_FILE");
  CHECK(end.text == "");
  CHECK(end.signal == 0);
}

TEST_CASE_TEMPLATE("PooledHeap: a descriptor in flight holds memory back", P, ION_ON_REAL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd one(ends[0]), two(ends[1]);
  CHECK(SendByte(one.borrow(), 'm', f.ShareAndFree().borrow()));
  f.HeldBackUntil([&] {
    UniqueFd fd;
    CHECK(ReceiveByte(two.borrow(), &fd) == 'm');
  });
}

TEST_CASE_TEMPLATE("PooledHeap: a device that imported memory holds it back", P, ION_ON_REAL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  UniqueFd node = drm::OpenVgem();
  if (!node.valid()) return Skip("no vgem");
  drm::PrimeHandle prime{};
  {
    const UniqueFd fd = f.ShareAndFree();
    prime.fd = fd.get();
    CHECK(::ioctl(node.get(), drm::kPrimeFdToHandle, &prime) == 0);
  }
  f.HeldBackUntil([&] {
    drm::GemClose close{prime.handle, 0};
    CHECK(::ioctl(node.get(), drm::kGemClose, &close) == 0);
    node.reset();
  });
}

TEST_CASE_TEMPLATE("PooledHeap: a forked child holds back what waits, and touches nothing", P,
                   ION_ON_REAL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  UniqueFd fd = f.ShareAndFree();
  Child child([&](FdRef socket) -> std::string {
    { const auto gone = std::exchange(f.client, std::nullopt); }
    { const auto gone = std::exchange(f.manager, std::nullopt); }
    return ReceiveByte(socket) == 'e' ? "" : "it was not told to end";
  });
  fd.reset();
  f.HeldBackUntil([&] {
    CHECK(SendByte(child.socket(), 'e'));
    CHECK(child.Join().text == "");
  });
}

TEST_CASE_TEMPLATE("PooledHeap: a full quarantine gives its oldest to the kernel", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  std::vector<UniqueFd> fds;
  std::vector<Handle> handles;
  for (int i = 0; i < 3; ++i) {
    handles.push_back(f.Shared());
    fds.push_back(f.client->Share(handles.back()).value());
  }
  for (const Handle& handle : handles) f.Free(handle);
  CHECK(f.StillWaiting() == 2 * kPage);
  CHECK(f.Held() == 2 * kPage);
  CHECK(Given(f.manager->MakeReport(), GiveBack::kRefused) == kPage);
  fds.erase(fds.begin());
  CHECK(f.StillWaiting() == 2 * kPage);
  fds.clear();
  CHECK(f.StillWaiting() == 0);
  CHECK(f.Idle() == 2 * kPage);
}

TEST_CASE_TEMPLATE("PooledHeap: of what a peer never lets go, our part goes back", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  const UniqueFd fd = f.ShareAndFree();
  for (unsigned tick = 1; tick < 2 * kSmall.age_ticks; ++tick) f.manager->Tick();
  CHECK(f.Waiting() == kPage);
  f.manager->Tick();
  CHECK(f.Waiting() == 0);
  CHECK(f.Held() == 0);
  CHECK(Given(f.manager->MakeReport(), GiveBack::kAge) == kPage);
  const typename P::Sys sys;
  const long at = sys.Mmap(kPage, PROT_READ | PROT_WRITE, fd.get(), 0);
  REQUIRE(!Failed(at));
  CHECK(sys.Munmap(reinterpret_cast<void*>(at), kPage) == 0);
}

TEST_CASE_TEMPLATE("PooledHeap: Trim gives back what waits, too", P, ION_ON_ALL) {
  Fixture<P> f;
  if (!f.Opened()) return;
  const UniqueFd fd = f.ShareAndFree();
  CHECK(f.manager->Trim() == kPage);
  CHECK(f.Held() == 0);
}

TEST_CASE_TEMPLATE("PooledHeap: a dma-buf of another driver is never pooled", P, ION_ON_REAL) {
  for (UniqueFd (*make)() : {+[] { return VgemDmaBuf(kPage); }, +[] { return VividDmaBuf(); }}) {
    Fixture<P> f;
    if (!f.Opened()) return;
    const UniqueFd foreign = make();
    if (!foreign.valid()) {
      Skip("no exporter");
      continue;
    }
    const std::string before = DescriptorLines();
    f.Free(f.client->Import(foreign.borrow()).value());
    CHECK(DescriptorLines() == before);
    CHECK(f.manager->MakeReport().pools.empty());
  }
}

// The case that ION's pools were for.
template <class Kernel>
void HitsUncached() {
  const LeakCheck leaks;
  using B = IonBackend<WatchedSyscalls<Kernel>>;
  Watch watch;
  typename B::Options options;
  options.sys = WatchedSyscalls<Kernel>(&watch);
  auto manager = Manager<B, PooledHeap<SystemHeap<B>>>::Open(options);
  if (!manager.ok()) return Skip(std::string(manager.status().message()));
  for (const Flags flags : {Flags::kNone, Flags::kUncached}) {
    auto client = Make(*manager, {.recycle_as_is = true});
    int fd;
    {
      Buffer buffer = Take(client, 3 * kPage, flags);
      CHECK_FALSE(buffer.properties().cached);
      fd = buffer.fd().get();
      Write(buffer, 7);
    }
    const int ioctls = watch.ioctls;
    Buffer again = Take(client, 3 * kPage, flags);
    CHECK(again.fd().get() == fd);
    CHECK(Look(again, 7) == "ok");
    Write(again, 8);
    CHECK(Look(again, 8) == "ok");
    CHECK(watch.ioctls == ioctls);
  }
  CHECK(watch.syncs.empty());
  auto client = Make(*manager, {.recycle_as_is = true});
  Buffer cached = Take(client, kPage, Flags::kCached);
  Write(cached, 9);
  CHECK(watch.syncs.size() == 2);  // the watch sees them
}
TEST_CASE("PooledHeap: a hit of ION's uncached memory sends no ioctl") {
  HitsUncached<LinuxSyscalls>();
}
TEST_CASE("PooledHeap: a hit of a fake ION's uncached memory sends no ioctl") {
  HitsUncached<FakeLinux510>();
}

}  // namespace
}  // namespace ion::testing
