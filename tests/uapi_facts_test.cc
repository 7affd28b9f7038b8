// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What the kernel's interfaces answer, as this library takes it for granted: raw calls, without any
// code of ours in between, so that a kernel that changes is noticed. Measured on Linux 6.12
// and 5.10; where they differ, the facts of both stand side by side.

#include <dirent.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/fd.h"
#include "ion/fd_socket.h"
#include "ion/status.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace ion::testing {
namespace {

constexpr uint64_t kPage = 4096, kBytes = 16 * kPage;
constexpr const char* kSystemHeap = "/dev/dma_heap/system";
constexpr const char* kUdmabuf = "/dev/udmabuf";

// What a call answered: its value, or the name of errno.
std::string Said(long answer) { return answer == -1 ? ErrnoName(errno) : std::to_string(answer); }
// The same for a call whose value is a descriptor: "ok", and it is closed.
std::string SaidFd(int fd) {
  if (fd == -1) return ErrnoName(errno);
  ::close(fd);
  return "ok";
}

bool Here(const char* path) {
  if (::access(path, F_OK) == 0) return true;
  Skip(std::string("no ") + path);
  return false;
}

std::string ReadFile(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}
std::string LinkOf(const UniqueFd& fd) {
  return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd.get()));
}
std::map<std::string, std::string> FdInfo(const UniqueFd& fd) {
  std::istringstream text(ReadFile("/proc/self/fdinfo/" + std::to_string(fd.get())));
  std::map<std::string, std::string> fields;
  for (std::string line; std::getline(text, line);) {
    const size_t colon = line.find(':');
    fields[line.substr(0, colon)] = line.substr(line.find_first_not_of(" \t", colon + 1));
  }
  return fields;
}
// How many hold a dma-buf, as fdinfo tells.
std::string Count(const UniqueFd& fd) { return FdInfo(fd)["count"]; }

void* Map(const UniqueFd& fd, uint64_t bytes = kBytes, int protection = PROT_READ | PROT_WRITE,
          int flags = MAP_SHARED, off_t offset = 0) {
  return ::mmap(nullptr, bytes, protection, flags, fd.get(), offset);
}
std::string SaidMap(const UniqueFd& fd, uint64_t bytes, int protection, int flags, off_t offset) {
  void* at = Map(fd, bytes, protection, flags, offset);
  if (at == MAP_FAILED) return ErrnoName(errno);
  ::munmap(at, bytes);
  return "ok";
}

std::string Sync(const UniqueFd& fd, uint64_t flags) {
  dma_buf_sync sync{.flags = flags};
  return Said(::ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, &sync));
}

UniqueFd SystemDmaBuf(uint64_t bytes = kBytes, int mode = O_RDWR) {
  UniqueFd fd = HeapDmaBuf(bytes, mode, kSystemHeap);
  REQUIRE(fd.valid());
  return fd;
}

// ---- Numbers and layouts ----

TEST_CASE("uapi: the ioctls have the numbers of every 64-bit kernel") {
  CHECK(DMA_HEAP_IOCTL_ALLOC == 0xc0184800);
  CHECK(DMA_BUF_IOCTL_SYNC == 0x40086200);
  CHECK(DMA_BUF_SET_NAME_A == 0x40046201);
  CHECK(DMA_BUF_SET_NAME_B == 0x40086201);
  CHECK(DMA_BUF_IOCTL_EXPORT_SYNC_FILE == 0xc0086202);
  CHECK(DMA_BUF_IOCTL_IMPORT_SYNC_FILE == 0x40086203);
  CHECK(UDMABUF_CREATE == 0x40187542);
  CHECK(UDMABUF_CREATE_LIST == 0x40087543);
}

TEST_CASE("uapi: the structs have the layout of every kernel") {
  static_assert(sizeof(dma_heap_allocation_data) == 24);
  static_assert(offsetof(dma_heap_allocation_data, fd) == 8);
  static_assert(offsetof(dma_heap_allocation_data, fd_flags) == 12);
  static_assert(offsetof(dma_heap_allocation_data, heap_flags) == 16);
  static_assert(sizeof(udmabuf_create) == 24 && sizeof(udmabuf_create_item) == 24);
  static_assert(sizeof(udmabuf_create_list) == 8);
  CHECK(DMA_BUF_NAME_LEN == 32);
  CHECK(DMA_BUF_SYNC_VALID_FLAGS_MASK == 7);
  CHECK((DMA_BUF_SYNC_READ | DMA_BUF_SYNC_WRITE) == DMA_BUF_SYNC_RW);
  CHECK(DMA_BUF_SYNC_START == 0);
  CHECK(DMA_BUF_SYNC_END == 4);
  CHECK(UDMABUF_FLAGS_CLOEXEC == 1);
}

