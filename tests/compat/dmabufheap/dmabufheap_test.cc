// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libdmabufheap: the interfaces behind it on the machines of tests/support/fake_machine.h, with each
// system call failed in turn; the class and its C wrapper on the machine at hand; a program in the
// old style, whose lines are the same everywhere.

#include <BufferAllocator/BufferAllocator.h>
#include <BufferAllocator/BufferAllocatorWrapper.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "compat/dmabufheap/dmabuf_heaps.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_points.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

// The machine of the next kernel that is made, and the last one that was.
FakeMachine next_machine;
FakeKernel* last_kernel = nullptr;
struct NextKernel : FakeSyscalls {
  NextKernel() : FakeSyscalls(next_machine) { last_kernel = &kernel(); }
};
using Sys = FaultSyscallsOver<NextKernel>;
using Heaps = compat::DmabufHeaps<Sys>;
using compat::IonHeapConfig;

constexpr size_t kMiB = size_t{1} << 20;

FakeMachine OnlyIon() {
  FakeMachine machine = Linux510Machine();
  machine.dma_heaps.clear();
  machine.udmabuf = false;
  return machine;
}
FakeMachine Neither(bool udmabuf) { return {.udmabuf = udmabuf}; }

// The interfaces of a machine, with a record of their system calls.
struct On {
  explicit On(FakeMachine machine)
      : sys((next_machine = std::move(machine), faults)), kernel(last_kernel), heaps(sys) {
    faults->Begin({});
  }
  int Alloc(std::string_view name, size_t bytes, unsigned flags = 0,
            const std::optional<IonHeapConfig>& config = std::nullopt) {
    return heaps.Alloc(name, bytes, flags, 0, config);
  }
  // The number of calls of this name since the last question.
  size_t Calls(std::string_view call) {
    const size_t count = faults->Count(call);
    faults->Begin({});
    return count;
  }

  std::shared_ptr<Faults> faults = std::make_shared<Faults>();
  Sys sys;
  FakeKernel* kernel;
  Heaps heaps;
};
constexpr std::string_view kDmaHeapAlloc = "ioctl DMA_HEAP_IOCTL_ALLOC";
constexpr std::string_view kIonAlloc = "ioctl ION_IOC_ALLOC";

// Closes a descriptor that a fake kernel gave.
void Close(On& on, int fd) {
  CHECK(fd >= 0);
  if (fd >= 0) CHECK(on.sys.Close(fd) == 0);
}

TEST_CASE("DmabufHeaps: memory is of the first interface that has the heap") {
  const LeakCheck leaks;
  {
    On on(Linux510Machine());
    Close(on, on.Alloc("system", 3 * kMiB));
    CHECK(on.Calls(kDmaHeapAlloc) == 1);
    Close(on, on.Alloc("reserved", kMiB));
    CHECK(on.Calls(kDmaHeapAlloc) == 1);
    // A name of ION's only.
    Close(on, on.Alloc("ion_system_contig_heap", 4096));
    CHECK(on.Calls(kIonAlloc) == 1);
    CHECK(on.Alloc("nobody's", 4096) == -ENOENT);
    CHECK(on.heaps.List() == std::unordered_set<std::string>{"reserved", "system"});
  }
  {
    On on(OnlyIon());
    Close(on, on.Alloc("system", kMiB));
    CHECK(on.Calls(kIonAlloc) == 1);
    Close(on, on.Alloc("reserved", kMiB));
    CHECK(on.Alloc("nobody's", 4096) == -ENOENT);
    CHECK(on.heaps.List().empty());
    CHECK(on.heaps.HasIon());
    CHECK(on.heaps.HasUncached(std::nullopt));
  }
  {
    On on(Linux42Machine());
    Close(on, on.Alloc("system", kMiB));
    CHECK(on.Calls("ioctl ION_IOC_SHARE") == 1);
    Close(on, on.Alloc("vendor", 64 << 10, 0, IonHeapConfig{1u << 2, 0}));
    CHECK(on.Alloc("vendor", 64 << 10) == -ENOENT);
  }
  for (const bool udmabuf : {false, true}) {
    On on(Neither(udmabuf));
    Close(on, on.Alloc("system", kMiB));
    CHECK((on.Calls("ioctl UDMABUF_CREATE") == 1) == udmabuf);
    CHECK(on.Alloc("system-uncached", kMiB) == -ENOENT);
    CHECK(on.Alloc("reserved", kMiB) == -ENOENT);
    CHECK_FALSE(on.heaps.HasUncached(std::nullopt));
    CHECK_FALSE(on.heaps.HasIon());
    CHECK(on.heaps.List() == std::unordered_set<std::string>{"system"});
  }
}

