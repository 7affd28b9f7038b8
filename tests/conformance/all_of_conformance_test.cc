// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Several backends at once keep what every backend promises, on each heap of each of them.

#include "ion/backends/all_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"
#include "tests/support/fake_platforms.h"

namespace {

struct AllUnderTest : ion::testing::OnThisKernel {
  using Sys = ion::testing::FakeLinux510;
  template <ion::Syscalls S = Sys>
  using Backend = ion::AllOf<ion::DmaHeapBackend<S>, ion::IonBackend<S>, ion::UdmabufBackend<S>>;
  static constexpr const char* kNode = "/dev/udmabuf";
  static constexpr bool kMakesDmaBufs = true;
};

}  // namespace

TYPE_TO_STRING_AS("all", AllUnderTest);
ION_DMA_BUF_CONFORMANCE(AllUnderTest);
