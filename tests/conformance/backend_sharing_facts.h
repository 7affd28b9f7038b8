// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/backend_sharing_facts.h
//
// Of tests/conformance/backend_conformance.h: memory that others hold too: other processes, other
// threads, and whoever made what a backend imports.

#ifndef ION_TESTS_CONFORMANCE_BACKEND_SHARING_FACTS_H_
#define ION_TESTS_CONFORMANCE_BACKEND_SHARING_FACTS_H_

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "tests/support/backend_suite.h"
#include "tests/support/byte_socket.h"
#include "tests/support/child.h"
#include "tests/support/dma_buf_exporters.h"
#include "tests/support/open_files.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/support/watched_syscalls.h"

namespace ion::testing {

// ---- Sharing ----

ION_SUITE_FACT(share, "a share is another descriptor of the same memory") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 115'200);
    const Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    CHECK(shared->get() != memory.block.fd);
    const auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(Fill(backend, memory.block, 4) == "ok");
    CHECK(Look(backend, imported.block, 4) == "ok");
    CHECK(Fill(backend, imported.block, 5) == "ok");
    CHECK(Look(backend, memory.block, 5) == "ok");
  });
}

ION_SUITE_FACT(share_nothing, "the share of a block without memory is EBADF") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    CHECK(Kind(backend.Share(Block()).error()) == "EBADF share");
  });
}

ION_SUITE_FACT(share_outlives, "memory lives as long as a share of it, whoever made it") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    Memory memory(backend, heap, 1_MiB);
    CHECK(Fill(backend, memory.block, 6) == "ok");
    const Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    memory.Release();
    const auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(Look(backend, imported.block, 6) == "ok");
  });
}

// What a child does with memory that it is sent: imports it into a backend of its own, finds 1, and
// leaves 2.
template <class T, class B>
std::string UseInChild(FdRef socket, const typename B::Options& options) {
  if (ReceiveByte(socket) != 'b') return "it was not told to begin";
  UniqueFd received;
  if (ReceiveByte(socket, &received) != 'm' || !received.valid()) return "no descriptor came";
  Result<B> backend = B::Open(options);
  if (!backend.ok()) return Describe(backend.error());
  Block block;
  if (Error error = backend->Import(received.borrow(), block); !error.ok()) {
    return Describe(error);
  }
  const uint64_t least = 115'200 / PageBytes() * PageBytes() + PageBytes();
  if (T::kRoundsUp ? block.bytes < least : block.bytes != least) return "other bytes";
  std::string answer = Look(*backend, block, 1);
  if (answer == "ok") answer = Fill(*backend, block, 2);
  if (answer == "ok") answer = Kind(backend->Release(block));
  if (answer != "ok") return answer;
  return SendByte(socket, 'd') ? "" : "it could not answer";
}

ION_SUITE_FACT(other_process, "another process that gets a share sees and changes the memory") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    using B = std::remove_reference_t<decltype(backend)>;
    // Forked before the memory is made: only the socket brings it there.
    Child child([](FdRef socket) { return UseInChild<T, B>(socket, {}); });
    const Memory memory(backend, heap, 115'200);
    CHECK(Fill(backend, memory.block, 1) == "ok");
    Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    CHECK(SendByte(child.socket(), 'b'));
    CHECK(SendByte(child.socket(), 'm', shared->borrow()));
    shared->reset();
    CHECK(ReceiveByte(child.socket()) == 'd');
    const ChildEnd end = child.Join();
    CHECK(end.text == "");
    CHECK(end.exit_code == 0);
    CHECK(Look(backend, memory.block, 2) == "ok");
  });
}

// ---- Importing ----

ION_SUITE_FACT(import_own, "its own memory, imported, is foreign and costs no bytes") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    for (const uint64_t bytes : SizesFor(backend, heap)) {
      CAPTURE(bytes);
      const Memory memory(backend, heap, bytes);
      const uint64_t held = backend.budget().held();
      const auto imported = decltype(memory)::Imported(backend, memory.block.range().fd);
      CHECK(imported.block.foreign);
      CHECK(imported.block.writable);
      CHECK(imported.block.bytes == memory.block.bytes);
      CHECK(imported.block.contiguous.unknown());
      CHECK(imported.block.zeroed.no());
      CHECK_FALSE(imported.block.cached.no());  // CPU access is announced
      CHECK(backend.budget().held() == held);
    }
  });
}

ION_SUITE_FACT(import_copies, "an import leaves the caller's descriptor to the caller") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    const Memory memory(backend, heap, 4_KiB);
    CHECK(Fill(backend, memory.block, 7) == "ok");
    Result<UniqueFd> shared = backend.Share(memory.block);
    REQUIRE(shared.ok());
    auto imported = decltype(memory)::Imported(backend, shared->borrow());
    CHECK(imported.block.fd != shared->get());
    shared->reset();
    CHECK(Look(backend, imported.block, 7) == "ok");
    imported.Release();
    CHECK(Look(backend, memory.block, 7) == "ok");
  });
}

// A descriptor that no backend may take.
struct BadFd {
  std::string what;
  UniqueFd owned;
  int number;
  std::string expected = "EINVAL import";
};

