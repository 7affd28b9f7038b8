// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/ion_legacy.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/backend_conformance.h"
#include "tests/support/always_cached.h"

namespace {

struct IonLegacyUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::IonLegacyBackend<Sys>;
  static constexpr const char* kNode = "/dev/ion";
  static constexpr bool kMakesDmaBufs = true;
  static constexpr bool kOwnInodes = false;
};
using CachedIonLegacyUnderTest = ion::testing::CachedUnderTest<IonLegacyUnderTest>;

}  // namespace

TYPE_TO_STRING_AS("ion_legacy", IonLegacyUnderTest);
TYPE_TO_STRING_AS("ion_legacy, cached", CachedIonLegacyUnderTest);
ION_BACKEND_CONFORMANCE(IonLegacyUnderTest, CachedIonLegacyUnderTest);
