// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/sealed_memfd.h
//
// A memfd of fixed size: made (the memory of MemfdBackend and, one step later, of UdmabufBackend),
// or taken from another process and inspected. Sealed against shrinking and growing, so that its
// measured size stays true; never against writing, which udmabuf refuses. Sealed against being run
// as a program, too, if the kernel has that seal (Linux 6.3): some sandboxes, and
// vm.memfd_noexec=2, allow no other memfd.
//
// Cost: three system calls to make, four before Linux 6.3; three to inspect. Thread-safe.
#ifndef ION_BACKENDS_SEALED_MEMFD_H_
#define ION_BACKENDS_SEALED_MEMFD_H_

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "ion/backends/scoped_fd.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/kernel_text.h"
#include "ion/base/linux_release.h"
#include "ion/base/syscalls.h"
#include "ion/buffer_identity.h"

#ifndef F_SEAL_FUTURE_WRITE  // Linux 5.1
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL  // Linux 6.3
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace ion {

// The kernel keeps 249 bytes of a memfd's name and refuses more; 31 is what a dma-buf keeps.
inline constexpr size_t kNameBytes = 31;

// Why memfd_create may have failed; nullptr: as any call may. A sandbox that answers ENOSYS is told
// from a kernel that is too old.
template <Syscalls Sys>
const char* MemfdHint(const Sys& sys, int code) noexcept {
  if (code == EPERM || code == EACCES) {
    return "a sandbox (seccomp) or a security module refuses memfd_create: allow it there, at "
           "least "
           "with MFD_NOEXEC_SEAL";
  }
  if (code != ENOSYS) return nullptr;
  if (LinuxRelease::Read(sys).IsBefore(3, 17))
    return "this kernel is too old: memfds need Linux 3.17";
  return "a sandbox (seccomp) refuses memfd_create: allow it there; or this kernel was built "
         "without "
         "CONFIG_MEMFD_CREATE";
}

// An empty memfd that can be sealed, under the first 31 bytes of `name`. Without MFD_NOEXEC_SEAL
// where a kernel does not know it, or a sandbox does not.
template <Syscalls Sys>
Result<ScopedFd<Sys>> NewSealableMemfd(const Sys& sys, ErrorSink& errors, const Origin& origin,
                                       std::string_view name) noexcept {
  char text[kNameBytes + 1] = {};
  name.copy(text, kNameBytes);
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  long fd = sys.MemfdCreate(text, kFlags | MFD_NOEXEC_SEAL);
  if (fd == -EINVAL || fd == -EPERM || fd == -EACCES || fd == -ENOSYS) {
    fd = sys.MemfdCreate(text, kFlags);
  }
  if (Failed(fd)) {
    return Error(ErrnoFrom(fd), "memfd_create", origin, MemfdHint(sys, ErrnoFrom(fd)));
  }
  return ScopedFd<Sys>(static_cast<int>(fd), sys, errors, origin.backend);
}

// True if the kernel gives no page that it has not counted (vm.overcommit_memory is 2). A memfd's
// pages are counted at their first use, at which a refusal is SIGBUS.
template <Syscalls Sys>
bool CommitsStrictly(const Sys& sys) noexcept {
  char mode[4];
  const auto text = internal::ReadBegin(sys, "/proc/sys/vm/overcommit_memory", mode, sizeof(mode));
  return text.has_value() && text->starts_with('2');
}

// Puts pages in place for the whole of a memfd. ENOMEM: the kernel has no more to promise (it
// answers ENOSPC, as a file system that is full).
template <Syscalls Sys>
Error Commit(const Sys& sys, int fd, const Origin& origin, uint64_t bytes) noexcept {
  // A signal undoes a call: of small ones some come through.
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  for (uint64_t at = 0; at < bytes;) {
    const uint64_t piece = std::min(bytes - at, kPiece);
    const long answer = sys.Fallocate(fd, static_cast<off_t>(at), static_cast<off_t>(piece));
    if (answer == -EINTR) continue;
    if (answer == -ENOSPC || answer == -ENOMEM) {
      return Error(ENOMEM, "fallocate", origin,
                   "vm.overcommit_memory is 2: raise vm.overcommit_ratio or add swap, or free some "
                   "memory");
    }
    if (Failed(answer)) return Error(ErrnoFrom(answer), "fallocate", origin);
    at += piece;
  }
  return {};
}

// `commit`: no page of it can be refused later.
template <Syscalls Sys>
Result<ScopedFd<Sys>> MakeSealedMemfd(const Sys& sys, ErrorSink& errors, const Origin& origin,
                                      std::string_view name, uint64_t bytes, bool commit) noexcept {
  Result<ScopedFd<Sys>> made = NewSealableMemfd(sys, errors, origin, name);
  if (!made.ok()) return made;
  ScopedFd<Sys> memfd = *std::move(made);
  if (const long answer = sys.Ftruncate(memfd.get(), static_cast<off_t>(bytes)); Failed(answer)) {
    return Error(ErrnoFrom(answer), "ftruncate", origin,
                 answer == -EFBIG ? "past this process's limit of file sizes, which counts memfds: "
                                    "raise `ulimit -f`"
                                  : nullptr);
  }
  if (commit) {
    if (Error error = Commit(sys, memfd.get(), origin, bytes); !error.ok()) return error;
  }
  // And no more seals: else a receiver of a copy could forbid us to write.
  const long seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (const long answer = sys.Fcntl(memfd.get(), F_ADD_SEALS, seals); Failed(answer)) {
    return Error(ErrnoFrom(answer), "F_ADD_SEALS", origin);
  }
  return memfd;
}

struct SealedMemfd {
  uint64_t bytes;
  bool writable;
  BufferIdentity identity;
};

// True if nobody can write to the memfd any more, by whatever descriptor or mapping: a mapping of
// it shows the same bytes for ever.
template <Syscalls Sys>
bool NeverChanges(const Sys& sys, int fd) noexcept {
  const long seals = sys.Fcntl(fd, F_GET_SEALS, 0);
  constexpr long kFixed = F_SEAL_WRITE | F_SEAL_SHRINK;
  return !Failed(seals) && (seals & kFixed) == kFixed;
}

inline Error NotAMemfd(long answer, const Origin& origin) noexcept {
  return Error(ErrnoFrom(answer), "F_GET_SEALS: not a memfd", origin,
               "this backend imports memfds only; a dma-buf wants the udmabuf or dma_heap backend");
}
// The kernel itself answers F_GET_SEALS, and only of its own memory: a descriptor that passes this
// is of no file system that a program serves.
template <Syscalls Sys>
Error CheckIsMemfd(const Sys& sys, int fd, const Origin& origin) noexcept {
  const long seals = sys.Fcntl(fd, F_GET_SEALS, 0);
  return Failed(seals) ? NotAMemfd(seals, origin) : Error();
}

// Inspects a descriptor from elsewhere. EINVAL: not a memfd, empty, not sealed against shrinking
// (its owner could cut it under our mapping), or of huge pages (a hole that its owner makes there
// is SIGBUS for us; in an ordinary memfd it reads as zero). EFBIG: more than this process can map.
// `ordinary`: the device of the kernel's memfds of ordinary pages, which are all of one file system
// (st_dev of fstat).
template <Syscalls Sys>
Result<SealedMemfd> InspectMemfd(const Sys& sys, int fd, const Origin& origin,
                                 uint64_t ordinary) noexcept {
  const long seals = sys.Fcntl(fd, F_GET_SEALS, 0);
  if (Failed(seals)) return NotAMemfd(seals, origin);
  if ((seals & F_SEAL_SHRINK) == 0) {
    return Error(EINVAL, "F_GET_SEALS: no F_SEAL_SHRINK, so its owner could cut it under us",
                 origin, "the owner must seal it: fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)");
  }
  struct stat status {};
  if (const long answer = sys.Fstat(fd, &status); Failed(answer)) {
    return Error(ErrnoFrom(answer), "fstat", origin);
  }
  if (status.st_dev != ordinary) {
    return Error(EINVAL, "fstat: not in ordinary pages", origin,
                 "the owner must make it without MFD_HUGETLB");
  }
  const long mode = sys.Fcntl(fd, F_GETFL, 0);
  if (Failed(mode)) return Error(ErrnoFrom(mode), "F_GETFL", origin);
  if (status.st_size <= 0) return Error(EINVAL, "the memfd is empty", origin);
  if (status.st_size > PTRDIFF_MAX) return Error(EFBIG, "fstat: past the address space", origin);
  const bool sealed = (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
  return SealedMemfd{static_cast<uint64_t>(status.st_size),
                     !sealed && (mode & O_ACCMODE) == O_RDWR,
                     {.device = status.st_dev, .inode = status.st_ino}};
}

}  // namespace ion

#endif  // ION_BACKENDS_SEALED_MEMFD_H_