TEST_CASE("DmabufHeaps: the errno of the first failure is kept, and ION may help") {
  const LeakCheck leaks;
  On on(Linux510Machine());
  on.faults->Begin({.n = 0, .call = kDmaHeapAlloc, .code = EIO});
  Close(on, on.Alloc("reserved", kMiB));
  // More than the region has: ION's ENOMEM comes second.
  on.faults->Begin({.n = 0, .call = kDmaHeapAlloc, .code = EIO});
  CHECK(on.Alloc("reserved", 65 * kMiB) == -EIO);
  on.faults->Begin({});
  CHECK(on.Alloc("reserved", 65 * kMiB) == -ENOMEM);
  // A node that may not be opened is there all the same.
  On plain(Linux612Machine());
  plain.faults->Begin({.n = 0, .call = "openat", .code = EACCES});
  CHECK(plain.Alloc("system", kMiB) == -EACCES);
}

TEST_CASE("DmabufHeaps: more than half of the machine is refused, not begun") {
  On on(Linux612Machine());
  for (const char* const heap : {"system", "reserved"}) {
    CHECK(on.Alloc(heap, 600 * kMiB) == -ENOMEM);
    CHECK(on.Alloc(heap, SIZE_MAX) < 0);
    CHECK(on.Alloc(heap, 0) == -EINVAL);
  }
  CHECK(on.Calls(kDmaHeapAlloc) <= 1);  // that of 0 bytes
  On ion(OnlyIon());
  CHECK(ion.Alloc("system", 600 * kMiB) == -ENOMEM);
}

TEST_CASE("DmabufHeaps: nothing is remembered: a heap that comes later is used") {
  FakeMachine machine = Linux612Machine();
  machine.dma_heaps = {{.name = "reserved", .type = ion_uapi::kHeapTypeDma}};
  machine.udmabuf = false;
  On on(machine);
  Close(on, on.Alloc("system", kMiB));
  CHECK(on.Calls(kDmaHeapAlloc) == 0);
  CHECK_FALSE(on.heaps.HasUncached(std::nullopt));
  on.kernel->AddDmaHeap({.name = "system"});
  on.kernel->AddDmaHeap({.name = "system-uncached"});
  Close(on, on.Alloc("system", kMiB));
  CHECK(on.Calls(kDmaHeapAlloc) == 1);
  CHECK(on.heaps.HasUncached(std::nullopt));
  Close(on, on.Alloc("system-uncached", kMiB));
}

TEST_CASE("DmabufHeaps: unknown flags and names that are paths are refused") {
  for (const FakeMachine& machine :
       {Linux510Machine(), OnlyIon(), Linux42Machine(), Neither(false)}) {
    On on(machine);
    for (const unsigned flags : {4u, 0x8000u, 5u}) {
      CHECK(on.Alloc("system", kMiB, flags) == -EINVAL);
    }
    Close(on, on.Alloc("system", kMiB, compat::kIonCached | compat::kIonCachedNeedsSync));
    for (const char* const name : {"", ".", "..", "../null", "a/b"}) {
      CHECK(on.Alloc(name, kMiB) == -ENOENT);
    }
    CHECK(on.Alloc(std::string_view("system\0x", 8), kMiB) == -ENOENT);
  }
  On heaps(Linux612Machine());
  heaps.kernel->AddDmaHeap({.name = "system-uncached"});
  CHECK(heaps.Alloc("system-uncached", kMiB, compat::kIonCached) == -EINVAL);
  CHECK(heaps.Alloc("system", kMiB, 1u << 16) == -EINVAL);
}

