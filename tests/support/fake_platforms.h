// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fake_platforms.h
//
// The fake kernels that suites run over, by type. They have as much in each heap as the suites ask,
// but for those of Linux 4.9: its regions are as small, and free as late, as measured ones.

#ifndef ION_TESTS_SUPPORT_FAKE_PLATFORMS_H_
#define ION_TESTS_SUPPORT_FAKE_PLATFORMS_H_

#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "third_party/ion_uapi/ion.h"

namespace ion::testing {

// A board of the handle ABI, with a heap of each type.
inline FakeMachine Linux42Board() {
  FakeMachine board = Linux42Machine();
  board.ion.push_back({.name = "cma", .type = ion_uapi::kHeapTypeDma, .id = 4});
  for (FakeHeap& heap : board.ion) heap.bytes = uint64_t{64} << 20;
  return board;
}
inline FakeMachine Linux49Board() {
  FakeMachine board = Linux42Board();
  board.linux = Linux49Machine().linux;
  board.late_frees = 2;
  for (FakeHeap& heap : board.ion) {
    if (heap.type != ion_uapi::kHeapTypeDma) heap.bytes = uint64_t{4} << 20;
  }
  return board;
}
inline FakeMachine Linux510WithoutDmaHeaps() {
  FakeMachine machine = Linux510Machine();
  machine.dma_heaps.clear();
  return machine;
}

using FakeLinux42 = FakeSyscallsOf<Linux42Board>;
using FakeLinux49 = FakeSyscallsOf<Linux49Board>;
using FakeLinux510 = FakeSyscallsOf<Linux510Machine>;
using FakeLinux510WithoutDmaHeaps = FakeSyscallsOf<Linux510WithoutDmaHeaps>;
using FakeLinux612 = FakeSyscallsOf<Linux612Machine>;

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAKE_PLATFORMS_H_