// ---- Nodes of dma-heaps ----

// Calls f(an open node) for each dma-heap.
template <class F>
void OnEachNode(F f) {
  const LeakCheck leaks;
  if (!Here("/dev/dma_heap")) return;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/dma_heap")) {
    const std::string path = entry.path();
    CAPTURE(path);
    const UniqueFd node = OpenNode(path.c_str(), O_RDONLY);
    REQUIRE(node.valid());
    f(node);
  }
}
// What an allocation answered: "ok", or errno.
std::string Allocate(const UniqueFd& node, dma_heap_allocation_data data,
                     unsigned long request = DMA_HEAP_IOCTL_ALLOC) {
  if (::ioctl(node.get(), request, &data) != 0) return ErrnoName(errno);
  return SaidFd(static_cast<int>(data.fd));
}
constexpr uint32_t kFdFlags = O_RDWR | O_CLOEXEC;

TEST_CASE("uapi dma-heap: a node that is open for reading gives buffers for writing") {
  OnEachNode([](const UniqueFd& node) {
    dma_heap_allocation_data data{.len = kBytes, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0};
    REQUIRE(::ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, &data) == 0);
    const UniqueFd fd(static_cast<int>(data.fd));
    CHECK((::fcntl(fd.get(), F_GETFL) & O_ACCMODE) == O_RDWR);
    CHECK(::fcntl(fd.get(), F_GETFD) == FD_CLOEXEC);
    CHECK(SaidMap(fd, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0) == "ok");
  });
}

TEST_CASE("uapi dma-heap: a buffer is close-on-exec only where that is asked for") {
  OnEachNode([](const UniqueFd& node) {
    dma_heap_allocation_data data{.len = kBytes, .fd = 0, .fd_flags = O_RDWR, .heap_flags = 0};
    REQUIRE(::ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, &data) == 0);
    const UniqueFd fd(static_cast<int>(data.fd));
    CHECK(::fcntl(fd.get(), F_GETFD) == 0);
  });
}

TEST_CASE("uapi dma-heap: 0 bytes and SIZE_MAX are EINVAL, 1 byte is a page") {
  OnEachNode([](const UniqueFd& node) {
    for (const uint64_t len : {uint64_t{0}, UINT64_MAX, UINT64_MAX - 4094}) {
      CAPTURE(len);
      CHECK(Allocate(node, {.len = len, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0}) ==
            "EINVAL");
    }
    dma_heap_allocation_data data{.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0};
    REQUIRE(::ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, &data) == 0);
    const UniqueFd fd(static_cast<int>(data.fd));
    CHECK(::lseek(fd.get(), 0, SEEK_END) == kPage);
  });
}

TEST_CASE("uapi dma-heap: fd other than 0 is EINVAL") {
  OnEachNode([](const UniqueFd& node) {
    CHECK(Allocate(node, {.len = 1, .fd = 3, .fd_flags = kFdFlags, .heap_flags = 0}) == "EINVAL");
  });
}

TEST_CASE("uapi dma-heap: a flag of the descriptor beyond mode and O_CLOEXEC is EINVAL") {
  OnEachNode([](const UniqueFd& node) {
    CHECK(Allocate(node, {.len = 1, .fd = 0, .fd_flags = kFdFlags | O_NONBLOCK, .heap_flags = 0}) ==
          "EINVAL");
  });
}

TEST_CASE("uapi dma-heap: no heap has flags: any is EINVAL") {
  OnEachNode([](const UniqueFd& node) {
    for (int bit = 0; bit < 64; ++bit) {
      CAPTURE(bit);
      CHECK(Allocate(node,
                     {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = uint64_t{1} << bit}) ==
            "EINVAL");
    }
  });
}

TEST_CASE("uapi dma-heap: no argument is EFAULT") {
  OnEachNode([](const UniqueFd& node) {
    CHECK(Said(::ioctl(node.get(), DMA_HEAP_IOCTL_ALLOC, nullptr)) == "EFAULT");
  });
}

