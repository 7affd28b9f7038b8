// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The thread that gives idle memory back: it ticks, it relieves, and no failure of the kernel stops
// it or has it spin. What it is for is shown in a small guest, by tests/pressure_test.cc.

#include "ion/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "backends/memfd.h"
#include "doctest/doctest.h"
#include "ion/fd.h"
#include "ion/manager.h"
#include "ion/memory_info.h"
#include "ion/pressure.h"
#include "ion/status.h"
#include "ion/syscalls.h"
#include "policies/pool_spec.h"
#include "policies/pooled_heap.h"
#include "policies/system_heap.h"
#include "tests/support/child.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): made for it

template <class F>
void WaitFor(F met) {
  while (!met()) std::this_thread::sleep_for(1ms);
}

// What a keeper does, counted.
struct Done {
  std::atomic<int> ticks{0}, reliefs{0};
  std::atomic<uint64_t> bytes{0};  // of the last relief
  std::atomic<bool> ended{false};  // the thread that ticked

  struct AtThreadEnd {
    ~AtThreadEnd() { done->ended = true; }
    Done* done;
  };
  void Tick() {
    thread_local const AtThreadEnd end{this};
    ++ticks;
  }

  Keeper<>::Duties duties() {
    return {.context = this,
            .tick = [](void* done) noexcept { static_cast<Done*>(done)->Tick(); },
            .relieve =
                [](void* done, uint64_t bytes) noexcept {
                  static_cast<Done*>(done)->bytes = bytes;
                  ++static_cast<Done*>(done)->reliefs;
                }};
  }
};

// What a kernel answers to a keeper. Its copies, on both threads, share one.
struct Script {
  std::string file;                // stands for this path…
  std::string text;                // …with this in it
  std::atomic<int> poll_code{0};   // poll fails
  std::atomic<int> write_code{0};  // write fails
  std::atomic<short> pressure{0};  // one poll of a trigger answers this
  std::atomic<int> polls{0}, watched{0};
};
class ScriptedSyscalls : public LinuxSyscalls {
 public:
  ScriptedSyscalls() = default;
  explicit ScriptedSyscalls(Script* script) noexcept : script_(script) {}

  long Open(const char* path, int flags) const noexcept {
    if (path != script_->file) return LinuxSyscalls::Open(path, flags);
    const long fd = LinuxSyscalls::MemfdCreate("scripted", MFD_CLOEXEC);
    if (Failed(fd)) return fd;
    (void)LinuxSyscalls::Write(static_cast<int>(fd), script_->text.data(), script_->text.size());
    (void)LinuxSyscalls::Lseek(static_cast<int>(fd), 0, SEEK_SET);
    return fd;
  }
  long Write(int fd, const void* from, size_t bytes) const noexcept {
    const int code = script_->write_code.load();
    return code != 0 ? -code : LinuxSyscalls::Write(fd, from, bytes);
  }
  long Poll(pollfd* polled, unsigned /*count*/, int milliseconds) const noexcept {
    ++script_->polls;
    if (polled[1].fd >= 0) ++script_->watched;
    if (const int code = script_->poll_code.load(); code != 0) return -code;
    if (polled[1].fd >= 0) {
      polled[1].revents = script_->pressure.exchange(0);
      if (polled[1].revents != 0) return 1;
    }
    return LinuxSyscalls::Poll(polled, 1, std::min(milliseconds, 5));
  }

 private:
  Script* script_ = nullptr;
};
static_assert(Syscalls<ScriptedSyscalls>);

