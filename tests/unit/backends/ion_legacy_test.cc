// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What /dev/ion of the handle ABI may be or say that no good kernel does, what boards differ in,
// and what is asked of it.

#include "ion/backends/ion_legacy.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/platforms/linux.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_node.h"
#include "tests/support/watched_syscalls.h"
#include "third_party/ion_uapi/ion.h"
#include "third_party/ion_uapi/ion_legacy.h"

namespace ion::testing {
namespace {

using Legacy = ion_uapi::LegacyAbi<size_t>;
using Pointers = ion_uapi::PointerHandleAbi<size_t>;
using Qualcomm = ion_uapi::Qualcomm34Abi<size_t>;
static_assert(BackendCheck<IonLegacyBackend<LinuxSyscalls, Pointers>>::kOk);
static_assert(BackendCheck<IonLegacyBackend<LinuxSyscalls, Qualcomm>>::kOk);

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// A driver of the handle ABI, which answers what a test sets.
template <class Abi>
struct Driver {
  using Handle = typename Abi::Handle;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;

  long free_none = -EINVAL;
  long query = -ENOTTY;
  uint32_t listed = 1;                                // of the heaps that a query counts
  long list_answer = 0;                               // of the query that lists them
  std::map<unsigned, long> heaps = {{0, 0}, {4, 0}};  // what an allocation from each id answers
  long share_error = 0, import_error = -EINVAL, sync_error = 0, free_error = 0;
  int full_for = 0;                    // so many allocations are refused
  std::map<Handle, int> handles = {};  // with the number of their references
  Handle next = 1;
  std::vector<typename Abi::ion_allocation_data> allocations = {};
  std::pair<uint32_t, uint64_t> custom = {};

  long Allocate(typename Abi::ion_allocation_data& data) {
    allocations.push_back(data);
    if (full_for > 0 && full_for-- > 0) return -ENOMEM;
    const auto found = heaps.find(static_cast<unsigned>(__builtin_ctz(data.heap_id_mask)));
    if (found == heaps.end()) return -ENODEV;
    if (found->second != 0) return found->second;
    data.handle = next++;
    handles[data.handle] = 1;
    return 0;
  }
  long Free(Handle handle) {
    if (handle == Handle{}) return free_none;
    const auto found = handles.find(handle);
    if (found == handles.end()) return -EINVAL;
    if (--found->second == 0) handles.erase(found);
    return free_error;
  }
  long Share(typename Abi::ion_fd_data& data) const {
    if (share_error != 0) return share_error;
    const LinuxSyscalls kernel;
    const long fd = kernel.MemfdCreate("ion", MFD_CLOEXEC);
    CHECK(kernel.Ftruncate(static_cast<int>(fd), static_cast<off_t>(allocations.back().len)) == 0);
    data.fd = static_cast<int32_t>(fd);
    return 0;
  }
  long Import(typename Abi::ion_fd_data& data) {
    if (import_error != 0) return import_error;
    data.handle = handles.begin()->first;
    ++handles.begin()->second;
    return 0;
  }
  long Query(ion_uapi::ion_heap_query& asked) const {
    if (query != 0) return query;
    ion_uapi::ion_heap_data data{};
    std::strcpy(data.name, "region");
    data.type = data.heap_id = 4;
    if (asked.heaps != 0 && listed != 0) {
      *reinterpret_cast<ion_uapi::ion_heap_data*>(asked.heaps) = data;
    }
    asked.cnt = 1;
    return asked.heaps != 0 ? list_answer : 0;
  }
  long operator()(unsigned long request, void* argument) {
    if (request == ion_uapi::kIocHeapQuery) {
      return Query(*static_cast<ion_uapi::ion_heap_query*>(argument));
    }
    switch (request) {
      case Ioctls::kAlloc:
        return Allocate(*static_cast<typename Abi::ion_allocation_data*>(argument));
      case Ioctls::kFree:
        return Free(static_cast<typename Abi::ion_handle_data*>(argument)->handle);
      case Ioctls::kShare:
        return Share(*static_cast<typename Abi::ion_fd_data*>(argument));
      case Ioctls::kImport:
        return Import(*static_cast<typename Abi::ion_fd_data*>(argument));
      case Ioctls::kSync:
        return sync_error;
      case Ioctls::kCustom: {
        const auto& data = *static_cast<typename Abi::ion_custom_data*>(argument);
        custom = {data.cmd, data.arg};
        return 0;
      }
    }
    return -ENOTTY;
  }
};

// The backend over a driver; nothing of it may be left at the end.
template <class Abi = Legacy>
struct Fixture {
  using B = IonLegacyBackend<ScriptedSyscalls, Abi>;
  using Ioctls = ion_uapi::LegacyIoctls<Abi>;

