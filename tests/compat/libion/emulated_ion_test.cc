// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// libion over a kernel without ION: the facts that no comparison with a real /dev/ion shows. Over the
// memory that this machine has.

#include "compat/libion/emulated_ion.h"

#include <fcntl.h>
#include <ion/ion.h>
#include <linux/dma-heap.h>
#include <linux/ion.h>
#include <linux/ion_4.12.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "compat/libion/ion_socket.h"
#include "compat/libion/ion_syscalls.h"
#include "compat/libion/libion.h"
#include "doctest/doctest.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/uapi/ion.h"
#include "ion/uapi/ion_legacy.h"
#include "tests/support/child.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::compat {
namespace {

using testing::Faults;
using testing::LeakCheck;
using testing::RunInChild;

static_assert(ION_IOC_ALLOC == ion_uapi::LegacyIoctls<ion_uapi::LegacyAbi<size_t>>::kAlloc);
static_assert(ION_IOC_NEW_ALLOC == ion_uapi::kIocAlloc);

// The calls of the layer, which fail as a Faults plans.
class FaultyIonSyscalls : public testing::FaultSyscalls {
 public:
  FaultyIonSyscalls() : FaultyIonSyscalls(std::make_shared<Faults>()) {}
  explicit FaultyIonSyscalls(const std::shared_ptr<Faults>& faults)
      : FaultSyscallsOver(faults), faults_(faults) {}

  long Socket() const noexcept {
    return Or("socket", [&] { return kernel_.Socket(); });
  }
  long Bind(int fd, const void* name, socklen_t bytes) const noexcept {
    return Or("bind", [&] { return kernel_.Bind(fd, name, bytes); });
  }
  long Getsockname(int fd, void* name, socklen_t* bytes) const noexcept {
    return Or("getsockname", [&] { return kernel_.Getsockname(fd, name, bytes); });
  }
  long Getsockopt(int fd, int option, void* value, socklen_t* bytes) const noexcept {
    return Or("getsockopt", [&] { return kernel_.Getsockopt(fd, option, value, bytes); });
  }
  long Getrandom(void* to, size_t bytes) const noexcept {
    return Or("getrandom", [&] { return kernel_.Getrandom(to, bytes); });
  }
  long ReadMemory(void* to, const void* from, size_t bytes) const noexcept {
    return Or("process_vm_readv", [&] { return kernel_.ReadMemory(to, from, bytes); });
  }
  long WriteMemory(void* to, const void* from, size_t bytes) const noexcept {
    return Or("process_vm_writev", [&] { return kernel_.WriteMemory(to, from, bytes); });
  }
  long Pipe(int* two) const noexcept {
    return Or("pipe2", [&] { return kernel_.Pipe(two); });
  }

 private:
  template <class F>
  long Or(std::string_view call, F f) const noexcept {
    const int code = faults_->Next({.call = call});
    return code != 0 ? -code : f();
  }
  LinuxIonSyscalls kernel_;
  std::shared_ptr<Faults> faults_;
};
static_assert(IonSyscalls<FaultyIonSyscalls>);

// An emulation lives as long as the process.
template <class Sys>
EmulatedIon<Sys>& Lasting(const Sys& sys) {
  static auto& all = *new std::vector<std::unique_ptr<EmulatedIon<Sys>>>;
  return *all.emplace_back(std::make_unique<EmulatedIon<Sys>>(sys));
}

constinit EmulatedIon<> emulated;
const bool forks = [] {
  ::pthread_atfork([] { emulated.BeforeFork(); }, [] { emulated.AfterFork(false); },
                   [] { emulated.AfterFork(true); });
  return true;
}();

Libion<> Legacy() { return {emulated, {}, Abi::kLegacy}; }
Libion<> Modern() { return {emulated, {}, Abi::kModern}; }

constexpr unsigned kSystem = 1u << ION_HEAP_TYPE_SYSTEM;
uint64_t Bytes() { return 4 * PageBytes(); }

// A client of the handle ABI.
class Client {
 public:
  Client() : fd_(Legacy().Open()) { REQUIRE(fd_ >= 0); }
  ~Client() { Legacy().Close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  int fd() const { return fd_; }
  int Allocate() const {
    int handle = 0;
    CHECK(Legacy().Alloc(fd_, Bytes(), 0, kSystem, 0, &handle) == 0);
    return handle;
  }
  UniqueFd Share(int handle) const {
    int fd = -1;
    CHECK(Legacy().Share(fd_, handle, &fd) == 0);
    return UniqueFd(fd);
  }

 private:
  const int fd_;
};

// A byte of the memory, for reading and writing.
class Mapped {
 public:
  explicit Mapped(int fd)
      : at_(static_cast<volatile unsigned char*>(
            ::mmap(nullptr, PageBytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0))) {}
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  ~Mapped() {
    if (valid()) ::munmap(const_cast<unsigned char*>(at_), PageBytes());
  }
  bool valid() const { return at_ != MAP_FAILED; }
  volatile unsigned char& operator*() const { return *at_; }

