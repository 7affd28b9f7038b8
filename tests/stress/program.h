// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/stress/program.h
//
// What the stress programs have in common: they count operations and errors, show by negative
// controls that they see bugs, run rounds for so many seconds, and say in their last line how it
// went.
//
// Example:
//   int main(int argc, char** argv) {
//     return ion::stress::Run(argc, argv, kControls, kRounds);
//   }
#ifndef ION_TESTS_STRESS_PROGRAM_H_
#define ION_TESTS_STRESS_PROGRAM_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>

namespace ion::stress {

using std::chrono::milliseconds;

inline constexpr uint32_t kWorkers = 8;

inline std::atomic<uint64_t> operations{0};
inline std::atomic<uint64_t> misses{0};
inline std::atomic<uint64_t> errors{0};

// Counts an error. In a control it is what was wanted, and ends the process.
void Complain(const char* what);

// A signal's handler.
void Handle(int signal, void (*handler)(int));

// A program that hangs ends, as one that failed. Around each round.
class HangGuard {
 public:
  HangGuard();
  HangGuard(const HangGuard&) = delete;
  HangGuard& operator=(const HangGuard&) = delete;
  ~HangGuard();
};

// One kind of round, for so long.
struct Kind {
  const char* name;
  void (*run)(milliseconds time);
};
// A bug that is planted, and what has to see it. In a process of its own, which ends by the first
// Complain, or a sanitizer; one that returns has missed it.
struct Control {
  const char* name;
  void (*run)();
};

// For a Control: rounds, until there are errors or it takes too long.
void RepeatRound(void (*run)(milliseconds time));
// For a Control whose bug is sought by a search of all orders, which says what it found.
void CheckSearch(const std::string& violation);

// Usage: PROGRAM [SECONDS]. The controls, then the rounds in turn. Returns what main does.
int Run(int argc, char** argv, std::span<const Control> controls, std::span<const Kind> rounds);

}  // namespace ion::stress

#endif  // ION_TESTS_STRESS_PROGRAM_H_
