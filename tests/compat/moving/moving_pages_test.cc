// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The C++ in the pages of docs/moving/, as it stands there: the build cuts each block out (BUILD), and
// it is compiled and run here.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/client_ref.h"
#include "ion/heap_id.h"
#include "ion/platforms/all.h"
#include "ion/shared_buffer.h"

namespace {

using Client = ion::platforms::Memfd::Client;

TEST_CASE("docs/moving/ion.md: ION's life of a buffer") {
#include "tests/compat/moving/ion_block.inc"
  CHECK(*again == *handle);
  CHECK(freed);
}

TEST_CASE("docs/moving/libdmabufheap.md: the same as the allocator did") {
#include "tests/compat/moving/libdmabufheap_block.inc"
  CHECK(for_a_driver >= 0);
}

absl::Status Wrapped(Client* client, uint64_t bytes,
                     const std::function<void(int, uint64_t, std::shared_ptr<void>)>& wrap){
#include "tests/compat/moving/gstreamer_block.inc"
}

TEST_CASE("docs/moving/gstreamer.md: a descriptor, and its frame for as long as it is kept") {
  auto manager = ion::platforms::Memfd::Open();
  auto client = manager->CreateClient({});
  std::shared_ptr<void> kept;
  const absl::Status status = Wrapped(&*client, 5000, [&](int fd, uint64_t size, auto frame) {
    CHECK(::lseek(fd, 0, SEEK_END) == static_cast<off_t>(size));
    CHECK(::close(fd) == 0);
    kept = std::move(frame);
  });
  CHECK(status.ok());
  CHECK(client->held_bytes() >= 5000);
  kept.reset();
  CHECK(client->held_bytes() == 0);
}

absl::Status Exported(Client* client, uint64_t bytes,
                      const std::function<void(int, uint64_t, uint64_t)>& add_plane){
#include "tests/compat/moving/libcamera_block.inc"
}

TEST_CASE("docs/moving/libcamera.md: four frames, of the heap that has memory") {
  auto manager = ion::platforms::Memfd::Open();
  auto client = manager->CreateClient({});
  std::vector<uint64_t> planes;
  CHECK(Exported(&*client, 5000, [&](int fd, uint64_t offset, uint64_t length) {
          CHECK(fd >= 0);
          CHECK(offset == 0);
          planes.push_back(length);
        }).ok());
  CHECK(planes.size() == 4);
}

}  // namespace
