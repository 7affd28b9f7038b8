// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"
#include "tests/support/frames_as_bytes.h"

namespace {

template <unsigned kDevice>
struct V4l2ExportUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::testing::FramesAsBytes<kDevice, Sys>;
  static constexpr const char* kNode = "/sys/module/vivid";
  static constexpr bool kMakesDmaBufs = true;
  static constexpr int kAllocationIoctls = 2;  // make, export
  static constexpr bool kRoundsUp = true;      // to a frame
};
// In a guest: of scattered memory, and of contiguous memory.
using Scattered = V4l2ExportUnderTest<0>;
using Contiguous = V4l2ExportUnderTest<1>;

}  // namespace

TYPE_TO_STRING_AS("v4l2_export of vivid, scattered", Scattered);
TYPE_TO_STRING_AS("v4l2_export of vivid, contiguous", Contiguous);
ION_DMA_BUF_CONFORMANCE(Scattered, Contiguous);
