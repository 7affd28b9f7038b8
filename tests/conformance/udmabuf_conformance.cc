// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"

namespace {

struct UdmabufUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::UdmabufBackend<Sys>;
  static constexpr const char* kNode = "/dev/udmabuf";
  static constexpr bool kMakesDmaBufs = true;
};

}  // namespace

TYPE_TO_STRING_AS("udmabuf", UdmabufUnderTest);
ION_DMA_BUF_CONFORMANCE(UdmabufUnderTest);
