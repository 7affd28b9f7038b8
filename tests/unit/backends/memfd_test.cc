// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/memfd.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

constexpr int kSealExec = 0x20;        // F_SEAL_EXEC: Linux 6.3
constexpr unsigned kNoexecSeal = 0x8;  // MFD_NOEXEC_SEAL: the same

// A kernel, or a sandbox around one, that answers some calls in its own way.
struct Strange {
  long plain = 0;     // memfd_create without MFD_NOEXEC_SEAL
  long noexec = 0;    // memfd_create with it
  bool fixed = true;  // what is sealed against writing has shared mappings (Linux 6.7)
  const char* release = "6.12.0";
};
class StrangeSyscalls : public LinuxSyscalls {
 public:
  StrangeSyscalls() = default;
  explicit StrangeSyscalls(const Strange& strange) : strange_(strange) {}

  long MemfdCreate(const char* name, unsigned flags) const noexcept {
    const bool noexec = (flags & kNoexecSeal) != 0;
    if (const long answer = noexec ? strange_.noexec : strange_.plain; answer != 0) return answer;
    const long made = LinuxSyscalls::MemfdCreate(name, flags);
    // The test's own kernel may be older than the one it stands for.
    return made == -EINVAL && noexec ? LinuxSyscalls::MemfdCreate(name, flags & ~kNoexecSeal)
                                     : made;
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    const bool sealed = (LinuxSyscalls::Fcntl(fd, F_GET_SEALS, 0) & F_SEAL_WRITE) != 0;
    if (sealed && !strange_.fixed) return -EPERM;
    return LinuxSyscalls::Mmap(bytes, protection, fd, offset);
  }
  long Uname(struct utsname* to) const noexcept {
    std::snprintf(to->release, sizeof(to->release), "%s", strange_.release);
    return 0;
  }

 private:
  Strange strange_;
};
using StrangeBackend = MemfdBackend<StrangeSyscalls>;

// A test's own backend; opening it is no test's subject.
MemfdBackend<> OpenMemfd() {
  Result<MemfdBackend<>> backend = MemfdBackend<>::Open({});
  REQUIRE(Told(backend.error()) == "ok");
  return *std::move(backend);
}

TEST_CASE("MemfdBackend: begin and end of CPU access send nothing, which a memfd would refuse") {
  const LeakCheck leaks;
  Watch watch;
  auto backend = MemfdBackend<WatchedSyscalls<>>::Open({.sys = WatchedSyscalls<>(&watch)});
  REQUIRE(backend.ok());
  const Memory memory(*backend, 0, 4_KiB);
  CHECK(backend->BeginCpuAccess(memory.block, Direction::kRead).ok());
  CHECK(backend->EndCpuAccess(memory.block, Direction::kRead).ok());
  CHECK(watch.ioctls == 0);

  dma_buf_sync sync{.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ};
  CHECK(::ioctl(memory.block.fd, DMA_BUF_IOCTL_SYNC, &sync) == -1);
  CHECK(errno == ENOTTY);
}

TEST_CASE("MemfdBackend: its memory can neither shrink nor grow, and can be written") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const Memory memory(backend, 0, 64_KiB);
  CHECK((::fcntl(memory.block.fd, F_GET_SEALS) & ~kSealExec) ==
        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  for (const off_t bytes : {4096, 128 << 10}) {
    CHECK(::ftruncate(memory.block.fd, bytes) == -1);
    CHECK(errno == EPERM);
  }
}

TEST_CASE("MemfdBackend: its memory can never be run as a program, where the kernel has the seal") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const UniqueFd probe(::memfd_create("probe", MFD_CLOEXEC | kNoexecSeal));
  if (!probe.valid()) return Skip("MFD_NOEXEC_SEAL needs Linux 6.3");
  const Memory memory(backend, 0, 4_KiB);
  CHECK((::fcntl(memory.block.fd, F_GET_SEALS) & kSealExec) != 0);
  CHECK(::fchmod(memory.block.fd, 0700) == -1);
  CHECK(errno == EPERM);
}

