// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/local_file.h
//
// Tests that tell if calls on a descriptor from elsewhere are safe. Most calls on a file of a file
// system that a program serves (FUSE) ask that program, which may never answer: fstat, fstatfs,
// lseek to the end, poll, ioctl, and even close. Those here never do.
//
// Not for users.
//
// Cost: two system calls for a dma-buf, one for a memfd. Thread-safe.
#ifndef ION_BACKENDS_LOCAL_FILE_H_
#define ION_BACKENDS_LOCAL_FILE_H_

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>

#include "ion/backends/scoped_fd.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/syscalls.h"

namespace ion {

// The text of /proc/self/fdinfo about a descriptor, cut at 512 bytes.
struct FdInfo {
  char text[512];
  size_t bytes = 0;

  std::string_view view() const noexcept { return {text, bytes}; }
};
template <Syscalls Sys>
Result<ScopedFd<Sys>> OpenFdInfo(const Sys& sys, ErrorSink& errors, int fd,
                                 const Origin& origin) noexcept {
  char path[32] = "/proc/self/fdinfo/";
  *std::to_chars(path + std::strlen(path), std::end(path), fd).ptr = 0;
  const long opened = OpenRetrying(sys, path, O_RDONLY);
  if (Failed(opened)) return Error(ErrnoFrom(opened), "open: fdinfo", origin);
  return ScopedFd<Sys>(static_cast<int>(opened), sys, errors, origin.backend);
}
template <Syscalls Sys>
Result<FdInfo> ReadFdInfo(const Sys& sys, ErrorSink& errors, int fd,
                          const Origin& origin) noexcept {
  const Result<ScopedFd<Sys>> file = OpenFdInfo(sys, errors, fd, origin);
  if (!file.ok()) return file.error();
  FdInfo info;
  const long got = sys.Read(file->get(), info.text, sizeof(info.text));
  if (Failed(got)) return Error(ErrnoFrom(got), "read: fdinfo", origin);
  info.bytes = static_cast<size_t>(got);
  return info;
}

// Returns true if the descriptor may be a dma-buf, for which no file server answers. The kernel
// itself answers FIOQSIZE: of files of file systems with their size, of all others with ENOTTY, and
// a driver never gets it. A fifo may be of a file system all the same. EBADF: it is not open.
template <Syscalls Sys>
Result<bool> MayBeDmaBuf(const Sys& sys, ErrorSink& errors, int fd, const Origin& origin) noexcept {
  int64_t size = 0;
  const long asked = IoctlRetrying(sys, fd, FIOQSIZE, &size);
  if (asked == -ENOTTY) {
    constexpr int kGetPipeSize = 1032;  // F_GETPIPE_SZ
    const long pipe = sys.Fcntl(fd, kGetPipeSize, 0);
    if (pipe == -EBADF) return true;
    return Failed(pipe) ? Result<bool>(Error(ErrnoFrom(pipe), "F_GETPIPE_SZ", origin)) : false;
  }
  if (Failed(asked)) return Error(ErrnoFrom(asked), "FIOQSIZE", origin);
  // Some kernels (6.16, and stable ones of its time) take anonymous files for files. A line of this
  // name is of dma-bufs only, and its holders cannot add one before it.
  const Result<FdInfo> info = ReadFdInfo(sys, errors, fd, origin);
  if (!info.ok()) return info.error();
  return info->view().find("\nexp_name:\t") != std::string_view::npos;
}

}  // namespace ion

#endif  // ION_BACKENDS_LOCAL_FILE_H_
