// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: compat/libion/user_memory.h
//
// Copies from and to pointers of the caller that may be null or wild: the answer is EFAULT, as the
// kernel's, and no signal. If a sandbox forbids process_vm_readv, they go through a pipe.
//
// Cost: one system call; five through a pipe. Thread-safe.
#ifndef ION_COMPAT_LIBION_USER_MEMORY_H_
#define ION_COMPAT_LIBION_USER_MEMORY_H_

#include <cerrno>
#include <cstddef>

#include "compat/libion/ion_syscalls.h"
#include "ion/base/syscalls.h"

namespace ion::compat {

namespace internal {

// A pipe takes 4096 bytes without a reader on every kernel.
inline constexpr size_t kMostThroughPipe = 4096;

// Writes `from` to a pipe and reads it back to `to`: either pointer may be wild.
template <IonSyscalls Sys>
long CopyThroughPipe(const Sys& sys, void* to, const void* from, size_t bytes) noexcept {
  int ends[2];
  if (const long made = sys.Pipe(ends); Failed(made)) return made;
  long answer = sys.Write(ends[1], from, bytes);
  if (!Failed(answer))
    answer = static_cast<size_t>(answer) == bytes ? sys.Read(ends[0], to, bytes) : -EFAULT;
  sys.Close(ends[0]);
  sys.Close(ends[1]);
  if (Failed(answer)) return answer;
  return static_cast<size_t>(answer) == bytes ? 0 : -EFAULT;
}

// `answer`: of the direct copy.
template <IonSyscalls Sys>
long EndCopy(const Sys& sys, long answer, void* to, const void* from, size_t bytes) noexcept {
  if (answer == -EPERM || answer == -ENOSYS || answer == -EACCES) {
    return bytes > kMostThroughPipe ? answer : CopyThroughPipe(sys, to, from, bytes);
  }
  if (Failed(answer)) return answer;
  return static_cast<size_t>(answer) == bytes ? 0 : -EFAULT;
}

}  // namespace internal

// Copies `bytes` from the caller's `from`. Returns 0, or -EFAULT with an unknown part copied.
template <IonSyscalls Sys>
long CopyIn(const Sys& sys, void* to, const void* from, size_t bytes) noexcept {
  if (bytes == 0) return 0;
  return internal::EndCopy(sys, sys.ReadMemory(to, from, bytes), to, from, bytes);
}

// Copies `bytes` to the caller's `to`. Returns 0, or -EFAULT with an unknown part copied.
template <IonSyscalls Sys>
long CopyOut(const Sys& sys, void* to, const void* from, size_t bytes) noexcept {
  if (bytes == 0) return 0;
  return internal::EndCopy(sys, sys.WriteMemory(to, from, bytes), to, from, bytes);
}

}  // namespace ion::compat

#endif  // ION_COMPAT_LIBION_USER_MEMORY_H_