inline std::vector<BadFd> BadFds() {
  std::vector<BadFd> bad;
  const auto add = [&](const char* what, int fd) {
    INFO(what);
    REQUIRE(fd >= 0);
    bad.push_back({what, UniqueFd(fd), fd});
  };
  const auto add_number = [&](const char* what, int fd) {
    bad.push_back({what, UniqueFd(), fd, "EBADF import"});
  };
  int pipe[2];
  REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
  add("a pipe's reading end", pipe[0]);
  add("a pipe's writing end", pipe[1]);
  add("a socket", ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  add("/dev/null", ::open("/dev/null", O_RDWR | O_CLOEXEC));
  add("/dev/zero", ::open("/dev/zero", O_RDWR | O_CLOEXEC));
  add("a directory", ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  add("a file of /proc", ::open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
  add("a program's file", ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  add("an eventfd", ::eventfd(0, EFD_CLOEXEC));
  add("an epoll", ::epoll_create1(EPOLL_CLOEXEC));
  add("a memfd without the shrink seal", Memfd(64_KiB, 0).release());
  add("a memfd with another seal only", Memfd(64_KiB, F_SEAL_GROW).release());
  add("an empty memfd", Memfd(0).release());
  const TempDir dir;
  add("a regular file", ::open(dir.File("file").c_str(), O_RDWR | O_CLOEXEC));
  std::error_code none;
  for (const auto& node : std::filesystem::directory_iterator("/dev/dma_heap", none)) {
    add("the node of a dma-heap", ::open(node.path().c_str(), O_RDONLY | O_CLOEXEC));
  }
  add_number("-1", -1);
  add_number("INT_MIN", INT32_MIN);
  add_number("a number that is not open", 1 << 20);
  const int closed = ::fcntl(2, F_DUPFD_CLOEXEC, 500);  // so high that nothing takes it again
  ::close(closed);
  add_number("a number that is not open any more", closed);
  return bad;
}

ION_SUITE_FACT(import_refuses, "what is not its kind of memory is refused, and never by an ioctl") {
  Watch watch;
  const auto on_each = [&](auto& backend, uint32_t) {
    std::vector<BadFd> bad = BadFds();
    // The other kind of memory.
    UniqueFd other = T::kMakesDmaBufs ? Memfd(64_KiB) : HeapDmaBuf(64_KiB);
    const int number = other.get();
    if (other.valid()) bad.push_back({"memory of another kind", std::move(other), number});
    const std::string fds = DescriptorLines();
    watch.ioctls = 0;
    for (const BadFd& fd : bad) {
      CAPTURE(fd.what);
      Block block;
      const Error error = backend.Import(FdRef(fd.number), block);
      CHECK(Kind(error) == fd.expected);
      CHECK(std::string(error.what()) != "");
      CHECK_FALSE(block.filled());
      CHECK(block.bytes == 0);
    }
    CHECK(watch.ioctls == 0);
    CHECK(DescriptorLines() == fds);
  };
  OnEachHeap<T>(on_each, WatchedSyscalls<typename T::Sys>(&watch));
}

ION_SUITE_FACT(import_read_only, "what came read-only can be read, and not written") {
  OnEachHeap<T>([](auto& backend, uint32_t) {
    UniqueFd fd;
    if constexpr (T::kMakesDmaBufs) {
      fd = HeapDmaBuf(64_KiB, O_RDONLY);
      if (!fd.valid()) fd = VgemDmaBuf(64_KiB, O_RDONLY);
    } else {
      fd = ReadOnly(Memfd(64_KiB));
    }
    if (!fd.valid()) return Skip("no read-only memory here: " + ErrnoName(errno));
    using M = Memory<std::remove_reference_t<decltype(backend)>>;
    const auto imported = M::Imported(backend, fd.borrow());
    CHECK_FALSE(imported.block.writable);
    CHECK(LookForZeros(backend, imported.block) == "ok");
    const uint64_t bytes = imported.block.bytes;
    CHECK(Kind(backend.Map(imported.block, 0, bytes, MapMode::kWritable).error()) == "EACCES map");
    const Result<UniqueFd> shared = backend.Share(imported.block);
    REQUIRE(shared.ok());
    const auto again = M::Imported(backend, shared->borrow());
    CHECK_FALSE(again.block.writable);
  });
}

// ---- Threads ----

ION_SUITE_FACT(threads, "several threads allocate, write, share, import and release at once") {
  OnEachHeap<T>([](auto& backend, uint32_t heap) {
    std::atomic<int> rounds{0};
    const auto use = [&](uint8_t seed) {
      for (int i = 0; i < 25; ++i) {
        Block block, imported;
        const uint64_t bytes = (uint64_t{1} + static_cast<uint64_t>(i % 5)) * 12_KiB;
        if (!backend.Allocate(heap, bytes, Flags::kNone, "threads", block).ok()) return;
        if (Fill(backend, block, seed) != "ok") return;
        const Result<UniqueFd> shared = backend.Share(block);
        if (!shared.ok() || !backend.Import(shared->borrow(), imported).ok()) return;
        if (!backend.Release(block).ok()) return;
        if (Look(backend, imported, seed) != "ok") return;
        if (!backend.Release(imported).ok()) return;
        ++rounds;
      }
    };
    {
      std::vector<std::jthread> threads;
      for (uint8_t seed = 1; seed <= 4; ++seed) threads.emplace_back(use, seed);
    }
    CHECK(rounds == 4 * 25);
  });
}

}  // namespace ion::testing

#endif  // ION_TESTS_CONFORMANCE_BACKEND_SHARING_FACTS_H_
