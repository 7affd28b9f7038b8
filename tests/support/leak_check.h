// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/leak_check.h
//
// LeakCheck fails the running test case where descriptors, or mappings of device memory, are not at
// its end what they were at its start. Not for cases whose threads outlive it.
//
// Example:
//   ion::testing::LeakCheck leaks;  // before everything else of the case

#ifndef ION_TESTS_SUPPORT_LEAK_CHECK_H_
#define ION_TESTS_SUPPORT_LEAK_CHECK_H_

#include <string>

#include "doctest/doctest.h"
#include "tests/support/open_files.h"

namespace ion::testing {

class LeakCheck {
 public:
  LeakCheck() = default;
  LeakCheck(const LeakCheck&) = delete;
  LeakCheck& operator=(const LeakCheck&) = delete;
  ~LeakCheck() {
    CHECK(DescriptorLines() == descriptors_);
    CHECK(DeviceMappings() == mappings_);
  }

 private:
  const std::string descriptors_ = DescriptorLines();
  const std::string mappings_ = DeviceMappings();
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_LEAK_CHECK_H_