TEST_CASE("uapi dma-heap: an ioctl that it does not know is EINVAL, not ENOTTY") {
  OnEachNode([](const UniqueFd& node) {
    char data[64] = {};
    const unsigned long requests[] = {_IOWR('H', 1, dma_heap_allocation_data), _IO('H', 200),
                                      _IOWR('I', 1, int)};
    for (const unsigned long request : requests) {
      CAPTURE(request);
      CHECK(Said(::ioctl(node.get(), request, data)) == "EINVAL");
    }
  });
}

TEST_CASE("uapi dma-heap: a smaller and a larger struct are taken") {
  OnEachNode([](const UniqueFd& node) {
    for (const unsigned bytes : {16, 48}) {
      CAPTURE(bytes);
      dma_heap_allocation_data data[2] = {
          {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0}, {}};
      REQUIRE(Said(::ioctl(node.get(), _IOC(_IOC_READ | _IOC_WRITE, 'H', 0, bytes), data)) == "0");
      CHECK(SaidFd(static_cast<int>(data[0].fd)) == "ok");
    }
  });
}

TEST_CASE("uapi dma-heap: only an ioctl's number is looked at, not its type") {
  OnEachNode([](const UniqueFd& node) {
    CHECK(Allocate(node, {.len = 1, .fd = 0, .fd_flags = kFdFlags, .heap_flags = 0},
                   _IOWR('x', 0, dma_heap_allocation_data)) == "ok");
  });
}

TEST_CASE("uapi dma-heap: DMA_BUF_IOCTL_SYNC sent to a node is 0, and leaves a buffer behind") {
  OnEachNode([](const UniqueFd& node) {
    const ChildEnd end = RunInChild([&]() -> std::string {
      const size_t before = OpenDescriptors().size();
      const std::string said = Sync(node, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
      const size_t leaked = OpenDescriptors().size() - before;
      return said == "0" && leaked == 1 ? "" : said + " " + std::to_string(leaked);
    });
    CHECK(end.text == "");
  });
}

TEST_CASE("uapi dma-heap: a node's file system is tmpfs, as a memfd's, and it has no seals") {
  OnEachNode([](const UniqueFd& node) {
    struct statfs fs {};
    REQUIRE(::fstatfs(node.get(), &fs) == 0);
    CHECK(fs.f_type == 0x1021994);
    CHECK(Said(::fcntl(node.get(), F_GET_SEALS)) == "EINVAL");
  });
}

// ---- Descriptors of dma-bufs ----

TEST_CASE("uapi dma-buf: fstat tells mode 0600, the size, and an inode of its own") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd one = SystemDmaBuf(), two = SystemDmaBuf();
  struct stat first {
  }, second{};
  REQUIRE(::fstat(one.get(), &first) == 0);
  REQUIRE(::fstat(two.get(), &second) == 0);
  CHECK((first.st_mode & 07777) == 0600);
  CHECK(first.st_size == kBytes);
  CHECK(first.st_ino != second.st_ino);
}

TEST_CASE("uapi dma-buf: lseek answers only for the start and the end") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  CHECK(Said(::lseek(fd.get(), 0, SEEK_END)) == std::to_string(kBytes));
  CHECK(Said(::lseek(fd.get(), 0, SEEK_SET)) == "0");
  CHECK(Said(::lseek(fd.get(), 0, SEEK_CUR)) == "EINVAL");
  CHECK(Said(::lseek(fd.get(), 1, SEEK_SET)) == "EINVAL");
  CHECK(Said(::lseek(fd.get(), -1, SEEK_END)) == "EINVAL");
}

TEST_CASE("uapi dma-buf: its file system is DMAB (Linux 5.3)") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  struct statfs fs {};
  REQUIRE(::fstatfs(SystemDmaBuf().get(), &fs) == 0);
  CHECK(fs.f_type == 0x444d4142);
}

TEST_CASE("uapi dma-buf: SYNC wants a direction, and no bit that it does not know") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  for (const uint64_t flags : {DMA_BUF_SYNC_START, DMA_BUF_SYNC_END}) {
    CHECK(Sync(fd, flags) == "EINVAL");
    CHECK(Sync(fd, flags | DMA_BUF_SYNC_RW | 8) == "EINVAL");
    CHECK(Sync(fd, flags | DMA_BUF_SYNC_RW | uint64_t{1} << 63) == "EINVAL");
  }
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, nullptr)) == "EFAULT");
}