TEST_CASE("MemfdBackend: a kernel that does not know MFD_NOEXEC_SEAL gives memory all the same") {
  const LeakCheck leaks;
  for (const int code : {EINVAL, EPERM, EACCES, ENOSYS}) {
    CAPTURE(code);
    auto backend = StrangeBackend::Open({.sys = StrangeSyscalls({.noexec = -code})});
    REQUIRE(Told(backend.error()) == "ok");
    const Memory memory(*backend, 0, 4_KiB);
    CHECK((::fcntl(memory.block.fd, F_GET_SEALS) & kSealExec) == 0);
    CHECK(Fill(*backend, memory.block, 1) == "ok");
  }
}

TEST_CASE("MemfdBackend: a sandbox that allows memfds with MFD_NOEXEC_SEAL alone gives memory") {
  const LeakCheck leaks;
  for (const int code : {EPERM, EACCES}) {
    auto backend = StrangeBackend::Open({.sys = StrangeSyscalls({.plain = -code})});
    REQUIRE(Told(backend.error()) == "ok");
    const Memory memory(*backend, 0, 4_KiB);
    CHECK(Fill(*backend, memory.block, 1) == "ok");
  }
}

TEST_CASE("MemfdBackend: a sandbox that refuses memfds is told from a kernel without them") {
  const LeakCheck leaks;
  const auto told = [](int code, const char* release) {
    return Told(StrangeBackend::Open(
                    {.sys = StrangeSyscalls({.plain = -code, .noexec = -code, .release = release})})
                    .error());
  };
  CHECK(told(ENOSYS, "3.16.7-old") ==
        "memfd: open (memfd_create): ENOSYS: this kernel is too old: memfds need Linux 3.17");
  for (const char* release : {"3.17.0", "6.12.5+deb13-amd64", "nonsense", ""}) {
    CAPTURE(release);
    CHECK(told(ENOSYS, release).find("ENOSYS: a sandbox (seccomp) refuses memfd_create") !=
          std::string::npos);
    CHECK(told(ENOSYS, release).find("too old") == std::string::npos);
  }
  for (const int code : {EPERM, EACCES}) {
    CHECK(told(code, "3.17.0").find("a sandbox (seccomp) or a security module refuses") !=
          std::string::npos);
  }
}

TEST_CASE("MemfdBackend: what can never change is mapped for reading before Linux 6.7, too") {
  const LeakCheck leaks;
  auto backend = StrangeBackend::Open({.sys = StrangeSyscalls({.fixed = false})});
  REQUIRE(Told(backend.error()) == "ok");
  const UniqueFd memfd = Memfd(4 * PageBytes(), 0);
  const uint64_t page = PageBytes();
  REQUIRE(::pwrite(memfd.get(), "format", 6, static_cast<off_t>(2 * page)) == 6);
  REQUIRE(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  const auto open = Memory<StrangeBackend>::Imported(*backend, memfd.borrow());
  REQUIRE(::fcntl(memfd.get(), F_ADD_SEALS, F_SEAL_WRITE) == 0);
  const auto sealed = Memory<StrangeBackend>::Imported(*backend, memfd.borrow());
  for (const Block* block : {&open.block, &sealed.block}) {
    const Result<std::byte*> at = backend->Map(*block, 2 * page, page, MapMode::kReadOnly);
    REQUIRE(Told(at.error()) == "ok");
    CHECK(std::memcmp(*at, "format", 7) == 0);
    CHECK(backend->Unmap(*at, page).ok());
  }
  CHECK(Kind(backend->Map(open.block, 0, page, MapMode::kWritable).error()) == "EPERM map");
  CHECK(Kind(backend->Map(sealed.block, 0, page, MapMode::kWritable).error()) == "EACCES map");
}

TEST_CASE("MemfdBackend: a descriptor that may only be read says what its sender must do") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const UniqueFd memfd = Memfd(4_KiB);
  const auto imported = Memory<MemfdBackend<>>::Imported(backend, ReadOnly(memfd).borrow());
  CHECK(Told(backend.Map(imported.block, 0, 4_KiB, MapMode::kWritable).error())
            .find("whoever sent the memfd must open it O_RDWR") != std::string::npos);
}