 private:
  volatile unsigned char* const at_;
};

// Pages that cannot be touched.
template <class T>
T* Wild() {
  static void* const at =
      ::mmap(nullptr, PageBytes(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return static_cast<T*>(at);
}

}  // namespace

TEST_CASE("libion: numbers begin with 1, and the lowest free one is next") {
  const LeakCheck leaks;
  const Client client;
  CHECK(client.Allocate() == 1);
  CHECK(client.Allocate() == 2);
  CHECK(client.Allocate() == 3);
  CHECK(Legacy().Free(client.fd(), 2) == 0);
  CHECK(client.Allocate() == 2);
}

TEST_CASE("libion: a client's handles are its own") {
  const LeakCheck leaks;
  const Client one, other;
  const int handle = one.Allocate();
  int fd;
  CHECK(Legacy().Share(other.fd(), handle, &fd) == -EINVAL);
  CHECK(Legacy().Free(other.fd(), handle) == -EINVAL);
}

TEST_CASE("libion: an import is counted, and its memory lives while any descriptor does") {
  const LeakCheck leaks;
  const Client one, other;
  const int handle = one.Allocate();
  const UniqueFd fd = one.Share(handle);
  *Mapped(fd.get()) = 42;
  int imported = 0, again = 0;
  CHECK(Legacy().Import(other.fd(), fd.get(), &imported) == 0);
  CHECK(Legacy().Import(other.fd(), fd.get(), &again) == 0);
  CHECK(imported == again);
  CHECK(Legacy().Free(one.fd(), handle) == 0);
  CHECK(*Mapped(other.Share(imported).get()) == 42);
  CHECK(Legacy().Free(other.fd(), imported) == 0);
  CHECK(Legacy().Free(other.fd(), imported) == 0);
  CHECK(Legacy().Free(other.fd(), imported) == -EINVAL);
  CHECK(*Mapped(fd.get()) == 42);
}

TEST_CASE("libion: map returns the mapping and its descriptor") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  unsigned char* at = nullptr;
  int fd = -1;
  REQUIRE(Legacy().Map(client.fd(), handle, Bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, 0, &at,
                       &fd) == 0);
  at[0] = 7;
  CHECK(*Mapped(fd) == 7);
  CHECK(::munmap(at, Bytes()) == 0);
  CHECK(::close(fd) == 0);
  // The kernel's errno of mmap, and nothing stays.
  CHECK(Legacy().Map(client.fd(), handle, 0, PROT_READ, MAP_SHARED, 0, &at, &fd) == -EINVAL);
}

TEST_CASE("libion: heaps are listed, highest id first, in both interfaces") {
  const LeakCheck leaks;
  for (const Libion<>& libion : {Legacy(), Modern()}) {
    const UniqueFd fd(libion.Open());
    int count = 0;
    REQUIRE(libion.QueryHeapCnt(fd.get(), &count) == 0);
    REQUIRE(count >= 1);
    std::vector<ion_heap_data> heaps(static_cast<size_t>(count) + 1);
    REQUIRE(libion.QueryGetHeaps(fd.get(), count + 1, heaps.data()) == 0);
    for (int i = 0; i + 1 < count; ++i) {
      CHECK(heaps[static_cast<size_t>(i)].heap_id > heaps[static_cast<size_t>(i) + 1].heap_id);
    }
    CHECK(heaps[static_cast<size_t>(count) - 1].heap_id == 0);
    CHECK(heaps[static_cast<size_t>(count) - 1].type == ION_HEAP_TYPE_SYSTEM);
    CHECK(std::string(heaps[static_cast<size_t>(count)].name).empty());
    CHECK(libion.QueryGetHeaps(fd.get(), 0, heaps.data()) == -EINVAL);
    CHECK_FALSE(libion.IsUsingModularHeaps(fd.get()));
  }
}

TEST_CASE("libion: the interface without handles has no handles") {
  const LeakCheck leaks;
  const UniqueFd fd(Modern().Open());
  int handle = 0, shared = -1;
  CHECK_FALSE(Modern().IsLegacy(fd.get()));
  CHECK(Modern().Alloc(fd.get(), Bytes(), 0, kSystem, 0, &handle) == -EINVAL);
  CHECK(Modern().Share(fd.get(), 1, &shared) == -EINVAL);
  CHECK(Modern().Import(fd.get(), 0, &handle) == -EINVAL);
  CHECK(Modern().SyncFd(fd.get(), 0) == -EINVAL);
  CHECK(Modern().Free(fd.get(), 1) == -ENOTTY);
  REQUIRE(Modern().AllocFd(fd.get(), Bytes(), 0, kSystem, 0, &shared) == 0);
  CHECK(*Mapped(shared) == 0);
  CHECK(::close(shared) == 0);
}

TEST_CASE("libion: bad pointers are answered, and nothing stays behind") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  const UniqueFd memory = client.Share(handle);
  const uint64_t held = emulated.held_bytes();
  const int fd = client.fd();
  unsigned char* at;
  int number;
  CHECK(Legacy().Alloc(fd, Bytes(), 0, kSystem, 0, nullptr) == -EINVAL);
  CHECK(Legacy().Alloc(fd, Bytes(), 0, kSystem, 0, Wild<int>()) == -EFAULT);
  CHECK(Legacy().AllocFd(fd, Bytes(), 0, kSystem, 0, nullptr) == -EINVAL);
  CHECK(Legacy().AllocFd(fd, Bytes(), 0, kSystem, 0, Wild<int>()) == -EFAULT);
  CHECK(Legacy().Share(fd, handle, nullptr) == -EINVAL);
  CHECK(Legacy().Share(fd, handle, Wild<int>()) == -EFAULT);
  CHECK(Legacy().Import(fd, memory.get(), nullptr) == -EINVAL);
  CHECK(Legacy().Import(fd, memory.get(), Wild<int>()) == -EFAULT);
  const auto map = [&](unsigned char** ptr, int* map_fd) {
    return Legacy().Map(fd, handle, Bytes(), PROT_READ, MAP_SHARED, 0, ptr, map_fd);
  };
  CHECK(map(nullptr, &number) == -EINVAL);
  CHECK(map(&at, nullptr) == -EINVAL);
  CHECK(map(Wild<unsigned char*>(), &number) == -EFAULT);
  CHECK(map(&at, Wild<int>()) == -EFAULT);
  CHECK(Legacy().QueryHeapCnt(fd, nullptr) == -EINVAL);
  CHECK(Legacy().QueryHeapCnt(fd, Wild<int>()) == -EFAULT);
  CHECK(Legacy().QueryGetHeaps(fd, 1, Wild<void>()) == -EFAULT);
  for (const Abi abi : {Abi::kLegacy, Abi::kModern, Abi::kDmaHeap}) {
    const UniqueFd raw(static_cast<int>(emulated.Open(abi, O_CLOEXEC)));
    for (const unsigned long request :
         {ION_IOC_ALLOC, ION_IOC_FREE, ION_IOC_MAP, ION_IOC_SHARE, ION_IOC_IMPORT, ION_IOC_SYNC,
          ION_IOC_CUSTOM, ION_IOC_NEW_ALLOC, ION_IOC_HEAP_QUERY,
          static_cast<unsigned long>(DMA_HEAP_IOCTL_ALLOC)}) {
      for (void* const argument : {static_cast<void*>(nullptr), Wild<void>()}) {
        const long answer = emulated.Ioctl(raw.get(), request, argument);
        CHECK((answer == -EFAULT || answer == -EINVAL));
      }
    }
  }
  CHECK(emulated.held_bytes() == held);
}

TEST_CASE("libion: an answer that cannot be written leaves nothing behind") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  const uint64_t held = emulated.held_bytes();
  void* const page =
      ::mmap(nullptr, PageBytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(page != MAP_FAILED);
  // The argument can be read only.
  const auto ask = [&](int fd, unsigned long request, const auto& data) {
    ::mprotect(page, PageBytes(), PROT_READ | PROT_WRITE);
    std::memcpy(page, &data, sizeof(data));
    ::mprotect(page, PageBytes(), PROT_READ);
    return emulated.Ioctl(fd, request, page);
  };
  const UniqueFd modern(static_cast<int>(emulated.Open(Abi::kModern, O_CLOEXEC)));
  const UniqueFd heap(static_cast<int>(emulated.Open(Abi::kDmaHeap, O_CLOEXEC)));
  CHECK(ask(client.fd(), ION_IOC_ALLOC, ion_allocation_data{Bytes(), 0, kSystem, 0, 0}) == -EFAULT);
  CHECK(ask(client.fd(), ION_IOC_SHARE, ion_fd_data{handle, -1}) == -EFAULT);
  CHECK(ask(modern.get(), ION_IOC_NEW_ALLOC, ion_new_allocation_data{Bytes(), kSystem, 0, 0, 0}) ==
        -EFAULT);
  CHECK(ask(modern.get(), ION_IOC_HEAP_QUERY, ion_heap_query{}) == -EFAULT);
  CHECK(ask(heap.get(), DMA_HEAP_IOCTL_ALLOC,
            dma_heap_allocation_data{Bytes(), 0, O_RDWR | O_CLOEXEC, 0}) == -EFAULT);
  CHECK(::munmap(page, PageBytes()) == 0);
  CHECK(emulated.held_bytes() == held);
}

TEST_CASE("libion: bad descriptors, handles, masks and sizes are answered as the kernel does") {
  const LeakCheck leaks;
  const Client client;
  const int fd = client.fd();
  int handle = 0, shared = -1;
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd reader(ends[0]), writer(ends[1]);
  CHECK(Legacy().Alloc(-1, Bytes(), 0, kSystem, 0, &handle) == -EBADF);
  CHECK(Legacy().AllocFd(-1, Bytes(), 0, kSystem, 0, &shared) == -EBADF);
  CHECK(Legacy().Free(-1, 1) == -EBADF);
  CHECK(Legacy().QueryHeapCnt(-1, &shared) == -EBADF);
  CHECK(Legacy().Close(-1) == -EBADF);
  // A pipe is no ION: it has no handles.
  CHECK(Legacy().Alloc(reader.get(), Bytes(), 0, kSystem, 0, &handle) == -EINVAL);
  CHECK(Legacy().AllocFd(reader.get(), Bytes(), 0, kSystem, 0, &shared) == -ENOTTY);
  CHECK(emulated.Ioctl(reader.get(), ION_IOC_ALLOC, nullptr) == -ENOTTY);
  for (const int number : {0, -1, 1, INT32_MAX, INT32_MIN}) {
    CHECK(Legacy().Free(fd, number) == -EINVAL);
    CHECK(Legacy().Share(fd, number, &shared) == -EINVAL);
  }
  CHECK(Legacy().Import(fd, -1, &handle) == -EBADF);
  CHECK(Legacy().Import(fd, reader.get(), &handle) == -EINVAL);
  CHECK(Legacy().Import(fd, fd, &handle) == -EINVAL);
  CHECK(Legacy().SyncFd(fd, -1) == -EBADF);
  CHECK(Legacy().SyncFd(fd, reader.get()) == -EINVAL);
  CHECK(Legacy().Alloc(fd, Bytes(), 0, 0, 0, &handle) == -ENODEV);
  CHECK(Legacy().Alloc(fd, Bytes(), 0, 1u << 31, 0, &handle) == -ENODEV);
  CHECK(Legacy().Alloc(fd, Bytes(), 0, ~0u, 0, &handle) == 0);
  CHECK(Legacy().Alloc(fd, Bytes(), 3, kSystem, 0xffff0000, &handle) == 0);
  CHECK(Legacy().Alloc(fd, Bytes(), PageBytes() + 1, kSystem, 0, &handle) == -EINVAL);
  CHECK(Legacy().Alloc(fd, 0, 0, kSystem, 0, &handle) == -EINVAL);
  CHECK(Legacy().Alloc(fd, SIZE_MAX, 0, kSystem, 0, &handle) == -EINVAL);
  struct sysinfo memory {};
  ::sysinfo(&memory);
  const uint64_t all = uint64_t{memory.totalram} * memory.mem_unit;
  CHECK(Legacy().Alloc(fd, static_cast<size_t>(std::max(all, uint64_t{3} << 30)), 0, kSystem, 0,
                       &handle) == -ENOMEM);
  CHECK(Legacy().AllocFd(fd, static_cast<size_t>(all), 0, kSystem, 0, &shared) == -ENOMEM);
}

TEST_CASE("a dma-heap that is emulated answers as the kernel's does") {
  const LeakCheck leaks;
  const UniqueFd heap(static_cast<int>(emulated.Open(Abi::kDmaHeap, O_CLOEXEC)));
  const auto allocate = [&](dma_heap_allocation_data data, unsigned long request) {
    const long answer = emulated.Ioctl(heap.get(), request, &data);
    if (answer == 0) ::close(static_cast<int>(data.fd));
    return answer;
  };
  const auto one = [&](dma_heap_allocation_data data) {
    return allocate(data, DMA_HEAP_IOCTL_ALLOC);
  };
  CHECK(one({.len = 1, .fd = 0, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 0}) == 0);
  CHECK(one({.len = 0, .fd = 0, .fd_flags = O_RDWR, .heap_flags = 0}) == -EINVAL);
  CHECK(one({.len = UINT64_MAX, .fd = 0, .fd_flags = O_RDWR, .heap_flags = 0}) == -EINVAL);
  CHECK(one({.len = 1, .fd = 1, .fd_flags = O_RDWR, .heap_flags = 0}) == -EINVAL);
  CHECK(one({.len = 1, .fd = 0, .fd_flags = O_NONBLOCK, .heap_flags = 0}) == -EINVAL);
  CHECK(one({.len = 1, .fd = 0, .fd_flags = 0, .heap_flags = 1}) == -EINVAL);
  // By number alone, and of any size.
  CHECK(allocate({.len = 1, .fd = 0, .fd_flags = 0, .heap_flags = 1}, _IOWR('H', 0, char[16])) ==
        0);
  CHECK(allocate({.len = 1, .fd = 0, .fd_flags = 0, .heap_flags = 0}, _IO('H', 1)) == -EINVAL);
}

TEST_CASE("libion: a duplicate is the same client, and the last one closed ends it") {
  const LeakCheck leaks;
  int handle = 0;
  UniqueFd fd(Legacy().Open());
  REQUIRE(Legacy().Alloc(fd.get(), Bytes(), 0, kSystem, 0, &handle) == 0);
  UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  int shared = -1;
  CHECK(Legacy().Share(copy.get(), handle, &shared) == 0);
  CHECK(::close(shared) == 0);
  CHECK(Legacy().Close(copy.release()) == 0);
  CHECK(Legacy().Share(fd.get(), handle, &shared) == 0);
  CHECK(::close(shared) == 0);
  CHECK(Legacy().Close(fd.release()) == 0);
  CHECK(emulated.clients() == 0);
}

TEST_CASE("libion: clients that were closed without a word are noticed at later calls") {
  const Client stays;
  stays.Allocate();
  const size_t before = emulated.clients();
  const std::string descriptors = testing::DescriptorLines();
  for (int i = 0; i < 10; ++i) {
    const int fd = Legacy().Open();
    int handle = 0;
    CHECK(Legacy().Alloc(fd, Bytes(), 0, kSystem, 0, &handle) == 0);
    ::close(fd);
  }
  CHECK(emulated.clients() > before);
  for (int i = 0; i < 10; ++i) Legacy().Free(stays.fd(), 0);
  CHECK(emulated.clients() == before);
  CHECK(testing::DescriptorLines() == descriptors);
}

TEST_CASE("libion: a client lives while another process has its descriptor") {
  Client stays;
  stays.Allocate();
  UniqueFd fd(Legacy().Open());
  int handle = 0;
  REQUIRE(Legacy().Alloc(fd.get(), Bytes(), 0, kSystem, 0, &handle) == 0);
  const size_t before = emulated.clients();
  testing::Child child([&](FdRef socket) {
    char byte;
    (void)!::read(socket.get(), &byte, 1);
    return std::string();
  });
  fd.reset();
  for (int i = 0; i < 10; ++i) Legacy().Free(stays.fd(), 0);
  CHECK(emulated.clients() == before);
  CHECK(::send(child.socket().get(), "", 1, 0) == 1);
  CHECK(child.Join().text == "");
  for (int i = 0; i < 10; ++i) Legacy().Free(stays.fd(), 0);
  CHECK(emulated.clients() == before - 1);
}

TEST_CASE("libion: a forked child has copies of the handles, and its parent has its own") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  const int kept = client.Allocate();
  *Mapped(client.Share(handle).get()) = 5;
  const uint64_t held = emulated.held_bytes();
  const auto end = RunInChild([&]() -> std::string {
    int shared = -1, made = 0;
    if (Legacy().Share(client.fd(), handle, &shared) != 0) return "the handle is not there";
    const Mapped memory(shared);
    if (*memory != 5) return "it is other memory";
    *memory = 6;
    if (Legacy().Free(client.fd(), handle) != 0) return "it cannot be freed";
    if (Legacy().Free(client.fd(), handle) != -EINVAL) return "it can be freed twice";
    if (Legacy().Free(client.fd(), kept) != 0) return "the second is not there";
    if (Legacy().Alloc(client.fd(), Bytes(), 0, kSystem, 0, &made) != 0) return "nothing is made";
    if (Legacy().Alloc(client.fd(), Bytes(), 0, kSystem, 0, &made) != 0) return "nothing is made";
    if (Legacy().Alloc(client.fd(), Bytes(), 0, kSystem, 0, &made) != 0) return "nothing is made";
    return made == 3 ? "" : "another number";
  });
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(*Mapped(client.Share(handle).get()) == 6);
  CHECK(emulated.held_bytes() == held);
  int shared;
  CHECK(Legacy().Share(client.fd(), 3, &shared) == -EINVAL);
}

