// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fault_new.h
//
// FaultNew: makes one call of operator new of this thread fail: it throws bad_alloc, or answers
// nullptr where it is nothrow. The program's operators new and delete are those of fault_new.cc.
//
// Example:
//   FaultNew::Begin(3);    // the fourth from here
//   auto buffer = client.Allocate({.bytes = 4096});
//   FaultNew::End();       // true: it was reached
//   CHECK(FaultNew::live() == before);

#ifndef ION_TESTS_SUPPORT_FAULT_NEW_H_
#define ION_TESTS_SUPPORT_FAULT_NEW_H_

#include <cstddef>
#include <cstdint>

namespace ion::testing {

class FaultNew {
 public:
  // Call `n` fails, counted from 0; SIZE_MAX: none.
  static void Begin(size_t n = SIZE_MAX);
  // True: a call has failed.
  static bool End();
  // Calls since Begin.
  static size_t calls();
  // What is allocated and not deleted, of all threads.
  static int64_t live();
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAULT_NEW_H_
