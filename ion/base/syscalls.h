// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/syscalls.h
//
// The one door to the kernel. A backend is a template over a Syscalls policy, so that a test can
// make each call fail, or stand a fake kernel behind it. Calls answer as the kernel does: a value,
// or a negative errno; the C library's errno is not used.
//
// Example:
//   using Memfd = ion::MemfdBackend<ion::LinuxSyscalls>;   // the default
//
// No call of LinuxSyscalls is a cancellation point, and none raises SIGXFSZ.
//
// Cost: LinuxSyscalls is empty and each call is the C library's. Thread-safe.
#ifndef ION_ION_BASE_SYSCALLS_H_
#define ION_ION_BASE_SYSCALLS_H_

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "ion/base/file_size_signal.h"
#include "ion/base/no_cancel.h"
#include "ion/base/same_inode.h"

namespace ion {

static_assert(sizeof(off_t) == 8, "ion: build 32-bit programs with -D_FILE_OFFSET_BITS=64");

// A call's answer is an error where the kernel would say so: the last page of addresses.
constexpr bool Failed(long answer) noexcept { return static_cast<unsigned long>(answer) > -4096UL; }
constexpr int ErrnoFrom(long answer) noexcept { return static_cast<int>(-answer); }

// Requires: each call behaves as Linux documents it, but for the errno in the answer. A policy is
// copied freely: it is empty, or a pointer to state that its copies share.
template <class S>
concept Syscalls =
    std::is_nothrow_copy_constructible_v<S> &&
    requires(const S& s, const char* path, int fd, unsigned flags, void* p, size_t bytes, off_t off,
             struct stat* st, struct statfs* fs, struct sysinfo* si, unsigned long request,
             struct pollfd* polled, struct utsname* un, gid_t* groups) {
      { s.Open(path, int{}) } noexcept -> std::same_as<long>;
      { s.OpenAt(fd, path, int{}) } noexcept -> std::same_as<long>;
      { s.Readlink(path, static_cast<char*>(p), bytes) } noexcept -> std::same_as<long>;
      { s.Close(fd) } noexcept -> std::same_as<long>;
      { s.Read(fd, p, bytes) } noexcept -> std::same_as<long>;
      { s.Pread(fd, p, bytes, off) } noexcept -> std::same_as<long>;
      { s.Write(fd, path, bytes) } noexcept -> std::same_as<long>;
      { s.Getdents(fd, p, bytes) } noexcept -> std::same_as<long>;
      { s.Ioctl(fd, request, p) } noexcept -> std::same_as<long>;
      { s.Mmap(bytes, int{}, fd, off) } noexcept -> std::same_as<long>;
      { s.MmapPrivate(bytes, fd, off) } noexcept -> std::same_as<long>;
      { s.MmapOver(p, bytes, int{}, fd, off) } noexcept -> std::same_as<long>;
      { s.Munmap(p, bytes) } noexcept -> std::same_as<long>;
      { s.Eventfd() } noexcept -> std::same_as<long>;
      { s.Madvise(p, bytes, int{}) } noexcept -> std::same_as<long>;
      { s.MemfdCreate(path, flags) } noexcept -> std::same_as<long>;
      { s.Ftruncate(fd, off) } noexcept -> std::same_as<long>;
      { s.Fallocate(fd, off, off) } noexcept -> std::same_as<long>;
      { s.Fcntl(fd, int{}, long{}) } noexcept -> std::same_as<long>;
      { s.Lseek(fd, off, int{}) } noexcept -> std::same_as<long>;
      { s.Fstat(fd, st) } noexcept -> std::same_as<long>;
      { s.Fstatfs(fd, fs) } noexcept -> std::same_as<long>;
      { s.Poll(polled, flags, int{}) } noexcept -> std::same_as<long>;
      { s.SameInode(fd, fd) } noexcept -> std::same_as<long>;
      { s.Sysinfo(si) } noexcept -> std::same_as<long>;
      { s.Uname(un) } noexcept -> std::same_as<long>;
      { s.Geteuid() } noexcept -> std::same_as<long>;
      { s.Getegid() } noexcept -> std::same_as<long>;
      { s.Getgroups(int{}, groups) } noexcept -> std::same_as<long>;
    };

// The kernel itself.
class LinuxSyscalls {
 public:
  long Open(const char* path, int flags) const noexcept {
    const internal::NoCancel guard;
    return Answer(::open(path, flags | O_CLOEXEC));
  }
  // Opens `name` in the directory that `fd` is.
  long OpenAt(int fd, const char* name, int flags) const noexcept {
    const internal::NoCancel guard;
    return Answer(::openat(fd, name, flags | O_CLOEXEC));
  }
  long Readlink(const char* path, char* to, size_t bytes) const noexcept {
    return Answer(::readlink(path, to, bytes));
  }
  long Close(int fd) const noexcept {
    const internal::NoCancel guard;
    return Answer(::close(fd));
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    const internal::NoCancel guard;
    return Answer(::read(fd, to, bytes));
  }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    const internal::NoCancel guard;
    return Answer(::pread(fd, to, bytes, offset));
  }
  long Write(int fd, const void* from, size_t bytes) const noexcept {
    const internal::NoCancel guard;
    return Answer(::write(fd, from, bytes));
  }
  long Getdents(int fd, void* to, size_t bytes) const noexcept {
    return Answer(::syscall(SYS_getdents64, fd, to, bytes));
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    return Answer(::ioctl(fd, request, argument));
  }
  // MAP_SHARED: a private mapping of a dma-buf is refused, or (Linux 4.2) a silent copy.
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Mapped(::mmap(nullptr, bytes, protection, MAP_SHARED, fd, offset));
  }
  // MAP_PRIVATE, for reading only.
  long MmapPrivate(size_t bytes, int fd, off_t offset) const noexcept {
    return Mapped(::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, offset));
  }
  // As Mmap, over the pages at `at`. Requires: the caller owns these addresses.
  long MmapOver(void* at, size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Mapped(::mmap(at, bytes, protection, MAP_SHARED | MAP_FIXED, fd, offset));
  }
  long Munmap(void* at, size_t bytes) const noexcept { return Answer(::munmap(at, bytes)); }
  long Eventfd() const noexcept { return Answer(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }
  long Madvise(void* at, size_t bytes, int advice) const noexcept {
    return Answer(::madvise(at, bytes, advice));
  }
  // By number: Android's C library offers it only from API level 30.
  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    return Answer(::syscall(SYS_memfd_create, name, flags));
  }
  long Ftruncate(int fd, off_t bytes) const noexcept {
    const internal::NoCancel guard;
    internal::FileSizeSignal signal;
    return signal.Take(Answer(::ftruncate(fd, bytes)));
  }
  // Mode 0: pages are there for all of the range, which a file must reach.
  long Fallocate(int fd, off_t offset, off_t bytes) const noexcept {
    const internal::NoCancel guard;
    internal::FileSizeSignal signal;
    return signal.Take(Answer(::fallocate(fd, 0, offset, bytes)));
  }
  long Fcntl(int fd, int command, long argument) const noexcept {
    const internal::NoCancel guard;
    return Answer(::fcntl(fd, command, argument));
  }
  long Lseek(int fd, off_t offset, int whence) const noexcept {
    const off_t at = ::lseek(fd, offset, whence);
    return at > LONG_MAX ? -EOVERFLOW : Answer(static_cast<long>(at));
  }
  long Fstat(int fd, struct stat* to) const noexcept { return Answer(::fstat(fd, to)); }
  long Fstatfs(int fd, struct statfs* to) const noexcept { return Answer(::fstatfs(fd, to)); }
  long Poll(struct pollfd* polled, unsigned count, int milliseconds) const noexcept {
    const internal::NoCancel guard;
    return Answer(::poll(polled, count, milliseconds));
  }
  // Several calls, of which the kernel need not know each.
  long SameInode(int a, int b) const noexcept { return internal::SameInode(a, b); }
  long Sysinfo(struct sysinfo* to) const noexcept { return Answer(::sysinfo(to)); }
  long Uname(struct utsname* to) const noexcept { return Answer(::uname(to)); }
  long Geteuid() const noexcept { return static_cast<long>(::geteuid()); }
  long Getegid() const noexcept { return static_cast<long>(::getegid()); }
  long Getgroups(int most, gid_t* to) const noexcept { return Answer(::getgroups(most, to)); }

 private:
  static long Mapped(void* at) noexcept {
    return at == MAP_FAILED ? -errno : static_cast<long>(reinterpret_cast<intptr_t>(at));
  }
  static long Answer(long result) noexcept { return result == -1 ? -errno : result; }
};
static_assert(Syscalls<LinuxSyscalls>);

// The two calls that a signal may interrupt: tried again until they were not.
template <Syscalls S>
long OpenRetrying(const S& sys, const char* path, int flags) noexcept {
  long answer;
  do answer = sys.Open(path, flags);
  while (answer == -EINTR);
  return answer;
}
template <Syscalls S>
long IoctlRetrying(const S& sys, int fd, unsigned long request, void* argument) noexcept {
  long answer;
  do answer = sys.Ioctl(fd, request, argument);
  while (answer == -EINTR);
  return answer;
}

}  // namespace ion

#endif  // ION_ION_BASE_SYSCALLS_H_
