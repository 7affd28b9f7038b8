// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libion on machines that are fakes: the same calls get the same answers from a kernel's ION, as it
// was measured, and from the emulation on a kernel that has dma-heaps, or udmabuf, or neither.

#include "tests/support/fake_machine.h"

#include <fcntl.h>
#include <linux/ion.h>
#include <linux/ion_4.12.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "compat/libion/emulated_ion.h"
#include "compat/libion/ion_socket.h"
#include "compat/libion/ion_syscalls.h"
#include "compat/libion/libion.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "tests/support/fake_kernel.h"

namespace ion::compat {
namespace {

using testing::FakeMachine;

// The fake's, and the real kernel's sockets.
class FakeIonSyscalls : public testing::FakeSyscalls {
 public:
  FakeIonSyscalls() = default;
  explicit FakeIonSyscalls(FakeMachine machine) : FakeSyscalls(std::move(machine)) {}

  long Socket() const noexcept { return kernel_.Socket(); }
  long Bind(int fd, const void* name, socklen_t bytes) const noexcept {
    return kernel_.Bind(fd, name, bytes);
  }
  long Getsockname(int fd, void* name, socklen_t* bytes) const noexcept {
    return kernel_.Getsockname(fd, name, bytes);
  }
  long Getsockopt(int fd, int option, void* value, socklen_t* bytes) const noexcept {
    return kernel_.Getsockopt(fd, option, value, bytes);
  }
  long Getrandom(void* to, size_t bytes) const noexcept { return kernel_.Getrandom(to, bytes); }
  long ReadMemory(void* to, const void* from, size_t bytes) const noexcept {
    return kernel_.ReadMemory(to, from, bytes);
  }
  long WriteMemory(void* to, const void* from, size_t bytes) const noexcept {
    return kernel_.WriteMemory(to, from, bytes);
  }
  long Pipe(int* two) const noexcept { return kernel_.Pipe(two); }

 private:
  LinuxIonSyscalls kernel_;
};

// libion on one machine. An emulation lives as long as the process.
class Machine {
 public:
  Machine(FakeMachine machine, Abi abi)
      : sys_(std::move(machine)), libion_(Lasting(sys_), sys_, abi) {}
  const FakeIonSyscalls& sys() const { return sys_; }
  const Libion<FakeIonSyscalls>& operator*() const { return libion_; }
  const Libion<FakeIonSyscalls>* operator->() const { return &libion_; }