TEST_CASE("libion: a number that a forked child gave to another file is not taken for the memory") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  const int other = client.Allocate();
  const UniqueFd other_memory = client.Share(other);
  struct stat memory {};
  REQUIRE(::fstat(client.Share(handle).get(), &memory) == 0);
  const auto end = RunInChild([&]() -> std::string {
    int replaced = 0;
    for (int fd = 3; fd < 256; ++fd) {
      struct stat status {};
      if (::fstat(fd, &status) != 0) continue;
      if (status.st_dev != memory.st_dev || status.st_ino != memory.st_ino) continue;
      replaced += ::dup2(other_memory.get(), fd) == fd;
    }
    if (replaced == 0) return "its descriptor is not there";
    int shared = -1;
    if (Legacy().Share(client.fd(), other, &shared) != 0) return "the other is not there";
    return Legacy().Share(client.fd(), handle, &shared) == -EINVAL ? "" : "it is other memory";
  });
  CHECK(end.text == "");
  (void)client.Share(handle);
}

TEST_CASE("libion: a child of a child has the handles, too") {
  const LeakCheck leaks;
  const Client client;
  const int handle = client.Allocate();
  const auto end = RunInChild([&]() -> std::string {
    int own = 0;
    if (Legacy().Alloc(client.fd(), Bytes(), 0, kSystem, 0, &own) != 0) return "nothing is made";
    const auto inner = RunInChild([&]() -> std::string {
      int shared = -1;
      if (Legacy().Share(client.fd(), handle, &shared) != 0) return "the first is not there";
      return Legacy().Share(client.fd(), own, &shared) == 0 ? "" : "the second is not there";
    });
    return inner.text;
  });
  CHECK(end.text == "");
}

