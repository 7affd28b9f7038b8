// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A choice among backends keeps what every backend promises. The one that it takes here is there on
// every machine.

#include "backends/dma_heap.h"
#include "backends/memfd.h"
#include "backends/udmabuf.h"
#include "ion/syscalls.h"
#include "platforms/any_of.h"
#include "tests/backend_conformance.h"

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
