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
#include "ion/base/syscalls.h"
#include "tests/probes/dma_heap_probes.h"
#include "tests/probes/ion_legacy_probes.h"
#include "tests/probes/ion_probes.h"
#include "tests/probes/kernel_probe.h"
#include "tests/probes/udmabuf_probes.h"
#include "tests/support/fake_machine.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

template <Syscalls S>
std::vector<probes::Probe<S>> AllProbes() {
  std::vector<probes::Probe<S>> all;
  probes::AddDmaHeaps(all);
  probes::AddUdmabuf(all);
  probes::AddIon(all);
  probes::AddLegacyIon(all);
  probes::AddLegacyIonDoor32(all);
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
         : release.starts_with("4.9.")  ? Linux(4, 9)
         : release.starts_with("4.2.")  ? Linux(4, 2)
                                        : 0;
}

void AskFake(const FakeMachine& machine) {
  const FakeSyscalls sys(machine);
  if (!machine.ion.empty()) AskAll(sys, machine.linux, "/dev/ion");
  if (!machine.dma_heaps.empty()) AskAll(sys, machine.linux, "/dev/dma_heap");
  if (machine.udmabuf) AskAll(sys, machine.linux, "/dev/udmabuf");
}

TEST_CASE("FakeKernel: Linux 4.2 answers as it was measured to") { AskFake(Linux42Machine()); }
TEST_CASE("FakeKernel: Linux 4.9 answers as it was measured to") { AskFake(Linux49Machine()); }
TEST_CASE("FakeKernel: a 32-bit program on Linux 4.2, 4.9 is answered as it was measured to") {
  for (FakeMachine machine : {Linux42Machine(), Linux49Machine()}) {
    machine.door_32_bit = true;
    AskAll(FakeSyscalls(machine), machine.linux, probes::kIonDoor32);
  }
}
TEST_CASE("FakeKernel: CMA of the handle ABI is EPERM without room, and EINVAL where cached") {
  FakeMachine machine = Linux42Machine();
  machine.ion.push_back({.name = "cma", .type = ion_uapi::kHeapTypeDma, .id = 4});
  const FakeSyscalls sys(machine);
  probes::IonClient client(sys);
  CHECK(client.Allocated(4096, 1 << 4) == "ok");
  CHECK(client.Allocated(5 << 20, 1 << 4) == "EPERM");
  CHECK(client.Allocated(4096, 1 << 4, ion_uapi::kFlagCached) == "EINVAL");
}
TEST_CASE("FakeKernel: what is released late is refused until then") {
  FakeMachine machine = Linux42Machine();
  machine.late_frees = 2;
  const FakeSyscalls sys(machine);
  probes::IonClient client(sys);
  CHECK(client.Allocated(3 << 20, 1 << 2) == "ok");
  CHECK(client.Allocated(3 << 20, 1 << 2) == "ENOMEM");
  CHECK(client.Allocated(1 << 20, 1 << 2) == "ok");
  CHECK(client.AllocatedLate(3 << 20, 1 << 2) == "ok");
}
TEST_CASE("FakeKernel: Linux 5.10 answers as it was measured to") { AskFake(Linux510Machine()); }
TEST_CASE("FakeKernel: Linux 6.12 answers as it was measured to") { AskFake(Linux612Machine()); }

void AskReal(const char* device) {
  if (::access(device, F_OK) != 0) return Skip(std::string("no ") + device);
  if (ThisLinux() == 0) return Skip("no answers are known of this kernel");
  AskAll(LinuxSyscalls(), ThisLinux(), device);
}

TEST_CASE("FakeKernel: /dev/ion of this kernel answers the same") {
  if (sizeof(long) == 8) return AskReal("/dev/ion");
  if (::access("/dev/ion", F_OK) != 0) return Skip("no /dev/ion");
  if (ThisLinux() == 0) return Skip("no answers are known of this kernel");
  AskAll(LinuxSyscalls(), ThisLinux(), probes::kIonDoor32);
}
TEST_CASE("FakeKernel: /dev/dma_heap of this kernel answers the same") { AskReal("/dev/dma_heap"); }
TEST_CASE("FakeKernel: /dev/udmabuf of this kernel answers the same") { AskReal("/dev/udmabuf"); }

}  // namespace
}  // namespace ion::testing
