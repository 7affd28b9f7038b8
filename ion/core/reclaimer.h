// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/reclaimer.h
//
// Reclaimer: the thread that gives idle memory back. It calls Tick in a steady rhythm, and lets
// idle memory go when the machine runs short. A Manager has one only if its user starts it
// (Manager::StartReclaimer); a program with a loop of its own calls Manager::Tick and Trim instead.
//
// The machine, or a cgroup of this process that has a limit (a container), runs short if the kernel
// tells of pressure, or if little is available at a tick. Pressure alone may come too late: our
// memory is nothing that the kernel can reclaim, so a process that only allocates meets the OOM
// killer soon after its first stall.
//
// Not for users.
//
// Its thread takes none of the program's signals.
//
// Cost: a thread that sleeps; its rhythm is the clock that pools have. A tick makes six system
// calls, and nine for each cgroup around us. Not thread-safe.
#ifndef ION_ION_CORE_RECLAIMER_H_
#define ION_ION_CORE_RECLAIMER_H_

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "ion/base/error.h"
#include "ion/base/memory_groups.h"
#include "ion/base/memory_info.h"
#include "ion/base/no_cancel.h"
#include "ion/base/pressure.h"
#include "ion/base/syscalls.h"

namespace ion {

struct ReclaimerOptions {
  // From one Tick to the next.
  std::chrono::milliseconds interval = std::chrono::seconds(1);
  // None: memory pressure is not watched.
  std::optional<PressureOptions> pressure = PressureOptions();
  // If less than this percentage of the machine's memory, or of a cgroup's limit, is available at a
  // tick, idle memory is freed to cover the difference. Consumption faster than this between two
  // ticks is not caught. 0: off. At most 100.
  unsigned min_available_percent = 6;
};

// The result of Manager::StartReclaimer: the thread runs, and these tell why it runs without one of
// its ways to see that memory is short. OK: the way is watched, or the options exclude it.
struct ReclaimerStatus {
  absl::Status pressure;   // the kernel's reports of memory pressure
  absl::Status available;  // the available memory, at each tick
};

namespace internal {

// The same, inside.
struct ReclaimerErrors {
  Error pressure;
  Error available;
};

}  // namespace internal

template <Syscalls Sys = LinuxSyscalls>
class Reclaimer {
 public:
  // The calls that it makes, on its thread.
  struct Callbacks {
    void* context = nullptr;
    void (*tick)(void* context) noexcept = nullptr;
    void (*reclaim)(void* context, uint64_t bytes) noexcept = nullptr;
  };

  explicit Reclaimer(Callbacks callbacks, Sys sys = {}) noexcept
      : callbacks_(callbacks), sys_(std::move(sys)) {}
  Reclaimer(const Reclaimer&) = delete;
  Reclaimer& operator=(const Reclaimer&) = delete;
  ~Reclaimer() { Stop(); }

  // Starts the thread. If it cannot watch one of the ways in which memory is seen to be short, it
  // goes on without, and the result says why. On an error nothing runs. Requires: called once.
  Result<internal::ReclaimerErrors> Start(const ReclaimerOptions& options) noexcept {
    const Origin origin{"reclaimer", Operation::kOpen};
    if (options.interval.count() <= 0) {
      return Error(EINVAL, "an interval of no time", origin, "one second is usual");
    }
    if (options.min_available_percent > 100) {
      return Error(EINVAL, "min_available_percent is more than 100", origin, "6 is usual");
    }
    const long event = sys_.Eventfd();
    if (Failed(event)) return Error(ErrnoFrom(event), "eventfd2", origin);
    stop_ = static_cast<int>(event);
    tick_ = std::min<std::chrono::milliseconds>(options.interval, kLongestTick);
    internal::ReclaimerErrors unwatched;
    min_percent_ = options.min_available_percent;
    if (min_percent_ != 0) unwatched.available = MemoryInfo::Read(sys_).error();
    if (options.pressure.has_value()) unwatched.pressure = Watch(*options.pressure);
    // Not std::thread, which throws.
    const auto run = [](void* reclaimer) -> void* {
      static_cast<Reclaimer*>(reclaimer)->Run();
      return nullptr;
    };
    // The program's signals are for its own threads, but those that a thread brings on itself.
    sigset_t blocked, before;
    ::sigfillset(&blocked);
    for (const int own : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP}) {
      ::sigdelset(&blocked, own);
    }
    ::pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int code = ::pthread_create(&thread_, nullptr, run, this);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (code != 0) return Error(code, "pthread_create", origin);
    running_ = true;
    return unwatched;
  }
  bool running() const noexcept { return running_; }

