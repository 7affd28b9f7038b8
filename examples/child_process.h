// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/child_process.h
//
// A second process that runs a function. It does not outlive this object.
#ifndef ION_EXAMPLES_CHILD_PROCESS_H_
#define ION_EXAMPLES_CHILD_PROCESS_H_

#include <signal.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/status.h"

namespace ion::demo {

class ChildProcess {
 public:
  // Forks; the child exits with what `main` returns. Requires: this process has one thread, no
  // Manager, and nothing in the buffers of stdio.
  template <class F>
  static absl::StatusOr<ChildProcess> Run(F main) {
    const pid_t pid = ::fork();
    if (pid < 0) return MakeStatus(errno, absl::StrCat("fork: ", ErrnoName(errno)));
    if (pid == 0) std::exit(main());
    return ChildProcess(pid);
  }
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    Reap();
  }

  pid_t pid() const { return pid_; }

  // Waits for its end. Ok where it exited with 0. Call once.
  absl::Status Wait() {
    const int status = Reap();
    // ECHILD: SIGCHLD is ignored, which is inherited, and nobody knows how it ended.
    if (status < 0) return MakeStatus(errno, absl::StrCat("waitpid: ", ErrnoName(errno)));
    if (WIFSIGNALED(status)) {
      return absl::AbortedError(absl::StrCat("was killed by signal ", WTERMSIG(status), " (",
                                             ::strsignal(WTERMSIG(status)), ")"));
    }
    if (WEXITSTATUS(status) == 0) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("exited with status ", WEXITSTATUS(status)));
  }

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  // A wait status; negative, with errno, where there is none.
  int Reap() {
    int status = 0;
    pid_t ended;
    do ended = ::waitpid(pid_, &status, 0);
    while (ended < 0 && errno == EINTR);
    pid_ = 0;
    return ended < 0 ? -1 : status;
  }

  pid_t pid_;
};

}  // namespace ion::demo

#endif  // ION_EXAMPLES_CHILD_PROCESS_H_
