// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/child.h
//
// Child: a function in a forked process, for what another process must do, or what must end a
// process. It talks over a socket, and leaves a sentence about what it found wrong. Asserts are
// not for the child: they would count in nobody's test case.
//
// Example:
//   const ChildEnd end = RunInChild([] { return Works() ? "" : "it does not work"; });
//   CHECK(end.text == "");
//
// Requires: no other thread runs at the fork.

#ifndef ION_TESTS_SUPPORT_CHILD_H_
#define ION_TESTS_SUPPORT_CHILD_H_

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <string>

#include "doctest/doctest.h"
#include "ion/base/fd.h"

namespace ion::testing {

// True if a child may allocate that was forked while other threads did. AddressSanitizer copies the
// locks of its allocator as they were, and the child may wait for one without end.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAllocatesAmongThreads = false;
#elif defined(__has_feature)
inline constexpr bool kAllocatesAmongThreads = !__has_feature(address_sanitizer);
#else
inline constexpr bool kAllocatesAmongThreads = true;
#endif

// Ends this process after so many seconds, also where it blocks every signal that can be blocked.
inline void EndAfter(int seconds) {
  struct sigevent event {};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGKILL;
  const itimerspec once{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_nsec = 0}};
  timer_t timer;
  if (::timer_create(CLOCK_MONOTONIC, &event, &timer) != 0 ||
      ::timer_settime(timer, 0, &once, nullptr) != 0)
    ::_exit(1);
}

struct ChildEnd {
  int exit_code = -1;  // 0: the function returned no sentence
  int signal = 0;      // that ended it
  std::string text;    // its stderr, then its sentence
};

class Child {
 public:
  // Runs `f(socket)` in a child; it returns what is wrong, or an empty string.
  template <class F>
  explicit Child(F f) {
    int ends[2], pipe[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::close(ends[0]);
      ::close(pipe[0]);
      BePlain(pipe[1]);
      const std::string wrong = f(FdRef(ends[1]));
      const bool told = ::write(pipe[1], wrong.data(), wrong.size()) >= 0;
      ::_exit(told && wrong.empty() ? 0 : 1);
    }
    ::close(ends[1]);
    ::close(pipe[1]);
    socket_ = UniqueFd(ends[0]);
    text_ = UniqueFd(pipe[0]);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ > 0) Join();
  }

  FdRef socket() const noexcept { return socket_.borrow(); }

  // Waits for its end.
  ChildEnd Join() {
    ChildEnd end;
    socket_.reset();
    char some[1024];
    for (ssize_t n; (n = ::read(text_.get(), some, sizeof(some))) > 0;) end.text.append(some, n);
    text_.reset();
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
    return end;
  }

 private:
  // A child that dies does so quietly, and one that hangs does not hang its parent.
  static void BePlain(int text) {
    for (const int signal : {SIGABRT, SIGSEGV, SIGBUS}) ::signal(signal, SIG_DFL);
    const rlimit no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::dup2(text, STDERR_FILENO);
    EndAfter(120);
  }

  pid_t pid_ = -1;
  UniqueFd socket_;
  UniqueFd text_;
};

template <class F>
ChildEnd RunInChild(F f) {
  return Child([&f](FdRef) { return std::string(f()); }).Join();
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_CHILD_H_
