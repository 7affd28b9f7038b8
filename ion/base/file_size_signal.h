// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/file_size_signal.h
//
// FileSizeSignal: keeps a call that makes a file larger from ending the process. Past RLIMIT_FSIZE
// (`ulimit -f`), which counts memfds as well, the kernel answers EFBIG, and sends the thread
// SIGXFSZ. The signal is blocked around the call, and taken back.
//
// Not for users.
//
// Cost: two system calls. Thread-safe.
#ifndef ION_ION_BASE_FILE_SIZE_SIGNAL_H_
#define ION_ION_BASE_FILE_SIZE_SIGNAL_H_

#include <pthread.h>
#include <signal.h>

#include <cerrno>

namespace ion::internal {

class FileSizeSignal {
 public:
  FileSizeSignal() noexcept {
    ::sigemptyset(&one_);
    ::sigaddset(&one_, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &one_, &before_);
    // A signal that is pending already is the program's. If the program did not block it, none can
    // be pending.
    theirs_ = ::sigismember(&before_, SIGXFSZ) == 1 && Waits();
  }
  FileSizeSignal(const FileSizeSignal&) = delete;
  FileSizeSignal& operator=(const FileSizeSignal&) = delete;
  ~FileSizeSignal() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

  // Takes the signal back that came with an answer. Returns the answer: a value, or a negative
  // errno.
  long Take(long answer) noexcept {
    int taken;
    if (answer == -EFBIG && !theirs_ && Waits()) (void)::sigwait(&one_, &taken);
    return answer;
  }

 private:
  static bool Waits() noexcept {
    sigset_t waiting;
    return ::sigpending(&waiting) == 0 && ::sigismember(&waiting, SIGXFSZ) == 1;
  }

  sigset_t one_, before_;
  bool theirs_;
};

}  // namespace ion::internal

#endif  // ION_ION_BASE_FILE_SIZE_SIGNAL_H_
