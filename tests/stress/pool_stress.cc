// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Usage: pool_stress [SECONDS]
//
// Everything that may happen to pools at the same time: eight workers, threads that live for a
// moment, a drainer, a trimmer, signal handlers, too few objects, pools that are made and destroyed
// while threads hold magazines of dead ones. Each object has an owner word, and fields that its
// owner writes plainly, so that ThreadSanitizer sees a missing happens-before. When a round ends,
// every object is found again, once.
//
// Before that, three negative controls: the same stress with a bug planted by a policy, each in a
// child process. One that is not caught is a failure: the stress would not see the bug either.
//
// Last line: stress: N operations, 0 errors, controls caught: 3

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "policies/magazine.h"
#include "policies/pool.h"
#include "tests/stress/searches.h"

// What a sanitizer finds ends the program at once, with kSanitizer.
// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers' names.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66"; }
extern "C" const char* __asan_default_options() { return "exitcode=66"; }
// NOLINTEND(bugprone-reserved-identifier)

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr uint32_t kWorkers = 8;
constexpr milliseconds kRound{1000};
// Arbitrary: what a round may take until it is said to hang, and what a control has to be caught
// in.
constexpr unsigned kHangSeconds = 60;
constexpr milliseconds kControlTime{30000};

// What a control's process ends with.
constexpr int kMissed = 0;
constexpr int kHang = 3;
constexpr int kErrors = 4;
constexpr int kFoundBySearch = 5;
constexpr int kSanitizer = 66;

// --- policies ------------------------------------------------------------------------------------

// Loses the processor between a load and what follows it: where the bugs of lock-free code are.
void MaybeYield() {
  thread_local uint32_t state = 0;
  if (state == 0) state = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(&state) >> 4) | 1;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  if (state % 32 == 0) ::sched_yield();
}

template <class V>
class YieldingAtomic : public std::atomic<V> {
 public:
  using std::atomic<V>::atomic;
  V load(std::memory_order order = std::memory_order_seq_cst) const noexcept {
    const V value = std::atomic<V>::load(order);
    MaybeYield();
    return value;
  }
};

struct Yielding : ion::PoolPolicy {
  template <class V>
  using Atomic = YieldingAtomic<V>;
};
struct Locked : ion::PoolPolicy {
  static bool RegisterFence() noexcept { return false; }
};

struct NoTag : Yielding {
  static constexpr uint64_t kTagStep = 0;
};
struct NoMembarrier : ion::PoolPolicy {
  static bool Fence() noexcept { return true; }
};
struct RelaxedPush : ion::PoolPolicy {
  static constexpr std::memory_order kPush = std::memory_order_relaxed;
};

// --- objects -------------------------------------------------------------------------------------

std::atomic<uint64_t> operations{0};
std::atomic<uint64_t> misses{0};
std::atomic<uint64_t> errors{0};
bool is_control = false;

void Complain(const char* what) {
  if (errors.fetch_add(1) < 10) std::fprintf(stderr, "error: %s\n", what);
  if (is_control) std::_Exit(kErrors);
}

struct alignas(64) Object {
  // Relaxed: it must not order what it watches.
  std::atomic<uint32_t> owner{0};
  uint64_t uses = 0;
  Object* self = nullptr;
};

// A pool and what lies in it.
template <class P>
struct Arena {
  std::vector<Object> objects;
  ion::Pool<Object, P> pool;

  Arena(uint32_t count, uint64_t object_bytes) : objects(count), pool(Make(objects, object_bytes)) {
    for (Object& object : objects) Give(&object);
  }

  Object* Take(uint32_t owner) {
    Object* object = pool.Acquire();
    if (object != nullptr) Own(object, owner);
    return object;
  }
  void GiveBack(Object* object, uint32_t owner) {
    Disown(object, owner);
    Give(object);
  }

  // Every object is in the pool, once. Threads that used it may be in their exit: Close waits.
  void FinishByClose() {
    uint64_t found = 0;
    pool.Close([&](Object& object) { NoteFound(object, &found); });
    CheckFound(found);
  }
  // The same, found by acquiring. Requires: the threads that used it are gone.
  void FinishByAcquire() {
    if (pool.counters().held != objects.size()) Complain("the counters do not know every object");
    uint64_t found = 0;
    while (Object* object = pool.Acquire()) NoteFound(*object, &found);
    CheckFound(found);
  }

