// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// What a client imports: which memory it is, which part of it is mapped, whose account it is on,
// and what is never asked of it.

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/budget.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/platforms/heaps.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/leak_check.h"
#include "tests/support/pooled.h"
#include "tests/support/temp_dir.h"

namespace ion::testing {
namespace {

constexpr uint64_t kPage = 4096;

template <class Sys>
using DmaHeapsOf = platforms::Heaps<DmaHeapBackend<Sys>>;
template <class Sys>
using MemfdsOf = platforms::Heaps<MemfdBackend<Sys>>;

// Keeps a new buffer, whose pages have bytes from `first` on; a descriptor of it.
struct Shared {
  Handle handle;
  UniqueFd fd;
};
template <class C>
Shared Make(C& client, uint64_t pages, uint8_t first) {
  Buffer lease = client.Allocate({.bytes = pages * kPage}).value();
  {
    const auto mapping = WritableMapping::Of(lease).value();
    const auto cpu = CpuWrite::Begin(mapping).value();
    for (size_t i = 0; i < cpu.bytes().size(); ++i) {
      cpu.bytes()[i] = static_cast<std::byte>(first + i / kPage);
    }
  }
  const Handle handle = client.MakeHandle(std::move(lease)).value();
  return {handle, client.Share(handle).value()};
}
template <class C>
int FirstByte(C& client, const Handle& handle, MapRange range = {}) {
  const auto mapping = client.template Map<MapMode::kReadOnly>(handle, range);
  return mapping.ok() ? std::to_integer<int>(mapping->unsynced()[0]) : -ErrnoOf(mapping.status());
}
UniqueFd Reopened(const UniqueFd& fd, int flags) {
  return UniqueFd(::open(("/proc/self/fd/" + std::to_string(fd.get())).c_str(), flags | O_CLOEXEC));
}

// ---- Which part ----

// As exporters of DRM shmem memory: the offset is ignored.
struct FromItsStart : FakeSyscalls {
  FromItsStart() : FakeSyscalls(Linux612Machine()) {}
  long Mmap(size_t bytes, int protection, int fd, off_t) const noexcept {
    return FakeSyscalls::Mmap(bytes, protection, fd, 0);
  }
};

TEST_CASE("Import: a part of a dma-buf is that part, though its exporter maps from the start") {
  const LeakCheck leaks;
  const FromItsStart sys;
  auto manager = DmaHeapsOf<FromItsStart>::Open({.sys = sys}).value();
  auto peers = DmaHeapsOf<FromItsStart>::Open({.sys = sys}).value();
  auto client = manager.CreateClient({}).value();
  auto peer = peers.CreateClient({}).value();
  const Shared theirs = Make(peer, 4, 0x40);
  const Handle handle = client.Import(theirs.fd.borrow()).value();
  std::vector<ReadOnlyMapping> parts;
  for (uint64_t page = 0; page < 4; ++page) {
    parts.push_back(
        client.Map<MapMode::kReadOnly>(handle, {.offset = page * kPage, .bytes = kPage}).value());
  }
  for (size_t page = 0; page < 4; ++page) {
    CHECK(std::to_integer<size_t>(parts[page].unsynced()[0]) == 0x40 + page);
  }
  CHECK(FirstByte(client, handle, {.offset = 2 * kPage}) == 0x42);
  parts.erase(parts.begin() + 1);
  CHECK(std::to_integer<int>(parts[1].unsynced()[0]) == 0x42);
  CHECK(FirstByte(client, handle, {.offset = 3 * kPage, .bytes = 2 * kPage}) == -EINVAL);
  CHECK(FirstByte(client, handle, {.offset = 1, .bytes = kPage}) == -EINVAL);
}

// ---- Which memory ----

// A kernel whose inode numbers came back: each buffer has that of every other.
template <class Kernel>
struct OneInode : Kernel {
  using Kernel::Kernel;
  long Fstat(int fd, struct stat* to) const noexcept {
    const long answer = Kernel::Fstat(fd, to);
    if (!S_ISCHR(to->st_mode) && !S_ISDIR(to->st_mode)) to->st_ino = 4711;
    return answer;
  }
};
// As in a sandbox that forbids to compare.
template <class Kernel>
struct Incomparable : OneInode<Kernel> {
  using OneInode<Kernel>::OneInode;
  long SameInode(int, int) const noexcept { return -EPERM; }
  long Uname(struct utsname* to) const noexcept {
    const long answer = Kernel::Uname(to);
    std::snprintf(to->release, sizeof(to->release), "5.10.0");
    return answer;
  }
};

template <class M, class Sys>
void TwoOfOneInode(const Sys& sys, bool comparable) {
  const LeakCheck leaks;
  auto manager = M::Open({.sys = sys}).value();
  auto client = manager.CreateClient({}).value();
  auto peer = manager.CreateClient({}).value();
  const Shared one = Make(peer, 1, 1), other = Make(peer, 1, 2), mine = Make(client, 1, 3);
  const Handle first = client.Import(one.fd.borrow()).value();
  const Handle second = client.Import(other.fd.borrow()).value();
  CHECK(first != second);
  CHECK(FirstByte(client, first) == 1);
  CHECK(FirstByte(client, second) == 2);
  // It is known again where that is sure.
  CHECK((client.Import(other.fd.borrow()).value() == second) == comparable);
  CHECK((client.Import(mine.fd.borrow()).value() == mine.handle) == comparable);
}
TEST_CASE("Import: two buffers of one inode number are two") {
  SUBCASE("dma-bufs") {
    using Sys = OneInode<FakeSyscalls>;
    TwoOfOneInode<DmaHeapsOf<Sys>>(Sys(Linux510Machine()), true);
  }
  SUBCASE("memfds") {
    TwoOfOneInode<MemfdsOf<OneInode<LinuxSyscalls>>>(OneInode<LinuxSyscalls>(), true);
  }
  SUBCASE("where nobody may compare them") {
    using Sys = Incomparable<FakeSyscalls>;
    TwoOfOneInode<DmaHeapsOf<Sys>>(Sys(Linux510Machine()), false);
  }
}

TEST_CASE("Import: of a read-only and a writable descriptor the writable one counts") {
  const LeakCheck leaks;
  auto manager = Open<MemfdsOf<LinuxSyscalls>>();
  auto peers = Open<MemfdsOf<LinuxSyscalls>>();
  auto client = manager.CreateClient({}).value();
  auto peer = peers.CreateClient({}).value();
  const Shared theirs = Make(peer, 2, 7);
  const UniqueFd read_only = Reopened(theirs.fd, O_RDONLY);
  REQUIRE(read_only.valid());
  const Handle handle = client.Import(read_only.borrow()).value();
  CHECK(ErrnoOf(client.Map<MapMode::kWritable>(handle).status()) == EACCES);
  {
    const auto before = client.Map<MapMode::kReadOnly>(handle).value();
    CHECK(client.Import(theirs.fd.borrow()).value() == handle);
    const auto after = client.Map<MapMode::kWritable>(handle).value();
    CpuWrite::Begin(after).value().bytes()[0] = std::byte{9};
    CHECK(before.unsynced()[0] == std::byte{9});
    // And not the other way round.
    CHECK(client.Import(read_only.borrow()).value() == handle);
  }
  CHECK(client.Map<MapMode::kWritable>(handle).ok());
  CHECK(client.Info(handle)->count == 3);
  for (int i = 0; i < 3; ++i) CHECK(client.Free(handle).ok());
  CHECK(manager.MakeReport().buffers.empty());
}

// ---- Whose account ----

TEST_CASE("Import: what we allocated is charged until none of us holds it") {
  const LeakCheck leaks;
  const auto budget = std::make_shared<Budget>(16 * kPage);
  auto manager = Open<MemfdsOf<LinuxSyscalls>>({.budget = budget});
  auto client = manager.CreateClient({.quota_bytes = 4 * kPage, .exact_quota = true}).value();
  auto other = manager.CreateClient({.quota_bytes = 64 * kPage, .exact_quota = true}).value();
  SUBCASE("though all let go of it, and one takes it back") {
    std::vector<Shared> held;
    for (int i = 0; i < 4; ++i) {
      Shared shared = Make(client, 1, 1);
      CHECK(client.Free(shared.handle).ok());
      CHECK(client.held_bytes() == static_cast<uint64_t>(i) * kPage);
      shared.handle = client.Import(shared.fd.borrow()).value();
      held.push_back(std::move(shared));
    }
    CHECK(client.held_bytes() == 4 * kPage);
    CHECK(budget->held() == 4 * kPage);
    CHECK(ErrnoOf(client.Allocate({.bytes = 1}).status()) == EDQUOT);
    const Shared more = Make(other, 1, 1);
    const absl::Status refused = client.Import(more.fd.borrow()).status();
    CHECK(ErrnoOf(refused) == EDQUOT);
    CHECK(refused.message().find("it holds 16384 bytes of 16384") != std::string_view::npos);
    for (const Shared& shared : held) CHECK(client.Free(shared.handle).ok());
    CHECK(client.held_bytes() == 0);
    CHECK(client.Import(more.fd.borrow()).ok());
    CHECK(budget->held() == kPage);
  }
  SUBCASE("once in the budget, and on each account") {
    const Shared shared = Make(client, 4, 1);
    const Handle theirs = other.Import(shared.fd.borrow()).value();
    CHECK(other.held_bytes() == 4 * kPage);
    CHECK(budget->held() == 4 * kPage);
    CHECK(client.Free(shared.handle).ok());
    CHECK(client.held_bytes() == 0);
    CHECK(budget->held() == 4 * kPage);
    CHECK(other.Free(theirs).ok());
    CHECK(other.held_bytes() == 0);
    CHECK(budget->held() == 0);
  }
  SUBCASE("past the budget, too") {
    const Shared gone = Make(other, 16, 1);
    CHECK(other.Free(gone.handle).ok());
    const Shared full = Make(other, 16, 2);
    CHECK(ErrnoOf(other.Import(gone.fd.borrow()).status()) == ENOMEM);
    CHECK(other.Free(full.handle).ok());
    const Handle back = other.Import(gone.fd.borrow()).value();
    CHECK(FirstByte(other, back) == 1);
  }
  SUBCASE("and a stranger's is on nobody's") {
    auto peers = Open<MemfdsOf<LinuxSyscalls>>();
    auto peer = peers.CreateClient({}).value();
    const Shared theirs = Make(peer, 8, 1);
    CHECK(client.Import(theirs.fd.borrow()).ok());
    CHECK(client.held_bytes() == 0);
    CHECK(budget->held() == 0);
  }
}

TEST_CASE("Import: buffers and handles are bounded by count, and the refusal has the figures") {
  const LeakCheck leaks;
  auto manager = Open<MemfdsOf<LinuxSyscalls>>();
  auto peers = Open<MemfdsOf<LinuxSyscalls>>();
  auto peer = peers.CreateClient({}).value();
  const Shared one = Make(peer, 1, 1), other = Make(peer, 1, 2);
  SUBCASE("buffers") {
    auto client = manager.CreateClient({.name = "greedy", .max_buffers = 2}).value();
    auto victim = manager.CreateClient({.name = "victim"}).value();
    Buffer lease = client.Allocate({.bytes = 1}).value();
    const Handle handle = client.Import(one.fd.borrow()).value();
    for (const absl::Status& refused :
         {client.Import(other.fd.borrow()).status(), client.Allocate({.bytes = 1}).status()}) {
      CHECK(ErrnoOf(refused) == EDQUOT);
      CHECK(refused.message().find("past the client's max_buffers") != std::string_view::npos);
      CHECK(refused.message().find("it has 2 of 2") != std::string_view::npos);
    }
    CHECK(victim.Allocate({.bytes = 1}).ok());
    const Report report = manager.MakeReport();
    REQUIRE(report.clients.size() == 1);
    CHECK(report.clients[0].buffers == 2);
    CHECK(CountText(report).find("greedy") != std::string::npos);
    // What it has already is no more.
    CHECK(client.Import(one.fd.borrow()).value() == handle);
    lease = Buffer();
    CHECK(client.Import(other.fd.borrow()).ok());
    CHECK(client.Free(handle).ok());
    CHECK(client.Free(handle).ok());
    CHECK(client.Allocate({.bytes = 1}).ok());
  }
  SUBCASE("handles") {
    auto client = manager.CreateClient({.name = "greedy", .max_handles = 1}).value();
    const Handle handle = client.Import(one.fd.borrow()).value();
    Buffer lease = client.Allocate({.bytes = 1}).value();
    const absl::Status refused = client.MakeHandle(std::move(lease)).status();
    CHECK(ErrnoOf(refused) == EDQUOT);
    CHECK(refused.message().find("max_handles") != std::string_view::npos);
    CHECK(refused.message().find("it has 1 of 1") != std::string_view::npos);
    CHECK(lease.valid());  // NOLINT: it stays as it was
    CHECK(ErrnoOf(client.Import(other.fd.borrow()).status()) == EDQUOT);
    CHECK(client.Free(handle).ok());
    CHECK(client.MakeHandle(std::move(lease)).ok());
  }
  SUBCASE("what lies idle in a pool is given back first") {
    auto pooled = Open<Manager<MemfdBackend<>, PooledHeap<SystemHeap<MemfdBackend<>>>>>();
    auto client = pooled.CreateClient({.max_buffers = 2}).value();
    { const Buffer one_page[] = {Take(client, kPage), Take(client, kPage)}; }
    CHECK(Take(client, 1 << 20).valid());
  }
}

// ---- Never asked ----

// A file of a server that does not answer: which calls ask it.
struct Server {
  int fd = -1;
  std::set<std::string> asked = {};
};
template <class Kernel>
class ServedSyscalls : public Kernel {
 public:
  ServedSyscalls() = default;
  ServedSyscalls(const Kernel& kernel, Server* server) : Kernel(kernel), server_(server) {}

