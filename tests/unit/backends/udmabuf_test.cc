// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/backends/udmabuf.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/status.h"
#include "tests/support/absent_node.h"
#include "tests/support/backend_suite.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {
namespace {

using B = UdmabufBackend<WatchedSyscalls<>>;

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Opens with these instead of the kernel's own.
Result<B> OpenWith(Watch& watch, const std::string& node, const std::string& parameters) {
  B::Options options;
  options.sys = WatchedSyscalls(&watch);
  options.node = node;
  options.parameters = parameters;
  return B::Open(options);
}

TEST_CASE("UdmabufBackend: its limits are the module's parameters") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("list_limit", "7\n");
  dir.File("size_limit_mb", "3\n");
  Watch watch;
  const Result<B> backend = OpenWith(watch, "/dev/null", dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->ranges_limit() == 7);
  CHECK(backend->bytes_limit() == 3_MiB);
}

TEST_CASE("UdmabufBackend: without parameters its limits are the old constants") {
  const LeakCheck leaks;
  const TempDir dir;
  Watch watch;
  const Result<B> backend = OpenWith(watch, "/dev/null", dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  CHECK(backend->ranges_limit() == 1024);
  CHECK(backend->bytes_limit() == 64_MiB);
}

TEST_CASE("UdmabufBackend: a parameter that is no number, or no file, is an error with its path") {
  const LeakCheck leaks;
  Watch watch;
  for (const char* const text : {"", "\n", "many", "99999999999999999999", "4294967296"}) {
    const TempDir dir;
    dir.File("size_limit_mb", text);
    const Error error = OpenWith(watch, "/dev/null", dir.path()).error();
    CAPTURE(std::string(text));
    CHECK(Kind(error) == "EINVAL open");
    CHECK(error.node() == AsNode(dir.At("size_limit_mb")));
  }
  const TempDir dir;
  std::filesystem::create_directory(dir.At("list_limit"));
  CHECK(Kind(OpenWith(watch, "/dev/null", dir.path()).error()) == "EISDIR open");
}

TEST_CASE("UdmabufBackend: without its node it is ENOENT, and says what is missing") {
  const LeakCheck leaks;
  const TempDir dir;
  Watch watch;
  const Error error = OpenWith(watch, dir.At("udmabuf"), dir.path()).error();
  CHECK(Kind(error) == "ENOENT open");
  CHECK(Contains(Describe(error), AbsentNodeAdvice("/sys/class/misc/udmabuf", "CONFIG_UDMABUF=y")));
}

TEST_CASE("UdmabufBackend: a file in place of its node is ENODEV") {
  const LeakCheck leaks;
  const TempDir dir;
  Watch watch;
  const Error error = OpenWith(watch, dir.File("udmabuf"), dir.path()).error();
  CHECK(Kind(error) == "ENODEV open");
}

TEST_CASE("UdmabufBackend: a node without permission is EACCES, with the udev rule") {
  const LeakCheck leaks;
  const TempDir dir;
  const std::string node = dir.File("udmabuf");
  if (::geteuid() != 0) std::filesystem::permissions(node, std::filesystem::perms{0});
  const ChildEnd end = RunInChild([&] {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return std::string("no setuid");
    Watch watch;
    const Error error = OpenWith(watch, node, dir.path()).error();
    const bool helps = Contains(Describe(error), "KERNEL==\"udmabuf\", GROUP=\"video\"");
    return helps && Kind(error) == "EACCES open" ? "" : Told(error);
  });
  CHECK(end.text == "");
}

TEST_CASE("UdmabufBackend: past the module's limit is refused with a sentence, before the kernel") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("size_limit_mb", "3\n");
  Watch watch;
  Result<B> backend = OpenWith(watch, "/dev/null", dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  const Error error = backend->Allocate(0, 3_MiB + 1, Flags::kNone, {}, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(Describe(error), "size_limit_mb"));
  CHECK(watch.ioctls == 0);
  // Within the limit the kernel is asked; this node is none that knows the answer.
  CHECK(Kind(backend->Allocate(0, 3_MiB, Flags::kNone, {}, block)) == "ENOTTY allocate");
  CHECK(watch.ioctls == 1);
  CHECK(backend->budget().held() == 0);
}

TEST_CASE("UdmabufBackend: a limit that was raised since Open counts, and one that is lower, too") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("size_limit_mb", "3\n");
  dir.File("list_limit", "1\n");
  Watch watch;
  Result<B> backend = OpenWith(watch, "/dev/null", dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  const auto allocate = [&] { return backend->Allocate(0, 4_MiB, Flags::kNone, {}, block); };
  CHECK(Contains(Told(allocate()), ": at most 3145728 bytes here: raise /sys/module/udmabuf"));
  dir.File("size_limit_mb", "4\n");
  // The node is none that knows the answer, but it was asked.
  CHECK(Kind(allocate()) == "ENOTTY allocate");
  dir.File("size_limit_mb", "nonsense\n");
  CHECK(Kind(allocate()) == "ENOTTY allocate");
  CHECK(Kind(backend->Allocate(0, 5_MiB, Flags::kNone, {}, block)) == "EINVAL allocate");
  CHECK(backend->bytes_limit() == 4_MiB);

  const UniqueFd memfd = Memfd(2 * PageBytes());
  const PageRange two[] = {{memfd.borrow(), 0, PageBytes()}, {memfd.borrow(), 0, PageBytes()}};
  dir.File("size_limit_mb", "4\n");
  CHECK(Contains(Told(backend->Compose(two, block)), "list_limit"));
  dir.File("list_limit", "2\n");
  CHECK(Kind(backend->Compose(two, block)) == "ENOTTY allocate");
  CHECK(backend->budget().held() == 0);
}

// A kernel whose udmabuf refuses everything.
struct NoUdmabuf : LinuxSyscalls {
  long Ioctl(int, unsigned long, void*) const noexcept { return -EINVAL; }
};

TEST_CASE(
    "UdmabufBackend: a limit that was lowered since Open is the reason of the kernel's EINVAL") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("size_limit_mb", "4\n");
  UdmabufBackend<NoUdmabuf>::Options options;
  options.node = "/dev/null";
  options.parameters = dir.path();
  auto backend = UdmabufBackend<NoUdmabuf>::Open(options);
  REQUIRE(Told(backend.error()) == "ok");
  Block block;
  const auto allocate = [&] { return Told(backend->Allocate(0, 4_MiB, Flags::kNone, {}, block)); };
  CHECK(Contains(allocate(), "(UDMABUF_CREATE): EINVAL"));
  dir.File("size_limit_mb", "3\n");
  CHECK(Contains(allocate(), "(past the module's size_limit_mb): EINVAL: at most 3145728 bytes"));
}

