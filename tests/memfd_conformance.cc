// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/memfd.h"
#include "ion/syscalls.h"
#include "tests/backend_conformance.h"

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