TEST_CASE("MemfdBackend: who gets its memory cannot seal it") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const Memory memory(backend, 0, 64_KiB);
  const auto shared = backend.Share(memory.block);
  REQUIRE(shared.ok());
  CHECK(::fcntl(shared->get(), F_ADD_SEALS, F_SEAL_WRITE) == -1);
  CHECK(errno == EPERM);
}

TEST_CASE("MemfdBackend: a memfd of huge pages is refused: a hole there is SIGBUS") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const UniqueFd huge(::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!huge.valid()) return Skip("this kernel has no huge pages");
  REQUIRE(::ftruncate(huge.get(), 2 << 20) == 0);
  REQUIRE(::fcntl(huge.get(), F_ADD_SEALS, F_SEAL_SHRINK) == 0);
  Block block;
  const Error error = backend.Import(huge.borrow(), block);
  CHECK(error.code() == EINVAL);
  CHECK(Describe(error).find("MFD_HUGETLB") != std::string::npos);
}

TEST_CASE("MemfdBackend: its memory keeps its first name") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const Memory memory(backend, 0, 4_KiB, "first");
  CHECK(Kind(backend.SetName(memory.block, "second")) ==
        "EOPNOTSUPP name");  // ENOTSUP by its Linux name
  CHECK(NameOf(memory.block.range().fd) == "first");
}

TEST_CASE(
    "MemfdBackend: a memfd that its owner could cut is refused, with what the owner must do") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  Block block;
  const std::string told = Told(backend.Import(Memfd(64_KiB, 0).borrow(), block));
  CHECK(told.find("memfd: import (F_GET_SEALS: no F_SEAL_SHRINK") != std::string::npos);
  CHECK(told.find("fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)") != std::string::npos);
}

TEST_CASE("MemfdBackend: a memfd that is sealed against writing is imported for reading") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  for (const int seal : {F_SEAL_WRITE, F_SEAL_FUTURE_WRITE}) {
    const auto imported =
        Memory<MemfdBackend<>>::Imported(backend, Memfd(64_KiB, F_SEAL_SHRINK | seal).borrow());
    CHECK_FALSE(imported.block.writable);
    CHECK(LookForZeros(backend, imported.block) == "ok");
    CHECK(Fill(backend, imported.block, 1) == "EACCES map");
  }
}

TEST_CASE("MemfdBackend: a memfd of an odd size is imported with it, and maps to its last byte") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const uint64_t page = PageBytes(), bytes = page + 904;
  const auto imported = Memory<MemfdBackend<>>::Imported(backend, Memfd(bytes).borrow());
  const Block& block = imported.block;
  CHECK(block.bytes == bytes);
  CHECK(Fill(backend, block, 1) == "ok");
  CHECK(Look(backend, block, 1) == "ok");
  const Result<std::byte*> last = backend.Map(block, page, 904, MapMode::kWritable);
  REQUIRE(last.ok());
  CHECK(backend.Unmap(*last, 904).ok());
  CHECK(Kind(backend.Map(block, page, page, MapMode::kReadOnly).error()) == "EINVAL map");
  CHECK(Kind(backend.Map(block, 0, 904, MapMode::kReadOnly).error()) == "EINVAL map");
  CHECK(Kind(backend.Map(block, page + 4, 900, MapMode::kReadOnly).error()) == "EINVAL map");
}

TEST_CASE("MemfdBackend: a memfd that grows after its import is imported as it was") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const UniqueFd memfd = Memfd(64_KiB);
  const auto imported = Memory<MemfdBackend<>>::Imported(backend, memfd.borrow());
  REQUIRE(::ftruncate(memfd.get(), 128 << 10) == 0);
  CHECK(imported.block.bytes == 64_KiB);
  CHECK(Fill(backend, imported.block, 1) == "ok");
}

}  // namespace
}  // namespace ion::testing
