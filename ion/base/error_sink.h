// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/error_sink.h
//
// ErrorSink: takes the errors that no Status can carry: those of destructors and of clean-up after
// another error (a failed close, munmap, end of CPU access). It counts them, and calls the user's
// callback if there is one.
//
// Example:
//   auto errors = std::make_shared<ion::ErrorSink>([](const ion::Error& e, void*) { Log(e); });
//
// Thread-safe. The callback is called by whichever thread met the error, which may hold a lock of a
// pool: it must not call the Manager, its clients or its buffers.
#ifndef ION_ION_BASE_ERROR_SINK_H_
#define ION_ION_BASE_ERROR_SINK_H_

#include <atomic>
#include <cstdint>

#include "ion/base/error.h"

namespace ion {

class ErrorSink {
 public:
  using Callback = void (*)(const Error& error, void* context);

  ErrorSink() = default;
  explicit ErrorSink(Callback callback, void* context = nullptr)
      : callback_(callback), context_(context) {}
  ErrorSink(const ErrorSink&) = delete;
  ErrorSink& operator=(const ErrorSink&) = delete;

  // Takes an error; no error is ignored.
  void Report(const Error& error) noexcept {
    if (error.ok()) return;
    count_.fetch_add(1, std::memory_order_relaxed);
    if (callback_ != nullptr) callback_(error, context_);
  }

  // Errors taken so far.
  uint64_t count() const noexcept { return count_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> count_{0};
  Callback callback_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace ion

#endif  // ION_ION_BASE_ERROR_SINK_H_
