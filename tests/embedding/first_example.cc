// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The first example of README.md, line by line, as the program of every consumer that is built without Bazel 4.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <utility>

#include "ion/platforms/all.h"

using namespace ion::literals;

int main() {
  auto manager = ion::platforms::PooledMemfd::Open();  // or PooledDmaHeaps, or PooledUdmabuf
  auto client = manager->CreateClient({.name = "camera"});
  auto frame = client->Allocate({.bytes = 8_MiB, .name = "frame"});
  auto mapping = ion::WritableMapping::Of(*frame);
  {
    auto cpu = ion::CpuWrite::Begin(*mapping);  // the kernel hears of it: caches and devices agree
    std::ranges::fill(cpu->bytes(), std::byte{0x5a});
  }
  auto handle = client->MakeHandle(*std::move(frame));  // from here on others may have it
  auto fd = client->Share(*handle);                     // for another process, or a driver

  std::printf("built with ion %d.%d.%d\n", ion::kVersion.major, ion::kVersion.minor,
              ion::kVersion.patch);
  std::printf("%d passed, %d failed, 0 skipped\n", fd.ok() ? 1 : 0, fd.ok() ? 0 : 1);
  return fd.ok() ? 0 : 1;
}