TEST_CASE("UdmabufBackend: a negative limit is none, and a constant one cannot be raised") {
  const LeakCheck leaks;
  const TempDir none, negative;
  negative.File("size_limit_mb", "-1\n");
  Watch watch;
  Block block;
  Result<B> unlimited = OpenWith(watch, "/dev/null", negative.path());
  REQUIRE(Told(unlimited.error()) == "ok");
  CHECK(unlimited->bytes_limit() == UINT64_MAX);
  CHECK(Kind(unlimited->Allocate(0, 65_MiB, Flags::kNone, {}, block)) == "ENOTTY allocate");

  Result<B> constant = OpenWith(watch, "/dev/null", none.path());
  REQUIRE(Told(constant.error()) == "ok");
  CHECK(Contains(Told(constant->Allocate(0, 65_MiB, Flags::kNone, {}, block)),
                 ": at most 67108864 bytes here: this kernel cannot raise it"));
}

// The kernel's own, with everything that must be true at the end of each case.
struct Kernel {
  LeakCheck leaks;
  Watch watch;
  Result<B> opened = Open();
  bool here() {
    if (!opened.ok() && opened.error().code() == ENOENT) {
      Skip("no /dev/udmabuf");
      return false;
    }
    REQUIRE(Told(opened.error()) == "ok");
    return true;
  }
  ~Kernel() {
    if (opened.ok()) CHECK(opened->budget().held() == 0);
  }
  B& backend() { return *opened; }

 private:
  Result<B> Open() {
    B::Options options;
    options.sys = WatchedSyscalls(&watch);
    options.budget = std::make_shared<Budget>(256_MiB);
    return B::Open(options);
  }
};

// A constant, where the kernel has no such parameter (before Linux 5.14).
uint64_t Parameter(const std::string& name, uint64_t constant) {
  std::ifstream file("/sys/module/udmabuf/parameters/" + name);
  uint64_t value = constant;
  if (file.is_open()) file >> value;
  return value;
}