  static void Own(Object* object, uint32_t owner) {
    if (object->owner.exchange(owner, std::memory_order_relaxed) != 0) {
      Complain("an object has two owners");
    }
    object->self = object;
    ++object->uses;
  }
  static void Disown(Object* object, uint32_t owner) {
    if (object->self != object) Complain("an object was written by another");
    object->self = nullptr;
    if (object->owner.exchange(0, std::memory_order_relaxed) != owner) {
      Complain("an object changed its owner");
    }
  }
  void Give(Object* object) {
    if (!pool.Release(object)) Complain("a release was refused");
  }

 private:
  static void NoteFound(Object& object, uint64_t* found) {
    if (object.owner.exchange(1, std::memory_order_relaxed) != 0) {
      Complain("an object is found twice");
    }
    ++*found;
  }
  void CheckFound(uint64_t found) const {
    if (found != objects.size()) Complain("an object is lost");
  }
  static ion::Pool<Object, P> Make(std::vector<Object>& objects, uint64_t object_bytes) {
    ion::Result<ion::Pool<Object, P>> pool =
        ion::Pool<Object, P>::Create(objects, {.object_bytes = object_bytes});
    if (!pool.ok()) {
      std::fputs("pool_stress: no pool: is there memory to map?\n", stderr);
      std::_Exit(2);
    }
    return *std::move(pool);
  }
};

// What one thread has of one pool.
template <class P>
class Hand {
 public:
  Hand(Arena<P>& arena, uint32_t owner) : arena_(arena), owner_(owner) {}
  ~Hand() { Clear(); }
  Hand(const Hand&) = delete;
  Hand& operator=(const Hand&) = delete;

  bool Take() {
    ++operations_;
    Object* object = arena_.Take(owner_);
    if (object == nullptr) {
      ++misses_;
      return false;
    }
    held_.push_back(object);
    return true;
  }
  void Give(size_t i) {
    ++operations_;
    std::swap(held_[i], held_.back());
    arena_.GiveBack(held_.back(), owner_);
    held_.pop_back();
  }
  void Clear() {
    while (size() > 0) Give(size() - 1);
    operations.fetch_add(std::exchange(operations_, 0), std::memory_order_relaxed);
    misses.fetch_add(std::exchange(misses_, 0), std::memory_order_relaxed);
  }
  size_t size() const { return held_.size(); }

 private:
  Arena<P>& arena_;
  const uint32_t owner_;
  std::vector<Object*> held_;
  uint64_t operations_ = 0;
  uint64_t misses_ = 0;
};

// --- signals -------------------------------------------------------------------------------------

// What a signal does on this thread.
thread_local std::function<void()>* on_signal = nullptr;

void HandleSignal(int) {
  if (on_signal != nullptr) (*on_signal)();
}
void HandleAlarm(int) {
  constexpr std::string_view kWords = "error: threads hang\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
  std::_Exit(kHang);
}
void Handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

// --- a round -------------------------------------------------------------------------------------

template <class P>
class Round {
 public:
  // The first has fewer objects than its workers want, and small magazines: its depot and its
  // drains are busy. The second has enough.
  Round() : scarce_(48, (1 << 20) / 4), roomy_(2048, 4096), life_(std::make_unique<Life>()) {}

  void Run(milliseconds time) {
    ::alarm(kHangSeconds);
    std::array<std::thread, kWorkers> workers;
    for (uint32_t i = 0; i < kWorkers; ++i) workers[i] = std::thread([this, i] { Work(i + 1); });
    std::array<std::thread, 6> others = {
        std::thread([this] { SpawnShortLived(1000); }),
        std::thread([this] { SpawnShortLived(2000); }),
        std::thread([this] { Drain(); }),
        std::thread([this] { Trim(3000); }),
        std::thread([this] { Replace(); }),
        std::thread([&] { Interrupt(workers); }),
    };
    std::this_thread::sleep_for(time);
    stop_.store(true, std::memory_order_relaxed);
    // The one that sends signals first: they need a living thread.
    for (auto thread = others.rbegin(); thread != others.rend(); ++thread) thread->join();
    for (std::thread& worker : workers) worker.join();
    scarce_.FinishByAcquire();
    roomy_.FinishByAcquire();
    life_->arena.FinishByClose();
    ::alarm(0);
  }

 private:
  // A pool that will be destroyed while its users live on.
  struct Life {
    Arena<P> arena{128, 4096};
    std::atomic<uint32_t> users{0};
  };

  bool stop() const { return stop_.load(std::memory_order_relaxed); }

