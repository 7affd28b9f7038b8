// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/crowd_syscalls.h
//
// CrowdSyscalls: the kernel, but for memfds that are made while a Crowd is open: those are numbers,
// each of an inode of its own, so that a client can have more handles than the process may have
// descriptors. They can be kept, told apart and released; they cannot be mapped, shared or imported.
//
// Cost: one comparison a call. Not thread-safe: for one thread.
#ifndef ION_BENCH_CROWD_SYSCALLS_H_
#define ION_BENCH_CROWD_SYSCALLS_H_

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>

#include "ion/base/syscalls.h"

namespace ion::bench {

struct Crowd {
  static constexpr int kFirst = 1 << 24;  // above all descriptors that there can be

  bool open = false;
  int next = kFirst;
  dev_t device = 0;  // of the real memfds
};

class CrowdSyscalls : public LinuxSyscalls {
 public:
  CrowdSyscalls() = default;
  explicit CrowdSyscalls(Crowd& crowd) : crowd_(&crowd) {}

  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    if (crowd_ != nullptr && crowd_->open) return crowd_->next++;
    return LinuxSyscalls::MemfdCreate(name, flags);
  }
  long Ftruncate(int fd, off_t bytes) const noexcept {
    return InCrowd(fd) ? 0 : LinuxSyscalls::Ftruncate(fd, bytes);
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    return InCrowd(fd) ? 0 : LinuxSyscalls::Fcntl(fd, command, argument);
  }
  long Close(int fd) const noexcept { return InCrowd(fd) ? 0 : LinuxSyscalls::Close(fd); }
  long Fstat(int fd, struct stat* to) const noexcept {
    if (!InCrowd(fd)) return LinuxSyscalls::Fstat(fd, to);
    *to = {};
    to->st_dev = crowd_->device;
    to->st_ino = static_cast<ino_t>(fd);
    return 0;
  }
  long SameInode(int a, int b) const noexcept {
    return InCrowd(a) || InCrowd(b) ? a == b : LinuxSyscalls::SameInode(a, b);
  }

 private:
  static bool InCrowd(int fd) noexcept { return fd >= Crowd::kFirst; }

  Crowd* crowd_ = nullptr;
};
static_assert(Syscalls<CrowdSyscalls>);

}  // namespace ion::bench

#endif  // ION_BENCH_CROWD_SYSCALLS_H_
