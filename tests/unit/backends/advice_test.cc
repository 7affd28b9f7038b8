// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What the errors of nodes, mappings and proofs advise: one sentence, that is true on the machine
// that met the error.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/core/keeper.h"
#include "ion/core/reclaimer.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fake_platforms.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"

namespace ion::testing {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// What a machine refuses, and which it is.
struct Rules {
  long node = 0;    // open of any path in /dev
  mode_t mode = 0;  // of what could not be opened, as O_PATH shows it; 0: it shows nothing
  long mmap = 0;
  long fdinfo = 0;  // open of /proc/self/fdinfo, and a read of what is open
  bool sysfs = false;
  bool proc = true;
  const char* release = nullptr;
};
template <Syscalls Kernel>
class Ruled : public Kernel {
 public:
  Ruled() = default;
  explicit Ruled(const Rules* rules) : rules_(rules) {}

  long Open(const char* path, int flags) const noexcept {
    const std::string_view name(path);
    const Rules& rules = Now();
    if (!rules.proc && name.starts_with("/proc")) return -ENOENT;
    if (name.starts_with("/sys/class/")) return rules.sysfs ? Kernel::Open("/", O_PATH) : -ENOENT;
    if (rules.fdinfo != 0 && name.starts_with("/proc/self/fdinfo/")) return rules.fdinfo;
    if (rules.node == 0 || !name.starts_with("/dev/")) return Kernel::Open(path, flags);
    if ((flags & O_PATH) == 0 || rules.mode == 0) return rules.node;
    return Kernel::Open("/dev/null", O_PATH);
  }
  // Of files of fdinfo only.
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    return Now().fdinfo != 0 ? Now().fdinfo : Kernel::Pread(fd, to, bytes, offset);
  }
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = Kernel::Fstat(fd, to);
    if (Now().mode == 0) return answer;
    to->st_mode = S_IFCHR | Now().mode;
    to->st_uid = 0;
    to->st_gid = 44;
    return answer;
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Now().mmap != 0 ? Now().mmap : Kernel::Mmap(bytes, protection, fd, offset);
  }
  long Uname(struct utsname* to) const noexcept {
    if (Now().release == nullptr) return Kernel::Uname(to);
    std::snprintf(to->release, sizeof(to->release), "%s", Now().release);
    return 0;
  }
  // Somebody without rights, of two groups.
  long Geteuid() const noexcept { return 1000; }
  long Getegid() const noexcept { return 1000; }
  long Getgroups(int, gid_t* to) const noexcept {
    to[0] = 27;
    to[1] = 44;
    return 2;
  }

 private:
  const Rules& Now() const {
    static constexpr Rules kNone;
    return rules_ != nullptr ? *rules_ : kNone;
  }

  const Rules* rules_ = nullptr;
};
using Real = Ruled<LinuxSyscalls>;
using Fake = Ruled<FakeLinux612>;

template <class B>
std::string RefusalOf(const Rules& rules) {
  typename B::Options options;
  options.sys = decltype(options.sys)(&rules);
  return Told(B::Open(options).error());
}

TEST_CASE("LinuxRelease: the running kernel's version, or none where it tells no version") {
  const auto read = [](const char* text) {
    const Rules rules{.release = text};
    return LinuxRelease::Read(Real(&rules));
  };
  CHECK(read("5.10.0-28-amd64") == LinuxRelease{5, 10});
  CHECK(read("4.2") == LinuxRelease{4, 2});
  CHECK(read("6.1-rc3") == LinuxRelease{6, 1});
  for (const char* text : {"", "6", "six.one", "6.", "99999999999.1"}) {
    CAPTURE(text);
    CHECK_FALSE(read(text).known());
  }
  CHECK(LinuxRelease{5, 5}.IsBefore(5, 6));
  CHECK_FALSE(LinuxRelease{5, 6}.IsBefore(5, 6));
  CHECK(LinuxRelease{5, 6}.IsSince(5, 6));
  CHECK_FALSE(LinuxRelease{}.IsBefore(5, 6));
  CHECK_FALSE(LinuxRelease{}.IsSince(5, 6));
}

TEST_CASE("NodeHint: a mode that forbids is the udev rule, one that allows is a security module") {
  const LeakCheck leaks;
  for (const mode_t forbids : {0600, 0604, 0440}) {
    const std::string told = RefusalOf<UdmabufBackend<Real>>({.node = -EACCES, .mode = forbids});
    CHECK(Contains(told, "EACCES: join the node's group, or add a udev rule: KERNEL==\"udmabuf\""));
  }
  for (const mode_t allows : {0660, 0666}) {
    const std::string told = RefusalOf<UdmabufBackend<Real>>({.node = -EACCES, .mode = allows});
    CHECK(Contains(told, "EACCES: the node's mode allows it, so a security module"));
    CHECK_FALSE(Contains(told, "udev"));
  }
  // What is opened for reading alone needs no more.
  CHECK(Contains(RefusalOf<DmaHeapBackend<Real>>({.node = -EACCES, .mode = 0640}), "SELinux"));
  CHECK(Contains(RefusalOf<DmaHeapBackend<Real>>({.node = -EACCES}), "SUBSYSTEM==\"dma_heap\""));
}