TEST_CASE("uapi dma-buf: a system heap's buffer takes an END without a START") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  for (const uint64_t direction : {DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW}) {
    CHECK(Sync(fd, DMA_BUF_SYNC_END | direction) == "0");
    CHECK(Sync(fd, DMA_BUF_SYNC_START | direction) == "0");
    CHECK(Sync(fd, DMA_BUF_SYNC_START | direction) == "0");
  }
}

TEST_CASE("uapi dma-buf: a name has at most 31 bytes") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  const std::string most(31, 'a'), more(32, 'b');
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, most.c_str())) == "0");
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, more.c_str())) == "EINVAL");
  CHECK(LinkOf(fd) == "/dmabuf:" + most);
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, "")) == "0");
  CHECK(LinkOf(fd) == "/dmabuf:");
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, nullptr)) == "EFAULT");
}

TEST_CASE("uapi dma-buf: both numbers of SET_NAME name") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME_A, "by A")) == "0");
  CHECK(LinkOf(fd) == "/dmabuf:by A");
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME_B, "by B")) == "0");
  CHECK(LinkOf(fd) == "/dmabuf:by B");
}

TEST_CASE("uapi dma-buf: an ioctl that it does not know is ENOTTY") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  CHECK(Said(::ioctl(SystemDmaBuf().get(), _IO('b', 99), 0)) == "ENOTTY");
}

TEST_CASE("uapi dma-buf: fdinfo tells size, count, exporter, and the name where there is one") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  auto info = FdInfo(fd);
  for (const char* const field : {"pos", "flags", "mnt_id"}) {
    CAPTURE(std::string(field));
    CHECK(info.contains(field));
  }
  CHECK(info.contains("ino") == !IsAs510());
  CHECK(info["size"] == std::to_string(kBytes));
  CHECK(info["exp_name"] == (IsAs510() ? "heap_helpers" : "system"));
  CHECK_FALSE(info.contains("name"));
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, "front")) == "0");
  CHECK(FdInfo(fd)["name"] == "front");
}

TEST_CASE("uapi dma-buf: a sync file is exported and imported, or ENOTTY (no CONFIG_SYNC_FILE)") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  // Not in 5.10, whatever its options.
  dma_buf_export_sync_file exported{.flags = DMA_BUF_SYNC_RW, .fd = -1};
  const std::string said = Said(::ioctl(fd.get(), DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &exported));
  dma_buf_import_sync_file imported{.flags = DMA_BUF_SYNC_RW, .fd = exported.fd};
  const std::string back = Said(::ioctl(fd.get(), DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &imported));
  CHECK(back == said);
  if (IsAs510()) CHECK(said == "ENOTTY");
  if (said == "0") {
    CHECK(SaidFd(exported.fd) == "ok");
  } else {
    CHECK(said == "ENOTTY");
  }
}

TEST_CASE("uapi dma-buf: an idle buffer polls as readable and writable at once") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  pollfd poll{.fd = fd.get(), .events = POLLIN | POLLOUT, .revents = 0};
  CHECK(::poll(&poll, 1, 0) == 1);
  CHECK(poll.revents == (POLLIN | POLLOUT));
}

TEST_CASE("uapi dma-buf: it is mapped shared, and not past its end") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  const int both = PROT_READ | PROT_WRITE;
  const off_t end = kBytes;
  CHECK(SaidMap(fd, kBytes, both, MAP_SHARED, 0) == "ok");
  CHECK(SaidMap(fd, kPage, both, MAP_SHARED, end - 4096) == "ok");
  CHECK(SaidMap(fd, kBytes, both, MAP_PRIVATE, 0) == "EINVAL");
  CHECK(SaidMap(fd, kBytes + kPage, both, MAP_SHARED, 0) == "EINVAL");
  CHECK(SaidMap(fd, kBytes, both, MAP_SHARED, 4096) == "EINVAL");
  CHECK(SaidMap(fd, kPage, both, MAP_SHARED, end) == "EINVAL");
}

TEST_CASE("uapi dma-buf: what is open for reading is mapped for reading") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf(kBytes, O_RDONLY);
  CHECK(SaidMap(fd, kBytes, PROT_READ, MAP_SHARED, 0) == "ok");
  CHECK(SaidMap(fd, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0) == "EACCES");
}