// How a pressure file begins.
constexpr std::string_view kPressure = "some ";
std::string PressureFile(const TempDir& dir) { return dir.File("psi", kPressure); }
std::string ContentOf(const std::string& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

template <class Sys>
typename Keeper<Sys>::Duties DutiesOf(Done& done) {
  const Keeper<>::Duties duties = done.duties();
  return {duties.context, duties.tick, duties.relieve};
}
const KeeperOptions kOnlyTicks{.tick = 1ms, .pressure = std::nullopt, .least_available_percent = 0};

TEST_CASE("Keeper: it ticks until it is stopped") {
  const LeakCheck leaks;
  Done done;
  {
    Keeper<> keeper(done.duties());
    CHECK(keeper.Start(kOnlyTicks).ok());
    CHECK(keeper.running());
    WaitFor([&] { return done.ticks >= 3; });
  }
  CHECK(done.ended);
  CHECK(done.reliefs == 0);
}

TEST_CASE("Keeper: it does not wait for its next tick to stop") {
  const LeakCheck leaks;
  Done done;
  Keeper<> keeper(done.duties());
  KeeperOptions options = kOnlyTicks;
  options.tick = 100h;
  CHECK(keeper.Start(options).ok());
  keeper.Stop();  // returns
  keeper.Stop();  // again: nothing
  CHECK_FALSE(keeper.running());
}

TEST_CASE("Keeper: a tick that never comes does not come") {
  const LeakCheck leaks;
  Done done, often;
  {
    Keeper<> keeper(done.duties()), beside(often.duties());
    KeeperOptions options = kOnlyTicks;
    options.tick = std::chrono::milliseconds::max();
    CHECK(keeper.Start(options).ok());
    CHECK(beside.Start(kOnlyTicks).ok());
    WaitFor([&] { return often.ticks >= 10; });  // time enough for one that overflowed
  }
  CHECK(done.ticks == 0);
}

TEST_CASE("Keeper: the program's signals do not come to its thread") {
  const LeakCheck leaks;
  const auto handler = ::signal(SIGUSR1, [](int) {});
  sigset_t one, before;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGUSR1);
  Done done;
  {
    Keeper<> keeper(done.duties());
    CHECK(keeper.Start(kOnlyTicks).ok());
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    CHECK(::kill(::getpid(), SIGUSR1) == 0);
    WaitFor([&] { return done.ticks >= 3; });  // time enough to take it
    const timespec now{};
    CHECK(::sigtimedwait(&one, nullptr, &now) == SIGUSR1);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGUSR1, handler);
}

TEST_CASE("Keeper: a tick of no time is refused") {
  const LeakCheck leaks;
  for (const std::chrono::milliseconds tick : {0ms, -1ms}) {
    Done done;
    Keeper<> keeper(done.duties());
    CHECK(keeper.Start({.tick = tick}).code() == EINVAL);
    CHECK_FALSE(keeper.running());
  }
}

TEST_CASE("Keeper: more than all of the memory is never available, and refused") {
  const LeakCheck leaks;
  for (const unsigned percent : {101u, UINT_MAX}) {
    Done done;
    Keeper<> keeper(done.duties());
    CHECK(keeper.Start({.least_available_percent = percent}).code() == EINVAL);
    CHECK_FALSE(keeper.running());
  }
}

TEST_CASE("Keeper: under pressure everything idle is to go back; an error ends the watching") {
  const LeakCheck leaks;
  const TempDir dir;
  Script script;
  script.file = "/psi";
  script.text = kPressure;
  Done done;
  Keeper<ScriptedSyscalls> keeper(DutiesOf<ScriptedSyscalls>(done), ScriptedSyscalls(&script));
  KeeperOptions options = kOnlyTicks;
  options.pressure = PressureOptions{.file = script.file};
  REQUIRE(keeper.Start(options).ok());
  for (int i = 1; i <= 2; ++i) {
    script.pressure = POLLPRI;
    WaitFor([&] { return done.reliefs == i; });
    CHECK(done.bytes == UINT64_MAX);
  }
  short gone = POLLERR;
  SUBCASE("its cgroup has gone") { gone = POLLERR | POLLPRI; }
  SUBCASE("its descriptor has gone") { gone = POLLNVAL; }
  script.pressure = gone;
  WaitFor([&] { return script.pressure == 0; });
  const int ticks = done.ticks;
  WaitFor([&] { return done.ticks >= ticks + 2; });
  const int watched = script.watched;
  WaitFor([&] { return done.ticks >= ticks + 4; });
  CHECK(script.watched == watched);
  CHECK(done.reliefs == 2);
}