  long Close(int fd) const noexcept { return Note("close", fd), Kernel::Close(fd); }
  long Fstat(int fd, struct stat* to) const noexcept {
    return Note("fstat", fd), Kernel::Fstat(fd, to);
  }
  long Fstatfs(int fd, struct statfs* to) const noexcept {
    return Note("fstatfs", fd), Kernel::Fstatfs(fd, to);
  }
  long Lseek(int fd, off_t offset, int whence) const noexcept {
    return Note("lseek", fd), Kernel::Lseek(fd, offset, whence);
  }
  long Read(int fd, void* to, size_t bytes) const noexcept {
    return Note("read", fd), Kernel::Read(fd, to, bytes);
  }
  long Mmap(size_t bytes, int protection, int fd, off_t offset) const noexcept {
    return Note("mmap", fd), Kernel::Mmap(bytes, protection, fd, offset);
  }
  long Ioctl(int fd, unsigned long request, void* argument) const noexcept {
    if (request != FIOQSIZE) Note("ioctl", fd);
    return Kernel::Ioctl(fd, request, argument);
  }
  // Nothing is to be closed, where there is no copy.
  long Fcntl(int fd, int command, long argument) const noexcept {
    if (command == F_DUPFD_CLOEXEC) Note("dup", fd);
    return Kernel::Fcntl(fd, command, argument);
  }