TEST_CASE("uapi dma-buf: a mapping takes mlock and mprotect, and drops nothing by MADV_DONTNEED") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  void* at = Map(fd);
  REQUIRE(at != MAP_FAILED);
  auto* const byte = static_cast<volatile char*>(at);
  *byte = 'd';
  CHECK(Said(::mlock(at, kBytes)) == "0");
  CHECK(Said(::mprotect(at, kBytes, PROT_READ)) == "0");
  CHECK(Said(::munlock(at, kBytes)) == "0");
  CHECK(Said(::madvise(at, kBytes, MADV_DONTNEED)) == (IsAs510() ? "0" : "EINVAL"));
  CHECK(*byte == 'd');
  CHECK(::munmap(at, kBytes) == 0);
}

TEST_CASE("uapi dma-buf: it is no file: not read, written, cut, sealed, or opened again") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  char byte = 0;
  CHECK(Said(::read(fd.get(), &byte, 1)) == "EINVAL");
  CHECK(Said(::write(fd.get(), &byte, 1)) == "EINVAL");
  CHECK(Said(::ftruncate(fd.get(), 0)) == "EINVAL");
  CHECK(Said(::fcntl(fd.get(), F_GET_SEALS)) == "EINVAL");
  CHECK(Said(::fallocate(fd.get(), 0, 0, kPage)) == "ENODEV");
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  CHECK(SaidFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) == "ENXIO");
}

TEST_CASE("uapi dma-buf: debugfs lists buffers and sums them up") {
  const LeakCheck leaks;
  const char* const path = "/sys/kernel/debug/dma_buf/bufinfo";
  if (!Here(kSystemHeap) || !Here(path)) return;
  const UniqueFd fd = SystemDmaBuf();
  REQUIRE(::ioctl(fd.get(), DMA_BUF_SET_NAME, "in debugfs") == 0);
  const std::string text = ReadFile(path);
  std::istringstream lines(text);
  std::string line, header;
  while (std::getline(lines, line) && header.empty()) {
    if (line.starts_with("size")) header = line;
  }
  std::istringstream words(header);
  std::string word, columns;
  while (words >> word) columns += word + " ";
  CHECK(columns == std::string("size flags mode count exp_name ino ") + (IsAs510() ? "" : "name "));
  CHECK(text.find("in debugfs") != std::string::npos);
  CHECK(text.find("Attached Devices:") != std::string::npos);
  CHECK(text.find("\nTotal ") != std::string::npos);
  CHECK(text.ends_with(" bytes\n"));
}

// ---- What `count` counts ----

TEST_CASE("uapi count: a buffer is 1, its mapping 2, a mapping that mprotect splits 4") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  CHECK(Count(fd) == "1");
  auto* at = static_cast<std::byte*>(Map(fd));
  REQUIRE(at != MAP_FAILED);
  CHECK(Count(fd) == "2");
  REQUIRE(::mprotect(at + kPage, kPage, PROT_READ) == 0);
  CHECK(Count(fd) == "4");
  CHECK(::munmap(at, kBytes) == 0);
  CHECK(Count(fd) == "1");
}

TEST_CASE("uapi count: a second descriptor counts, and so does one on its way through a socket") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  {
    const UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    CHECK(Count(fd) == "2");
  }
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd one(ends[0]), two(ends[1]);
  char byte = 'f';
  const FdRef sent = fd.borrow();
  REQUIRE(SendFds(one.borrow(), std::as_bytes(std::span(&byte, 1)), std::span(&sent, 1)).ok());
  CHECK(Count(fd) == "2");
  {
    UniqueFd received;
    REQUIRE(ReceiveFds(two.borrow(), std::as_writable_bytes(std::span(&byte, 1)),
                       std::span(&received, 1))
                .ok());
    REQUIRE(received.valid());
  }
  CHECK(Count(fd) == "1");
}

TEST_CASE("uapi count: a forked child counts for its descriptor and for its mapping") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  void* at = Map(fd);
  REQUIRE(at != MAP_FAILED);
  CHECK(RunInChild([&] { return Count(fd); }).text == "4");
  CHECK(Count(fd) == "2");
  REQUIRE(::madvise(at, kBytes, MADV_DONTFORK) == 0);
  CHECK(RunInChild([&] { return Count(fd); }).text == "3");
  CHECK(Count(fd) == "2");
  CHECK(::munmap(at, kBytes) == 0);
}

TEST_CASE("uapi count: a driver that imports a buffer counts, until it lets go") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  {
    const UniqueFd vgem = drm::OpenVgem();
    if (!vgem.valid()) return Skip("no vgem");
    drm::PrimeHandle prime{0, 0, fd.get()};
    REQUIRE(Said(::ioctl(vgem.get(), drm::kPrimeFdToHandle, &prime)) == "0");
    CHECK(Count(fd) == "4");
  }
  CHECK(Count(fd) == "1");
}

