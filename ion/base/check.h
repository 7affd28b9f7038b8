// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/check.h
//
// ION_CHECK: the contract of a call was broken in a way that would corrupt memory (a lease released
// while a mapping of it lives). Always on; prints one sentence and aborts. Not for bad input, which
// is an error that the caller gets back.
//
// Cost: one compare and a branch that is not taken. Thread-safe.
#ifndef ION_ION_BASE_CHECK_H_
#define ION_ION_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace ion::internal {

[[noreturn, gnu::cold, gnu::noinline]] inline void CheckFailed(const char* file, int line,
                                                               const char* condition,
                                                               const char* sentence) noexcept {
  std::fprintf(stderr, "ion: %s:%d: %s (%s)\n", file, line, sentence, condition);
  std::abort();
}

}  // namespace ion::internal

#define ION_CHECK(condition, sentence) \
  (static_cast<bool>(condition)        \
       ? static_cast<void>(0)          \
       : ::ion::internal::CheckFailed(__FILE__, __LINE__, #condition, sentence))

#endif  // ION_ION_BASE_CHECK_H_