 private:
  void Note(const char* call, int fd) const {
    if (server_ != nullptr && fd == server_->fd) server_->asked.insert(call);
  }
  Server* server_ = nullptr;
};

template <template <class> class M, class Kernel>
void RefusesServedFiles(const Kernel& kernel) {
  const LeakCheck leaks;
  Server server;
  using Sys = ServedSyscalls<Kernel>;
  auto manager = M<Sys>::Open({.sys = Sys(kernel, &server)}).value();
  auto client = manager.CreateClient({}).value();
  const TempDir directory;
  const std::string path = directory.File("served", "text");
  const std::string fifo = directory.At("fifo");
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  for (const char* name : {path.c_str(), directory.path().c_str(), fifo.c_str()}) {
    for (const int mode : {O_RDONLY, O_RDWR, O_PATH}) {
      const UniqueFd file(::open(name, mode | O_CLOEXEC | O_NONBLOCK));
      // Of tmpfs the kernel answers for all, as for a memfd.
      if (!file.valid() || ::fcntl(file.get(), F_GET_SEALS) >= 0) continue;
      server.fd = file.get();
      const absl::Status refused = client.Import(file.borrow()).status();
      CHECK((ErrnoOf(refused) == EINVAL || ErrnoOf(refused) == EBADF));
      CHECK(server.asked == std::set<std::string>());
      server.fd = -1;
    }
  }
}
TEST_CASE("Import: a file that a program may serve is refused, and nothing asked of it") {
  SUBCASE("by a backend of memfds") { RefusesServedFiles<MemfdsOf>(LinuxSyscalls()); }
  SUBCASE("by a backend of dma-bufs") {
    RefusesServedFiles<DmaHeapsOf>(FakeSyscalls(Linux612Machine()));
  }
}

// ---- Generations ----

TEST_CASE("HandleTable: an entry whose generations are used up is nobody's any more") {
  HandleTable table(1, UINT32_MAX - 2);
  std::vector<Handle> freed;
  for (int i = 0; i < 4; ++i) {
    REQUIRE(table.Reserve());
    const Handle handle = table.Add(Buffer(), {});
    for (const Handle& old : freed) CHECK(table.Find(old) == nullptr);
    for (const Handle& old : freed) CHECK(old != handle);
    CHECK_FALSE(table.Remove(*table.Find(handle)).valid());
    freed.push_back(handle);
  }
  CHECK(table.in_use() == 0);
}

// ---- Identities ----

// Any entry will do.
constexpr auto kIt = [](const HandleTable::Entry&) { return true; };

BufferIdentity Numbered(uint64_t inode) { return {.device = 1, .inode = inode}; }

TEST_CASE("HandleTable: a buffer is found among many, in a table that grows, until it is removed") {
  HandleTable table(1);
  std::vector<Handle> handles;
  for (uint64_t inode = 1; inode <= 1000; ++inode) {
    CHECK(table.FindBuffer(Numbered(inode), kIt) == nullptr);
    REQUIRE(table.Reserve());
    handles.push_back(table.Add(Buffer(), Numbered(inode)));
  }
  for (uint64_t inode = 1; inode <= 1000; inode += 3) {
    CHECK_FALSE(table.Remove(*table.Find(handles[inode - 1])).valid());
  }
  for (uint64_t inode = 1; inode <= 1000; ++inode) {
    HandleTable::Entry* const entry = table.FindBuffer(Numbered(inode), kIt);
    REQUIRE((entry == nullptr) == (inode % 3 == 1));
    if (entry != nullptr) CHECK(entry == table.Find(handles[inode - 1]));
  }
  CHECK(table.FindBuffer({.device = 2, .inode = 2}, kIt) == nullptr);
}
TEST_CASE("HandleTable: of several buffers with one identity each can be found and removed") {
  HandleTable table(1);
  std::vector<Handle> handles;
  for (int i = 0; i < 40; ++i) {
    REQUIRE(table.Reserve());
    handles.push_back(table.Add(Buffer(), Numbered(7)));
  }
  for (const Handle& handle : handles) {
    HandleTable::Entry* const entry = table.Find(handle);
    const auto is_it = [&](const HandleTable::Entry& one) { return &one == entry; };
    CHECK(table.FindBuffer(Numbered(7), is_it) == entry);
    CHECK_FALSE(table.Remove(*entry).valid());
    CHECK(table.FindBuffer(Numbered(7), is_it) == nullptr);
  }
  CHECK(table.FindBuffer(Numbered(7), kIt) == nullptr);
}
TEST_CASE("HandleTable: at its client's end each lease is taken once, and then nothing is found") {
  HandleTable table(1);
  for (uint64_t inode = 1; inode <= 20; ++inode) {
    REQUIRE(table.Reserve());
    (void)table.Add(Buffer(), Numbered(inode));
  }
  uint32_t at = 0;
  while (at < 20) CHECK_FALSE(table.RemoveNext(at).valid());
  CHECK(table.in_use() == 0);
  for (uint64_t inode = 1; inode <= 20; ++inode) {
    CHECK(table.FindBuffer(Numbered(inode), kIt) == nullptr);
  }
}
TEST_CASE("HandleTable: a buffer whose identity comes later is found from then on") {
  HandleTable table(1);
  CHECK(table.FindBuffer(Numbered(7), kIt) == nullptr);
  REQUIRE(table.Reserve());
  const Handle handle = table.Add(Buffer(), {});
  CHECK(table.FindBuffer({}, kIt) == nullptr);
  table.SetIdentity(*table.Find(handle), Numbered(7));
  CHECK(table.FindBuffer(Numbered(7), kIt) == table.Find(handle));
}

}  // namespace
}  // namespace ion::testing
