// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/stress/program.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// What a sanitizer finds ends the program at once, with kSanitizer.
// NOLINTBEGIN(bugprone-reserved-identifier): the sanitizers' names.
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66"; }
extern "C" const char* __asan_default_options() { return "exitcode=66"; }
// NOLINTEND(bugprone-reserved-identifier)

namespace ion::stress {
namespace {

using Clock = std::chrono::steady_clock;

constexpr milliseconds kRound{1000};
// Arbitrary: what a round may take until it is said to hang, and what a control has to be caught
// in.
constexpr unsigned kHangSeconds = 60;
constexpr milliseconds kControlTime{30000};

// What a control's process ends with.
constexpr int kMissed = 0;
constexpr int kHang = 3;
constexpr int kErrors = 4;
constexpr int kFoundBySearch = 5;
constexpr int kSanitizer = 66;

bool is_control = false;

void HandleAlarm(int) {
  constexpr std::string_view kWords = "error: threads hang\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kWords.data(), kWords.size());
  std::_Exit(kHang);
}

// Empty: it was not caught.
std::string Outcome(int status) {
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return signal == SIGSEGV || signal == SIGABRT ? "a crash" : "";
  }
  switch (WEXITSTATUS(status)) {
    case kErrors:
      return "its errors";
    case kHang:
      return "its hang";
    case kFoundBySearch:
      return "the search of all orders";
    case kSanitizer:
      return "a sanitizer";
    default:
      return "";
  }
}

std::string FirstLine(int fd, std::string_view with) {
  char text[4096];
  const ssize_t n = ::pread(fd, text, sizeof(text), 0);
  std::string_view rest(text, n > 0 ? static_cast<size_t>(n) : 0);
  const size_t at = rest.find(with);
  if (at == std::string_view::npos) return "";
  rest.remove_prefix(at);
  return std::string(rest.substr(0, rest.find('\n')));
}

// True: the bug was caught. In a child, whose words are kept from the terminal: they are wanted.
bool RunControl(const Control& control) {
  const Clock::time_point begin = Clock::now();
  const int words = ::memfd_create("control", MFD_CLOEXEC);
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(words, STDERR_FILENO);
    is_control = true;
    control.run();
    std::exit(kMissed);
  }
  int status = 0;
  if (words < 0 || child < 0 || ::waitpid(child, &status, 0) != child) {
    std::printf("control %s: cannot run: is there a process to spare?\n", control.name);
    return false;
  }
  const std::string outcome = Outcome(status);
  std::string first = FirstLine(words, "error: ");
  if (first.empty()) first = FirstLine(words, "Sanitizer: ");
  ::close(words);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  std::printf(
      "control %s: %s after %.1f s%s%s\n", control.name,
      outcome.empty() ? "NOT CAUGHT (are there two processors?)" : ("caught by " + outcome).c_str(),
      seconds, first.empty() ? "" : ": ", first.c_str());
  std::fflush(stdout);
  return !outcome.empty();
}

}  // namespace

void Complain(const char* what) {
  if (errors.fetch_add(1) < 10) std::fprintf(stderr, "error: %s\n", what);
  if (is_control) std::_Exit(kErrors);
}

void Handle(int signal, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  ::sigaction(signal, &action, nullptr);
}

HangGuard::HangGuard() { ::alarm(kHangSeconds); }
HangGuard::~HangGuard() { ::alarm(0); }

void RepeatRound(void (*run)(milliseconds time)) {
  const Clock::time_point end = Clock::now() + kControlTime;
  while (errors == 0 && Clock::now() < end) run(kRound);
}

void CheckSearch(const std::string& violation) {
  if (violation.empty()) return;
  std::fprintf(stderr, "error: %s\n", violation.c_str());
  std::_Exit(kFoundBySearch);
}

int Run(int argc, char** argv, std::span<const Control> controls, std::span<const Kind> rounds) {
  char* end = nullptr;
  const long seconds = argc > 1 ? std::strtol(argv[1], &end, 10) : 10;
  if (argc > 2 || seconds <= 0 || (end != nullptr && *end != '\0')) {
    std::fprintf(stderr, "usage: %s [SECONDS]\n", argv[0]);
    return 2;
  }
  Handle(SIGALRM, &HandleAlarm);

  // First: a child of a process that had threads would not be like a program that begins.
  const auto caught = static_cast<size_t>(std::ranges::count_if(controls, &RunControl));

  const Clock::time_point begin = Clock::now();
  const Clock::time_point deadline = begin + std::chrono::seconds(seconds);
  for (size_t i = 0; Clock::now() < deadline && errors == 0; ++i) {
    const Kind& kind = rounds[i % rounds.size()];
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    kind.run(std::min(kRound, left));
    std::printf(
        "%3.0f s  round %zu, %s: %llu operations so far, %llu of them missed, %llu errors\n",
        std::chrono::duration<double>(Clock::now() - begin).count(), i + 1, kind.name,
        static_cast<unsigned long long>(operations.load()),
        static_cast<unsigned long long>(misses.load()),
        static_cast<unsigned long long>(errors.load()));
    std::fflush(stdout);
  }
  std::printf("stress: %llu operations, %llu errors, controls caught: %zu\n",
              static_cast<unsigned long long>(operations.load()),
              static_cast<unsigned long long>(errors.load()), caught);
  return errors == 0 && caught == controls.size() ? 0 : 1;
}

}  // namespace ion::stress
