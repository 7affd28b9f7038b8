// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What the kernel's interfaces answer, as this library takes it for granted: raw calls, without any
// code of ours in between, so that a kernel that changes is noticed. Measured on Linux 6.12 and
// 5.10; where they differ, the facts of both stand side by side. What can be asked through a
// Syscalls policy stands in tests/*_probes.h.

#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

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

#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
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

void* Map(const UniqueFd& fd, uint64_t bytes = kBytes, int protection = PROT_READ | PROT_WRITE) {
  return ::mmap(nullptr, bytes, protection, MAP_SHARED, fd.get(), 0);
}
std::string SaidMap(const UniqueFd& fd, int protection) {
  void* at = Map(fd, kBytes, protection);
  if (at == MAP_FAILED) return ErrnoName(errno);
  ::munmap(at, kBytes);
  return "ok";
}

std::string Sync(const UniqueFd& fd, uint64_t flags) {
  dma_buf_sync sync{.flags = flags};
  return Said(::ioctl(fd.get(), DMA_BUF_IOCTL_SYNC, &sync));
}

UniqueFd SystemDmaBuf(uint64_t bytes = kBytes) {
  UniqueFd fd = HeapDmaBuf(bytes, O_RDWR, kSystemHeap);
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

// ---- Descriptors of dma-bufs ----

TEST_CASE("uapi dma-buf: its name is in its link in /proc") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  CHECK(LinkOf(fd) == "/dmabuf:");
  const std::string most(31, 'a');
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, most.c_str())) == "0");
  CHECK(LinkOf(fd) == "/dmabuf:" + most);
  CHECK(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, "")) == "0");
  CHECK(LinkOf(fd) == "/dmabuf:");
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

TEST_CASE("uapi dma-buf: it is mapped shared; private is EINVAL to Linux 6.12") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  void* const at = ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (at != MAP_FAILED) {
    CHECK(MayBeAs72());
    CHECK(::munmap(at, kBytes) == 0);
  } else {
    CHECK(errno == EINVAL);
  }
}

TEST_CASE("uapi dma-buf: a mapping takes mlock and mprotect") {
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
  CHECK(::munmap(at, kBytes) == 0);
}

TEST_CASE("uapi dma-buf: it has no room to be made, and is not opened again") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
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

TEST_CASE("uapi count: a name may have lines of its own, and stands behind the count") {
  const LeakCheck leaks;
  if (!Here(kSystemHeap)) return;
  const UniqueFd fd = SystemDmaBuf();
  const UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  REQUIRE(Said(::ioctl(fd.get(), DMA_BUF_SET_NAME, "x\ncount:\t1\n")) == "0");
  const std::string text = ReadFile("/proc/self/fdinfo/" + std::to_string(fd.get()));
  const size_t first = text.find("\ncount:\t2\n"), forged = text.find("\ncount:\t1\n");
  REQUIRE(forged != std::string::npos);
  CHECK(first < forged);
}

// Whether bytes that are written to `fd` after its only mapping has gone are seen by who lent a
// page of that mapping to a pipe, though `count` is 1.
bool PipeKeepsPageOf(const UniqueFd& fd) {
  auto* at = static_cast<char*>(Map(fd));
  REQUIRE(at != MAP_FAILED);
  at[0] = 'a';
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd out(ends[0]), in(ends[1]);
  iovec page{.iov_base = at, .iov_len = 1};
  const bool lent = ::vmsplice(in.get(), &page, 1, 0) == 1;
  CHECK(::munmap(at, kBytes) == 0);
  CHECK(Count(fd) == "1");
  if (!lent) return false;
  at = static_cast<char*>(Map(fd));
  REQUIRE(at != MAP_FAILED);
  at[0] = 'b';
  CHECK(::munmap(at, kBytes) == 0);
  char byte = 0;
  REQUIRE(::read(out.get(), &byte, 1) == 1);
  return byte == 'b';
}
// Whether madvise takes what it does not take for memory that a driver maps by its addresses.
std::string SaidAdvice(const UniqueFd& fd) {
  void* at = Map(fd);
  REQUIRE(at != MAP_FAILED);
  std::string said;
  for (const int advice : {MADV_DONTNEED, MADV_DODUMP}) {
    said += Said(::madvise(at, kPage, advice)) + " ";
  }
  CHECK(::munmap(at, kBytes) == 0);
  return said;
}

TEST_CASE("uapi count: does not count a pipe that was lent a page, where pages can be lent") {
  const LeakCheck leaks;
  std::map<std::string, UniqueFd> dma_bufs;
  if (Here(kSystemHeap)) dma_bufs["system"] = SystemDmaBuf();
  if (Here("/dev/dma_heap/reserved")) {
    dma_bufs["cma"] = HeapDmaBuf(kBytes, O_RDWR, "/dev/dma_heap/reserved");
  }
  if (Here(kUdmabuf)) dma_bufs["udmabuf"] = UdmabufOf(Memfd(kBytes).borrow(), kBytes);
  for (const auto& dma_buf : dma_bufs) {
    CAPTURE(dma_buf.first);
    REQUIRE(dma_buf.second.valid());
    CHECK(PipeKeepsPageOf(dma_buf.second) == IsAs510());
    CHECK(SaidAdvice(dma_buf.second) == (IsAs510() ? "0 0 " : "EINVAL EINVAL "));
  }
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

void Put(const UniqueFd& memfd, uint64_t page, char byte) {
  REQUIRE(::pwrite(memfd.get(), &byte, 1, static_cast<off_t>(page * kPage)) == 1);
}
char Get(const UniqueFd& memfd, uint64_t page) {
  char byte = 0;
  REQUIRE(::pread(memfd.get(), &byte, 1, static_cast<off_t>(page * kPage)) == 1);
  return byte;
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
    return SaidMap(Memfd(kBytes, F_SEAL_SHRINK | seal), PROT_READ);
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
  CHECK(SaidMap(again, PROT_READ) == "ok");
  CHECK(SaidMap(again, PROT_READ | PROT_WRITE) == "EACCES");
}

TEST_CASE("uapi memfd: sealed against shrinking it cannot be cut") {
  const LeakCheck leaks;
  CHECK(Said(::ftruncate(Memfd(kBytes).get(), kPage)) == "EPERM");
  CHECK(Said(::ftruncate(Memfd(kBytes, 0).get(), kPage)) == "0");
}

}  // namespace
}  // namespace ion::testing
