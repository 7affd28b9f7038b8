// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/onlooker.h
//
// Onlooker: a second thread that looks at something whenever the test makes a system call, so that
// a lock which the call is made under is found: the look then never ends. OnlookedSyscalls is the
// kernel that asks it to.
//
// Example:
//   Onlooker onlooker([&] { (void)manager.MakeReport(); });
//   { const Buffer buffer = Take(client, 4096); }
//   CHECK(onlooker.calls() > 0);
//   CHECK(onlooker.locked() == "");
//
// One at a time. The calls of one thread are watched, that of the test.

#ifndef ION_TESTS_SUPPORT_ONLOOKER_H_
#define ION_TESTS_SUPPORT_ONLOOKER_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "ion/base/syscalls.h"

namespace ion::testing {

class Onlooker {
 public:
  explicit Onlooker(std::function<void()> look)
      : look_(std::move(look)), thread_([this] { Run(); }) {
    current = this;
  }
  Onlooker(const Onlooker&) = delete;
  Onlooker& operator=(const Onlooker&) = delete;
  ~Onlooker() {
    current = nullptr;
    {
      std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  // The calls that were watched since the last time this was asked.
  uint64_t calls() { return std::exchange(calls_, 0); }
  // The first call that was made under a lock; empty: none.
  const std::string& locked() const { return locked_; }

  // Before each call of a policy.
  static void See(const char* call) {
    if (current != nullptr && std::this_thread::get_id() == current->watched_) current->Look(call);
  }

 private:
  void Look(const char* call) {
    ++calls_;
    if (!locked_.empty()) return;
    std::unique_lock lock(mutex_);
    const uint64_t mine = ++asked_;
    changed_.notify_all();
    // For ever, if the lock is held; a machine that is busy gets its time.
    if (!changed_.wait_for(lock, std::chrono::seconds(20), [&] { return done_ >= mine; })) {
      locked_ = call;
    }
  }
  void Run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ended_ || done_ < asked_; });
      if (ended_) return;
      const uint64_t now = asked_;
      lock.unlock();
      look_();
      lock.lock();
      done_ = now;
      changed_.notify_all();
    }
  }

  static inline Onlooker* current = nullptr;

  const std::thread::id watched_ = std::this_thread::get_id();
  const std::function<void()> look_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t asked_ = 0, done_ = 0, calls_ = 0;
  bool ended_ = false;
  std::string locked_;
  std::thread thread_;
};

template <Syscalls Kernel>
class OnlookedSyscalls : public Kernel {
 public:
  long Open(const char* path, int flags) const noexcept {
    Onlooker::See("open");
    return Kernel::Open(path, flags);
  }
  long Close(int fd) const noexcept {
    Onlooker::See("close");
    return Kernel::Close(fd);
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    Onlooker::See("read");
    return Kernel::Read(fd, to, bytes);
  }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    Onlooker::See("pread");
    return Kernel::Pread(fd, to, bytes, offset);
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    Onlooker::See("ioctl");
    return Kernel::Ioctl(fd, request, argument);
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    Onlooker::See("mmap");
    return Kernel::Mmap(bytes, protection, fd, offset);
  }
  long Munmap(void* at, size_t bytes) const noexcept {
    Onlooker::See("munmap");
    return Kernel::Munmap(at, bytes);
  }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    Onlooker::See("madvise");
    return Kernel::Madvise(at, bytes, advice);
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    Onlooker::See("fcntl");
    return Kernel::Fcntl(fd, command, argument);
  }
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    Onlooker::See("poll");
    return Kernel::Poll(polled, count, milliseconds);
  }
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_ONLOOKER_H_