TEST_CASE("NodeHint: the owner's bits count for the owner, and the group's for its members") {
  struct stat file {};
  file.st_uid = 7;
  file.st_gid = 8;
  const std::array<gid_t, 1> groups = {8};
  const auto allows = [&](mode_t mode, uid_t user, gid_t group, std::span<const gid_t> others) {
    file.st_mode = S_IFCHR | mode;
    return internal::ModeAllows(file, O_RDWR, user, group, others);
  };
  CHECK(allows(0600, 7, 1, {}));
  CHECK_FALSE(allows(0066, 7, 8, groups));
  CHECK(allows(0060, 1, 8, {}));
  CHECK(allows(0060, 1, 1, groups));
  CHECK_FALSE(allows(0606, 1, 8, {}));
  CHECK(allows(0006, 1, 1, {}));
  CHECK_FALSE(allows(0660, 1, 1, {}));
}

TEST_CASE("NodeHint: Android has no udev, but ueventd and a sepolicy") {
  constexpr NodeAdvice kAdvice = {.absent = nullptr, .rule = "a udev rule"};
  const std::string mode = internal::ForbiddenHint(false, /*android=*/true, kAdvice);
  CHECK(Contains(mode, "ueventd.rc"));
  CHECK(Contains(internal::ForbiddenHint(true, true, kAdvice), "sepolicy"));
  CHECK_FALSE(Contains(mode, "udev rule"));
  CHECK(internal::ForbiddenHint(false, false, kAdvice) == kAdvice.rule);
}

TEST_CASE("NodeHint: EPERM is a device cgroup, and ENXIO a driver that is not loaded") {
  const LeakCheck leaks;
  for (const auto& told : {RefusalOf<UdmabufBackend<Real>>({.node = -EPERM, .mode = 0666}),
                           RefusalOf<DmaHeapBackend<Real>>({.node = -EPERM}),
                           RefusalOf<IonBackend<Real>>({.node = -EPERM})}) {
    CHECK(Contains(told, "EPERM: a device cgroup (a container's) or a sandbox forbids the node"));
    CHECK_FALSE(Contains(told, "udev"));
  }
  CHECK(Contains(RefusalOf<UdmabufBackend<Real>>({.node = -ENXIO}), "load the module"));
}

TEST_CASE("NodeHint: what a kernel has, or can have, goes by its version") {
  const LeakCheck leaks;
  const auto absent = [](const char* release) {
    const Rules rules{.node = -ENOENT, .release = release};
    return std::array{RefusalOf<DmaHeapBackend<Real>>(rules), RefusalOf<IonBackend<Real>>(rules),
                      RefusalOf<UdmabufBackend<Real>>(rules)};
  };
  for (const char* old : {"3.10.0", "4.19.1", "5.5.0"}) {
    const auto told = absent(old);
    CHECK(Contains(told[0], "this kernel is older than Linux 5.6"));
    CHECK(Contains(told[1], "CONFIG_ION=y"));
    for (const std::string& text : told) CHECK_FALSE(Contains(text, "take the dma_heap"));
  }
  CHECK(Contains(absent("4.19.1")[2], "older than Linux 4.20"));
  CHECK(Contains(absent("5.4.0")[2], "it needs CONFIG_UDMABUF=y"));
  CHECK(Contains(absent("5.10.0")[1], "so take the dma_heap backend"));
  CHECK(Contains(absent("6.12.0")[1], "has gone since Linux 5.11"));
  CHECK(Contains(absent("nonsense")[0], "it needs CONFIG_DMABUF_HEAPS=y"));
}

TEST_CASE("NodeHint: a container that lacks the node is told from a kernel without the device") {
  const LeakCheck leaks;
  for (const auto& told : {RefusalOf<UdmabufBackend<Real>>({.node = -ENOENT, .sysfs = true}),
                           RefusalOf<DmaHeapBackend<Real>>({.node = -ENOENT, .sysfs = true}),
                           RefusalOf<IonBackend<Real>>({.node = -ENOENT, .sysfs = true})}) {
    CHECK(Contains(told, "ENOENT: the kernel has the device, but its node is not here"));
    CHECK_FALSE(Contains(told, "CONFIG_"));
  }
}