TEST_CASE("libion: a descriptor that comes from another process is an empty client") {
  const LeakCheck leaks;
  testing::Child child([](FdRef socket) -> std::string {
    const UniqueFd fd(Legacy().Open());
    int handle = 0;
    if (Legacy().Alloc(fd.get(), Bytes(), 0, kSystem, 0, &handle) != 0) return "nothing is made";
    const FdRef lent = fd.borrow();
    const std::byte byte{};
    if (!SendFds(socket, std::span(&byte, 1), std::span(&lent, 1)).ok()) return "not sent";
    char end;
    (void)!::read(socket.get(), &end, 1);
    return "";
  });
  std::byte byte{};
  UniqueFd got;
  REQUIRE(ReceiveFds(child.socket(), std::span(&byte, 1), std::span(&got, 1)).ok());
  CHECK(Legacy().IsLegacy(got.get()));
  CHECK(Legacy().Free(got.get(), 1) == -EINVAL);
  int handle = 0;
  CHECK(Legacy().Alloc(got.get(), Bytes(), 0, kSystem, 0, &handle) == 0);
  CHECK(handle == 1);
  CHECK(child.Join().text == "");
  CHECK(Legacy().Close(got.release()) == 0);
}

TEST_CASE("libion: a socket of another's making is none of ours") {
  const LeakCheck leaks;
  // Of the same length: another beginning, and another interface.
  for (const std::string_view begin :
       {std::string_view("\0ion-clieNt-l", 13), std::string_view("\0ion-client-x", 13)}) {
    const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    CHECK_FALSE(emulated.AbiOf(socket.get()).has_value());
    IonKey key;
    begin.copy(key.name, begin.size());
    const IonSocketName name = key.address();
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&name.address), name.bytes) ==
            0);
    CHECK_FALSE(emulated.AbiOf(socket.get()).has_value());
    CHECK(emulated.Ioctl(socket.get(), ION_IOC_FREE, nullptr) == -ENOTTY);
  }
}