  LeakCheck leaks;
  Driver<Abi> driver;
  ScriptedNode node{.ioctl = std::ref(driver)};
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();
  std::vector<IonLegacyHeap> declared;
  uint64_t bound = 64_MiB;

  Result<B> Open() {
    typename B::Options options;
    options.sys = ScriptedSyscalls(&node);
    options.budget = std::make_shared<Budget>(bound);
    options.errors = errors;
    options.heaps = declared;
    return B::Open(options);
  }
  ~Fixture() { CHECK(driver.handles.empty()); }
};

TEST_CASE("IonLegacyBackend: the descriptor ABI is refused, and names the backend for it") {
  Fixture f;
  f.driver.free_none = -ENOTTY;
  const Error error = f.Open().error();
  CHECK(Kind(error) == "ENOTTY open");
  CHECK(Contains(Describe(error), "take the ion backend"));
  CHECK(f.driver.allocations.empty());
}

TEST_CASE("IonLegacyBackend: where there is no query, each id is tried with one page") {
  for (const long query : {-ENOTTY, -EINVAL}) {  // the latter is a 32-bit kernel's
    Fixture f;
    f.driver.query = query;
    f.driver.heaps = {{0, 0}, {2, 0}, {4, 0}, {7, 0}, {31, 0}};
    const auto backend = f.Open();
    REQUIRE(Told(backend.error()) == "ok");
    std::string found;
    for (const KernelHeap& heap : backend->heaps()) {
      found += heap.name + ":" + std::string(HeapTypeName(heap.type)) + " ";
    }
    CHECK(found == "system:system carveout:carveout dma:dma heap 7:custom heap 31:custom ");
    CHECK(f.driver.allocations.size() == 32);
    CHECK(f.driver.allocations[31].len == PageBytes());
    CHECK(f.driver.handles.empty());
  }
}

TEST_CASE("IonLegacyBackend: an id that answers another error is a heap that cannot be used") {
  Fixture f;
  f.driver.heaps = {{0, -EFAULT}, {1, 0}, {4, -EACCES}};
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  REQUIRE(backend->heaps().size() == 3);
  Block block;
  CHECK(Kind(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "EFAULT open");
  CHECK(Kind(backend->Allocate(2, 1, Flags::kNone, {}, block)) == "EACCES open");
}

TEST_CASE("IonLegacyBackend: a heap that is full while it is found gives memory once it is not") {
  Fixture f;
  f.driver.heaps = {{2, -ENOMEM}, {4, -EPERM}};
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->errors().count() == 2);
  REQUIRE(backend->heaps().size() == 2);
  Block block;
  CHECK(Kind(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "ENOMEM allocate");
  const Error error = backend->Allocate(1, 1, Flags::kNone, {}, block);
  CHECK(Kind(error) == "EPERM allocate");
  CHECK(Contains(Describe(error), "CMA answers -1"));
  f.driver.heaps = {{2, 0}, {4, 0}};
  for (const uint32_t heap : {0u, 1u}) {
    CHECK(Told(backend->Allocate(heap, 1, Flags::kNone, {}, block)) == "ok");
    CHECK(Told(backend->Release(block)) == "ok");
  }
}

TEST_CASE("IonLegacyBackend: no heap at all is ENODEV; none that can be used is its reason") {
  Fixture f;
  f.driver.heaps.clear();
  CHECK(Kind(f.Open().error()) == "ENODEV open");
  f.driver.heaps = {{3, -EFAULT}};
  CHECK(Kind(f.Open().error()) == "EFAULT open");
}

TEST_CASE("IonLegacyBackend: what the platform declares of an id is what the heap is") {
  Fixture f;
  f.driver.heaps = {{0, 0}, {25, 0}, {28, 0}};
  f.declared = {{.id = 25, .name = "iommu", .type = HeapType::kSystem},
                {.id = 28, .name = "audio", .type = HeapType::kCarveout, .cacheable = false}};
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  const auto heaps = backend->heaps();
  REQUIRE(heaps.size() == 3);
  // Its type is not guessed once others are declared.
  CHECK(heaps[0].type == HeapType::kCustom);
  CHECK(heaps[1].name == "iommu");
  CHECK(heaps[1].type == HeapType::kSystem);
  CHECK(heaps[2].properties.contiguous);
  Block block;
  CHECK(Kind(backend->Allocate(2, 1, Flags::kCached, {}, block)) == "EINVAL allocate");
  REQUIRE(Told(backend->Allocate(1, 1, Flags::kCached, {}, block)) == "ok");
  CHECK(f.driver.allocations.back().heap_id_mask == 1u << 25);
  CHECK(f.driver.allocations.back().flags ==
        (ion_uapi::kFlagCached | ion_uapi::kFlagCachedNeedsSync));
  CHECK(block.properties().cached);
  CHECK(Told(backend->Release(block)) == "ok");
}

TEST_CASE("IonLegacyBackend: Linux 4.9 to 4.11 tells its heaps, and nothing is tried") {
  Fixture f;
  f.driver.query = 0;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(f.driver.allocations.empty());
  CHECK(backend->heaps()[0].name == "region");
  CHECK(backend->heaps()[0].type == HeapType::kDma);
  CHECK_FALSE(backend->heaps()[0].either_caching);
  f.driver.query = -EFAULT;
  CHECK(Kind(f.Open().error()) == "EFAULT open");
}

TEST_CASE("IonLegacyBackend: a list that Linux 4.9 fills and calls EINVAL is the list") {
  Fixture f;
  f.driver.query = 0;
  f.driver.list_answer = -EINVAL;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(f.driver.allocations.empty());
  REQUIRE(backend->heaps().size() == 1);
  CHECK(backend->heaps()[0].name == "region");
  // One that was not filled is none: the heaps are tried.
  f.driver.listed = 0;
  auto tried = f.Open();
  REQUIRE(Told(tried.error()) == "ok");
  CHECK(f.driver.allocations.size() == 32);
  CHECK(tried->heaps()[0].name == "system");
}

TEST_CASE("IonLegacyBackend: memory of a region that is freed late is waited for, with a bound") {
  Fixture f;
  f.driver.heaps = {{0, 0}, {2, 0}};
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  constexpr uint32_t kCarveout = 1;
  const auto tries = [&](uint32_t heap) {
    Block block;
    const size_t before = f.driver.allocations.size();
    const Error error = backend->Allocate(heap, 1, Flags::kNone, {}, block);
    if (error.ok()) CHECK(Told(backend->Release(block)) == "ok");
    return std::pair(Kind(error), f.driver.allocations.size() - before);
  };
  using Answer = std::pair<std::string, size_t>;
  // Somebody else's memory, or the page that the heap was found by, may be on its way back.
  f.driver.full_for = 1;
  CHECK(tries(kCarveout) == Answer("ok", 2));
  f.driver.full_for = 2;
  CHECK(tries(kCarveout) == Answer("ok", 3));
  // It is full for long. That is found out once for each release.
  f.driver.full_for = 100;
  CHECK(tries(kCarveout) == Answer("ENOMEM allocate", 7));
  CHECK(tries(kCarveout) == Answer("ENOMEM allocate", 1));
  f.driver.full_for = 0;
  CHECK(tries(kCarveout) == Answer("ok", 1));
  // The kernel's own pages are not a region's.
  f.driver.full_for = 1;
  CHECK(tries(0) == Answer("ENOMEM allocate", 1));
}

TEST_CASE("IonLegacyBackend: what cannot be shared is freed, and the errno comes out") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  f.driver.share_error = -EMFILE;
  Block block;
  CHECK(Kind(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "EMFILE allocate");
  CHECK_FALSE(block.filled());
  CHECK(f.driver.handles.empty());
  CHECK(backend->budget().held() == 0);
}

TEST_CASE("IonLegacyBackend: a block keeps its handle until it is released") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  REQUIRE(Told(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "ok");
  CHECK(f.driver.handles.size() == 1);
  f.driver.free_error = -EIO;
  CHECK(Kind(backend->Release(block)) == "EIO release");
  CHECK_FALSE(block.filled());
  CHECK(backend->budget().held() == 0);
}

TEST_CASE("IonLegacyBackend: memory is known by its handle, and others' not at all") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  REQUIRE(Told(backend->Allocate(0, 1, Flags::kNone, {}, block)) == "ok");
  const auto identify = [&] { return backend->Identify(block.range().fd, Operation::kImport); };
  f.driver.import_error = 0;
  CHECK(identify()->inode == block.cookie);
  CHECK(f.driver.handles.begin()->second == 1);
  f.driver.import_error = -EINVAL;
  CHECK_FALSE(identify()->known());
  f.driver.import_error = -EBADF;
  CHECK(Kind(identify().error()) == "EBADF import");
  CHECK(Told(backend->Release(block)) == "ok");
  CHECK(f.errors->count() == 0);
}

TEST_CASE(
    "IonLegacyBackend: what the CPU wrote to its memory goes by ION_IOC_SYNC, and by it alone") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  Block block, uncached;
  REQUIRE(Told(backend->Allocate(0, 1, Flags::kCached, {}, block)) == "ok");
  REQUIRE(Told(backend->Allocate(0, 1, Flags::kUncached, {}, uncached)) == "ok");
  const auto syncs = [&](const Block& of, Direction direction) {
    const auto before = f.node.Asked(Fixture<>::Ioctls::kSync);
    CHECK(Told(backend->BeginCpuAccess(of, direction)) == "ok");
    CHECK(f.node.Asked(Fixture<>::Ioctls::kSync) == before);
    CHECK(Told(backend->EndCpuAccess(of, direction)) == "ok");
    return f.node.Asked(Fixture<>::Ioctls::kSync) - before;
  };
  for (const Direction direction : {Direction::kRead, Direction::kWrite, Direction::kReadWrite}) {
    CHECK(syncs(block, direction) == (direction != Direction::kRead));
    CHECK(syncs(uncached, direction) == 0);
  }
  CHECK(f.node.Asked(DMA_BUF_IOCTL_SYNC) == 0);
  f.driver.sync_error = -EFAULT;
  CHECK(Kind(backend->EndCpuAccess(block, Direction::kWrite)) == "EFAULT end CPU access");
  CHECK(Told(backend->Release(block)) == "ok");
  CHECK(Told(backend->Release(uncached)) == "ok");
}

TEST_CASE("IonLegacyBackend: a board's own command goes to ION_IOC_CUSTOM") {
  Fixture f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(Told(backend->Custom(7, SIZE_MAX)) == "ok");
  CHECK(f.driver.custom == std::pair{7u, uint64_t{SIZE_MAX}});
}

TEST_CASE("IonLegacyBackend: a 32-bit program's layout, whose argument holds no more than a word") {
  Fixture<ion_uapi::Legacy32> f;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(Kind(backend->Custom(7, uint64_t{1} << 32)) == "EINVAL custom command");
  CHECK(Told(backend->Custom(7, UINT32_MAX)) == "ok");
  Block block;
  REQUIRE(Told(backend->Allocate(1, 3 * PageBytes(), Flags::kNone, {}, block)) == "ok");
  CHECK(f.driver.allocations.back().len == 3 * PageBytes());
  CHECK(Told(backend->Release(block)) == "ok");
}

TEST_CASE("IonLegacyBackend: a 32-bit program gets no part of what its word cannot name") {
  Fixture<ion_uapi::Legacy32> f;
  f.bound = uint64_t{8} << 30;
  auto backend = f.Open();
  REQUIRE(Told(backend.error()) == "ok");
  const size_t before = f.driver.allocations.size();
  Block block;
  const Error error = backend->Allocate(1, 4096_MiB + PageBytes(), Flags::kNone, {}, block);
  // A 32-bit test asks for more than there are addresses.
  CHECK(Kind(error) == (sizeof(size_t) == 4 ? "EINVAL allocate" : "ENOMEM allocate"));
  CHECK(f.driver.allocations.size() == before);
}

TEST_CASE("IonLegacyBackend: a layout of pointers, and one with its fields in another order") {
  const auto use = [](auto& f) {
    f.driver.next = static_cast<uintptr_t>(0x7fff'ffff'0000);
    auto backend = f.Open();
    REQUIRE(Told(backend.error()) == "ok");
    Block block;
    REQUIRE(Told(backend->Allocate(0, 1, Flags::kCached, {}, block)) == "ok");
    CHECK(f.driver.allocations.back().flags ==
          (ion_uapi::kFlagCached | ion_uapi::kFlagCachedNeedsSync));
    if constexpr (sizeof(uintptr_t) > 4) CHECK(block.cookie > UINT32_MAX);
    CHECK(Told(backend->Release(block)) == "ok");
  };
  Fixture<Pointers> pointers;
  use(pointers);
  Fixture<Qualcomm> qualcomm;
  use(qualcomm);
}

// A kernel in which something happens just before a descriptor is copied.
class Interrupted : public FakeSyscalls {
 public:
  Interrupted() = default;
  Interrupted(FakeMachine machine, std::function<void()>* happens)
      : FakeSyscalls(std::move(machine)), happens_(happens) {}