TEST_CASE("DmaBufBackend: a buffer that its exporter lets nobody map says so") {
  const LeakCheck leaks;
  Rules rules;
  auto backend = DmaHeapBackend<Fake>::Open({.sys = Fake(&rules)});
  REQUIRE(Told(backend.error()) == "ok");
  const Memory memory(*backend, 0, 4_KiB);
  const auto imported = Memory<DmaHeapBackend<Fake>>::Imported(*backend, memory.block.range().fd);
  for (const int code : {EINVAL, EPERM, EACCES, ENODEV, ENOTTY, ENXIO}) {
    rules.mmap = -code;
    for (const MapMode mode : {MapMode::kReadOnly, MapMode::kWritable}) {
      const Error error = backend->Map(imported.block, 0, 4_KiB, mode).error();
      CHECK(error.code() == code);
      CHECK(Contains(Told(error), "its exporter lets no CPU map it"));
    }
  }
  rules.mmap = -ENOMEM;
  const std::string told = Told(backend->Map(imported.block, 0, 4_KiB, MapMode::kReadOnly).error());
  CHECK(Contains(told, "vm.max_map_count"));
  CHECK_FALSE(Contains(told, "exporter"));
  // Not where it is the range that is wrong.
  CHECK_FALSE(
      Contains(Told(backend->Map(imported.block, 0, 1, MapMode::kReadOnly).error()), "exporter"));
}

TEST_CASE("DmaBufBackend: a descriptor that may only be read names the exporter's flags") {
  const LeakCheck leaks;
  auto backend = DmaHeapBackend<Fake>::Open({});
  REQUIRE(Told(backend.error()) == "ok");
  Memory memory(*backend, 0, 4_KiB);
  memory.block.writable = false;
  const Error error = backend->Map(memory.block, 0, 4_KiB, MapMode::kWritable).error();
  CHECK(error.code() == EACCES);
  for (const char* flag : {"O_RDWR", "VIDIOC_EXPBUF", "DRM_RDWR"}) {
    CHECK(Contains(Told(error), flag));
  }
}

TEST_CASE("DmaBufBackend: holders that the kernel hides are told of once, until they are shown") {
  const LeakCheck leaks;
  using B = DmaHeapBackend<Fake>;
  using M = Manager<B, PooledHeap<SystemHeap<B>>>;
  std::vector<std::string> told;
  const auto errors = std::make_shared<ErrorSink>(
      [](const Error& error, void* to) {
        static_cast<std::vector<std::string>*>(to)->push_back(Describe(error));
      },
      &told);
  Rules rules;
  auto manager = Open<M>({.sys = Fake(&rules), .errors = errors});
  auto client = Make(manager, {.name = "camera"});
  const auto share_and_free = [&] {
    const Handle handle = client.MakeHandle(Take(client, 4_KiB)).value();
    CHECK(client.Share(handle).ok());
    CHECK(client.Free(handle).ok());
    return std::exchange(told, {});
  };
  // A pool in which nothing could be proven tries again after an age.
  const auto age = [&] {
    for (uint32_t i = 0; i < kUsualPools.age_ticks; ++i) manager.Tick();
  };
  const auto hits = [&] { return Sum(manager.MakeReport()).hits; };
  CHECK(share_and_free().empty());
  for (const auto& hidden : {std::pair{ENOENT, "without /proc memory that was shared"},
                             {EACCES, "make the process dumpable"},
                             {EPERM, "make the process dumpable"}}) {
    const int code = hidden.first;
    const char* const advice = hidden.second;
    CAPTURE(code);
    rules.fdinfo = -code;
    const std::vector<std::string> first = share_and_free();
    REQUIRE(first.size() == 1);
    CHECK(Contains(first[0], "prove unshared 4096 bytes ("));
    CHECK(Contains(first[0], ": fdinfo): " + ErrnoName(code)));
    CHECK(Contains(first[0], advice));
    for (int i = 0; i < 3; ++i) CHECK(share_and_free().empty());
    age();
    for (int i = 0; i < 3; ++i) CHECK(share_and_free().empty());
    // Once the advice is followed, memory is recycled, though a block of before is still in use.
    rules.fdinfo = 0;
    Buffer early = Take(client, 4_KiB);
    age();
    const Handle handle = client.MakeHandle(std::move(early)).value();
    CHECK(client.Free(handle).ok());
    const uint64_t before = hits();
    for (int i = 0; i < 3; ++i) CHECK(share_and_free().empty());
    CHECK(hits() == before + 2);
    rules.fdinfo = -code;
    CHECK(share_and_free().size() == 1);
    age();
    rules.fdinfo = 0;
    CHECK(share_and_free().empty());
  }
  // What passes by itself is told of each time.
  rules.fdinfo = -EMFILE;
  CHECK(share_and_free().size() == 1);
  CHECK(share_and_free().size() == 1);
}