TEST_CASE("Keeper: where little is available at a tick, so much is to go back as is missing") {
  const LeakCheck leaks;
  Script script;
  script.file = "/proc/meminfo";
  script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  100 kB\n";
  Done done;
  Keeper<ScriptedSyscalls> keeper(DutiesOf<ScriptedSyscalls>(done), ScriptedSyscalls(&script));
  KeeperOptions options = kOnlyTicks;
  SUBCASE("little") {
    options.least_available_percent = 20;
    REQUIRE(keeper.Start(options).ok());
    WaitFor([&] { return done.reliefs >= 2; });
    CHECK(done.bytes == 1000 * 1024 / 100 * 20 - 100 * 1024);
  }
  SUBCASE("nothing") {
    script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  0 kB\n";
    options.least_available_percent = 20;
    REQUIRE(keeper.Start(options).ok());
    WaitFor([&] { return done.reliefs >= 2; });
    CHECK(done.bytes == 1000 * 1024 / 100 * 20);
  }
  SUBCASE("enough") {
    options.least_available_percent = 10;
    REQUIRE(keeper.Start(options).ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
  SUBCASE("the kernel does not tell") {
    script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\n";
    options.least_available_percent = 20;
    CHECK(keeper.Start(options).code() == ENODATA);
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
}

TEST_CASE("Keeper: a poll that fails at once makes it tick, and not spin") {
  const LeakCheck leaks;
  for (const int code : {ENOMEM, EINVAL, EFAULT}) {
    CAPTURE(code);
    Script script;
    script.poll_code = code;
    Done done;
    Keeper<ScriptedSyscalls> keeper(DutiesOf<ScriptedSyscalls>(done), ScriptedSyscalls(&script));
    KeeperOptions options = kOnlyTicks;
    options.tick = 5ms;
    REQUIRE(keeper.Start(options).ok());
    WaitFor([&] { return done.ticks >= 4; });
    keeper.Stop();
    // One for each tick, and the last.
    CHECK(script.polls <= 2 * (done.ticks + 1));
  }
}

TEST_CASE("Keeper: where it cannot be woken, it stops at its next tick") {
  const LeakCheck leaks;
  Script script;
  script.write_code = EAGAIN;
  Done done;
  Keeper<ScriptedSyscalls> keeper(DutiesOf<ScriptedSyscalls>(done), ScriptedSyscalls(&script));
  REQUIRE(keeper.Start(kOnlyTicks).ok());
  WaitFor([&] { return done.ticks >= 1; });
  keeper.Stop();
  CHECK_FALSE(keeper.running());
}

TEST_CASE("Keeper: what fails as it starts is told, and what can be done without is") {
  const LeakCheck leaks;
  struct Row {
    std::string_view call;
    size_t n;
    bool runs;
  };
  const TempDir dir;
  KeeperOptions options{.tick = 1ms, .pressure = PressureOptions{.file = PressureFile(dir)}};
  for (const Row& row : {Row{"eventfd2", 0, false}, Row{"openat", 0, true}, Row{"read", 0, true},
                         Row{"openat", 1, true}, Row{"read", 1, true}, Row{"write", 0, true}}) {
    for (const int code : {EMFILE, ENFILE, ENOMEM, EACCES, EPERM, EOPNOTSUPP, EINVAL}) {
      CAPTURE(row.call);
      CAPTURE(code);
      const auto faults = std::make_shared<Faults>();
      Done done;
      Keeper<FaultSyscalls> keeper(DutiesOf<FaultSyscalls>(done), FaultSyscalls(faults));
      KeeperOptions first = options;
      first.tick = 100h;  // its thread sleeps while the faults are looked at
      faults->Begin({.n = row.n, .call = row.call, .code = code});
      CHECK(keeper.Start(first).code() == code);
      CHECK(keeper.running() == row.runs);
      keeper.Stop();
      CHECK(faults->failed().has_value());
    }
  }
}

TEST_CASE("PressureTrigger: it writes its trigger, with the final zero") {
  const LeakCheck leaks;
  const TempDir dir;
  const std::string file = PressureFile(dir);
  const auto trigger = PressureTrigger<>::Open({.file = file, .stall = 70ms, .window = 1000ms});
  REQUIRE(trigger.ok());
  // A pressure file takes what is written wherever that begins.
  const std::string content = ContentOf(file);
  CHECK(content.size() == 5 + 19);
  CHECK(content.c_str() == std::string("some some 70000 1000000"));
}

TEST_CASE("PressureTrigger: where there is none, it says what to do") {
  const LeakCheck leaks;
  const TempDir dir;
  struct Row {
    std::string_view call;
    int code;
    std::string_view hint;
  };
  for (const Row& row :
       {Row{"openat", ENOENT, "CONFIG_PSI=y"}, Row{"openat", EACCES, "CAP_SYS_RESOURCE"},
        Row{"openat", EPERM, "CAP_SYS_RESOURCE"}, Row{"read", EOPNOTSUPP, "psi=1"},
        Row{"write", EOPNOTSUPP, "psi=1"}, Row{"write", EINVAL, "multiple of 2 s"},
        Row{"write", ENOMEM, "free some"}}) {
    CAPTURE(row.call);
    CAPTURE(row.code);
    const auto faults = std::make_shared<Faults>();
    faults->Begin({.n = 0, .call = row.call, .code = row.code});
    const auto trigger =
        PressureTrigger<FaultSyscalls>::Open({.file = PressureFile(dir)}, FaultSyscalls(faults));
    CHECK(Describe(trigger.error()).find(row.hint) != std::string::npos);
  }
}

TEST_CASE("PressureTrigger: a file that tells of something else is not written") {
  const LeakCheck leaks;
  const TempDir dir;
  for (const std::string_view content : {"", "some", "somebody's notes", "full avg10=0.00"}) {
    CAPTURE(content);
    const std::string file = dir.File("notes", content);
    CHECK(PressureTrigger<>::Open({.file = file}).error().code() == EINVAL);
    CHECK(ContentOf(file) == content);
  }
}

TEST_CASE("MemoryInfo: of this machine") {
  const LeakCheck leaks;
  const auto info = MemoryInfo::Read();
  REQUIRE(info.ok());
  CHECK(info->total_bytes >= 64 << 20);
  CHECK(info->available_bytes <= info->total_bytes);
}

// ---- of a Manager ----

using B = MemfdBackend<>;
using Pooled = Manager<B, PooledHeap<SystemHeap<B>>>;

Pooled Open() {
  auto manager = Pooled::Open();
  REQUIRE(manager.ok());
  return *std::move(manager);
}
void WaitUntilIdleIsGone(Pooled& manager) {
  WaitFor([&] { return manager.backend().budget().held() == 0; });
}

TEST_CASE("Manager: its keeper gives idle memory back, and ends with it") {
  const LeakCheck leaks;
  {
    Pooled manager = Open();
    auto client = manager.CreateClient({});
    REQUIRE(client.ok());
    CHECK(client->Allocate({.bytes = 1 << 20}).ok());
    CHECK(manager.backend().budget().held() == 1 << 20);
    CHECK(manager.StartKeeper(kOnlyTicks).ok());
    CHECK(ErrnoOf(manager.StartKeeper(kOnlyTicks)) == EALREADY);
    WaitUntilIdleIsGone(manager);
  }
  Pooled manager = Open();
  CHECK(ErrnoOf(manager.StartKeeper({.tick = 0ms})) == EINVAL);
  CHECK(manager.StartKeeper(kOnlyTicks).ok());  // what was refused is not in the way
}

TEST_CASE("Manager: pressure that cannot be watched is told once, and the keeper ticks without") {
  const LeakCheck leaks;
  const TempDir dir;
  // A memfd that refuses to be written.
  const UniqueFd sealed(::memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::write(sealed.get(), kPressure.data(), kPressure.size()) == ssize_t{kPressure.size()});
  REQUIRE(::fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0);
  struct Row {
    std::string file;
    int code;
  };
  for (const Row& row : {Row{dir.At("absent"), ENOENT}, Row{dir.path(), EISDIR},
                         Row{"/proc/self/fd/" + std::to_string(sealed.get()), EPERM},
                         Row{"/dev/full", EINVAL}, Row{"", ENOENT}}) {
    CAPTURE(row.file);
    Pooled manager = Open();
    CHECK(manager.Allocate({.bytes = 1 << 20}).ok());
    KeeperOptions options = kOnlyTicks;
    options.pressure = PressureOptions{.file = row.file};
    const absl::Status status = manager.StartKeeper(options);
    CHECK(ErrnoOf(status) == row.code);
    CHECK(ErrnoOf(manager.StartKeeper(options)) == EALREADY);
    WaitUntilIdleIsGone(manager);
    CHECK(manager.errors().count() == 0);
  }
}

TEST_CASE("Manager: what lies idle, and the thread, are the parent's; a forked child's copy ends") {
  const LeakCheck leaks;
  // What waits to be zeroed is in a list of the heap's own, which the child has a copy of.
  using Waiting = Manager<B, PooledHeap<SystemHeap<B>, PoolSpec{.scrub = Scrub::kBackground}>>;
  auto manager = Waiting::Open();
  REQUIRE(manager.ok());
  CHECK(manager->Allocate({.bytes = 1 << 20}).ok());
  bool has_keeper = false;
  SUBCASE("with a keeper") { has_keeper = true; }
  SUBCASE("without") {}
  KeeperOptions sleepy = kOnlyTicks;
  sleepy.tick = 100h;
  if (has_keeper) CHECK(manager->StartKeeper(sleepy).ok());
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (manager->Trim() != 0) return "it gave back what is the parent's";
    manager->Tick();
    if (manager->backend().budget().held() != 1 << 20) return "a tick did";
    if (ErrnoOf(manager->StartKeeper(kOnlyTicks)) != EPERM) return "it started a keeper";
    { const Waiting gone = *std::move(manager); }
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(manager->Trim() == 1 << 20);
}

}  // namespace
}  // namespace ion::testing
