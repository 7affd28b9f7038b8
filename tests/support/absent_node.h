// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/absent_node.h
//
// What a backend advises where its node is absent. A test that asks for a node in an empty
// directory runs on kernels that have the device, and on kernels that do not.

#ifndef ION_TESTS_SUPPORT_ABSENT_NODE_H_
#define ION_TESTS_SUPPORT_ABSENT_NODE_H_

#include <unistd.h>

namespace ion::testing {

// `option`, where this kernel has nothing at `sysfs`, by which the backend knows the device.
inline const char* AbsentNodeAdvice(const char* sysfs, const char* option) {
  return ::access(sysfs, F_OK) == 0 ? "the kernel has the device, but its node is not here"
                                    : option;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_ABSENT_NODE_H_