  void Work(uint32_t self) {
    std::minstd_rand random(self);
    Hand<P> scarce(scarce_, self);
    Hand<P> roomy(roomy_, self);
    scarce_.pool.BindThread();
    std::function<void()> interrupt = [this, self] {
      const uint32_t handler = self + 100;
      Object* object = scarce_.Take(handler);
      if (object != nullptr) scarce_.GiveBack(object, handler);
    };
    on_signal = &interrupt;
    while (!stop()) {
      switch (random() % 4) {
        case 0:
          for (int i = 0; i < 500; ++i) {
            if (scarce.Take()) scarce.Give(scarce.size() - 1);
          }
          break;
        case 1:
          Walk(scarce, random, 500, 24);
          break;
        case 2:
          for (int i = 0; i < 40; ++i) roomy.Take();
          for (int i = 0; i < 300; ++i) {
            if (roomy.Take()) roomy.Give(roomy.size() - 1);
          }
          roomy.Clear();
          break;
        default:
          Visit(self, random);
      }
      scarce.Clear();
    }
    on_signal = nullptr;
  }
  static void Walk(Hand<P>& hand, std::minstd_rand& random, int steps, size_t most) {
    for (int i = 0; i < steps; ++i) {
      if (random() % 2 == 0) {
        if (hand.size() < most) hand.Take();
      } else if (hand.size() > 0) {
        hand.Give(random() % hand.size());
      }
    }
  }

  // Threads that leave their magazines to their exit.
  void SpawnShortLived(uint32_t self) {
    while (!stop()) {
      ++self;
      std::thread([this, self] {
        std::minstd_rand random(self);
        Hand<P> scarce(scarce_, self);
        Hand<P> roomy(roomy_, self);
        Walk(scarce, random, 60, 12);
        Walk(roomy, random, 60, 40);
        Visit(self, random);
      }).join();
    }
  }