TEST_CASE("libion: a child by vfork may not touch its parent's clients") {
  const LeakCheck leaks;
  const Client client;
  client.Allocate();
  int status = 0;
  // NOLINTNEXTLINE: it is vfork that is tested
  const pid_t pid = ::vfork();
  if (pid == 0)
    ::_exit(emulated.Ioctl(client.fd(), ION_IOC_HEAP_QUERY, Wild<void>()) == -EFAULT &&
                    Legacy().Free(client.fd(), 1) == -EPERM
                ? 0
                : 1);
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(Legacy().Free(client.fd(), 1) == 0);
}

TEST_CASE(
    "libion: a child by vfork that makes the first request of all leaves its parent's alone") {
  const LeakCheck leaks;
  EmulatedIon<>& ion = Lasting(LinuxIonSyscalls());
  ion.Begin();
  const UniqueFd fd(static_cast<int>(ion.Open(Abi::kLegacy, O_CLOEXEC)));
  ion_allocation_data data{
      .len = Bytes(), .align = 0, .heap_id_mask = kSystem, .flags = 0, .handle = 0};
  int status = 0;
  // NOLINTNEXTLINE: it is vfork that is tested
  const pid_t pid = ::vfork();
  if (pid == 0) ::_exit(ion.Ioctl(fd.get(), ION_IOC_ALLOC, &data) == -EPERM ? 0 : 1);
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(ion.Ioctl(fd.get(), ION_IOC_ALLOC, &data) == 0);
  ion_handle_data handle{data.handle};
  CHECK(ion.Ioctl(fd.get(), ION_IOC_FREE, &handle) == 0);
}

