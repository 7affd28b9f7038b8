// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A program over the PlatformBackend of its build: says which that is, and takes memory from it.
// Its last line is that of a test with one case; where the machine does not have the backend, the
// case is skipped with the reason.

#include <cstdio>
#include <string>

#include "absl/status/statusor.h"
#include "ion/buffer.h"
#include "ion/platforms/heaps.h"
#include "ion/platforms/platform_backend.h"

int main() {
  using Manager = ion::platforms::Heaps<ion::PlatformBackend>;
  std::printf("PlatformBackend: %s\n", Manager::kBackendName);
  absl::StatusOr<Manager> manager = Manager::Open();
  if (!manager.ok()) {
    std::printf("skipped: platform -- %s\n0 passed, 0 failed, 1 skipped\n",
                std::string(manager.status().message()).c_str());
    return 0;
  }
  const absl::StatusOr<ion::Buffer> buffer = manager->Allocate({.bytes = 1});
  std::printf("opened: %s: %s\n", manager->backend().name(), buffer.status().ToString().c_str());
  std::printf("%d passed, %d failed, 0 skipped\n", buffer.ok() ? 1 : 0, buffer.ok() ? 0 : 1);
  return buffer.ok() ? 0 : 1;
}