  // Without a pause for a while, then with some: a magazine is found open, claimed, and idle.
  void Drain() {
    ion::PoolBase<P>* const pools[] = {&scarce_.pool, &roomy_.pool};
    for (uint32_t i = 0; !stop(); ++i) {
      ion::PoolBase<P>::Drain(pools);
      if (i / 1024 % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  void Trim(uint32_t self) {
    std::minstd_rand random(self);
    std::vector<Object*> taken;
    const auto take = [&](Object& object) {
      Arena<P>::Own(&object, self);
      taken.push_back(&object);
    };
    while (!stop()) {
      for (Arena<P>* arena : {&scarce_, &roomy_}) {
        const auto keep = static_cast<uint32_t>(random() % arena->objects.size());
        if (random() % 2 == 0) {
          arena->pool.Trim(keep, take);
        } else {
          arena->pool.TrimUnused(take);
        }
        for (Object* object : std::exchange(taken, {})) arena->GiveBack(object, self);
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }

  void Interrupt(std::array<std::thread, kWorkers>& workers) {
    for (uint32_t i = 0; !stop(); ++i) {
      ::pthread_kill(workers[i % kWorkers].native_handle(), SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  void Visit(uint32_t self, std::minstd_rand& random) {
    Life* life;
    {
      std::lock_guard lock(life_mutex_);
      life = life_.get();
      life->users.fetch_add(1, std::memory_order_relaxed);
    }
    {
      Hand<P> hand(life->arena, self);
      Walk(hand, random, 100, 24);
    }
    life->users.fetch_sub(1, std::memory_order_release);
  }
  void Replace() {
    while (!stop()) {
      auto life = std::make_unique<Life>();
      {
        std::lock_guard lock(life_mutex_);
        life.swap(life_);
      }
      while (life->users.load(std::memory_order_acquire) != 0) ::sched_yield();
      life->arena.FinishByClose();
    }
  }

  std::atomic<bool> stop_{false};
  Arena<P> scarce_;
  Arena<P> roomy_;
  std::mutex life_mutex_;
  std::unique_ptr<Life> life_;
};

template <class P>
void RunRound(milliseconds time) {
  std::make_unique<Round<P>>()->Run(time);
}

// --- controls ------------------------------------------------------------------------------------

template <class P>
void Control() {
  const Clock::time_point end = Clock::now() + kControlTime;
  while (errors == 0 && Clock::now() < end) RunRound<P>(kRound);
}

void CheckSearch(const std::string& violation) {
  if (violation.empty()) return;
  std::fprintf(stderr, "error: %s\n", violation.c_str());
  std::_Exit(kFoundBySearch);
}

// Two bugs do not show in every build, and there the search of tests/model has to find them in the
// same layers. On x86 a locked instruction releases whatever it is asked for: in a run, only
// ThreadSanitizer sees the missing order. And under ThreadSanitizer the owners fence, and no
// membarrier is needed.
constexpr bool kThreadSanitizer = ion::MagazinePolicy::kOwnerFences;

void ControlRelaxedPush() {
  if (kThreadSanitizer) return Control<RelaxedPush>();
  CheckSearch(ion::stress::ExploreRelaxedPush());
}
void ControlNoMembarrier() {
  if (!kThreadSanitizer) return Control<NoMembarrier>();
  CheckSearch(ion::stress::ExploreNoMembarrier());
}

// Empty: it was not caught.
std::string Outcome(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return signal == SIGSEGV || signal == SIGABRT ? "a crash" : "";
  }
  switch (WEXITSTATUS(status)) {
    case kErrors:
      return "its errors";
    case kHang:
      return "its hang";
    case kFoundBySearch:
      return "the search of all orders";
    case kSanitizer:
      return "a sanitizer";
    default:
      return "";
  }
}

std::string FirstLine(int fd, std::string_view with) {
  char text[4096];
  const ssize_t n = ::pread(fd, text, sizeof(text), 0);
  std::string_view rest(text, n > 0 ? static_cast<size_t>(n) : 0);
  const size_t at = rest.find(with);
  if (at == std::string_view::npos) return "";
  rest.remove_prefix(at);
  return std::string(rest.substr(0, rest.find('\n')));
}

// True: the bug was caught. In a child, whose words are kept from the terminal: they are wanted.
bool RunControl(const char* name, void (*control)()) {
  const Clock::time_point begin = Clock::now();
  const int words = ::memfd_create("control", MFD_CLOEXEC);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(words, STDERR_FILENO);
    is_control = true;
    control();
    std::exit(kMissed);
  }
  int status = 0;
  if (words < 0 || child < 0 || ::waitpid(child, &status, 0) != child) {
    std::printf("control %s: cannot run: is there a process to spare?\n", name);
    return false;
  }
  const std::string outcome = Outcome(status);
  std::string first = FirstLine(words, "error: ");
  if (first.empty()) first = FirstLine(words, "Sanitizer: ");
  ::close(words);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf(
      "control %s: %s after %.1f s%s%s\n", name,
      outcome.empty() ? "NOT CAUGHT (are there two processors?)" : ("caught by " + outcome).c_str(),
      seconds, first.empty() ? "" : ": ", first.c_str());
  std::fflush(stdout);
  return !outcome.empty();
}

int RunControls() {
  int caught = 0;
  caught += RunControl("relaxed push", &ControlRelaxedPush) ? 1 : 0;
  caught += RunControl("no tag", &Control<NoTag>) ? 1 : 0;
  caught += RunControl("no membarrier", &ControlNoMembarrier) ? 1 : 0;
  return caught;
}

}  // namespace

int main(int argc, char** argv) {
  char* end = nullptr;
  const long seconds = argc > 1 ? std::strtol(argv[1], &end, 10) : 10;
  if (argc > 2 || seconds <= 0 || (end != nullptr && *end != '\0')) {
    std::fputs("usage: pool_stress [SECONDS]\n", stderr);
    return 2;
  }
  Handle(SIGUSR1, &HandleSignal);
  Handle(SIGALRM, &HandleAlarm);

  // First: a child of a process that had threads would not be like a program that begins.
  const int caught = RunControls();

  constexpr std::pair<const char*, void (*)(milliseconds)> kKinds[] = {
      {"as shipped", &RunRound<ion::PoolPolicy>},
      {"preempted", &RunRound<Yielding>},
      {"locked", &RunRound<Locked>},
  };
  const Clock::time_point begin = Clock::now();
  const Clock::time_point deadline = begin + std::chrono::seconds(seconds);
  for (uint32_t i = 0; Clock::now() < deadline && errors == 0; ++i) {
    // Two rounds as shipped for one of each of the others.
    const auto& [name, run] = kKinds[i % 4 == 3 ? 2 : i % 2];
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    run(std::min(kRound, left));
    std::printf("%3.0f s  round %u, %s: %llu operations so far, %llu of them missed, %llu errors\n",
                std::chrono::duration<double>(Clock::now() - begin).count(), i + 1, name,
                static_cast<unsigned long long>(operations.load()),
                static_cast<unsigned long long>(misses.load()),
                static_cast<unsigned long long>(errors.load()));
    std::fflush(stdout);
  }
  std::printf("stress: %llu operations, %llu errors, controls caught: %d\n",
              static_cast<unsigned long long>(operations.load()),
              static_cast<unsigned long long>(errors.load()), caught);
  return errors == 0 && caught == 3 ? 0 : 1;
}