TEST_CASE("libion: a first request without memory for the Manager is ENOMEM") {
  for (size_t n = 0;; ++n) {
    CAPTURE(n);
    EmulatedIon<>& ion = Lasting(LinuxIonSyscalls());
    const UniqueFd fd(static_cast<int>(ion.Open(Abi::kLegacy, O_CLOEXEC)));
    ion_allocation_data data{
        .len = Bytes(), .align = 0, .heap_id_mask = kSystem, .flags = 0, .handle = 0};
    testing::FaultNew::Begin(n);
    const long answer = ion.Ioctl(fd.get(), ION_IOC_ALLOC, &data);
    const bool failed = testing::FaultNew::End();
    CHECK((answer == 0 || (failed && answer == -ENOMEM)));
    ion_handle_data handle{data.handle};
    if (answer == 0) CHECK(ion.Ioctl(fd.get(), ION_IOC_FREE, &handle) == 0);
    if (!failed) break;
  }
}

TEST_CASE("libion: ION_IOC_SYNC asks nothing that a file server would answer") {
  const auto faults = std::make_shared<Faults>();
  EmulatedIon<FaultyIonSyscalls>& ion = Lasting(FaultyIonSyscalls(faults));
  const UniqueFd fd(static_cast<int>(ion.Open(Abi::kLegacy, O_CLOEXEC)));
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ion_fd_data data{.handle = 0, .fd = file.get()};
  faults->Begin({});
  CHECK(ion.Ioctl(fd.get(), ION_IOC_SYNC, &data) == -EINVAL);
  faults->End();
  for (const std::string_view call : {"fstatfs", "lseek", "poll"}) {
    CAPTURE(call);
    CHECK(faults->Count(call) == 0);
  }
}