TEST_CASE(
    "DmaBufBackend: where pages of it may be lent, that memory is not recycled is told once") {
  const LeakCheck leaks;
  using B = DmaHeapBackend<FakeLinux510>;
  using M = Manager<B, PooledHeap<SystemHeap<B>>>;
  std::vector<std::string> told;
  const auto errors = std::make_shared<ErrorSink>(
      [](const Error& error, void* to) {
        static_cast<std::vector<std::string>*>(to)->push_back(Describe(error));
      },
      &told);
  auto manager = Open<M>({.errors = errors});
  auto client = Make(manager, {.name = "camera"});
  for (int i = 0; i < 3; ++i) {
    for (int times = 0; times < 3; ++times) {
      const Handle handle = client.MakeHandle(Take(client, 4_KiB)).value();
      CHECK(client.Share(handle).ok());
      CHECK(client.Free(handle).ok());
    }
    for (uint32_t ticks = 0; ticks < kUsualPools.age_ticks; ++ticks) manager.Tick();
  }
  REQUIRE(told.size() == 1);
  CHECK(Contains(told[0], "a pipe may hold pages of it"));
  CHECK(Contains(told[0], "memory that was shared is never recycled here"));
  CHECK(Sum(manager.MakeReport()).hits == 0);
}

// The calls that a backend makes to open, each refused as a sandbox does.
template <template <Syscalls> class Backend, FakeMachine (*kMachine)()>
void TellsOfASandbox() {
  using Sys = FaultSyscallsOver<FakeSyscallsOf<kMachine>>;
  const auto faults = std::make_shared<Faults>();
  const auto open = [&](const Faults::Plan& plan) {
    faults->Begin(plan);
    const Error error = Backend<Sys>::Open({.sys = Sys(faults)}).error();
    faults->End();
    return error;
  };
  REQUIRE(Told(open({})) == "ok");
  const size_t calls = faults->trace().size();
  size_t refused = 0;
  for (const int code : {EPERM, ENOSYS}) {
    for (size_t n = 0; n < calls; ++n) {
      const Error error = open({.n = n, .code = code});
      if (error.ok()) continue;
      ++refused;
      CAPTURE(faults->failed()->call);
      CHECK(Contains(Told(error), "sandbox"));
      CHECK(Contains(Told(error), "allow"));
    }
  }
  CHECK(refused >= 2);
}
template <Syscalls Sys>
using LegacyBackend = IonLegacyBackend<Sys>;
TEST_CASE("Backend: a sandbox that refuses a call of Open is named, whichever call it is") {
  SUBCASE("memfd") { TellsOfASandbox<MemfdBackend, Linux612Machine>(); }
  SUBCASE("udmabuf") { TellsOfASandbox<UdmabufBackend, Linux612Machine>(); }
  SUBCASE("dma_heap") { TellsOfASandbox<DmaHeapBackend, Linux612Machine>(); }
  SUBCASE("ion") { TellsOfASandbox<IonBackend, Linux510Machine>(); }
  SUBCASE("ion_legacy") { TellsOfASandbox<LegacyBackend, Linux42Board>(); }
}

TEST_CASE("Reclaimer: without /proc it says so, and recommends no kernel option") {
  const LeakCheck leaks;
  const Rules rules{.proc = false};
  const Reclaimer<Real>::Callbacks callbacks{.tick = [](void*) noexcept {},
                                             .reclaim = [](void*, uint64_t) noexcept {}};
  const ReclaimerOptions options{.interval = std::chrono::hours(1)};
  Reclaimer<Real> reclaimer(callbacks, Real(&rules));
  const auto started = reclaimer.Start(options);
  REQUIRE(started.ok());
  CHECK(reclaimer.running());
  for (const Error& error : {started->pressure, started->available}) {
    CHECK(Contains(Told(error), "there is no /proc here: mount it"));
    CHECK_FALSE(Contains(Told(error), "CONFIG_PSI"));
  }
}

TEST_CASE("DmaBufBackend: a descriptor that is not open is not taken for a kernel that hides") {
  const LeakCheck leaks;
  using B = DmaHeapBackend<Fake>;
  const auto errors = std::make_shared<ErrorSink>();
  auto backend = B::Open({.errors = errors});
  REQUIRE(Told(backend.error()) == "ok");
  const Error error = backend->IsUnshared(Block()).error();
  CHECK(Kind(error) == "ENOENT prove unshared");
  CHECK_FALSE(Contains(Told(error), "/proc"));
  CHECK(errors->count() == 0);
}

}  // namespace
}  // namespace ion::testing
