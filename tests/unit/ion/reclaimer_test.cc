// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The thread that gives idle memory back: it ticks, it relieves, and no failure of the kernel stops
// it or has it spin. What it is for is shown in a small guest, by tests/scenarios/pressure_test.cc.

#include "ion/core/reclaimer.h"

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
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/memory_info.h"
#include "ion/base/pressure.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "tests/support/child.h"
#include "tests/support/fake_groups.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/moved_files.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

using namespace ion::literals;         // NOLINT(google-build-using-namespace): made for it
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace): made for it

template <class F>
void WaitFor(F met) {
  while (!met()) std::this_thread::sleep_for(1ms);
}

// What a reclaimer does, counted.
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

  Reclaimer<>::Callbacks callbacks() {
    return {.context = this,
            .tick = [](void* done) noexcept { static_cast<Done*>(done)->Tick(); },
            .reclaim =
                [](void* done, uint64_t bytes) noexcept {
                  static_cast<Done*>(done)->bytes = bytes;
                  ++static_cast<Done*>(done)->reliefs;
                }};
  }
};

// What a kernel answers to a reclaimer. Its copies, on both threads, share one.
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
    // The machine is all there is.
    if (std::string_view(path) == "/proc/self/mountinfo") return -ENOENT;
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
typename Reclaimer<Sys>::Callbacks CallbacksOf(Done& done) {
  const Reclaimer<>::Callbacks callbacks = done.callbacks();
  return {callbacks.context, callbacks.tick, callbacks.reclaim};
}
const ReclaimerOptions kOnlyTicks{
    .interval = 1ms, .pressure = std::nullopt, .min_available_percent = 0};

TEST_CASE("Reclaimer: it ticks until it is stopped") {
  const LeakCheck leaks;
  Done done;
  {
    Reclaimer<> reclaimer(done.callbacks());
    CHECK(reclaimer.Start(kOnlyTicks).ok());
    CHECK(reclaimer.running());
    WaitFor([&] { return done.ticks >= 3; });
  }
  CHECK(done.ended);
  CHECK(done.reliefs == 0);
}

TEST_CASE("Reclaimer: it does not wait for its next tick to stop") {
  const LeakCheck leaks;
  Done done;
  Reclaimer<> reclaimer(done.callbacks());
  ReclaimerOptions options = kOnlyTicks;
  options.interval = 100h;
  CHECK(reclaimer.Start(options).ok());
  reclaimer.Stop();  // returns
  reclaimer.Stop();  // again: nothing
  CHECK_FALSE(reclaimer.running());
}

TEST_CASE("Reclaimer: a tick that never comes does not come") {
  const LeakCheck leaks;
  Done done, often;
  {
    Reclaimer<> reclaimer(done.callbacks()), beside(often.callbacks());
    ReclaimerOptions options = kOnlyTicks;
    options.interval = std::chrono::milliseconds::max();
    CHECK(reclaimer.Start(options).ok());
    CHECK(beside.Start(kOnlyTicks).ok());
    WaitFor([&] { return often.ticks >= 10; });  // time enough for one that overflowed
  }
  CHECK(done.ticks == 0);
}

TEST_CASE("Reclaimer: the program's signals do not come to its thread") {
  const LeakCheck leaks;
  const auto handler = ::signal(SIGUSR1, [](int) {});
  sigset_t one, before;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGUSR1);
  Done done;
  {
    Reclaimer<> reclaimer(done.callbacks());
    CHECK(reclaimer.Start(kOnlyTicks).ok());
    ::pthread_sigmask(SIG_BLOCK, &one, &before);
    CHECK(::kill(::getpid(), SIGUSR1) == 0);
    WaitFor([&] { return done.ticks >= 3; });  // time enough to take it
    const timespec now{};
    CHECK(::sigtimedwait(&one, nullptr, &now) == SIGUSR1);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::signal(SIGUSR1, handler);
}

TEST_CASE("Reclaimer: a tick of no time is refused") {
  const LeakCheck leaks;
  for (const std::chrono::milliseconds tick : {0ms, -1ms}) {
    Done done;
    Reclaimer<> reclaimer(done.callbacks());
    CHECK(reclaimer.Start({.interval = tick}).error().code() == EINVAL);
    CHECK_FALSE(reclaimer.running());
  }
}