TEST_CASE("libion: 100 threads at once, and forks in the middle of it") {
  const LeakCheck leaks;
  const Client shared;
  const int common = shared.Allocate();
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  const auto work = [&](unsigned char mine) {
    for (int i = 0; i < 5; ++i) {
      const int fd = i % 2 == 0 ? shared.fd() : Legacy().Open();
      int handle = 0, memory = -1, imported = 0, other = -1;
      wrong += Legacy().Alloc(fd, Bytes(), 0, kSystem, 0, &handle) != 0;
      wrong += Legacy().Share(fd, handle, &memory) != 0;
      {
        const Mapped at(memory);
        wrong += !at.valid() || *at != 0;
        if (at.valid()) *at = mine;
        wrong += Legacy().Import(fd, memory, &imported) != 0 || imported != handle;
        wrong += Legacy().Share(shared.fd(), common, &other) != 0;
        wrong += !at.valid() || *at != mine;
      }
      ::close(memory);
      ::close(other);
      wrong += Legacy().Free(fd, handle) != 0;
      wrong += Legacy().Free(fd, handle) != 0;
      if (fd != shared.fd()) wrong += Legacy().Close(fd) != 0;
    }
  };
  for (int i = 0; i < 100; ++i) threads.emplace_back(work, static_cast<unsigned char>(i + 1));
  constexpr int kForks = testing::kAllocatesAmongThreads ? 5 : 0;
  if (kForks == 0) testing::SkipPart("forks", "a child of threads under asan may not allocate");
  for (int i = 0; i < kForks; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      testing::EndAfter(60);
      int memory = -1, handle = 0;
      const bool well = Legacy().Share(shared.fd(), common, &memory) == 0 &&
                        Legacy().Alloc(shared.fd(), Bytes(), 0, kSystem, 0, &handle) == 0 &&
                        Legacy().Free(shared.fd(), handle) == 0;
      ::_exit(well ? 0 : 1);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  for (int i = 0; i < 100; ++i) Legacy().Free(shared.fd(), 0);
}

TEST_CASE("libion: pointers are tested also where a sandbox forbids process_vm_readv") {
  const LeakCheck leaks;
  const auto faults = std::make_shared<Faults>();
  EmulatedIon<FaultyIonSyscalls>& ion = Lasting(FaultyIonSyscalls(faults));
  const UniqueFd fd(static_cast<int>(ion.Open(Abi::kLegacy, O_CLOEXEC)));
  ion_allocation_data data{
      .len = Bytes(), .align = 0, .heap_id_mask = kSystem, .flags = 0, .handle = 0};
  for (const std::string_view call : {"process_vm_readv", "process_vm_writev"}) {
    faults->Begin({.n = 0, .call = call, .code = ENOSYS, .times = 100});
    CHECK(ion.Ioctl(fd.get(), ION_IOC_ALLOC, &data) == 0);
    CHECK(ion.Ioctl(fd.get(), ION_IOC_ALLOC, nullptr) == -EFAULT);
    CHECK(ion.Ioctl(fd.get(), ION_IOC_ALLOC, Wild<void>()) == -EFAULT);
    faults->End();
    ion_handle_data handle{data.handle};
    CHECK(ion.Ioctl(fd.get(), ION_IOC_FREE, &handle) == 0);
  }
}

namespace {

// The life of a client: the answers of its steps, of which each may be an error.
std::vector<long> Live(EmulatedIon<FaultyIonSyscalls>& ion, const FaultyIonSyscalls& sys) {
  std::vector<long> answers;
  const auto note = [&](long answer) {
    answers.push_back(std::min(answer, 0L));
    return answer;
  };
  const Libion<FaultyIonSyscalls> libion(ion, sys, Abi::kLegacy);
  const int fd = libion.Open();
  const int modern = static_cast<int>(note(ion.Open(Abi::kModern, 0)));
  const int heap = static_cast<int>(note(ion.Open(Abi::kDmaHeap, O_CLOEXEC | O_NONBLOCK)));
  note(fd);
  int handle = 0, memory = -1, imported = 0, count = 0, other = -1;
  unsigned char* at = nullptr;
  note(libion.Alloc(fd, Bytes(), 0, kSystem, 0, &handle));
  note(libion.Share(fd, handle, &memory));
  if (note(libion.Map(fd, handle, Bytes(), PROT_READ, MAP_SHARED, 0, &at, &other)) == 0) {
    ::munmap(at, Bytes());
    ::close(other);
  }
  note(libion.Import(fd, memory, &imported));
  note(libion.SyncFd(fd, memory));
  note(libion.QueryHeapCnt(fd, &count));
  ion_heap_data heaps[32];
  note(libion.QueryGetHeaps(fd, 32, heaps));
  if (note(libion.AllocFd(modern, Bytes(), 0, kSystem, 0, &other)) == 0) ::close(other);
  dma_heap_allocation_data data{.len = Bytes(), .fd = 0, .fd_flags = O_RDWR, .heap_flags = 0};
  if (note(ion.Ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data)) == 0) ::close(static_cast<int>(data.fd));
  note(libion.Free(fd, handle));
  note(libion.Free(fd, imported));
  for (const int one : {fd, modern, heap}) {
    if (one >= 0) note(libion.Close(one));
  }
  if (memory >= 0) ::close(memory);
  return answers;
}

}  // namespace

