// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/counting_syscalls.h
//
// CountingSyscalls: the kernel, and a count of the calls made to it. The count belongs to whoever
// measures.
//
// Cost: one addition a call. Not thread-safe: for one thread.
#ifndef ION_BENCH_COUNTING_SYSCALLS_H_
#define ION_BENCH_COUNTING_SYSCALLS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include "ion/base/syscalls.h"

namespace ion::bench {

class CountingSyscalls {
 public:
  // Counts nothing.
  CountingSyscalls() = default;
  explicit CountingSyscalls(uint64_t& calls) : calls_(&calls) {}

  long Open(const char* path, int flags) const noexcept { return Count().Open(path, flags); }
  long OpenAt(int fd, const char* name, int flags) const noexcept {
    return Count().OpenAt(fd, name, flags);
  }
  long Readlink(const char* path, char* to, size_t bytes) const noexcept {
    return Count().Readlink(path, to, bytes);
  }
  long Close(int fd) const noexcept { return Count().Close(fd); }
  long Read(int fd, void* to, size_t bytes) const noexcept { return Count().Read(fd, to, bytes); }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    return Count().Pread(fd, to, bytes, offset);
  }
  long Write(int fd, const void* from, size_t bytes) const noexcept {
    return Count().Write(fd, from, bytes);
  }
  long Getdents(int fd, void* to, size_t bytes) const noexcept {
    return Count().Getdents(fd, to, bytes);
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    return Count().Ioctl(fd, request, argument);
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Count().Mmap(bytes, protection, fd, offset);
  }
  long MmapPrivate(size_t bytes, int fd, off_t offset) const noexcept {
    return Count().MmapPrivate(bytes, fd, offset);
  }
  long MmapOver(void* at, size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Count().MmapOver(at, bytes, protection, fd, offset);
  }
  long Munmap(void* at, size_t bytes) const noexcept { return Count().Munmap(at, bytes); }
  long Eventfd() const noexcept { return Count().Eventfd(); }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    return Count().Madvise(at, bytes, advice);
  }
  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    return Count().MemfdCreate(name, flags);
  }
  long Ftruncate(int fd, off_t bytes) const noexcept { return Count().Ftruncate(fd, bytes); }
  long Fallocate(int fd, off_t offset, off_t bytes) const noexcept {
    return Count().Fallocate(fd, offset, bytes);
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    return Count().Fcntl(fd, command, argument);
  }
  long Lseek(int fd, off_t offset, int whence) const noexcept {
    return Count().Lseek(fd, offset, whence);
  }
  long Fstat(int fd, struct stat* to) const noexcept { return Count().Fstat(fd, to); }
  long Fstatfs(int fd, struct statfs* to) const noexcept { return Count().Fstatfs(fd, to); }
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    return Count().Poll(polled, count, milliseconds);
  }
  long SameInode(int a, int b) const noexcept { return Count().SameInode(a, b); }
  long Sysinfo(struct sysinfo* to) const noexcept { return Count().Sysinfo(to); }
  long Uname(struct utsname* to) const noexcept { return Count().Uname(to); }
  long Geteuid() const noexcept { return Count().Geteuid(); }
  long Getegid() const noexcept { return Count().Getegid(); }
  long Getgroups(int most, gid_t* to) const noexcept { return Count().Getgroups(most, to); }

 private:
  LinuxSyscalls Count() const noexcept {
    if (calls_ != nullptr) ++*calls_;
    return {};
  }

  uint64_t* calls_ = nullptr;
};
static_assert(Syscalls<CountingSyscalls>);

}  // namespace ion::bench

#endif  // ION_BENCH_COUNTING_SYSCALLS_H_