TEST_CASE("UdmabufBackend: the kernel's limits are reached, and not passed") {
  Kernel kernel;
  if (!kernel.here()) return;
  B& backend = kernel.backend();
  CHECK(backend.bytes_limit() == Parameter("size_limit_mb", 64) << 20);
  CHECK(backend.ranges_limit() == Parameter("list_limit", 1024));
  { const Memory most(backend, 0, backend.bytes_limit()); }
  Block block;
  const Error error = backend.Allocate(0, backend.bytes_limit() + 1, Flags::kNone, {}, block);
  CHECK(Kind(error) == "EINVAL allocate");
}

// A memfd of which page i holds PageByte(seed, i).
UniqueFd PagesOfMemfd(uint64_t pages, uint8_t seed) {
  UniqueFd memfd = Memfd(pages * PageBytes());
  REQUIRE(memfd.valid());
  for (uint64_t i = 0; i < pages; ++i) {
    const std::string page(PageBytes(), static_cast<char>(PageByte(seed, i)));
    REQUIRE(::pwrite(memfd.get(), page.data(), page.size(), static_cast<off_t>(i * page.size())) ==
            static_cast<ssize_t>(page.size()));
  }
  return memfd;
}

TEST_CASE("UdmabufBackend: Compose puts pages of several memfds together in the order given") {
  Kernel kernel;
  if (!kernel.here()) return;
  const uint64_t page = PageBytes();
  const UniqueFd one = PagesOfMemfd(4, 10), two = PagesOfMemfd(4, 90);
  const PageRange ranges[] = {{two.borrow(), 3 * page, page},
                              {one.borrow(), 0, 2 * page},
                              {two.borrow(), 0, page},
                              {one.borrow(), 0, page}};
  Memory composed(kernel.backend());
  REQUIRE(Told(kernel.backend().Compose(ranges, composed.block)) == "ok");
  const Block& block = composed.block;
  CHECK(block.bytes == 5 * page);
  CHECK_FALSE(block.zeroed);
  CHECK_FALSE(block.foreign);
  CHECK(kernel.backend().budget().held() == 5 * page);
  const int expected[] = {PageByte(90, 3), PageByte(10, 0), PageByte(10, 1), PageByte(90, 0),
                          PageByte(10, 0)};
  const std::string looked = WithBytes(
      kernel.backend(), composed.block, MapMode::kReadOnly, [&](std::span<std::byte> bytes) {
        for (uint64_t i = 0; i < 5; ++i) {
          CAPTURE(i);
          CHECK(std::to_integer<int>(bytes[i * page]) == expected[i]);
          CHECK(std::to_integer<int>(bytes[(i + 1) * page - 1]) == expected[i]);
        }
        return std::string("ok");
      });
  CHECK(looked == "ok");
}

TEST_CASE("UdmabufBackend: a page that is composed twice is one page") {
  Kernel kernel;
  if (!kernel.here()) return;
  const uint64_t page = PageBytes();
  const UniqueFd memfd = PagesOfMemfd(1, 10);
  const PageRange twice[] = {{memfd.borrow(), 0, page}, {memfd.borrow(), 0, page}};
  Memory composed(kernel.backend());
  REQUIRE(Told(kernel.backend().Compose(twice, composed.block)) == "ok");
  const auto at = kernel.backend().Map(composed.block, 0, 2 * page, MapMode::kWritable);
  REQUIRE(at.ok());
  (*at)[5] = std::byte{0x77};
  CHECK((*at)[page + 5] == std::byte{0x77});
  CHECK(kernel.backend().Unmap(*at, 2 * page).ok());
}

TEST_CASE("UdmabufBackend: a composed buffer and its memfds are the same memory") {
  Kernel kernel;
  if (!kernel.here()) return;
  const UniqueFd memfd = PagesOfMemfd(3, 10);
  const PageRange whole[] = {{memfd.borrow(), 0, 3 * PageBytes()}};
  Memory composed(kernel.backend());
  REQUIRE(Told(kernel.backend().Compose(whole, composed.block)) == "ok");
  CHECK(Look(kernel.backend(), composed.block, 10) == "ok");
  CHECK(Fill(kernel.backend(), composed.block, 50) == "ok");
  unsigned char byte = 0;
  REQUIRE(::pread(memfd.get(), &byte, 1, static_cast<off_t>(2 * PageBytes())) == 1);
  CHECK(byte == PageByte(50, 2));
}

