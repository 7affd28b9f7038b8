// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What the leak check takes for device memory.

#include "tests/support/open_files.h"

#include <sys/mman.h>

#include <cstddef>
#include <string>

#include "doctest/doctest.h"
#include "ion/base/fd.h"

namespace ion::testing {
namespace {

TEST_CASE("DeviceMappings: a dma-buf is device memory, under the name of any kernel") {
  const std::string range = "7f0000000000-7f0000001000 rw-s 00000000 00:0b 9   ";
  CHECK(IsDeviceMapping(range + "/dmabuf:front"));
  CHECK(IsDeviceMapping(range + "anon_inode:dmabuf"));  // before Linux 5.3
  CHECK(IsDeviceMapping(range + "/drm mm object (deleted)"));
  CHECK(IsDeviceMapping(range + "/memfd:front (deleted)"));
  CHECK_FALSE(IsDeviceMapping(range + "anon_inode:[eventfd]"));
  CHECK_FALSE(IsDeviceMapping(range + "/usr/lib/libdmabuf.so"));
}

TEST_CASE("DeviceMappings: a backend's name for its mappings is added once") {
  const std::string line = "7f0000000000-7f0000001000 rw-s 00100000 00:05 9   /dev/added_name";
  CHECK_FALSE(IsDeviceMapping(line));
  AddDeviceMappingName(nullptr);
  CHECK_FALSE(IsDeviceMapping(line));
  AddDeviceMappingName("/dev/added_name");
  const std::size_t names = DeviceMappingNames().size();
  AddDeviceMappingName("/dev/added_name");
  CHECK(DeviceMappingNames().size() == names);
  CHECK(IsDeviceMapping(line));
}

TEST_CASE("DeviceMappings: what is mapped is listed until it is unmapped") {
  const std::string before = DeviceMappings();
  const UniqueFd memfd(::memfd_create("listed", MFD_CLOEXEC));
  REQUIRE(::ftruncate(memfd.get(), 4096) == 0);
  void* const at = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, memfd.get(), 0);
  REQUIRE(at != MAP_FAILED);
  CHECK(DeviceMappings().find("/memfd:listed") != std::string::npos);
  CHECK(::munmap(at, 4096) == 0);
  CHECK(DeviceMappings() == before);
}

}  // namespace
}  // namespace ion::testing
