// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A choice among backends keeps what every backend promises. The one that it takes here is there on
// every machine.

#include "ion/backends/any_of.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/syscalls.h"
#include "tests/conformance/backend_conformance.h"

namespace {

struct AnyUnderTest : ion::testing::OnThisKernel {
  template <ion::Syscalls Sys = ion::LinuxSyscalls>
  using Backend =
      ion::AnyOf<ion::MemfdBackend<Sys>, ion::DmaHeapBackend<Sys>, ion::UdmabufBackend<Sys>>;
  static constexpr const char* kNode = "/";
  static constexpr bool kMakesDmaBufs = false;
};

}  // namespace

TYPE_TO_STRING_AS("any", AnyUnderTest);
ION_BACKEND_CONFORMANCE(AnyUnderTest);
