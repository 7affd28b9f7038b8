// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// That the fake kernel answers as kernels do: each question of tests/*_probes.h, put to a fake and,
// in a guest, to the real kernel that it is configured like.

#include "tests/support/fake_kernel.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "doctest/doctest.h"
#include "ion/syscalls.h"
#include "tests/dma_heap_probes.h"
#include "tests/ion_legacy_probes.h"
#include "tests/ion_probes.h"
#include "tests/kernel_probe.h"
#include "tests/support/fake_machine.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/udmabuf_probes.h"

namespace ion::testing {
namespace {

template <Syscalls S>
std::vector<probes::Probe<S>> AllProbes() {
  std::vector<probes::Probe<S>> all;
  probes::AddDmaHeaps(all);
  probes::AddUdmabuf(all);
  probes::AddIon(all);
  probes::AddLegacyIon(all);
  return all;
}

// Each question about a device that is there, and the answer that is known.
template <Syscalls S>
void AskAll(const S& sys, unsigned linux, std::string_view device) {
  for (const probes::Probe<S>& probe : AllProbes<S>()) {
    const char* const expected = probe.expected.On(linux);
    if (probe.device != device || expected == nullptr) continue;
    const LeakCheck leaks;
    CHECK_MESSAGE(probe.ask(sys) == std::string(expected), probe.device, ": ", probe.fact);
  }
}

// On which of the machines below this process runs; 0 on another.
unsigned ThisLinux() {
  utsname name{};
  ::uname(&name);
  const std::string_view release(name.release);
  return release.starts_with("6.12.")   ? Linux(6, 12)
         : release.starts_with("5.10.") ? Linux(5, 10)
                                        : 0;
}

void AskFake(const FakeMachine& machine) {
  const FakeSyscalls sys(machine);
  if (!machine.ion.empty()) AskAll(sys, machine.linux, "/dev/ion");
  if (!machine.dma_heaps.empty()) AskAll(sys, machine.linux, "/dev/dma_heap");
  if (machine.udmabuf) AskAll(sys, machine.linux, "/dev/udmabuf");
}

TEST_CASE("FakeKernel: Linux 4.2 answers as it was measured to") { AskFake(Linux42Machine()); }
TEST_CASE("FakeKernel: Linux 5.10 answers as it was measured to") { AskFake(Linux510Machine()); }
TEST_CASE("FakeKernel: Linux 6.12 answers as it was measured to") { AskFake(Linux612Machine()); }

void AskReal(const char* device) {
  if (::access(device, F_OK) != 0) return Skip(std::string("no ") + device);
  if (ThisLinux() == 0) return Skip("no answers are known of this kernel");
  AskAll(LinuxSyscalls(), ThisLinux(), device);
}

TEST_CASE("FakeKernel: /dev/ion of this kernel answers the same") { AskReal("/dev/ion"); }
TEST_CASE("FakeKernel: /dev/dma_heap of this kernel answers the same") { AskReal("/dev/dma_heap"); }
TEST_CASE("FakeKernel: /dev/udmabuf of this kernel answers the same") { AskReal("/dev/udmabuf"); }

}  // namespace
}  // namespace ion::testing