TEST_CASE("Reclaimer: more than all of the memory is never available, and refused") {
  const LeakCheck leaks;
  for (const unsigned percent : {101u, UINT_MAX}) {
    Done done;
    Reclaimer<> reclaimer(done.callbacks());
    CHECK(reclaimer.Start({.min_available_percent = percent}).error().code() == EINVAL);
    CHECK_FALSE(reclaimer.running());
  }
}

TEST_CASE("Reclaimer: under pressure everything idle is to go back; an error ends the watching") {
  const LeakCheck leaks;
  const TempDir dir;
  Script script;
  script.file = "/psi";
  script.text = kPressure;
  Done done;
  Reclaimer<ScriptedSyscalls> reclaimer(CallbacksOf<ScriptedSyscalls>(done),
                                        ScriptedSyscalls(&script));
  ReclaimerOptions options = kOnlyTicks;
  options.pressure = PressureOptions{.file = script.file};
  REQUIRE(reclaimer.Start(options).ok());
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

TEST_CASE("Reclaimer: where little is available at a tick, so much is to go back as is missing") {
  const LeakCheck leaks;
  Script script;
  script.file = "/proc/meminfo";
  script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  100 kB\n";
  Done done;
  Reclaimer<ScriptedSyscalls> reclaimer(CallbacksOf<ScriptedSyscalls>(done),
                                        ScriptedSyscalls(&script));
  ReclaimerOptions options = kOnlyTicks;
  SUBCASE("little") {
    options.min_available_percent = 20;
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.reliefs >= 2; });
    CHECK(done.bytes == 1000 * 1024 / 100 * 20 - 100 * 1024);
  }
  SUBCASE("nothing") {
    script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  0 kB\n";
    options.min_available_percent = 20;
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.reliefs >= 2; });
    CHECK(done.bytes == 1000 * 1024 / 100 * 20);
  }
  SUBCASE("enough") {
    options.min_available_percent = 10;
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
  SUBCASE("the kernel does not tell") {
    script.text = "MemTotal:  1000 kB\nMemFree:  1 kB\n";
    options.min_available_percent = 20;
    const auto started = reclaimer.Start(options);
    REQUIRE(started.ok());
    CHECK(started->available.code() == ENODATA);
    CHECK(started->pressure.ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
}

// A process in a group of 1000 MiB, on a machine that has plenty.
class LimitedGroup {
 public:
  LimitedGroup() {
    groups_.Proc("cgroup", "0::/a\n");
    groups_.Proc("mountinfo", groups_.V2("/", "/cg"));
    Put("memory.max", 1000_MiB);
    Put("memory.current", 100_MiB);
  }
  void Put(const std::string& file, uint64_t bytes) {
    groups_.Group("/cg/a", file, std::to_string(bytes) + "\n");
  }
  std::string PressureOf(const std::string& group) {
    groups_.Group(group, "memory.pressure", kPressure);
    return groups_.root() + group + "/memory.pressure";
  }
  FakeGroups& groups() { return groups_; }
  Reclaimer<MovedFiles> NewReclaimer(Done& done) {
    return Reclaimer<MovedFiles>(CallbacksOf<MovedFiles>(done), groups_.sys());
  }

 private:
  FakeGroups groups_;
};

TEST_CASE("Reclaimer: where little of a cgroup's limit is left at a tick, so much is to go back") {
  const LeakCheck leaks;
  LimitedGroup group;
  Done done;
  Reclaimer<MovedFiles> reclaimer = group.NewReclaimer(done);
  ReclaimerOptions options = kOnlyTicks;
  options.min_available_percent = 10;
  const auto relieved = [&](uint64_t bytes) {
    const int before = done.reliefs;
    WaitFor([&] { return done.reliefs > before && done.bytes == bytes; });
  };
  SUBCASE("enough is left") {
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
  SUBCASE("it fills") {
    REQUIRE(reclaimer.Start(options).ok());
    group.Put("memory.current", 950_MiB);
    relieved(1000_MiB / 100 * 10 - 50_MiB);
  }
  SUBCASE("the limit is lowered") {
    REQUIRE(reclaimer.Start(options).ok());
    group.Put("memory.max", 105_MiB);
    relieved(105_MiB / 100 * 10 - 5_MiB);
    group.Put("memory.high", 80_MiB);  // takers are held up already
    relieved(20_MiB + 80_MiB / 100 * 10);
  }
  SUBCASE("of an ancestor") {
    group.groups().Group("/cg", "memory.max", std::to_string(200_MiB));
    group.groups().Group("/cg", "memory.current", std::to_string(195_MiB));
    REQUIRE(reclaimer.Start(options).ok());
    relieved(200_MiB / 100 * 10 - 5_MiB);
  }
  SUBCASE("what is taken are file pages, which the kernel takes back") {
    group.Put("memory.current", 1000_MiB);
    group.groups().Group("/cg/a", "memory.stat",
                         "inactive_file " + std::to_string(200_MiB) + "\nactive_file 0\n");
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
  SUBCASE("the process is moved to another group") {
    REQUIRE(reclaimer.Start(options).ok());
    group.groups().Group("/cg/b", "memory.max", std::to_string(100_MiB));
    group.groups().Group("/cg/b", "memory.current", std::to_string(99_MiB));
    group.groups().Proc("cgroup", "0::/b\n");
    relieved(100_MiB / 100 * 10 - 1_MiB);
  }
  SUBCASE("how much is taken is not told") {
    group.Put("memory.max", 1_MiB);
    group.groups().Group("/cg/a", "memory.current", "?");
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.ticks >= 3; });
    CHECK(done.reliefs == 0);
  }
}

TEST_CASE("Reclaimer: it watches the pressure of the group whose limit is the smallest") {
  const LeakCheck leaks;
  LimitedGroup group;
  const std::string own = group.PressureOf("/cg/a"), outer = group.PressureOf("/cg");
  const TempDir dir;
  ReclaimerOptions options = kOnlyTicks;
  options.interval = 100h;
  options.pressure.emplace();
  std::string watched = own;
  SUBCASE("its own") {}
  SUBCASE("an ancestor's") {
    group.groups().Group("/cg", "memory.max", "1000");
    watched = outer;
  }
  SUBCASE("a file that the user names comes first") {
    watched = PressureFile(dir);
    options.pressure->file = watched;
  }
  Done done;
  Reclaimer<MovedFiles> reclaimer = group.NewReclaimer(done);
  REQUIRE(reclaimer.Start(options).ok());
  for (const std::string& file : {own, outer, watched}) {
    CAPTURE(file);
    CHECK((ContentOf(file) != kPressure) == (file == watched));
  }
}

TEST_CASE("Reclaimer: where a group's pressure cannot be watched, the machine's is") {
  const LeakCheck leaks;
  LimitedGroup group;
  const TempDir dir;
  SUBCASE("its file tells of something else") {
    group.groups().Group("/cg/a", "memory.pressure", "full");
  }
  SUBCASE("it has none") {}
  const std::string machine = PressureFile(dir);
  group.groups().Move(PressureOptions::kMachineFile, machine);
  ReclaimerOptions options = kOnlyTicks;
  options.interval = 100h;
  options.pressure.emplace();
  Done done;
  Reclaimer<MovedFiles> reclaimer = group.NewReclaimer(done);
  REQUIRE(reclaimer.Start(options).ok());
  CHECK(ContentOf(machine) != kPressure);
}

TEST_CASE("Reclaimer: a poll that fails at once makes it tick, and not spin") {
  const LeakCheck leaks;
  for (const int code : {ENOMEM, EINVAL, EFAULT}) {
    CAPTURE(code);
    Script script;
    script.poll_code = code;
    Done done;
    Reclaimer<ScriptedSyscalls> reclaimer(CallbacksOf<ScriptedSyscalls>(done),
                                          ScriptedSyscalls(&script));
    ReclaimerOptions options = kOnlyTicks;
    options.interval = 5ms;
    REQUIRE(reclaimer.Start(options).ok());
    WaitFor([&] { return done.ticks >= 4; });
    reclaimer.Stop();
    // One for each tick, and the last.
    CHECK(script.polls <= 2 * (done.ticks + 1));
  }
}

TEST_CASE("Reclaimer: where it cannot be woken, it stops at its next tick") {
  const LeakCheck leaks;
  Script script;
  script.write_code = EAGAIN;
  Done done;
  Reclaimer<ScriptedSyscalls> reclaimer(CallbacksOf<ScriptedSyscalls>(done),
                                        ScriptedSyscalls(&script));
  REQUIRE(reclaimer.Start(kOnlyTicks).ok());
  WaitFor([&] { return done.ticks >= 1; });
  reclaimer.Stop();
  CHECK_FALSE(reclaimer.running());
}

TEST_CASE("Reclaimer: what fails as it starts is told, and what can be done without is") {
  const LeakCheck leaks;
  struct Row {
    std::string_view call;
    size_t n;
    bool runs;
    bool of_pressure = false;
  };
  const TempDir dir;
  ReclaimerOptions options{.interval = 1ms, .pressure = PressureOptions{.file = PressureFile(dir)}};
  for (const Row& row :
       {Row{"eventfd2", 0, false}, Row{"openat", 0, true}, Row{"read", 0, true},
        Row{"openat", 1, true, true}, Row{"read", 1, true, true}, Row{"write", 0, true, true}}) {
    for (const int code : {EMFILE, ENFILE, ENOMEM, EACCES, EPERM, EOPNOTSUPP, EINVAL}) {
      CAPTURE(row.call);
      CAPTURE(code);
      const auto faults = std::make_shared<Faults>();
      Done done;
      Reclaimer<FaultSyscalls> reclaimer(CallbacksOf<FaultSyscalls>(done), FaultSyscalls(faults));
      ReclaimerOptions first = options;
      first.interval = 100h;  // its thread sleeps while the faults are looked at
      faults->Begin({.n = row.n, .call = row.call, .code = code});
      const auto started = reclaimer.Start(first);
      CHECK(started.ok() == row.runs);
      CHECK(reclaimer.running() == row.runs);
      const Error& told = !row.runs         ? started.error()
                          : row.of_pressure ? started->pressure
                                            : started->available;
      CHECK(told.code() == code);
      reclaimer.Stop();
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

TEST_CASE("Manager: its reclaimer gives idle memory back, and ends with it") {
  const LeakCheck leaks;
  {
    Pooled manager = Open();
    auto client = manager.CreateClient({});
    REQUIRE(client.ok());
    CHECK(client->Allocate({.bytes = 1 << 20}).ok());
    CHECK(manager.backend().budget().held() == 1 << 20);
    CHECK(manager.StartReclaimer(kOnlyTicks).ok());
    CHECK(ErrnoOf(manager.StartReclaimer(kOnlyTicks).status()) == EALREADY);
    WaitUntilIdleIsGone(manager);
  }
  Pooled manager = Open();
  CHECK(ErrnoOf(manager.StartReclaimer({.interval = 0ms}).status()) == EINVAL);
  CHECK(manager.StartReclaimer(kOnlyTicks).ok());  // what was refused is not in the way
}

TEST_CASE(
    "Manager: pressure that cannot be watched is told once, and the reclaimer ticks without") {
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
    ReclaimerOptions options = kOnlyTicks;
    options.pressure = PressureOptions{.file = row.file};
    const auto started = manager.StartReclaimer(options);
    REQUIRE(started.ok());
    CHECK(ErrnoOf(started->pressure) == row.code);
    CHECK(started->available.ok());
    CHECK(ErrnoOf(manager.StartReclaimer(options).status()) == EALREADY);
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
  bool has_reclaimer = false;
  SUBCASE("with a reclaimer") { has_reclaimer = true; }
  SUBCASE("without") {}
  ReclaimerOptions sleepy = kOnlyTicks;
  sleepy.interval = 100h;
  if (has_reclaimer) CHECK(manager->StartReclaimer(sleepy).ok());
  const ChildEnd end = RunInChild([&]() -> std::string {
    if (manager->Trim() != 0) return "it gave back what is the parent's";
    manager->Tick();
    if (manager->backend().budget().held() != 1 << 20) return "a tick did";
    if (ErrnoOf(manager->StartReclaimer(kOnlyTicks).status()) != EPERM)
      return "it started a reclaimer";
    { const Waiting gone = *std::move(manager); }
    return "";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(manager->Trim() == 1 << 20);
}

}  // namespace
}  // namespace ion::testing
