// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/attached_devices.h
//
// What the kernel says of those that hold a dma-buf. debugfs has to be mounted, as in the guest.

#ifndef ION_TESTS_SUPPORT_ATTACHED_DEVICES_H_
#define ION_TESTS_SUPPORT_ATTACHED_DEVICES_H_

#include <fstream>
#include <iterator>
#include <string>

#include "doctest/doctest.h"
#include "ion/base/fd.h"

namespace ion::testing {

// Whether nobody but us holds the buffer, and no buffer is attached to the device of this name.
inline bool IsHeldByUsAlone(const UniqueFd& fd, const std::string& device) {
  const auto text = [](const std::string& path) {
    std::ifstream file(path);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string info = text("/proc/self/fdinfo/" + std::to_string(fd.get()));
  const std::string attached = text("/sys/kernel/debug/dma_buf/bufinfo");
  REQUIRE(attached.find("Attached Devices:") != std::string::npos);
  return info.find("\ncount:\t1\n") != std::string::npos &&
         attached.find("\t" + device + "\n") == std::string::npos;
}

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_ATTACHED_DEVICES_H_
