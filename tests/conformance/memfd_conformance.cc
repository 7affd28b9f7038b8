// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/memfd.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/backend_conformance.h"

namespace {

struct MemfdUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend = ion::MemfdBackend<Sys>;
  static constexpr const char* kNode = "/";
  static constexpr bool kMakesDmaBufs = false;
};

}  // namespace

TYPE_TO_STRING_AS("memfd", MemfdUnderTest);
ION_BACKEND_CONFORMANCE(MemfdUnderTest);