TEST_CASE("libion: every system call failed in turn") {
  const auto faults = std::make_shared<Faults>();
  const FaultyIonSyscalls sys(faults);
  // Of one that opens its Manager in the middle, and of one that has it.
  for (const bool opened : {false, true}) {
    CAPTURE(opened);
    EmulatedIon<FaultyIonSyscalls>& kept = Lasting(sys);
    Live(kept, sys);
    const auto next = [&]() -> EmulatedIon<FaultyIonSyscalls>& {
      return opened ? kept : Lasting(sys);
    };
    faults->Begin({});
    const std::vector<long> well = Live(next(), sys);
    faults->End();
    const auto steps = faults->trace();
    for (const long answer : well) CHECK(answer == 0);
    REQUIRE(steps.size() > 60);
    const LeakCheck leaks;
    std::set<std::string> calls;
    for (size_t n = 0; n < steps.size(); ++n) {
      calls.insert(std::string(steps[n].call));
      for (const int code : {EPERM, ENOMEM, EMFILE}) {
        faults->Begin({.n = n, .code = code});
        EmulatedIon<FaultyIonSyscalls>& ion = next();
        const std::vector<long> answers = Live(ion, sys);
        faults->End();
        CAPTURE(n);
        CAPTURE(code);
        CAPTURE(std::string(steps[n].call));
        // The errno comes back, or nothing of it is seen; a later step that needed the result fails
        // as for any descriptor or handle that is none.
        for (const long answer : answers) {
          CHECK((answer == 0 || answer == -code || answer == -EBADF || answer == -EINVAL ||
                 answer == -ENOTTY));
        }
        // Clients whose end could not be seen are seen now.
        for (int i = 0; i < 3; ++i) ion.Close(static_cast<int>(ion.Open(Abi::kLegacy, 0)));
        CHECK(Live(ion, sys) == well);
        CHECK(ion.clients() == 0);
      }
    }
    for (const char* const call : {"socket", "bind", "getsockname", "getsockopt", "getrandom",
                                   "process_vm_readv", "process_vm_writev"}) {
      CHECK(calls.contains(call));
    }
  }
}

}  // namespace ion::compat
