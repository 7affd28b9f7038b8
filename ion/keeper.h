// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/keeper.h
//
// Keeper: the thread that gives idle memory back. It calls Tick in a steady rhythm, and lets idle
// memory go when the machine runs short. A Manager has one only where its user starts it
// (Manager::StartKeeper); who has a loop of his own calls Manager::Tick and Trim instead.
//
// The machine runs short where the kernel tells of pressure, or where little is available at a
// tick. Pressure alone may come too late: our memory is nothing that the kernel can reclaim, so a
// process that only allocates meets the OOM killer soon after its first stall.
//
// Not for users.
//
// Its thread takes none of the program's signals.
//
// Cost: a thread that sleeps; its rhythm is the clock that pools have. Three system calls a tick.
// Not thread-safe.
#ifndef ION_ION_KEEPER_H_
#define ION_ION_KEEPER_H_

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <utility>

#include "ion/error.h"
#include "ion/memory_info.h"
#include "ion/pressure.h"
#include "ion/syscalls.h"

namespace ion {

struct KeeperOptions {
  // From one Tick to the next.
  std::chrono::milliseconds tick = std::chrono::seconds(1);
  // None: memory pressure is not watched.
  std::optional<PressureOptions> pressure = PressureOptions();
  // Where less of the machine's memory is available at a tick, so much idle memory goes back as is
  // missing. Who takes more than this from one tick to the next is not noticed in time. 0: not
  // looked at. No more than 100.
  unsigned least_available_percent = 6;
};

template <Syscalls Sys = LinuxSyscalls>
class Keeper {
 public:
  // What it does, on its thread.
  struct Duties {
    void* context = nullptr;
    void (*tick)(void* context) noexcept = nullptr;
    void (*relieve)(void* context, uint64_t bytes) noexcept = nullptr;
  };

  explicit Keeper(Duties duties, Sys sys = {}) noexcept : duties_(duties), sys_(std::move(sys)) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() { Stop(); }

  // Where shortage cannot be seen in one way it says why, and goes on without: running() tells.
  // Requires: called once.
  Error Start(const KeeperOptions& options) noexcept {
    const Origin origin{"keeper", Operation::kOpen};
    if (options.tick.count() <= 0) {
      return Error(EINVAL, "a tick of no time", origin, "one second is usual");
    }
    if (options.least_available_percent > 100) {
      return Error(EINVAL, "least_available_percent is more than 100", origin, "6 is usual");
    }
    const long event = sys_.Eventfd();
    if (Failed(event)) return Error(ErrnoFrom(event), "eventfd2", origin);
    stop_ = static_cast<int>(event);
    tick_ = std::min<std::chrono::milliseconds>(options.tick, kLongestTick);
    Error unwatched;
    if (options.least_available_percent != 0) {
      const Result<MemoryInfo> memory = MemoryInfo::Read(sys_);
      if (memory.ok()) {
        least_percent_ = options.least_available_percent;
      } else {
        unwatched = memory.error();
      }
    }
    if (options.pressure.has_value()) {
      Result<PressureTrigger<Sys>> trigger = PressureTrigger<Sys>::Open(*options.pressure, sys_);
      if (trigger.ok()) {
        pressure_.emplace(*std::move(trigger));
      } else {
        unwatched = trigger.error();
      }
    }
    // Not std::thread, which throws.
    const auto run = [](void* keeper) -> void* {
      static_cast<Keeper*>(keeper)->Run();
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
      if (WaitUntil(next)) duties_.relieve(duties_.context, UINT64_MAX);
      if (stopping_.load(std::memory_order_relaxed)) return;
      if (Clock::now() < next) continue;
      duties_.tick(duties_.context);
      KeepAvailable();
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
  void KeepAvailable() noexcept {
    if (least_percent_ == 0) return;
    const Result<MemoryInfo> memory = MemoryInfo::Read(sys_);
    if (!memory.ok()) return;
    const uint64_t least = memory->total_bytes / 100 * least_percent_;
    if (memory->available_bytes >= least) return;
    duties_.relieve(duties_.context, least - memory->available_bytes);
  }

  const Duties duties_;
  [[no_unique_address]] Sys sys_;
  std::optional<PressureTrigger<Sys>> pressure_;
  std::chrono::milliseconds tick_{};
  unsigned least_percent_ = 0;  // 0: not looked at
  pthread_t thread_{};
  bool running_ = false;
  std::atomic<bool> stopping_{false};
  int stop_ = -1;  // written to end the wait
};

}  // namespace ion

#endif  // ION_ION_KEEPER_H_
