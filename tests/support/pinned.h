// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/pinned.h
//
// Pinned: a thread on one processor while this lives, and afterwards where it could be before.

#ifndef ION_TESTS_SUPPORT_PINNED_H_
#define ION_TESTS_SUPPORT_PINNED_H_

#include <sched.h>

#include "doctest/doctest.h"

namespace ion::testing {

class Pinned {
 public:
  explicit Pinned(int processor) {
    REQUIRE(::sched_getaffinity(0, sizeof(before_), &before_) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(processor, &one);
    REQUIRE(::sched_setaffinity(0, sizeof(one), &one) == 0);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { CHECK(::sched_setaffinity(0, sizeof(before_), &before_) == 0); }

 private:
  cpu_set_t before_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_PINNED_H_