 private:
  static EmulatedIon<FakeIonSyscalls>& Lasting(const FakeIonSyscalls& sys) {
    static auto& all = *new std::vector<std::unique_ptr<EmulatedIon<FakeIonSyscalls>>>;
    return *all.emplace_back(std::make_unique<EmulatedIon<FakeIonSyscalls>>(sys));
  }
  FakeIonSyscalls sys_;
  Libion<FakeIonSyscalls> libion_;
};

FakeMachine WithoutIon(FakeMachine machine) {
  machine.ion.clear();
  return machine;
}
FakeMachine OnlyUdmabuf() {
  FakeMachine machine = WithoutIon(testing::Linux612Machine());
  machine.dma_heaps.clear();
  machine.links.clear();
  return machine;
}
FakeMachine Bare() {
  FakeMachine machine = OnlyUdmabuf();
  machine.udmabuf = false;
  return machine;
}

constexpr unsigned kSystem = 1u << ION_HEAP_TYPE_SYSTEM, kDma = 1u << ION_HEAP_TYPE_DMA;

// The answers, with the numbers of handles, of a program with handles.
std::vector<long> LegacyAnswers(const Machine& machine) {
  const uint64_t page = PageBytes();
  std::vector<long> answers;
  const int fd = machine->Open();
  answers.push_back(fd < 0 ? fd : 0);
  answers.push_back(machine->IsLegacy(fd));
  answers.push_back(machine->IsUsingModularHeaps(fd));
  int one = 0, two = 0, imported = 0, shared = -1, again = -1, none = 0;
  const auto allocate = [&](uint64_t bytes, uint64_t align, unsigned mask, unsigned flags,
                            int* to) {
    return machine->Alloc(fd, static_cast<size_t>(bytes), static_cast<size_t>(align), mask, flags,
                          to);
  };
  answers.push_back(allocate(3 * page, 0, kSystem, 0, &one));
  answers.push_back(one);
  answers.push_back(allocate(1, page, kSystem, ION_FLAG_CACHED | ION_FLAG_CACHED_NEEDS_SYNC, &two));
  answers.push_back(two);
  answers.push_back(allocate(0, 0, kSystem, 0, &none));
  answers.push_back(allocate(SIZE_MAX, 0, kSystem, 0, &none));
  answers.push_back(allocate(page, 2 * page, kSystem, 0, &none));
  answers.push_back(allocate(uint64_t{1} << 40, 0, kSystem, 0, &none));
  answers.push_back(allocate(page, 0, 0, 0, &none));
  answers.push_back(allocate(page, 0, 1u << 31, 0, &none));
  answers.push_back(machine->Share(fd, one, &shared));
  answers.push_back(machine->Share(fd, 77, &again));
  answers.push_back(machine->Import(fd, shared, &imported));
  answers.push_back(imported);
  answers.push_back(machine->Import(fd, -1, &none));
  answers.push_back(machine->Import(fd, fd, &none));
  answers.push_back(machine->SyncFd(fd, shared));
  answers.push_back(machine->SyncFd(fd, -1));
  answers.push_back(machine->SyncFd(fd, fd));
  unsigned char* at = nullptr;
  answers.push_back(
      machine->Map(fd, one, page, PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at, &again));
  if (at != nullptr) {
    answers.push_back(at[0]);
    ::munmap(at, page);
    machine.sys().Close(again);
  }
  for (int i = 0; i < 3; ++i) answers.push_back(machine->Free(fd, one));
  answers.push_back(machine->Free(fd, 0));
  answers.push_back(allocate(page, 0, kSystem, 0, &one));
  answers.push_back(one);
  machine.sys().Close(shared);
  answers.push_back(machine->AllocFd(fd, page, 0, kSystem, 0, &shared));
  machine.sys().Close(shared);
  answers.push_back(machine->Close(fd));
  return answers;
}

// Those of a program without.
std::vector<long> ModernAnswers(const Machine& machine) {
  const uint64_t page = PageBytes();
  std::vector<long> answers;
  const int fd = machine->Open();
  answers.push_back(fd < 0 ? fd : 0);
  answers.push_back(machine->IsLegacy(fd));
  answers.push_back(machine->IsUsingModularHeaps(fd));
  int memory = -1, handle = 0;
  const auto allocate = [&](uint64_t bytes, unsigned mask, unsigned flags) {
    const int answer = machine->AllocFd(fd, static_cast<size_t>(bytes), 0, mask, flags, &memory);
    if (answer == 0) machine.sys().Close(memory);
    return answer;
  };
  answers.push_back(allocate(3 * page, kSystem, ION_FLAG_CACHED));
  answers.push_back(allocate(0, kSystem, 0));
  answers.push_back(allocate(SIZE_MAX, kSystem, 0));
  answers.push_back(allocate(uint64_t{1} << 40, kSystem, 0));
  answers.push_back(allocate(page, 0, 0));
  answers.push_back(allocate(page, 1u << 31, 0));
  answers.push_back(machine->Alloc(fd, page, 0, kSystem, 0, &handle));
  answers.push_back(machine->Free(fd, 1));
  answers.push_back(machine->Share(fd, 1, &memory));
  answers.push_back(machine->Import(fd, fd, &handle));
  answers.push_back(machine->SyncFd(fd, fd));
  ion_heap_data heap{};
  answers.push_back(machine->QueryGetHeaps(fd, 0, &heap));
  answers.push_back(machine->QueryGetHeaps(fd, 1, &heap));
  answers.push_back(machine->Close(fd));
  return answers;
}

}  // namespace

TEST_CASE("libion: with handles the emulation answers as the ION of Linux 4.2") {
  const std::vector<long> measured =
      LegacyAnswers(Machine(testing::Linux42Machine(), Abi::kLegacy));
  REQUIRE(measured.size() > 30);
  CHECK(std::vector<long>(measured.begin(), measured.begin() + 7) ==
        std::vector<long>{0, 1, 0, 0, 1, 0, 2});
  CHECK(LegacyAnswers(Machine(WithoutIon(testing::Linux612Machine()), Abi::kLegacy)) == measured);
  CHECK(LegacyAnswers(Machine(OnlyUdmabuf(), Abi::kLegacy)) == measured);
  CHECK(LegacyAnswers(Machine(Bare(), Abi::kLegacy)) == measured);
}

TEST_CASE("libion: without handles the emulation answers as the ION of Linux 5.10") {
  const std::vector<long> measured =
      ModernAnswers(Machine(testing::Linux510Machine(), Abi::kLegacy));
  REQUIRE(measured.size() > 15);
  CHECK(std::vector<long>(measured.begin(), measured.begin() + 4) == std::vector<long>{0, 0, 0, 0});
  CHECK(ModernAnswers(Machine(WithoutIon(testing::Linux612Machine()), Abi::kModern)) == measured);
  CHECK(ModernAnswers(Machine(OnlyUdmabuf(), Abi::kModern)) == measured);
  CHECK(ModernAnswers(Machine(Bare(), Abi::kModern)) == measured);
}

TEST_CASE("libion: the DMA heap is CMA's, and refuses as ION's does") {
  for (const Abi abi : {Abi::kLegacy, Abi::kModern}) {
    const Machine machine(WithoutIon(testing::Linux612Machine()), abi);
    const bool legacy = abi == Abi::kLegacy;
    const int fd = machine->Open();
    int count = 0, memory = -1;
    CHECK(machine->QueryHeapCnt(fd, &count) == 0);
    REQUIRE(count == 2);
    ion_heap_data heaps[2] = {};
    CHECK(machine->QueryGetHeaps(fd, 2, heaps) == 0);
    CHECK(heaps[0].heap_id == ION_HEAP_TYPE_DMA);
    CHECK(heaps[0].type == ION_HEAP_TYPE_DMA);
    CHECK(heaps[1].heap_id == ION_HEAP_TYPE_SYSTEM);
    const auto allocate = [&](uint64_t bytes, unsigned mask, unsigned flags) {
      const int answer = machine->AllocFd(fd, static_cast<size_t>(bytes), 0, mask, flags, &memory);
      if (answer == 0) machine.sys().Close(memory);
      return answer;
    };
    CHECK(allocate(PageBytes(), kDma, 0) == 0);
    CHECK(allocate(PageBytes(), kDma, ION_FLAG_CACHED) == (legacy ? -EINVAL : 0));
    const uint64_t too_much = uint64_t{256} << 20;
    CHECK(allocate(too_much, kDma, 0) == (legacy ? -EPERM : -ENOMEM));
    // The next heap of the mask has room.
    CHECK(allocate(uint64_t{65} << 20, kDma | kSystem, 0) == 0);
    CHECK(machine->Close(fd) == 0);
  }
}

}  // namespace ion::compat
