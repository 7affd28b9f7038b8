// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The conformance suite of backends over fake kernels: on any machine, and for the kernels that no
// machine has any more.

#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/ion_legacy.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"
#include "ion/platforms/any_backend.h"
#include "tests/conformance/dma_buf_conformance.h"
#include "tests/support/always_cached.h"
#include "tests/support/backend_suite.h"
#include "tests/support/fake_platforms.h"

namespace {

using ion::testing::CachedUnderTest;
using ion::testing::FakeLinux42;
using ion::testing::FakeLinux49;
using ion::testing::FakeLinux510;
using ion::testing::FakeLinux510WithoutDmaHeaps;
using ion::testing::FakeLinux612;

template <class Kernel>
struct DmaBufsOf : ion::testing::OnThisKernel {
  using Sys = Kernel;
  static constexpr bool kMakesDmaBufs = true;
};

struct FakeDmaHeapUnderTest : DmaBufsOf<FakeLinux612> {
  template <ion::Syscalls S = Sys>
  using Backend = ion::DmaHeapBackend<S>;
  static constexpr const char* kNode = "/dev/dma_heap";
};
struct FakeUdmabufUnderTest : DmaBufsOf<FakeLinux612> {
  template <ion::Syscalls S = Sys>
  using Backend = ion::UdmabufBackend<S>;
  static constexpr const char* kNode = "/dev/udmabuf";
};
struct FakeIonUnderTest : DmaBufsOf<FakeLinux510> {
  template <ion::Syscalls S = Sys>
  using Backend = ion::IonBackend<S>;
  static constexpr const char* kNode = "/dev/ion";
};
using FakeCachedIonUnderTest = CachedUnderTest<FakeIonUnderTest>;

// A choice that passes one by, and takes a backend that is not its first.
struct FakeAnyUnderTest : DmaBufsOf<FakeLinux510WithoutDmaHeaps> {
  template <ion::Syscalls S = Sys>
  using Backend = ion::AnyBackend<S>;
  static constexpr const char* kNode = "/dev/ion";
};

template <class Kernel>
struct FakeLegacyUnderTest : DmaBufsOf<Kernel> {
  template <ion::Syscalls S = Kernel>
  using Backend = ion::IonLegacyBackend<S>;
  static constexpr const char* kNode = "/dev/ion";
  static constexpr bool kOwnInodes = false;
  static constexpr bool kSyncs = false;
  static constexpr int kAllocationIoctls = 2;
};
using FakeLegacy42UnderTest = FakeLegacyUnderTest<FakeLinux42>;
using FakeLegacy49UnderTest = FakeLegacyUnderTest<FakeLinux49>;
using FakeCachedLegacy42UnderTest = CachedUnderTest<FakeLegacy42UnderTest>;

}  // namespace

TYPE_TO_STRING_AS("fake dma_heap", FakeDmaHeapUnderTest);
TYPE_TO_STRING_AS("fake udmabuf", FakeUdmabufUnderTest);
TYPE_TO_STRING_AS("fake ion", FakeIonUnderTest);
TYPE_TO_STRING_AS("fake ion, cached", FakeCachedIonUnderTest);
TYPE_TO_STRING_AS("fake any", FakeAnyUnderTest);
TYPE_TO_STRING_AS("fake ion_legacy of Linux 4.2", FakeLegacy42UnderTest);
TYPE_TO_STRING_AS("fake ion_legacy of Linux 4.2, cached", FakeCachedLegacy42UnderTest);
TYPE_TO_STRING_AS("fake ion_legacy of Linux 4.9", FakeLegacy49UnderTest);
ION_DMA_BUF_CONFORMANCE(FakeDmaHeapUnderTest, FakeUdmabufUnderTest, FakeIonUnderTest,
                        FakeCachedIonUnderTest, FakeLegacy42UnderTest, FakeCachedLegacy42UnderTest,
                        FakeLegacy49UnderTest, FakeAnyUnderTest);