TEST_CASE("DmabufHeaps: memory is given out again after the proof that nobody has it, zeroed") {
  const LeakCheck leaks;
  On on(Linux612Machine());
  const int first = on.Alloc("system", kMiB);
  REQUIRE(first >= 0);
  void* at = ::mmap(nullptr, kMiB, PROT_READ | PROT_WRITE, MAP_SHARED, first, 0);
  REQUIRE(at != MAP_FAILED);
  std::memset(at, 'x', kMiB);
  ::munmap(at, kMiB);
  CHECK(on.Calls(kDmaHeapAlloc) == 1);
  // It is held: another one is made.
  const int second = on.Alloc("system", kMiB);
  CHECK(on.Calls(kDmaHeapAlloc) == 1);
  Close(on, first);
  const int third = on.Alloc("system", kMiB);
  REQUIRE(third >= 0);
  CHECK(on.Calls(kDmaHeapAlloc) == 0);
  at = ::mmap(nullptr, kMiB, PROT_READ, MAP_SHARED, third, 0);
  REQUIRE(at != MAP_FAILED);
  const std::string_view bytes(static_cast<const char*>(at), kMiB);
  CHECK(std::ranges::all_of(bytes, [](char byte) { return byte == 0; }));
  ::munmap(at, kMiB);
  Close(on, second);
  Close(on, third);
  // A size that is no class of the pools is as it was asked for, and not kept.
  const int odd = on.Alloc("system", 9 * PageBytes());
  CHECK(on.sys.Lseek(odd, 0, SEEK_END) == static_cast<off_t>(9 * PageBytes()));
  Close(on, odd);
}

TEST_CASE("DmabufHeaps: what waits for the proof is bounded in bytes") {
  On on(Linux612Machine());
  std::vector<int> held;
  for (int i = 0; i < 48; ++i) held.push_back(on.Alloc("system", 2 * kMiB));
  const auto waiting = [&] {
    uint64_t bytes = 0;
    for (const PoolReport& pool : on.heaps.system_pools()->memory().MakeReport().pools) {
      bytes += pool.quarantined_bytes + pool.held_bytes;
    }
    return bytes;
  };
  CHECK(waiting() > 0);
  CHECK(waiting() <= compat::kLentPools.quarantine_bytes + compat::kLentPools.capacity_bytes);
  for (const int fd : held) Close(on, fd);
  on.heaps.system_pools()->memory().Trim();
  CHECK(waiting() == 0);
}

TEST_CASE("DmabufHeaps: memory of a memfd is never given out again") {
  On on(Neither(false));
  for (int i = 0; i < 3; ++i) {
    Close(on, on.Alloc("system", kMiB));
    CHECK(on.Calls("fcntl F_ADD_SEALS") == 1);
  }
}

TEST_CASE("DmabufHeaps: CPU access is told to the kernel of a dma-buf, and never to a heap") {
  On on(Linux612Machine());
  const int fd = on.Alloc("system", kMiB);
  CHECK(on.Calls(kDmaHeapAlloc) == 1);
  on.faults->Begin({.n = 0, .call = "ioctl DMA_BUF_IOCTL_SYNC", .code = EAGAIN});
  CHECK(on.heaps.Sync(fd, true, kSyncReadWrite) == 0);
  REQUIRE(on.faults->Count("ioctl DMA_BUF_IOCTL_SYNC") == 2);
  CHECK(on.faults->trace().back().sync_flags == DMA_BUF_SYNC_RW);
  CHECK(on.heaps.Sync(fd, false, kSyncRead) == 0);
  CHECK(on.faults->trace().back().sync_flags == (DMA_BUF_SYNC_READ | DMA_BUF_SYNC_END));
  CHECK(on.heaps.Sync(fd, true, 0) == -EINVAL);
  CHECK(on.heaps.Sync(fd, true, 4) == -EINVAL);
  Close(on, fd);
  CHECK(on.heaps.Sync(-1, true, kSyncRead) == -EBADF);
  const auto node = static_cast<int>(on.sys.Open("/dev/dma_heap/system", O_RDONLY));
  on.faults->Begin({});
  CHECK(on.heaps.Sync(node, true, kSyncRead) == -ENOTTY);
  CHECK(on.faults->Count("ioctl DMA_BUF_IOCTL_SYNC") == 0);
  Close(on, node);

  On pages(Neither(false));
  const int memfd = pages.Alloc("system", kMiB);
  CHECK(pages.heaps.Sync(memfd, true, kSyncWrite) == 0);
  CHECK(pages.heaps.Sync(memfd, false, kSyncWrite) == 0);
  Close(pages, memfd);

  On legacy(Linux42Machine());
  const int of_ion = legacy.Alloc("system", kMiB);
  const auto ion = legacy.heaps.OpenIon();
  REQUIRE(ion.ok());
  CHECK(ion->legacy);
  CHECK(legacy.heaps.SyncOfIon(*ion, of_ion) == 0);
  CHECK(legacy.heaps.SyncOfIon(*ion, -1) == -EBADF);
  Close(legacy, of_ion);
}

