// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Descriptors of every kind that a stranger can send, imported by a client. What no backend may
// take is refused with a reason; what is taken is read and written without a signal, or its mapping
// is refused; and nothing is left behind. (What a file server may do that does not answer:
// elsewhere.)

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/platforms/linux.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

TYPE_TO_STRING_AS("memfd", ion::platforms::Memfd);
TYPE_TO_STRING_AS("udmabuf", ion::platforms::Udmabuf);
TYPE_TO_STRING_AS("dma_heap", ion::platforms::DmaHeaps);
TYPE_TO_STRING_AS("ion", ion::platforms::Ion);

namespace ion::testing {
namespace {

struct Hostile {
  std::string what;
  UniqueFd owned;
  int number;  // of the descriptor, or of none
};

class Collection {
 public:
  // One that this kernel, or this process, cannot make is left out.
  void Add(const char* what, long fd) {
    if (fd >= 0) all_.push_back({what, UniqueFd(static_cast<int>(fd)), static_cast<int>(fd)});
  }
  void AddNumber(const char* what, int number) { all_.push_back({what, UniqueFd(), number}); }
  std::vector<Hostile> Take() && { return std::move(all_); }

 private:
  std::vector<Hostile> all_;
};

long Memory(unsigned flags, int seals, off_t bytes = 4096) {
  UniqueFd memfd(::memfd_create("hostile", flags | MFD_CLOEXEC));
  if (!memfd.valid() || ::ftruncate(memfd.get(), bytes) != 0) return -1;
  if (seals != 0 && ::fcntl(memfd.get(), F_ADD_SEALS, seals) != 0) return -1;
  return memfd.release();
}
long Again(long fd, int flags) {
  const UniqueFd owned(static_cast<int>(fd));
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return ::open(path.c_str(), flags | O_CLOEXEC);
}
constexpr int kFutureWrite = 0x10;  // F_SEAL_FUTURE_WRITE, which older headers do not name
constexpr unsigned kHugePages = 4;  // MFD_HUGETLB

// What is no memory that a backend may take.
std::vector<Hostile> NoMemory() {
  Collection all;
  int pipe[2];
  REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
  all.Add("a pipe's reading end", pipe[0]);
  all.Add("a pipe's writing end", pipe[1]);
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    all.Add("a socket", ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  }
  all.Add("an epoll", ::epoll_create1(EPOLL_CLOEXEC));
  all.Add("an eventfd", ::eventfd(0, EFD_CLOEXEC));
  all.Add("a timerfd", ::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  all.Add("an inotify", ::inotify_init1(IN_CLOEXEC));
  sigset_t none;
  sigemptyset(&none);
  all.Add("a signalfd", ::signalfd(-1, &none, SFD_CLOEXEC));
  constexpr long kPidfdOpen = 434, kMemfdSecret = 447;
  all.Add("a pidfd", ::syscall(kPidfdOpen, ::getpid(), 0));
#ifdef SYS_userfaultfd
  all.Add("a userfaultfd", ::syscall(SYS_userfaultfd, O_CLOEXEC));
#endif
  const long secret = ::syscall(kMemfdSecret, O_CLOEXEC);
  if (secret >= 0) (void)!::ftruncate(static_cast<int>(secret), 4096);
  all.Add("secret memory", secret);
  all.Add("/dev/null", ::open("/dev/null", O_RDWR | O_CLOEXEC));
  all.Add("/dev/zero", ::open("/dev/zero", O_RDWR | O_CLOEXEC));
  all.Add("/proc/self/mem", ::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  all.Add("/proc/self/maps", ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  all.Add("a directory", ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  all.Add("a program", ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const TempDir dir;
  const UniqueFd made(::open(dir.File("file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  all.Add("a file that was removed", ::open(dir.File("file").c_str(), O_RDWR | O_CLOEXEC));
  all.Add("a memfd that may be cut", Memory(MFD_ALLOW_SEALING, 0));
  all.Add("a memfd that cannot be sealed", Memory(0, 0));
  all.Add("a memfd of no bytes", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK, 0));
  all.Add("a memfd of huge pages",
          Memory(MFD_ALLOW_SEALING | kHugePages, F_SEAL_SHRINK, off_t{2} << 20));
  return std::move(all).Take();
}
// Of which some calls say that they are not open, and others what they are.
std::vector<Hostile> Paths() {
  Collection all;
  all.Add("a directory's path", ::open("/", O_PATH | O_CLOEXEC));
  all.Add("a memfd's path", Again(Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK), O_PATH));
  return std::move(all).Take();
}
std::vector<Hostile> NotOpen() {
  Collection all;
  const int closed = ::fcntl(2, F_DUPFD_CLOEXEC, 500);
  ::close(closed);
  for (const int number : {-1, INT_MIN, INT_MAX, AT_FDCWD, 1 << 20, closed}) {
    all.AddNumber("a number of nothing", number);
  }
  return std::move(all).Take();
}
// What a backend of memfds takes, whatever can be done with it.
std::vector<Hostile> OddMemory() {
  Collection all;
  all.Add("nothing odd", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK));
  all.Add("sealed against everything",
          Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
  all.Add("sealed against later writers", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK | kFutureWrite));
  all.Add("1 byte", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK, 1));
  all.Add("a page and a byte", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK, 4097));
  all.Add("more than there are addresses", Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK, INT64_MAX));
  const auto sealed = [] { return Memory(MFD_ALLOW_SEALING, F_SEAL_SHRINK); };
  all.Add("read-only", Again(sealed(), O_RDONLY));
  all.Add("write-only", Again(sealed(), O_WRONLY));
  all.Add("to append", Again(sealed(), O_RDWR | O_APPEND));
  return std::move(all).Take();
}

template <class M>
void Refuses(M& manager, const std::vector<Hostile>& descriptors, std::set<int> codes) {
  auto client = manager.CreateClient({.name = "hostile"});
  REQUIRE(client.ok());
  for (const Hostile& hostile : descriptors) {
    CAPTURE(hostile.what);
    CAPTURE(hostile.number);
    const LeakCheck leaks;
    const auto handle = client->Import(FdRef(hostile.number));
    REQUIRE_FALSE(handle.ok());
    CHECK(codes.contains(ErrnoOf(handle.status())));
    CHECK(handle.status().message().size() > 20);
    CHECK(client->held_bytes() == 0);
  }
}

TEST_CASE_TEMPLATE("Import: what is no memory, or is not open, is refused with its errno", M,
                   platforms::Memfd, platforms::Udmabuf, platforms::DmaHeaps, platforms::Ion) {
  auto manager = M::Open();
  if (!manager.ok()) return Skip(std::string(manager.status().message()));
  Refuses(*manager, NoMemory(), {EINVAL});
  Refuses(*manager, Paths(), {EBADF, EINVAL});
  Refuses(*manager, NotOpen(), {EBADF});
}

// Reads and writes as much of a mapping as its bounds say, at its ends.
template <class Mapping>
void UseEnds(const Mapping& mapping) {
  const auto cpu = CpuRead::Begin(mapping);
  REQUIRE(cpu.ok());
  REQUIRE_FALSE(cpu->bytes().empty());
  volatile std::byte seen = cpu->bytes().front();
  seen = cpu->bytes().back();
  (void)seen;
}

TEST_CASE("Import: memory with odd seals, sizes and modes is used within them, or not mapped") {
  auto manager = platforms::Memfd::Open();
  REQUIRE(manager.ok());
  auto client = manager->CreateClient({.name = "odd"});
  REQUIRE(client.ok());
  for (const Hostile& odd : OddMemory()) {
    CAPTURE(odd.what);
    const LeakCheck leaks;
    const auto handle = client->Import(FdRef(odd.number));
    if (!handle.ok()) {
      CHECK(ErrnoOf(handle.status()) != 0);
      continue;
    }
    const auto info = client->Info(*handle);
    REQUIRE(info.ok());
    if (auto mapping = client->template Map<MapMode::kReadOnly>(*handle); mapping.ok()) {
      CHECK(mapping->unsynced().size() == info->bytes);
      UseEnds(*mapping);
    } else {
      CHECK(ErrnoOf(mapping.status()) != 0);
    }
    if (auto mapping = client->template Map<MapMode::kWritable>(*handle); mapping.ok()) {
      auto cpu = CpuWrite::Begin(*mapping);
      REQUIRE(cpu.ok());
      cpu->bytes().front() = std::byte{1};
      cpu->bytes().back() = std::byte{2};
      CHECK(std::move(*cpu).End().ok());
    } else {
      CHECK(ErrnoOf(mapping.status()) != 0);
    }
    CHECK(client->Free(*handle).ok());
    CHECK_FALSE(client->Free(*handle).ok());
  }
}

}  // namespace
}  // namespace ion::testing
