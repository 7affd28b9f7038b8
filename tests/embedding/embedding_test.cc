// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Usage: embedding_test PLATFORM
// Includes ion and what it builds on by the same strings as ion itself does, and takes memory from
// the backend of its build. Where the machine does not have it, that is skipped with the reason.

#include <linux/dma-heap.h>

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/base/options.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/buffer.h"
#include "ion/platforms/heaps.h"
#include "ion/platforms/platform_backend.h"
#include "ion/version.h"

// Which of two Abseils this is.
#ifdef EMBEDDING_OWN_ABSEIL
constexpr bool kOwnAbseil = true;
#else
constexpr bool kOwnAbseil = false;
#endif

int main(int argc, char** argv) {
  using Manager = ion::platforms::Heaps<ion::PlatformBackend>;
  std::printf("built with ion %d.%d.%d for %s\n", ion::kVersion.major, ion::kVersion.minor,
              ion::kVersion.patch, Manager::kBackendName);
  const bool chosen = kOwnAbseil && argc == 2 && std::string_view(argv[1]) == Manager::kBackendName;
  absl::StatusOr<Manager> manager = Manager::Open();
  if (chosen && !manager.ok()) {
    std::printf("skipped: embedding for %s -- %s\n0 passed, 0 failed, 1 skipped\n",
                Manager::kBackendName, std::string(manager.status().message()).c_str());
    return 0;
  }
  const bool good = chosen && DMA_HEAP_IOCTL_ALLOC != 0 && manager->Allocate({.bytes = 1}).ok();
  if (good) std::printf("it opened %s\n", manager->backend().name());
  std::printf("%d passed, %d failed, 0 skipped\n", good ? 1 : 0, good ? 0 : 1);
  return good ? 0 : 1;
}