  void Stop() noexcept {
    if (running_) {
      stopping_.store(true, std::memory_order_relaxed);
      const uint64_t one = 1;
      (void)sys_.Write(stop_, &one, sizeof(one));
      const internal::NoCancel guard;
      ::pthread_join(thread_, nullptr);
      running_ = false;
    }
    if (stop_ >= 0) (void)sys_.Close(std::exchange(stop_, -1));
  }

 private:
  using Clock = std::chrono::steady_clock;
  // As good as never, and still a time that the clock can tell.
  static constexpr std::chrono::hours kLongestTick{24 * 365};

  void Run() noexcept {
    Clock::time_point next = Clock::now() + tick_;
    while (!stopping_.load(std::memory_order_relaxed)) {
      if (WaitUntil(next)) callbacks_.reclaim(callbacks_.context, UINT64_MAX);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (Clock::now() < next) continue;
      callbacks_.tick(callbacks_.context);
      ReclaimMissing();
      next = Clock::now() + tick_;
    }
  }
  // True: there is pressure.
  bool WaitUntil(Clock::time_point next) noexcept {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
    pollfd wait[2] = {{.fd = stop_, .events = POLLIN, .revents = 0},
                      {.fd = pressure_.has_value() ? pressure_->fd().get() : -1,
                       .events = POLLPRI,
                       .revents = 0}};
    const long woken = sys_.Poll(wait, 2, static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30)));
    if (Failed(woken)) {
      // It may do so each time. Stop waits for us.
      if (woken != -EINTR) {
        std::this_thread::sleep_until(
            std::min(next, Clock::now() + std::chrono::milliseconds(100)));
      }
      return false;
    }
    if ((wait[1].revents & (POLLERR | POLLNVAL)) != 0) {
      pressure_.reset();  // its cgroup has gone
      return false;
    }
    return (wait[1].revents & POLLPRI) != 0;
  }
  Error Watch(const PressureOptions& options) noexcept {
    char file[PATH_MAX];
    if (options.file == PressureOptions::kMachineFile) {
      groups_.Find(sys_);
      if (FileOfSmallest(file) && WatchFile(file, options).ok()) return {};
    }
    return WatchFile(options.file.c_str(), options);
  }
  Error WatchFile(const char* file, const PressureOptions& options) noexcept {
    Result<PressureTrigger<Sys>> trigger = PressureTrigger<Sys>::OpenFile(file, options, sys_);
    if (!trigger.ok()) return trigger.error();
    pressure_.emplace(*std::move(trigger));
    return {};
  }
  // The memory.pressure of the group with the smallest limit. False: there is none.
  bool FileOfSmallest(char (&file)[PATH_MAX]) const noexcept {
    uint64_t smallest = MemoryGroups::kNoLimit;
    bool found = false;
    groups_.ForEachLimited(sys_, [&](const MemoryGroups::Level& level) {
      if (level.limit_bytes >= smallest) return;
      smallest = level.limit_bytes;
      found = MemoryGroups::PressureFile(level, file, sizeof(file));
    });
    return found;
  }

  void ReclaimMissing() noexcept {
    if (min_percent_ == 0) return;
    uint64_t missing = 0;
    if (const Result<MemoryInfo> memory = MemoryInfo::Read(sys_); memory.ok()) {
      missing = Missing(memory->total_bytes, memory->available_bytes);
    }
    groups_.FindAgainIfMoved(sys_);
    groups_.ForEachLimited(sys_, [&](const MemoryGroups::Level& level) {
      // A limit may be more than any machine has.
      const uint64_t least = Least(level.limit_bytes);
      const auto usage = MemoryGroups::UsageOf(sys_, level, least);
      if (!usage.has_value()) return;
      const uint64_t used = usage->used_bytes - usage->reclaimable_bytes;
      const uint64_t past = used - std::min(used, level.limit_bytes);
      missing = std::max(
          missing,
          past + Missing(level.limit_bytes, level.limit_bytes - std::min(used, level.limit_bytes)));
    });
    if (missing != 0) callbacks_.reclaim(callbacks_.context, missing);
  }
  uint64_t Least(uint64_t total) const noexcept { return total / 100 * min_percent_; }
  uint64_t Missing(uint64_t total, uint64_t available) const noexcept {
    return Least(total) - std::min(Least(total), available);
  }

  const Callbacks callbacks_;
  [[no_unique_address]] Sys sys_;
  MemoryGroups groups_;  // looked for at the first tick, or before
  std::optional<PressureTrigger<Sys>> pressure_;
  std::chrono::milliseconds tick_{};
  unsigned min_percent_ = 0;  // 0: not looked at
  pthread_t thread_{};
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  int stop_ = -1;  // written to end the wait
};

}  // namespace ion

#endif  // ION_ION_CORE_RECLAIMER_H_