TEST_CASE("DmabufHeaps: each system call may fail: the errno is returned, and nothing leaks") {
  const LeakCheck leaks;
  for (const FakeMachine& machine : {Linux612Machine(), Linux510Machine(), OnlyIon(),
                                     Linux42Machine(), Neither(true), Neither(false)}) {
    CAPTURE(machine.linux);
    // Returns the answers of a life, in which the calls fail as planned.
    const auto live = [&](const Faults::Plan& plan, std::optional<Step>* failed) {
      On on(machine);
      std::vector<int> answers;
      on.faults->Begin(plan);
      const int fd = on.Alloc("system", kMiB);
      answers.push_back(fd);
      const int other = on.Alloc("reserved", kMiB);
      if (other != -ENOENT) answers.push_back(other);
      const bool legacy = machine.linux < Linux(4, 12);  // whose buffers know no such call
      if (fd >= 0 && !legacy) answers.push_back(on.heaps.Sync(fd, true, kSyncRead));
      (void)on.heaps.List();
      *failed = on.faults->failed();
      const size_t calls = on.faults->trace().size();
      on.faults->Begin({});
      for (const int each : {fd, other}) {
        if (each >= 0) Close(on, each);
      }
      answers.push_back(static_cast<int>(calls));
      return answers;
    };
    std::optional<Step> failed;
    const int calls = live({}, &failed).back();
    CHECK(calls > 10);
    size_t returned = 0;
    for (int n = 0; n < calls; ++n) {
      const std::set<std::string> before = Held();
      std::vector<int> answers = live({.n = static_cast<size_t>(n), .code = EIO}, &failed);
      answers.pop_back();
      CAPTURE(n);
      if (failed.has_value()) CAPTURE(std::string(failed->call));
      for (const int answer : answers) {
        if (answer < 0) CHECK(answer == -EIO);
      }
      returned += static_cast<size_t>(
          std::ranges::count_if(answers, [](int answer) { return answer < 0; }));
      CHECK(Changes(before).empty());
    }
    CHECK(returned > 0);
  }
}

// The class, on this machine.

