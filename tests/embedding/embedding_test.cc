// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Includes ion and what it builds on by the same strings as ion itself does.

#include <linux/dma-heap.h>

#include <cstdio>

#include "absl/status/status.h"
#include "ion/version.h"

int main() {
  const absl::Status status = absl::UnimplementedError("no heap");
  if (!absl::IsUnimplemented(status) || DMA_HEAP_IOCTL_ALLOC == 0) return 1;
  std::printf("built with ion %d.%d.%d\n", ion::kVersion.major, ion::kVersion.minor,
              ion::kVersion.patch);
}
