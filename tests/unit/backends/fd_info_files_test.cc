// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/fd_info_files.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bench/counting_syscalls.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/request.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

struct Calls {
  int opens = 0, reads = 0, preads = 0, closes = 0;
  long pread_answer = 0;  // an error that the next ones have
};
class CountedSyscalls : public LinuxSyscalls {
 public:
  explicit CountedSyscalls(Calls& calls) noexcept : calls_(&calls) {}

  long Open(const char* path, int flags) const noexcept {
    ++calls_->opens;
    return LinuxSyscalls::Open(path, flags);
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    ++calls_->reads;
    return LinuxSyscalls::Read(fd, to, bytes);
  }
  long Pread(int fd, void* to, size_t bytes, off_t offset) const noexcept {
    ++calls_->preads;
    return calls_->pread_answer != 0 ? calls_->pread_answer
                                     : LinuxSyscalls::Pread(fd, to, bytes, offset);
  }
  long Close(int fd) const noexcept {
    ++calls_->closes;
    return LinuxSyscalls::Close(fd);
  }

 private:
  Calls* calls_;
};

struct Rig {
  ~Rig() { files.Close(sys, errors, "test"); }

  // The first line of what the kernel tells; an error's code as text.
  std::string Ask(int fd) {
    const Result<FdInfo> info = files.Read(sys, errors, fd, origin);
    if (!info.ok()) return "errno " + std::to_string(info.error().code());
    const std::string_view text = info->view();
    return std::string(text.substr(0, text.find('\n')));
  }

  Calls calls;
  CountedSyscalls sys{calls};
  ErrorSink errors;
  Origin origin{"test", Operation::kProve};
  FdInfoFiles files;
};

UniqueFd Memory() { return UniqueFd(::memfd_create("asked about", MFD_CLOEXEC)); }

TEST_CASE("FdInfoFiles: a kept file tells of the descriptor as it is now, by one call") {
  Rig rig;
  const UniqueFd memory = Memory();
  CHECK(rig.Ask(memory.get()) == "pos:\t0");
  for (const off_t at : {5, 70'000}) {
    REQUIRE(::lseek(memory.get(), at, SEEK_SET) == at);
    CHECK(rig.Ask(memory.get()) == "pos:\t" + std::to_string(at));
  }
  CHECK(rig.calls.opens == 1);
  CHECK(rig.calls.preads == 3);
  CHECK(rig.calls.reads == 0);
  CHECK(rig.calls.closes == 0);
}

TEST_CASE("FdInfoFiles: a number that another file has now tells of that file") {
  Rig rig;
  UniqueFd memory = Memory();
  const int number = memory.get();
  REQUIRE(::lseek(number, 5, SEEK_SET) == 5);
  CHECK(rig.Ask(number) == "pos:\t5");
  memory = UniqueFd();
  CHECK(rig.Ask(number) == "errno " + std::to_string(ENOENT));
  const UniqueFd other = Memory();
  REQUIRE(other.get() == number);
  CHECK(rig.Ask(number) == "pos:\t0");
}

TEST_CASE("FdInfoFiles: few files are kept, close-on-exec, and none after Close") {
  Rig rig;
  std::vector<UniqueFd> memory(40);
  for (UniqueFd& one : memory) {
    one = Memory();
    CHECK(rig.Ask(one.get()) == "pos:\t0");
  }
  const int kept = rig.calls.opens - rig.calls.closes;
  CHECK(kept <= 16);
  CHECK(kept > 0);
  rig.files.Close(rig.sys, rig.errors, "test");
  CHECK(rig.calls.opens == rig.calls.closes);
  rig.files.Close(rig.sys, rig.errors, "test");
  CHECK(rig.calls.opens == rig.calls.closes);
  // The number that the next file gets.
  const int next = Memory().get();
  CHECK(rig.Ask(memory[0].get()) == "pos:\t0");
  CHECK(::fcntl(next, F_GETFD) == FD_CLOEXEC);
  CHECK(rig.errors.count() == 0);
}

TEST_CASE("FdInfoFiles: a file that cannot be read is an error, is closed, and is opened again") {
  Rig rig;
  const UniqueFd memory = Memory();
  CHECK(rig.Ask(memory.get()) == "pos:\t0");
  rig.calls.pread_answer = -EIO;
  CHECK(rig.Ask(memory.get()) == "errno " + std::to_string(EIO));
  CHECK(rig.calls.closes == 1);
  rig.calls.pread_answer = 0;
  CHECK(rig.Ask(memory.get()) == "pos:\t0");
  CHECK(rig.calls.opens == 2);
}

TEST_CASE("FdInfoFiles: of what is not open, and of no number, it tells that") {
  Rig rig;
  const std::string absent = "errno " + std::to_string(ENOENT);
  CHECK(rig.Ask(-1) == absent);
  CHECK(rig.Ask(1'000'000) == absent);
  CHECK(rig.calls.opens == 2);
}

TEST_CASE("FdInfoFiles: a forked child asks about its own descriptors") {
  Rig rig;
  UniqueFd memory = Memory();
  const int number = memory.get();
  CHECK(rig.Ask(number) == "pos:\t0");
  const pid_t child = ::fork();
  if (child == 0) {
    // The parent's has no such position.
    const int other = ::memfd_create("the child's", MFD_CLOEXEC);
    const bool moved =
        ::dup3(other, number, O_CLOEXEC) == number && ::lseek(number, 9, SEEK_SET) == 9;
    ::_exit(moved && rig.Ask(number) == "pos:\t9" ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

// The rest is of a real heap, in a guest.

TEST_CASE("FdInfoFiles: a proof of a dma-heap's memory costs two system calls, and stays a proof") {
  using B = DmaHeapBackend<bench::CountingSyscalls>;
  uint64_t calls = 0;
  Result<B> backend = B::Open({.sys = bench::CountingSyscalls(calls)});
  if (!backend.ok()) return Skip("no dma-heap is here");
  Block block;
  REQUIRE(backend->Allocate(0, 65536, Flags::kNone, "proven", block).ok());
  const Result<std::byte*> at = backend->MapToKeep(block);
  REQUIRE(at.ok());
  block.mapping = *at;
  const Result<bool> first = backend->IsUnshared(block);
  if (!first.ok() && first.error().code() == ENOTSUP) {
    Skip("this kernel proves nothing");
  } else {
    REQUIRE(first.ok());
    CHECK(*first);
    for (int round = 0; round < 3; ++round) {
      calls = 0;
      CHECK(*backend->IsUnshared(block));
      CHECK(calls == 2);
      const UniqueFd other(::fcntl(block.fd, F_DUPFD_CLOEXEC, 0));
      CHECK_FALSE(*backend->IsUnshared(block));
    }
  }
  CHECK(backend->Release(block).ok());
}

}  // namespace
}  // namespace ion::testing