TEST_CASE("uapi count: a camera's own buffer shows nothing of the device that writes to it") {
  const LeakCheck leaks;
  const UniqueFd camera = OpenNode("/dev/video0");
  if (!camera.valid()) return Skip("no /dev/video0");
  v4l2_requestbuffers request{};
  request.count = 1;
  request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  request.memory = V4L2_MEMORY_MMAP;
  REQUIRE(Said(::ioctl(camera.get(), VIDIOC_REQBUFS, &request)) == "0");
  v4l2_exportbuffer exported{};
  exported.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  exported.flags = O_CLOEXEC | O_RDWR;
  REQUIRE(Said(::ioctl(camera.get(), VIDIOC_EXPBUF, &exported)) == "0");
  const UniqueFd fd(exported.fd);
  v4l2_buffer buffer{};
  buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  buffer.memory = V4L2_MEMORY_MMAP;
  REQUIRE(Said(::ioctl(camera.get(), VIDIOC_QBUF, &buffer)) == "0");
  CHECK(Count(fd) == "1");
  void* at = Map(fd, kPage);
  REQUIRE(at != MAP_FAILED);
  CHECK(Count(fd) == "2");
  CHECK(::munmap(at, kPage) == 0);
  pollfd poll{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  CHECK(::poll(&poll, 1, 0) == 1);
}

TEST_CASE("uapi count: a queue that takes a buffer counts 1") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf(4 << 20);
  {
    const UniqueFd camera = OpenNode("/dev/video0");
    if (!camera.valid()) return Skip("no /dev/video0");
    v4l2_requestbuffers request{};
    request.count = 1;
    request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    request.memory = V4L2_MEMORY_DMABUF;
    REQUIRE(Said(::ioctl(camera.get(), VIDIOC_REQBUFS, &request)) == "0");
    v4l2_buffer buffer{};
    buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer.memory = V4L2_MEMORY_DMABUF;
    buffer.m.fd = fd.get();
    REQUIRE(Said(::ioctl(camera.get(), VIDIOC_QBUF, &buffer)) == "0");
    CHECK(Count(fd) == "2");
  }
  CHECK(Count(fd) == "1");
}

// ---- Forks ----

TEST_CASE("uapi fork: a mapping of a dma-buf that is marked DONTFORK is not there in the child") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  void* const address = Map(fd);
  REQUIRE(address != MAP_FAILED);
  REQUIRE(::madvise(address, kBytes, MADV_DONTFORK) == 0);
  CHECK(RunInChild([&] { return Said(::munmap(address, kBytes)); }).text == "0");
  const ChildEnd touched = RunInChild([&] {
    *static_cast<volatile char*>(address) = 1;
    return "it was there";
  });
  CHECK(touched.signal == SIGSEGV);
  // Not to be undone, but on 5.10.
  CHECK(Said(::madvise(address, kBytes, MADV_DOFORK)) == (IsAs510() ? "0" : "EINVAL"));
  CHECK(::munmap(address, kBytes) == 0);
}

TEST_CASE("uapi fork: a page that is marked WIPEONFORK reads 0 in the child") {
  void* at = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(at != MAP_FAILED);
  auto* byte = static_cast<volatile unsigned char*>(at);
  *byte = 7;
  REQUIRE(::madvise(at, kPage, MADV_WIPEONFORK) == 0);
  CHECK(RunInChild([&] { return std::to_string(*byte); }).text == "0");
  CHECK(*byte == 7);
  CHECK(::munmap(at, kPage) == 0);
}

// ---- udmabuf ----

// What UDMABUF_CREATE answered: "ok", or errno.
std::string Create(int memfd, uint64_t offset, uint64_t bytes,
                   uint32_t flags = UDMABUF_FLAGS_CLOEXEC) {
  const UniqueFd node = OpenNode(kUdmabuf);
  udmabuf_create create{
      .memfd = static_cast<uint32_t>(memfd), .flags = flags, .offset = offset, .size = bytes};
  return SaidFd(::ioctl(node.get(), UDMABUF_CREATE, &create));
}
std::string SaidList(const UniqueFd& memfd, size_t pages) {
  const UniqueFd fd = UdmabufOfPages(memfd.borrow(), std::vector<uint64_t>(pages, 0));
  return fd.valid() ? "ok" : ErrnoName(errno);
}
void Put(const UniqueFd& memfd, uint64_t page, char byte) {
  REQUIRE(::pwrite(memfd.get(), &byte, 1, static_cast<off_t>(page * kPage)) == 1);
}
char Get(const UniqueFd& memfd, uint64_t page) {
  char byte = 0;
  REQUIRE(::pread(memfd.get(), &byte, 1, static_cast<off_t>(page * kPage)) == 1);
  return byte;
}