TEST_CASE("BufferAllocator: threads allocate at once, and each gets memory of its own") {
  BufferAllocator allocator;
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 10; ++round) {
        const int fd = allocator.Alloc(kDmabufSystemHeapName, 64 << 10);
        void* const at = ::mmap(nullptr, 64 << 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at == MAP_FAILED) {
          ++wrong;
          continue;
        }
        if (allocator.CpuSyncStart(static_cast<unsigned>(fd), kSyncReadWrite) != 0) ++wrong;
        for (int byte = 0; byte < 64 << 10; ++byte) {
          if (static_cast<char*>(at)[byte] != 0) ++wrong;
        }
        std::memset(at, 'a' + i, 64 << 10);
        if (allocator.CpuSyncEnd(static_cast<unsigned>(fd), kSyncReadWrite) != 0) ++wrong;
        if (allocator.MapNameToIonHeap(kDmabufSystemHeapName, "", 0, ~0u, 1) != 0) ++wrong;
        ::munmap(at, 64 << 10);
        ::close(fd);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("BufferAllocator: its C wrapper refuses what is NULL") {
  BufferAllocator allocator;
  CHECK(DmabufHeapAlloc(nullptr, "system", 1, 0, 0) == -EINVAL);
  CHECK(DmabufHeapAlloc(&allocator, nullptr, 1, 0, 0) == -EINVAL);
  CHECK(DmabufHeapAllocSystem(nullptr, true, 1, 0, 0) == -EINVAL);
  CHECK(MapDmabufHeapNameToIonHeap(nullptr, "a", "", 0, 1, 0) == -EINVAL);
  CHECK(MapDmabufHeapNameToIonHeap(&allocator, nullptr, "", 0, 1, 0) == -EINVAL);
  CHECK(MapDmabufHeapNameToIonHeap(&allocator, "a", nullptr, 0, 1, 0) == -EINVAL);
  CHECK(DmabufHeapCpuSyncStart(nullptr, 0, kSyncRead, nullptr, nullptr) == -EINVAL);
  CHECK(DmabufHeapCpuSyncEnd(nullptr, 0, kSyncRead, nullptr, nullptr) == -EINVAL);
  FreeDmabufHeapBufferAllocator(nullptr);
  CHECK(CheckIonSupport() == BufferAllocator::CheckIonSupport());
  CHECK(DmabufHeapCpuSyncStart(&allocator, ~0u, kSyncRead, nullptr, nullptr) == -EBADF);
}

TEST_CASE("BufferAllocator: a mapping to ION is checked if there is ION, and else ignored") {
  BufferAllocator allocator;
  const bool ion = BufferAllocator::CheckIonSupport();
  CHECK(allocator.MapNameToIonHeap("vendor", "no such heap", 0, 0, 0) == (ion ? -EINVAL : 0));
  CHECK(allocator.MapNameToIonHeap("vendor", "", 0, 0, 0) == (ion ? -EINVAL : 0));
  CHECK(allocator.MapNameToIonHeap("vendor", "", 0, 1, 4) == (ion ? -EINVAL : 0));
  CHECK(allocator.MapNameToIonHeap("vendor", "ion_system_heap", 1, 1, 0) == 0);
  const int fd = allocator.Alloc("vendor", 4096);
  CHECK((fd >= 0) == ion);
  if (fd >= 0) ::close(fd);
}

// Returns the lines that a program beside the test prints; nothing: it is not there.
std::optional<std::string> LinesOf(const char* program) {
  if (::access(program, X_OK) != 0) return std::nullopt;
  FILE* const output = ::popen(program, "r");
  REQUIRE(output != nullptr);
  std::string lines;
  char part[256];
  while (std::fgets(part, sizeof(part), output) != nullptr) lines += part;
  CHECK(::pclose(output) == 0);
  return lines;
}

TEST_CASE("BufferAllocator: the example of moving from it prints one sum twice") {
  const auto lines = LinesOf("examples/from_libdmabufheap");
  if (!lines.has_value()) return Skip("the program is not beside the test");
  CHECK(lines->starts_with("before: the sum is 1048576\nafter: the sum is 1048576\n"));
  CHECK(lines->find("camera") != std::string::npos);
}

TEST_CASE("BufferAllocator: a program in the old style prints the same lines on each machine") {
  const auto lines = LinesOf("tests/compat/dmabufheap/old_style");
  if (!lines.has_value()) return Skip("the program is not beside the test");
  std::string expected =
      "heaps or ION: 1\n"
      "map: ok\n"
      "alloc: ok\n"
      "mmap: 1\n"
      "start: ok, end: ok\n"
      "start: ok, end: ok\n"
      "start: ok, end: ok\n"
      "a callback that is not called, or whose answer is returned: 1\n"
      "end: ok\n"
      "the child ended with 0\n"
      "0 bytes: Invalid argument\n"
      "all bytes: 1\n"
      "no such heap: No such file or directory\n"
      "a path: No such file or directory\n"
      "no name: No such file or directory\n"
      "an unknown flag: Invalid argument\n"
      "sync of -1: Bad file descriptor\n"
      "sync of a terminal, or a file: 1\n"
      "sync of no type: Invalid argument\n"
      "C map 0\n";
  for (const char* const size : {"65536", "1048576", "3145728", "1048576"}) {
    for (const char* const call : {"alloc", "allocsystem", "allocsystem without cpu"}) {
      expected += std::string("C ") + call + " of " + size + ": a descriptor\n" + "C start 0, " +
                  size + " bytes of 0, end 0, size as asked\n" + "C close 0\n";
    }
  }
  CHECK(*lines == expected);
}

}  // namespace
}  // namespace ion::testing
