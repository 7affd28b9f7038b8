// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/dma_heap.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"

namespace {

struct DmaHeapUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::DmaHeapBackend<Sys>;
  static constexpr const char* kNode = "/dev/dma_heap";
  static constexpr bool kMakesDmaBufs = true;
};

}  // namespace

TYPE_TO_STRING_AS("dma_heap", DmaHeapUnderTest);
ION_DMA_BUF_CONFORMANCE(DmaHeapUnderTest);
