// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/sealed_memfd.h
//
// A memfd of fixed size: made (the memory of MemfdBackend and, one step later, of UdmabufBackend),
// or taken from another process and inspected. Sealed against shrinking and growing, so that what
// was measured once stays true; never against writing, which udmabuf refuses.
//
// Cost: three system calls to make, three to inspect. Thread-safe.
#ifndef ION_BACKENDS_SEALED_MEMFD_H_
#define ION_BACKENDS_SEALED_MEMFD_H_

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <string_view>

#include "backends/scoped_fd.h"
#include "ion/error.h"
#include "ion/error_sink.h"
#include "ion/syscalls.h"

#ifndef F_SEAL_FUTURE_WRITE  // Linux 5.1
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace ion {

// The kernel keeps 249 bytes of a memfd's name and refuses more; 31 is what a dma-buf keeps.
inline constexpr size_t kNameBytes = 31;

template <Syscalls Sys>
Result<ScopedFd<Sys>> MakeSealedMemfd(const Sys& sys, ErrorSink& errors, const Origin& origin,
                                      std::string_view name, uint64_t bytes) noexcept {
  char text[kNameBytes + 1] = {};
  name.copy(text, kNameBytes);
  const long fd = sys.MemfdCreate(text, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (Failed(fd)) return Error(ErrnoFrom(fd), "memfd_create", origin);
  ScopedFd<Sys> memfd(static_cast<int>(fd), sys, errors, origin.backend);
  if (const long answer = sys.Ftruncate(memfd.get(), static_cast<off_t>(bytes)); Failed(answer)) {
    return Error(ErrnoFrom(answer), "ftruncate", origin);
  }
  // And no more seals: who gets a copy could else forbid writing to us.
  const long seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (const long answer = sys.Fcntl(memfd.get(), F_ADD_SEALS, seals); Failed(answer)) {
    return Error(ErrnoFrom(answer), "F_ADD_SEALS", origin);
  }
  return memfd;
}

// statfs.f_type of an ordinary memfd (the kernel's TMPFS_MAGIC).
inline constexpr uint32_t kTmpfsMagic = 0x01021994;

struct SealedMemfd {
  uint64_t bytes;
  bool writable;
};

// What a descriptor from somewhere else is. EINVAL: not a memfd, empty, not sealed against
// shrinking (its owner could cut it under our mapping), or of huge pages (a hole that its owner
// makes there is SIGBUS for us; in an ordinary memfd it reads as zero). EFBIG: more than this
// process can map.
template <Syscalls Sys>
Result<SealedMemfd> InspectMemfd(const Sys& sys, int fd, const Origin& origin) noexcept {
  const long seals = sys.Fcntl(fd, F_GET_SEALS, 0);
  if (Failed(seals)) {
    return Error(
        ErrnoFrom(seals), "F_GET_SEALS: not a memfd", origin,
        "this backend imports memfds only; a dma-buf wants the udmabuf or dma_heap backend");
  }
  if ((seals & F_SEAL_SHRINK) == 0) {
    return Error(EINVAL, "F_GET_SEALS: no F_SEAL_SHRINK, so its owner could cut it under us",
                 origin, "the owner must seal it: fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)");
  }
  struct statfs fs {};
  if (const long answer = sys.Fstatfs(fd, &fs); Failed(answer)) {
    return Error(ErrnoFrom(answer), "fstatfs", origin);
  }
  if (static_cast<uint32_t>(fs.f_type) != kTmpfsMagic) {
    return Error(EINVAL, "fstatfs: not in ordinary pages", origin,
                 "the owner must make it without MFD_HUGETLB");
  }
  const long mode = sys.Fcntl(fd, F_GETFL, 0);
  if (Failed(mode)) return Error(ErrnoFrom(mode), "F_GETFL", origin);
  struct stat status {};
  if (const long answer = sys.Fstat(fd, &status); Failed(answer)) {
    return Error(ErrnoFrom(answer), "fstat", origin);
  }
  if (status.st_size <= 0) return Error(EINVAL, "the memfd is empty", origin);
  if (status.st_size > PTRDIFF_MAX) return Error(EFBIG, "fstat: past the address space", origin);
  const bool sealed = (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
  return SealedMemfd{static_cast<uint64_t>(status.st_size),
                     !sealed && (mode & O_ACCMODE) == O_RDWR};
}

}  // namespace ion

#endif  // ION_BACKENDS_SEALED_MEMFD_H_
