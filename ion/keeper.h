// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/keeper.h
//
// Keeper: the thread that gives idle memory back. It calls Tick in a steady rhythm, and lets all
// idle memory go when the machine runs short. A Manager has one only where its user starts it
// (Manager::StartKeeper); who has a loop of his own calls Manager::Tick and Trim instead.
//
// Not for users.
//
// Cost: a thread that sleeps; its rhythm is the clock that pools have. Not thread-safe.
#ifndef ION_ION_KEEPER_H_
#define ION_ION_KEEPER_H_

#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "ion/error.h"
#include "ion/pressure.h"
#include "ion/syscalls.h"

namespace ion {

struct KeeperOptions {
  // From one Tick to the next.
  std::chrono::milliseconds tick = std::chrono::seconds(1);
  // None: memory pressure is not watched.
  std::optional<PressureOptions> pressure = PressureOptions();
};

template <Syscalls Sys = LinuxSyscalls>
class Keeper {
 public:
  // What it does, on its thread.
  struct Duties {
    void* context = nullptr;
    void (*tick)(void* context) noexcept = nullptr;
    void (*relieve)(void* context) noexcept = nullptr;
  };

  explicit Keeper(Duties duties, Sys sys = {}) noexcept : duties_(duties), sys_(std::move(sys)) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() { Stop(); }

  // Where pressure cannot be watched it says why, and goes on without: running() tells. Requires:
  // called once.
  Error Start(const KeeperOptions& options) noexcept {
    const Origin origin{"keeper", Operation::kOpen};
    if (options.tick.count() <= 0) {
      return Error(EINVAL, "a tick of no time", origin, "one second is usual");
    }
    const long event = sys_.Eventfd();
    if (Failed(event)) return Error(ErrnoFrom(event), "eventfd2", origin);
    stop_ = static_cast<int>(event);
    Error unwatched;
    if (options.pressure.has_value()) {
      Result<PressureTrigger<Sys>> trigger = PressureTrigger<Sys>::Open(*options.pressure, sys_);
      if (trigger.ok()) {
        pressure_.emplace(*std::move(trigger));
      } else {
        unwatched = trigger.error();
      }
    }
    try {
      thread_ = std::thread([this, tick = options.tick] { Run(tick); });
    } catch (const std::system_error& error) {
      return Error(error.code().value(), "pthread_create", origin);
    }
    return unwatched;
  }
  bool running() const noexcept { return thread_.joinable(); }

  void Stop() noexcept {
    if (thread_.joinable()) {
      stopping_.store(true, std::memory_order_relaxed);
      const uint64_t one = 1;
      (void)sys_.Write(stop_, &one, sizeof(one));
      thread_.join();
    }
    if (stop_ >= 0) (void)sys_.Close(std::exchange(stop_, -1));
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Run(std::chrono::milliseconds tick) noexcept {
    Clock::time_point next = Clock::now() + tick;
    bool watching = pressure_.has_value();
    while (!stopping_.load(std::memory_order_relaxed)) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count();
      pollfd wait[2] = {
          {.fd = stop_, .events = POLLIN, .revents = 0},
          {.fd = watching ? pressure_->fd().get() : -1, .events = POLLPRI, .revents = 0}};
      (void)sys_.Poll(wait, 2, static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30)));
      if (stopping_.load(std::memory_order_relaxed)) return;
      if ((wait[1].revents & POLLERR) != 0) {
        watching = false;  // its cgroup has gone
      } else if ((wait[1].revents & POLLPRI) != 0) {
        duties_.relieve(duties_.context);
      }
      if (Clock::now() < next) continue;
      duties_.tick(duties_.context);
      next = Clock::now() + tick;
    }
  }

  const Duties duties_;
  [[no_unique_address]] Sys sys_;
  std::optional<PressureTrigger<Sys>> pressure_;
  std::thread thread_;
  std::atomic<bool> stopping_{false};
  int stop_ = -1;  // written to end the wait
};

}  // namespace ion

#endif  // ION_ION_KEEPER_H_