  long Fcntl(int fd, int command, long argument) const noexcept {
    if (command == F_DUPFD_CLOEXEC && *happens_) std::exchange(*happens_, {})();
    return FakeSyscalls::Fcntl(fd, command, argument);
  }

 private:
  std::function<void()>* happens_ = nullptr;
};

// Linux 4.2, from the fake.
struct Linux42 {
  using B = IonLegacyBackend<Interrupted>;
  using Manager = platforms::IonHeaps<B>;

  LeakCheck leaks;
  std::function<void()> happens;
  Interrupted sys{Linux42Machine(), &happens};
  std::shared_ptr<ErrorSink> errors = std::make_shared<ErrorSink>();

  B::Options Options() const {
    B::Options options;
    options.sys = sys;
    options.errors = errors;
    return options;
  }
  ~Linux42() {
    CHECK(errors->count() == 0);
    for (const unsigned region : {2u, 3u}) CHECK(sys.kernel().LeftInIon(region) == 4_MiB);
  }
};

TEST_CASE("IonLegacyBackend on Linux 4.2: each heap's memory is zeroed, held, and given back") {
  const Linux42 machine;
  auto backend = Linux42::B::Open(machine.Options());
  REQUIRE(Told(backend.error()) == "ok");
  REQUIRE(backend->heaps().size() == 4);
  for (uint32_t heap = 0; heap < 4; ++heap) {
    CAPTURE(heap);
    for (const uint64_t bytes : {uint64_t{1}, uint64_t{115'200}, uint64_t{1_MiB}}) {
      const Memory one(*backend, heap, bytes), two(*backend, heap, bytes);
      CHECK(LookForZeros(*backend, one.block) == "ok");
      CHECK(Fill(*backend, one.block, 1) == "ok");
      CHECK(Fill(*backend, two.block, 2) == "ok");
      CHECK(Look(*backend, one.block, 1) == "ok");
      CHECK(one.block.properties() == backend->heaps()[heap].properties);
    }
    Block block;
    const Error error = backend->Allocate(heap, 8_MiB, Flags::kNone, {}, block);
    CHECK((heap == 0 ? error.ok() : error.code() == ENOMEM));
    CHECK((heap == 1) == Contains(Describe(error), "1024 pages in one piece"));
    if (error.ok()) CHECK(Told(backend->Release(block)) == "ok");
  }
}

TEST_CASE("IonLegacyBackend on Linux 4.2, 4.9: imported memory of ION's own goes by ION_IOC_SYNC") {
  using B = IonLegacyBackend<WatchedSyscalls<FakeSyscalls>>;
  for (const FakeMachine& machine : {Linux42Machine(), Linux49Machine()}) {
    CAPTURE(machine.linux);
    const LeakCheck leaks;
    Watch watch;
    B::Options options;
    options.sys = WatchedSyscalls<FakeSyscalls>(&watch, FakeSyscalls(machine));
    auto owner = B::Open(options), user = B::Open(options);
    REQUIRE(Told(owner.error()) == "ok");
    REQUIRE(Told(user.error()) == "ok");
    CHECK(owner->heaps().size() == 4);
    const Memory theirs(*owner, 0, 64_KiB);
    const auto ours = Memory<B>::Imported(*user, theirs.block.range().fd);
    watch.requests.clear();
    CHECK(Fill(*user, ours.block, 3) == "ok");
    CHECK(Look(*user, ours.block, 3) == "ok");
    CHECK(watch.requests == std::vector{Fixture<>::Ioctls::kSync});
    CHECK(watch.syncs.empty());
  }
}

TEST_CASE("IonLegacyBackend: a 32-bit program on Linux 4.2, 4.9 finds the heaps by trying them") {
  using B = IonLegacyBackend<FakeSyscalls, ion_uapi::Legacy32>;
  for (FakeMachine machine : {Linux42Machine(), Linux49Machine()}) {
    CAPTURE(machine.linux);
    machine.door_32_bit = true;
    B::Options options;
    options.sys = FakeSyscalls(machine);
    auto backend = B::Open(options);
    REQUIRE(Told(backend.error()) == "ok");
    CHECK(backend->heaps().size() == 4);
    Memory memory(*backend);
    REQUIRE(Told(backend->Allocate(0, 64_KiB, Flags::kCached, {}, memory.block)) == "ok");
    CHECK(Fill(*backend, memory.block, 5) == "ok");
    CHECK(Look(*backend, memory.block, 5) == "ok");
  }
}

TEST_CASE(
    "IonLegacyBackend on Linux 4.2: a region that is freed late is not taken for a full one") {
  FakeMachine machine = Linux42Machine();
  machine.late_frees = 3;
  using B = IonLegacyBackend<FakeSyscalls>;
  B::Options options;
  options.sys = FakeSyscalls(machine);
  auto backend = B::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  for (const uint32_t region : {2u, 3u}) {
    for (int round = 0; round < 3; ++round) const Memory memory(*backend, region, 4_MiB);
  }
}

TEST_CASE("IonLegacyBackend on Linux 4.2: what is no dma-buf is not imported") {
  const Linux42 machine;
  auto backend = Linux42::B::Open(machine.Options());
  REQUIRE(Told(backend.error()) == "ok");
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC)), memfd(::memfd_create("memory", MFD_CLOEXEC));
  for (const FdRef fd : {event.borrow(), memfd.borrow()}) {
    Block block;
    const Error error = backend->Import(fd, block);
    CHECK(Kind(error) == "EINVAL import");
    CHECK(Contains(error.what(), "not a dma-buf"));
    CHECK_FALSE(block.filled());
  }
  Block block;
  CHECK(Kind(backend->Import(FdRef(-1), block)) == "EBADF import");
}

TEST_CASE("IonLegacyBackend on Linux 4.2: imported memory outlives its owner, and has its size") {
  const Linux42 machine;
  auto owner = Linux42::B::Open(machine.Options()), user = Linux42::B::Open(machine.Options());
  REQUIRE(Told(owner.error()) == "ok");
  REQUIRE(Told(user.error()) == "ok");
  Memory theirs(*owner, 2, 116 * 1024);
  CHECK(Fill(*owner, theirs.block, 3) == "ok");
  auto ours = Memory<Linux42::B>::Imported(*user, theirs.block.range().fd);
  theirs.Release();
  CHECK(ours.block.bytes == 116 * 1024);
  CHECK(ours.block.cookie != 0);
  CHECK(Look(*user, ours.block, 3) == "ok");
}

TEST_CASE("IonLegacyBackend on Linux 4.2: two dma-bufs of one buffer are one handle of a client") {
  const Linux42 machine;
  auto manager = Linux42::Manager::Open(machine.Options());
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "one"});
  auto other = manager->CreateClient({.name = "other"});
  REQUIRE(client.ok());
  REQUIRE(other.ok());
  auto mine = client->MakeHandle(*client->Allocate({.bytes = 64_KiB}));
  auto second = client->MakeHandle(*client->Allocate({.bytes = 64_KiB}));
  REQUIRE(mine.ok());
  REQUIRE(second.ok());
  const auto shared = client->Share(*mine);
  REQUIRE(shared.ok());
  // The same memory by a dma-buf of its own, as another process shares it.
  const UniqueFd node(static_cast<int>(machine.sys.Open("/dev/ion", O_RDONLY)));
  Legacy::ion_fd_data data{.handle = 0, .fd = shared->get()};
  REQUIRE(machine.sys.Ioctl(node.get(), Fixture<>::Ioctls::kImport, &data) == 0);
  REQUIRE(machine.sys.Ioctl(node.get(), Fixture<>::Ioctls::kShare, &data) == 0);
  const UniqueFd another(data.fd);
  REQUIRE(another.get() != shared->get());

  const auto again = client->Import(another.borrow());
  REQUIRE(again.ok());
  CHECK(*again == *mine);
  CHECK(*again != *second);
  CHECK(client->Info(*mine)->count == 2);
  // Whoever has no handle of it gets one, and the same one the second time.
  const auto first = other->Import(shared->borrow());
  const auto same = other->Import(another.borrow());
  REQUIRE(first.ok());
  REQUIRE(same.ok());
  CHECK(*first == *same);
  CHECK(other->Info(*first)->bytes == 64_KiB);
}

TEST_CASE("IonLegacyBackend on Linux 4.2: a buffer made amid an import is not taken for it") {
  Linux42 machine;
  auto manager = Linux42::Manager::Open(machine.Options());
  auto elsewhere = Linux42::B::Open(machine.Options());
  REQUIRE(manager.ok());
  REQUIRE(Told(elsewhere.error()) == "ok");
  const Memory theirs(*elsewhere, 0, 64_KiB);
  auto client = manager->CreateClient({.name = "one"});
  REQUIRE(client.ok());
  absl::StatusOr<Buffer> amid = absl::UnknownError("it did not happen");
  machine.happens = [&] { amid = client->Allocate({.bytes = 4_KiB}); };
  const auto imported = client->Import(theirs.block.range().fd);
  REQUIRE(imported.ok());
  REQUIRE(amid.ok());
  // It has the handle that the import was asked about first.
  const auto kept = client->MakeHandle(*std::move(amid));
  const auto shared = client->Share(*kept);
  REQUIRE(shared.ok());
  const auto again = client->Import(shared->borrow());
  REQUIRE(again.ok());
  CHECK(*again == *kept);
  CHECK(*again != *imported);
}

}  // namespace
}  // namespace ion::testing
