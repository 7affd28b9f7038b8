// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/with_memory.h
//
// WithMemory: lets a public function return an error if operator new has no memory. Our own
// allocations are nothrow; those of strings, containers and Abseil throw, and an exception inside a
// noexcept function ends the process. So each public function runs the part that may allocate in
// this one, which returns an error of fixed text if there is no memory.
//
// Without exceptions (-fno-exceptions) it only calls: there the standard library ends the process.
//
// Not for users.
//
// Example:
//   return WithMemory([&] { return OpenOrThrow(options); },
//                     [&] { return Error(ENOMEM, "operator new", origin); });
//
// Cost: none where nothing is thrown. Thread-safe.
#ifndef ION_ION_BASE_WITH_MEMORY_H_
#define ION_ION_BASE_WITH_MEMORY_H_

#include <exception>
#include <type_traits>

namespace ion::internal {

// Returns f(), or otherwise() if the standard library threw in it: bad_alloc, or length_error. The
// exception by which glibc cancels a thread passes.
template <class F, class G>
std::invoke_result_t<F> WithMemory(F f, [[maybe_unused]] G otherwise) {
#if defined(__cpp_exceptions)
  try {
    return f();
  } catch (const std::exception&) {
    return otherwise();
  }
#else
  return f();
#endif
}
// Calls f(). False: there was no memory for it.
template <class F>
bool TryWithMemory(F f) {
  return WithMemory(
      [&] {
        f();
        return true;
      },
      [] { return false; });
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_WITH_MEMORY_H_