TEST_CASE("UdmabufBackend: as many ranges as the module allows are composed, one more is not") {
  Kernel kernel;
  if (!kernel.here()) return;
  B& backend = kernel.backend();
  const UniqueFd memfd = PagesOfMemfd(1, 10);
  std::vector<PageRange> ranges(backend.ranges_limit(), {memfd.borrow(), 0, PageBytes()});
  Memory composed(backend);
  REQUIRE(Told(backend.Compose(ranges, composed.block)) == "ok");
  CHECK(composed.block.bytes == ranges.size() * PageBytes());

  ranges.push_back(ranges.front());
  const int ioctls = kernel.watch.ioctls;
  Block block;
  const Error error = backend.Compose(ranges, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(Describe(error), "list_limit"));
  CHECK_FALSE(block.filled());
  CHECK(kernel.watch.ioctls == ioctls);
}

TEST_CASE("UdmabufBackend: Compose past the module's limit is refused before the kernel") {
  const LeakCheck leaks;
  const TempDir dir;
  dir.File("size_limit_mb", "1\n");
  Watch watch;
  Result<B> backend = OpenWith(watch, "/dev/null", dir.path());
  REQUIRE(Told(backend.error()) == "ok");
  const UniqueFd memfd = Memfd(2_MiB);
  const PageRange past[] = {{memfd.borrow(), 0, 1_MiB}, {memfd.borrow(), 1_MiB, PageBytes()}};
  Block block;
  const Error error = backend->Compose(past, block);
  CHECK(Kind(error) == "EINVAL allocate");
  CHECK(Contains(Describe(error), "size_limit_mb"));
  // A sum that is a page where 64 bits end.
  const PageRange wrapping[] = {{memfd.borrow(), 0, UINT64_MAX - PageBytes() + 1},
                                {memfd.borrow(), 0, 2 * PageBytes()}};
  CHECK(Kind(backend->Compose(wrapping, block)) == "EINVAL allocate");
  CHECK(watch.ioctls == 0);
  const PageRange within[] = {{memfd.borrow(), 0, 1_MiB}};
  CHECK(Kind(backend->Compose(within, block)) == "ENOTTY allocate");
}

TEST_CASE("UdmabufBackend: what cannot be composed is refused, and costs no bytes") {
  Kernel kernel;
  if (!kernel.here()) return;
  B& backend = kernel.backend();
  const uint64_t page = PageBytes();
  const UniqueFd good = PagesOfMemfd(2, 10), unsealed = Memfd(2 * page, 0),
                 sealed = Memfd(2 * page, F_SEAL_SHRINK | F_SEAL_WRITE),
                 null = OpenNode("/dev/null");
  struct Row {
    const char* what;
    std::vector<PageRange> ranges;
    const char* expected;
  };
  const Row rows[] = {
      {"no range", {}, "EINVAL allocate"},
      {"an empty range", {{good.borrow(), 0, 0}}, "EINVAL allocate"},
      {"an empty range beside another",
       {{good.borrow(), 0, page}, {good.borrow(), 0, 0}},
       "EINVAL allocate"},
      {"half a page", {{good.borrow(), 0, page / 2}}, "EINVAL allocate"},
      {"two halves",
       {{good.borrow(), 0, page / 2}, {good.borrow(), 0, page / 2}},
       "EINVAL allocate"},
      {"from half a page on", {{good.borrow(), page / 2, page}}, "EINVAL allocate"},
      {"past the memfd's end", {{good.borrow(), page, 2 * page}}, "EINVAL allocate"},
      {"an offset that wraps", {{good.borrow(), UINT64_MAX - page + 1, page}}, "EINVAL allocate"},
      {"a sum that wraps",
       {{good.borrow(), 0, UINT64_MAX - page + 1}, {good.borrow(), 0, 2 * page}},
       "EINVAL allocate"},
      {"past the module's limit",
       {{good.borrow(), 0, backend.bytes_limit() + page}},
       "EINVAL allocate"},
      {"a memfd that may shrink", {{unsealed.borrow(), 0, page}}, "EINVAL allocate"},
      {"a memfd sealed against writing", {{sealed.borrow(), 0, page}}, "EINVAL allocate"},
      {"not a memfd", {{null.borrow(), 0, page}}, "EBADFD allocate"},
      {"not open", {{FdRef(-1), 0, page}}, "EBADFD allocate"},
      {"good, then not open", {{good.borrow(), 0, page}, {FdRef(-1), 0, page}}, "EBADFD allocate"}};
  for (const Row& row : rows) {
    CAPTURE(std::string(row.what));
    Block block;
    CHECK(Kind(backend.Compose(row.ranges, block)) == std::string(row.expected));
    CHECK_FALSE(block.filled());
    CHECK(backend.budget().held() == 0);
  }
}

}  // namespace
}  // namespace ion::testing
