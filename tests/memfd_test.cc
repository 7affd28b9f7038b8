// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "backends/memfd.h"

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/status.h"
#include "tests/support/backend_suite.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

// A test's own backend; opening it is no test's subject.
MemfdBackend<> OpenMemfd() {
  Result<MemfdBackend<>> backend = MemfdBackend<>::Open({});
  REQUIRE(Told(backend.error()) == "ok");
  return *std::move(backend);
}

TEST_CASE("MemfdBackend: begin and end of CPU access are counted, and nothing is sent") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const Memory memory(backend, 0, 4_KiB);
  CHECK(backend.syncs() == 0);
  CHECK(backend.BeginCpuAccess(memory.block, Direction::kRead).ok());
  CHECK(backend.syncs() == 1);
  CHECK(backend.EndCpuAccess(memory.block, Direction::kRead).ok());
  CHECK(backend.syncs() == 2);

  dma_buf_sync sync{.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ};
  CHECK(::ioctl(memory.block.fd, DMA_BUF_IOCTL_SYNC, &sync) == -1);
  CHECK(errno == ENOTTY);
}

TEST_CASE("MemfdBackend: its memory can neither shrink nor grow, and can be written") {
  const LeakCheck leaks;
  MemfdBackend<> backend = OpenMemfd();
  const Memory memory(backend, 0, 64_KiB);
  CHECK(::fcntl(memory.block.fd, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  for (const off_t bytes : {4096, 128 << 10}) {
    CHECK(::ftruncate(memory.block.fd, bytes) == -1);
    CHECK(errno == EPERM);
  }
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
    const bool maps = seal != F_SEAL_WRITE || MapsWriteSealed();
    CHECK(LookForZeros(backend, imported.block) == (maps ? "ok" : "EPERM map"));
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
