// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A buffer: a Manager, a client of it, and memory that goes back at the end of its scope. Runs on
// any Linux: memfds are memory of the CPU side; a driver wants PooledDmaHeaps or PooledUdmabuf.
#include <cinttypes>
#include <cstdio>
#include <string>

#include "ion/base/bytes.h"
#include "ion/platforms/pooled.h"

int main() {
  using ion::literals::operator""_MiB;
  auto manager = ion::platforms::PooledMemfd::Open();
  if (!manager.ok()) {
    std::fprintf(stderr, "%s\n", std::string(manager.status().message()).c_str());
    return 1;
  }
  auto client = manager->CreateClient({.name = "camera"});
  if (!client.ok()) return 1;
  {
    const auto frame = client->Allocate({.bytes = 8_MiB, .name = "frame"});
    if (!frame.ok()) return 1;
    std::printf("a buffer of %" PRIu64 " bytes\n", frame->bytes());
  }
  // Its memory lies in the pool of its heap now, for the next request.
  std::printf("freed: %" PRIu64 " bytes\n", manager->Trim());
}