TEST_CASE("uapi udmabuf: the memfd must be sealed against shrinking, and not against writing") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  CHECK(Create(Memfd(kBytes).get(), 0, kBytes) == "ok");
  CHECK(Create(Memfd(kBytes, 0).get(), 0, kBytes) == "EINVAL");
  CHECK(Create(Memfd(kBytes, F_SEAL_GROW).get(), 0, kBytes) == "EINVAL");
  CHECK(Create(Memfd(kBytes, F_SEAL_SHRINK | F_SEAL_WRITE).get(), 0, kBytes) == "EINVAL");
}

TEST_CASE("uapi udmabuf: offset and size are whole pages within the memfd") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes);
  CHECK(Create(memfd.get(), kPage, kPage) == "ok");
  CHECK(Create(memfd.get(), 0, 0) == "EINVAL");
  CHECK(Create(memfd.get(), UINT64_MAX - kPage + 1, kPage) == (IsAs510() ? "EFBIG" : "EINVAL"));
  CHECK(Create(memfd.get(), 0, 1) == "EINVAL");
  CHECK(Create(memfd.get(), 1, kPage) == "EINVAL");
  CHECK(Create(memfd.get(), 0, kPage + 1) == "EINVAL");
  CHECK(Create(memfd.get(), 0, kBytes + kPage) == "EINVAL");
  CHECK(Create(memfd.get(), kBytes, kPage) == "EINVAL");
}

TEST_CASE("uapi udmabuf: what is no memfd is EBADFD, open or not") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  CHECK(Create(OpenNode("/dev/null").get(), 0, kPage) == "EBADFD");
  CHECK(Create(-1, 0, kPage) == "EBADFD");
}

TEST_CASE("uapi udmabuf: a flag that it does not know is ignored") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  CHECK(Create(Memfd(kBytes).get(), 0, kBytes, UDMABUF_FLAGS_CLOEXEC | 2) == "ok");
}

TEST_CASE("uapi udmabuf: its limits are parameters, 64 MiB and 1024 by default") {
  if (!Here(kUdmabuf)) return;
  if (IsAs510()) {
    CHECK_FALSE(std::filesystem::exists("/sys/module/udmabuf/parameters"));
    return;
  }
  CHECK(ReadFile("/sys/module/udmabuf/parameters/size_limit_mb") == "64\n");
  CHECK(ReadFile("/sys/module/udmabuf/parameters/list_limit") == "1024\n");
}

TEST_CASE("uapi udmabuf: 64 MiB are given, a page more is EINVAL") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const uint64_t most = uint64_t{64} << 20;
  CHECK(Create(Memfd(most + kPage).get(), 0, most) == "ok");
  CHECK(Create(Memfd(most + kPage).get(), 0, most + kPage) == "EINVAL");
}

TEST_CASE("uapi udmabuf: a list has 1 to 1024 items") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes);
  CHECK(SaidList(memfd, 0) == "EINVAL");
  CHECK(SaidList(memfd, 1) == "ok");
  CHECK(SaidList(memfd, 1024) == "ok");
  CHECK(SaidList(memfd, 1025) == "EINVAL");
}

TEST_CASE("uapi udmabuf: a list keeps its order, and takes a page twice") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes);
  for (uint64_t page = 0; page < 4; ++page) Put(memfd, page, static_cast<char>('a' + page));
  const UniqueFd fd = UdmabufOfPages(memfd.borrow(), {3, 0, 0, 1});
  REQUIRE(fd.valid());
  auto* at = static_cast<char*>(Map(fd, 4 * kPage));
  REQUIRE(at != MAP_FAILED);
  const std::string seen{at[0], at[kPage], at[2 * kPage], at[3 * kPage]};
  CHECK(seen == "daab");
  at[kPage] = 'x';
  CHECK(at[2 * kPage] == 'x');
  CHECK(::munmap(at, 4 * kPage) == 0);
}

