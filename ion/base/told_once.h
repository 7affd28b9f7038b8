// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/told_once.h
//
// ToldOnce: an error whose reason lasts goes to the sink once, until the reason has ended or is
// another one.
//
// Not for users.
//
// Cost: an atomic exchange. Thread-safe but for moving.
#ifndef ION_ION_BASE_TOLD_ONCE_H_
#define ION_ION_BASE_TOLD_ONCE_H_

#include <atomic>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"

namespace ion::internal {

class ToldOnce {
 public:
  ToldOnce() = default;
  ToldOnce(ToldOnce&& other) noexcept : code_(other.code_.load(std::memory_order_relaxed)) {}
  ToldOnce& operator=(ToldOnce&&) = delete;

  // Reports `why`, unless its errno is that of the last report.
  void Report(ErrorSink& errors, const Error& why) noexcept {
    if (code_.exchange(why.code(), std::memory_order_relaxed) != why.code()) errors.Report(why);
  }
  // The next error is reported.
  void End() noexcept {
    if (code_.load(std::memory_order_relaxed) != 0) code_.store(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<int> code_{0};  // 0: none was reported
};

}  // namespace ion::internal

#endif  // ION_ION_BASE_TOLD_ONCE_H_
