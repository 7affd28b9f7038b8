// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/ion.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/dma_buf_conformance.h"
#include "tests/support/always_cached.h"

namespace {

struct IonUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::IonBackend<Sys>;
  static constexpr const char* kNode = "/dev/ion";
  static constexpr bool kMakesDmaBufs = true;
};
using CachedIonUnderTest = ion::testing::CachedUnderTest<IonUnderTest>;

}  // namespace

TYPE_TO_STRING_AS("ion", IonUnderTest);
TYPE_TO_STRING_AS("ion, cached", CachedIonUnderTest);
ION_DMA_BUF_CONFORMANCE(IonUnderTest, CachedIonUnderTest);