TEST_CASE("uapi udmabuf: an END before any START is EINVAL, after one it is not") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes), fd = UdmabufOf(memfd.borrow(), kBytes);
  REQUIRE(fd.valid());
  CHECK(Sync(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == "EINVAL");
  CHECK(Sync(fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == "0");
  CHECK(Sync(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == "0");
  CHECK(Sync(fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW) == "0");
}

TEST_CASE("uapi udmabuf: it is the memfd's memory, until a hole is punched into that") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes);
  Put(memfd, 0, 'm');
  const UniqueFd fd = UdmabufOf(memfd.borrow(), kBytes);
  REQUIRE(fd.valid());
  void* address = Map(fd);
  REQUIRE(address != MAP_FAILED);
  auto* at = static_cast<volatile char*>(address);
  CHECK(at[0] == 'm');
  at[0] = 'd';
  CHECK(Get(memfd, 0) == 'd');

  // There the pages are mapped as the memfd's are, but not known to it: "BUG: Bad page cache".
  if (IsAs510()) REQUIRE(::munmap(address, kBytes) == 0);
  REQUIRE(::fallocate(memfd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, kPage) == 0);
  CHECK(Get(memfd, 0) == 0);
  if (IsAs510()) REQUIRE((address = Map(fd)) != MAP_FAILED);
  at = static_cast<volatile char*>(address);
  CHECK(at[0] == 'd');
  at[0] = 'e';
  CHECK(Get(memfd, 0) == 0);
  CHECK(::munmap(address, kBytes) == 0);
}

TEST_CASE("uapi udmabuf: its count does not see who holds the memfd") {
  const LeakCheck leaks;
  if (!Here(kUdmabuf)) return;
  const UniqueFd memfd = Memfd(kBytes), fd = UdmabufOf(memfd.borrow(), kBytes);
  REQUIRE(fd.valid());
  const UniqueFd copy(::fcntl(memfd.get(), F_DUPFD_CLOEXEC, 0));
  CHECK(Count(fd) == "1");
  CHECK(FdInfo(fd)["exp_name"] == "udmabuf");
}

// ---- memfd ----

TEST_CASE("uapi memfd: DMA_BUF_IOCTL_SYNC is ENOTTY") {
  const LeakCheck leaks;
  CHECK(Sync(Memfd(kBytes), DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW) == "ENOTTY");
}

TEST_CASE("uapi memfd: its file system is tmpfs, and it has seals and no count") {
  const LeakCheck leaks;
  const UniqueFd memfd = Memfd(kBytes);
  struct statfs fs {};
  REQUIRE(::fstatfs(memfd.get(), &fs) == 0);
  CHECK(fs.f_type == 0x1021994);
  CHECK(::fcntl(memfd.get(), F_GET_SEALS) == F_SEAL_SHRINK);
  CHECK(Count(memfd) == "");
}

TEST_CASE("uapi memfd: one that is sealed against writing is mapped for reading (Linux 6.7)") {
  const LeakCheck leaks;
  const auto said = [](int seal) {
    return SaidMap(Memfd(kBytes, F_SEAL_SHRINK | seal), kBytes, PROT_READ, MAP_SHARED, 0);
  };
  CHECK(said(F_SEAL_FUTURE_WRITE) == "ok");
  CHECK(said(F_SEAL_WRITE) == (IsAs510() ? "EPERM" : "ok"));
}

TEST_CASE("uapi memfd: a name has at most 249 bytes") {
  const LeakCheck leaks;
  CHECK(SaidFd(::memfd_create(std::string(249, 'n').c_str(), MFD_CLOEXEC)) == "ok");
  CHECK(SaidFd(::memfd_create(std::string(250, 'n').c_str(), MFD_CLOEXEC)) == "EINVAL");
}

TEST_CASE("uapi memfd: it can be opened again, for reading only") {
  const LeakCheck leaks;
  const UniqueFd memfd = Memfd(kBytes), again = ReadOnly(memfd);
  REQUIRE(again.valid());
  CHECK(SaidMap(again, kBytes, PROT_READ, MAP_SHARED, 0) == "ok");
  CHECK(SaidMap(again, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, 0) == "EACCES");
}

TEST_CASE("uapi memfd: sealed against shrinking it cannot be cut") {
  const LeakCheck leaks;
  CHECK(Said(::ftruncate(Memfd(kBytes).get(), kPage)) == "EPERM");
  CHECK(Said(::ftruncate(Memfd(kBytes, 0).get(), kPage)) == "0");
}

}  // namespace
}  // namespace ion::testing
