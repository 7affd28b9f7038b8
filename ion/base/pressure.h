// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/pressure.h
//
// PressureTrigger: a descriptor that polls POLLPRI when tasks have waited for memory too long: a
// pressure stall trigger (Linux 5.2, CONFIG_PSI) on /proc/pressure/memory, or on the
// memory.pressure of a cgroup.
//
// Example:
//   auto trigger = ion::PressureTrigger<>::Open({.file = "/sys/fs/cgroup/camera/memory.pressure"});
//   pollfd wait{.fd = trigger->fd().get(), .events = POLLPRI, .revents = 0};
//
// Without CAP_SYS_RESOURCE a window is a multiple of 2 s (Linux 6.5). A trigger fires at most once
// in its window.
//
// Cost: three system calls to open, one to close. Thread-compatible.
#ifndef ION_ION_BASE_PRESSURE_H_
#define ION_ION_BASE_PRESSURE_H_

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/proc_hint.h"
#include "ion/base/syscalls.h"

namespace ion {

struct PressureOptions {
  static constexpr const char* kMachineFile = "/proc/pressure/memory";

  // The machine's. In place of this default a Reclaimer uses the memory.pressure of the cgroup with
  // the smallest limit, if there is one that it may watch.
  std::string file = kMachineFile;
  // Fires where some task waited for `stall` within `window`.
  std::chrono::microseconds stall = std::chrono::milliseconds(100);
  std::chrono::microseconds window = std::chrono::seconds(2);
};

template <Syscalls Sys = LinuxSyscalls>
class PressureTrigger {
 public:
  // ENOENT: no such file, as of a kernel without PSI. EOPNOTSUPP: PSI is off (psi=1). EINVAL: the
  // kernel takes no such window, or the file is another, which is not written then. EACCES, EPERM:
  // not for us.
  static Result<PressureTrigger> Open(const PressureOptions& options, Sys sys = {}) noexcept {
    return OpenFile(options.file.c_str(), options, std::move(sys));
  }
  // The same on another file.
  static Result<PressureTrigger> OpenFile(const char* file, const PressureOptions& options,
                                          Sys sys = {}) noexcept {
    const Origin origin{"pressure", Operation::kOpen, file};
    const long opened = OpenRetrying(sys, file, O_RDWR | O_NONBLOCK);
    if (Failed(opened)) {
      const char* const without = NoProcHint(sys, file, opened);
      return Error(ErrnoFrom(opened), "open", origin,
                   without != nullptr ? without : Hint(ErrnoFrom(opened)));
    }
    PressureTrigger trigger(static_cast<int>(opened), std::move(sys));
    constexpr std::string_view kStart = "some ";
    char text[64];
    const long got = trigger.sys_.Read(trigger.fd_, text, kStart.size());
    if (Failed(got)) return Error(ErrnoFrom(got), "read", origin, Hint(ErrnoFrom(got)));
    if (std::string_view(text, static_cast<size_t>(got)) != kStart) {
      return Error(EINVAL, "this file does not tell of pressure", origin,
                   "name /proc/pressure/memory, or the memory.pressure of a cgroup");
    }
    const int length = std::snprintf(text, sizeof(text), "some %lld %lld",
                                     static_cast<long long>(options.stall.count()),
                                     static_cast<long long>(options.window.count()));
    // With the final zero, as the kernel takes the last byte for it.
    const long wrote = trigger.sys_.Write(trigger.fd_, text, static_cast<size_t>(length) + 1);
    if (Failed(wrote)) {
      return Error(ErrnoFrom(wrote), "write: a trigger", origin, Hint(ErrnoFrom(wrote)));
    }
    return trigger;
  }
  PressureTrigger(PressureTrigger&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), sys_(other.sys_) {}
  PressureTrigger& operator=(PressureTrigger&&) = delete;
  ~PressureTrigger() {
    // Nobody is told: the descriptor is gone whatever close answers.
    if (fd_ >= 0) (void)sys_.Close(fd_);
  }

  FdRef fd() const noexcept { return FdRef(fd_); }

 private:
  static const char* Hint(int code) noexcept {
    switch (code) {
      case ENOENT:
        return "look at its name; the kernel needs CONFIG_PSI=y, and psi=1 where it is off by "
               "default";
      case EOPNOTSUPP:
        return "the kernel's command line needs psi=1";
      case EACCES:
      case EPERM:
        return "before Linux 6.5 a trigger wants CAP_SYS_RESOURCE, before 5.12 root; and always "
               "the right to write the file";
      case EINVAL:
        return "without CAP_SYS_RESOURCE the window is a multiple of 2 s; stall is less";
      default:
        return nullptr;
    }
  }
  PressureTrigger(int fd, Sys sys) noexcept : fd_(fd), sys_(std::move(sys)) {}

  int fd_;
  [[no_unique_address]] Sys sys_;
};

}  // namespace ion

#endif  // ION_ION_BASE_PRESSURE_H_
