// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/lent_pages.h
//
// OtherErrors: a sink that counts all errors but one. On a kernel whose mappings can lend pages
// (before Linux 6.12) the first proof says so, which is no fault of anybody's.
//
// Example:
//   OtherErrors errors;
//   options.errors = errors.sink();
#ifndef ION_TESTS_SUPPORT_LENT_PAGES_H_
#define ION_TESTS_SUPPORT_LENT_PAGES_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/dma_buf_holders.h"

namespace ion::testing {

inline bool TellsOfLentPages(const Error& error) {
  const std::string_view lent = LentPagesError({"", Operation::kProve}).what();
  return error.operation() == Operation::kProve && error.what() == lent;
}

// Outlives what has its sink.
class OtherErrors {
 public:
  const std::shared_ptr<ErrorSink>& sink() const { return sink_; }
  uint64_t count() const { return count_.load(); }

 private:
  static void Take(const Error& error, void* count) {
    if (!TellsOfLentPages(error)) static_cast<std::atomic<uint64_t>*>(count)->fetch_add(1);
  }

  std::atomic<uint64_t> count_{0};
  std::shared_ptr<ErrorSink> sink_ = std::make_shared<ErrorSink>(&OtherErrors::Take, &count_);
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_LENT_PAGES_H_
