// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/ion_syscalls.h
//
// IonSyscalls: the system calls of the ION emulation, beside those of every backend: sockets, and
// copies to and from the caller's pointers. Calls answer as the kernel does: a value, or a negative
// errno.
//
// Cost: each is the system call. Thread-safe.
#ifndef ION_COMPAT_LIBION_ION_SYSCALLS_H_
#define ION_COMPAT_LIBION_ION_SYSCALLS_H_

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <cstddef>

#include "ion/base/syscalls.h"

namespace ion::compat {

template <class S>
concept IonSyscalls = Syscalls<S> && requires(const S& s, int fd, void* p, const void* cp,
                                              size_t bytes, socklen_t* length, int* two) {
  { s.Socket() } noexcept -> std::same_as<long>;
  { s.Bind(fd, cp, socklen_t{}) } noexcept -> std::same_as<long>;
  { s.Getsockname(fd, p, length) } noexcept -> std::same_as<long>;
  { s.Getsockopt(fd, int{}, p, length) } noexcept -> std::same_as<long>;
  { s.Getrandom(p, bytes) } noexcept -> std::same_as<long>;
  { s.ReadMemory(p, cp, bytes) } noexcept -> std::same_as<long>;
  { s.WriteMemory(p, cp, bytes) } noexcept -> std::same_as<long>;
  { s.Pipe(two) } noexcept -> std::same_as<long>;
};

class LinuxIonSyscalls : public LinuxSyscalls {
 public:
  // A stream of the local family, close-on-exec: as nobody listens on it, nobody can send to it.
  long Socket() const noexcept { return Answer(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
  long Bind(int fd, const void* name, socklen_t bytes) const noexcept {
    return Answer(::bind(fd, static_cast<const sockaddr*>(name), bytes));
  }
  long Getsockname(int fd, void* name, socklen_t* bytes) const noexcept {
    return Answer(::getsockname(fd, static_cast<sockaddr*>(name), bytes));
  }
  // Of the level SOL_SOCKET.
  long Getsockopt(int fd, int option, void* value, socklen_t* bytes) const noexcept {
    return Answer(::getsockopt(fd, SOL_SOCKET, option, value, bytes));
  }
  // Linux 3.17. Never waits.
  long Getrandom(void* to, size_t bytes) const noexcept {
    constexpr unsigned kNonblock = 1;  // GRND_NONBLOCK
    return Answer(::syscall(SYS_getrandom, to, bytes, kNonblock));
  }
  // Memory of this process that may not be there: the kernel copies, and tells how much it could.
  long ReadMemory(void* to, const void* from, size_t bytes) const noexcept {
    return Copy(SYS_process_vm_readv, to, from, bytes);
  }
  long WriteMemory(void* to, const void* from, size_t bytes) const noexcept {
    return Copy(SYS_process_vm_writev, const_cast<void*>(from), to, bytes);
  }
  long Pipe(int* two) const noexcept { return Answer(::pipe2(two, O_CLOEXEC)); }

 private:
  static long Copy(long number, void* here, const void* there, size_t bytes) noexcept {
    iovec local{here, bytes};
    iovec remote{const_cast<void*>(there), bytes};
    return Answer(::syscall(number, ::getpid(), &local, 1UL, &remote, 1UL, 0UL));
  }
  static long Answer(long result) noexcept { return result == -1 ? -errno : result; }
};
static_assert(IonSyscalls<LinuxIonSyscalls>);

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_ION_SYSCALLS_H_
