// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/fd_info_files.h
//
// FdInfoFiles: the files of /proc/self/fdinfo about a few descriptors, kept open, so that a question
// that is asked for each frame costs one system call. Such a file tells of the descriptor that has
// the number now, whatever had it when the file was opened.
//
// Not for users.
//
// Cost: pread of a file that is kept; up to 16 descriptors, close-on-exec. Thread-safe.
#ifndef ION_BACKENDS_FD_INFO_FILES_H_
#define ION_BACKENDS_FD_INFO_FILES_H_

#include <array>
#include <atomic>
#include <cstddef>

#include "ion/backends/local_file.h"
#include "ion/backends/scoped_fd.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fork_mark.h"
#include "ion/base/syscalls.h"

namespace ion {

class FdInfoFiles {
 public:
  // As ReadFdInfo, of a descriptor of ours. Errors: of a file that is kept, "pread: fdinfo".
  template <Syscalls Sys>
  Result<FdInfo> Read(const Sys& sys, ErrorSink& errors, int fd, const Origin& origin) noexcept {
    Slot& slot = slots_[static_cast<size_t>(fd) % slots_.size()];
    // The kept files of a parent tell of the parent. Another thread's question is short, and a wait
    // for it could be long.
    if (fd < 0 || mark_.InChild() || slot.busy.exchange(true, std::memory_order_acquire)) {
      return ReadFdInfo(sys, errors, fd, origin);
    }
    Result<FdInfo> info = ReadKept(sys, errors, slot, fd, origin);
    slot.busy.store(false, std::memory_order_release);
    return info;
  }

  // Closes what is kept. Requires: nobody reads.
  template <Syscalls Sys>
  void Close(const Sys& sys, ErrorSink& errors, const char* backend) noexcept {
    for (Slot& slot : slots_) Forget(sys, errors, slot, backend);
  }

 private:
  struct Slot {
    std::atomic<bool> busy{false};
    int of = -1;  // the descriptor; -1: none is kept
    int file = -1;
  };

  template <Syscalls Sys>
  static Result<FdInfo> ReadKept(const Sys& sys, ErrorSink& errors, Slot& slot, int fd,
                                 const Origin& origin) noexcept {
    if (slot.of != fd) {
      Forget(sys, errors, slot, origin.backend);
      Result<ScopedFd<Sys>> file = OpenFdInfo(sys, errors, fd, origin);
      if (!file.ok()) return file.error();
      slot.of = fd;
      slot.file = file->release();
    }
    FdInfo info;
    const long got = sys.Pread(slot.file, info.text, sizeof(info.text), 0);
    if (Failed(got)) {
      Forget(sys, errors, slot, origin.backend);
      return Error(ErrnoFrom(got), "pread: fdinfo", origin);
    }
    info.bytes = static_cast<size_t>(got);
    return info;
  }
  template <Syscalls Sys>
  static void Forget(const Sys& sys, ErrorSink& errors, Slot& slot, const char* backend) noexcept {
    if (slot.of < 0) return;
    const ScopedFd<Sys> closed(slot.file, sys, errors, backend);
    slot.of = slot.file = -1;
  }

  std::array<Slot, 16> slots_;
  internal::ForkMark mark_;
};

}  // namespace ion

#endif  // ION_BACKENDS_FD_INFO_FILES_H_
