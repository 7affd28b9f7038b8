// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/fd_socket.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/error.h"
#include "ion/fd.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"

namespace {

using ion::Error;
using ion::FdRef;
using ion::ReceiveFds;
using ion::Result;
using ion::SendFds;
using ion::UniqueFd;
using ion::testing::LeakCheck;

struct Ends {
  explicit Ends(int type) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    one = UniqueFd(ends[0]);
    two = UniqueFd(ends[1]);
  }
  UniqueFd one, two;
};

using Text = std::array<char, 8>;
constexpr Text kText = {'d', 'm', 'a', '-', 'b', 'u', 'f', '\n'};

Error Send(const UniqueFd& socket, const Text& text, std::span<const FdRef> fds = {}) {
  return SendFds(socket.borrow(), std::as_bytes(std::span(text)), fds);
}
Result<size_t> Receive(const UniqueFd& socket, Text& text, std::span<UniqueFd> fds = {}) {
  return ReceiveFds(socket.borrow(), std::as_writable_bytes(std::span(text)), fds);
}

UniqueFd Null() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
ino_t InodeOf(const UniqueFd& fd) {
  struct stat is {};
  REQUIRE(::fstat(fd.get(), &is) == 0);
  return is.st_ino;
}

constexpr int kBothTypes[] = {SOCK_SEQPACKET, SOCK_STREAM};

TEST_CASE("FdSocket: a payload arrives with its descriptors, in order, close-on-exec") {
  for (const int type : kBothTypes) {
    const LeakCheck leaks;
    const Ends ends(type);
    const UniqueFd null = Null(), zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const FdRef both[] = {null.borrow(), zero.borrow()};
    REQUIRE(Send(ends.one, kText, both).ok());
    Text text{};
    UniqueFd fds[3] = {{}, {}, Null()};
    const Result<size_t> count = Receive(ends.two, text, fds);
    REQUIRE(count.ok());
    CHECK(*count == 2);
    CHECK(text == kText);
    CHECK(InodeOf(fds[0]) == InodeOf(null));
    CHECK(InodeOf(fds[1]) == InodeOf(zero));
    CHECK_FALSE(fds[2].valid());
    for (int i = 0; i < 2; ++i) CHECK(::fcntl(fds[i].get(), F_GETFD) == FD_CLOEXEC);
  }
}

TEST_CASE("FdSocket: messages without descriptors stay apart") {
  for (const int type : kBothTypes) {
    const Ends ends(type);
    Text other = kText;
    other[0] = 'x';
    REQUIRE(Send(ends.one, kText).ok());
    REQUIRE(Send(ends.one, other).ok());
    Text text{};
    CHECK(*Receive(ends.two, text) == 0);
    CHECK(text == kText);
    CHECK(*Receive(ends.two, text) == 0);
    CHECK(text == other);
  }
}

TEST_CASE("FdSocket: as many as a message can carry arrive, and one more is refused") {
  for (const int type : kBothTypes) {
    const LeakCheck leaks;
    const Ends ends(type);
    const UniqueFd null = Null();
    std::vector<FdRef> most(ion::kMaxSocketFds, null.borrow());
    std::vector<UniqueFd> fds(ion::kMaxSocketFds);
    REQUIRE(Send(ends.one, kText, most).ok());
    Text text{};
    CHECK(*Receive(ends.two, text, fds) == ion::kMaxSocketFds);
    most.push_back(null.borrow());
    CHECK(Send(ends.one, kText, most).code() == EINVAL);
  }
}

TEST_CASE("FdSocket: more descriptors than there is room for are all closed") {
  for (const int type : kBothTypes) {
    const LeakCheck leaks;
    const Ends ends(type);
    const UniqueFd null = Null();
    const std::vector<FdRef> three(3, null.borrow());
    for (size_t room : {0u, 1u, 2u}) {
      REQUIRE(Send(ends.one, kText, three).ok());
      Text text{};
      std::vector<UniqueFd> fds(room);
      const Result<size_t> count = Receive(ends.two, text, fds);
      REQUIRE_FALSE(count.ok());
      CHECK(count.error().code() == EMSGSIZE);
      CHECK(count.error().hint() != nullptr);
      for (const UniqueFd& fd : fds) CHECK_FALSE(fd.valid());
    }
  }
}

TEST_CASE("FdSocket: where the table of descriptors is full, none is left behind") {
  for (const int type : kBothTypes) {
    const ion::testing::ChildEnd end = ion::testing::RunInChild([type] {
      int ends[2];
      if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) return "no socket";
      const UniqueFd one(ends[0]), two(ends[1]);
      const FdRef fd = one.borrow();
      const FdRef both[] = {fd, fd};
      if (!Send(one, kText, both).ok()) return "not sent";
      const int next = ::dup(0);
      ::close(next);
      const rlimit one_more{static_cast<rlim_t>(next) + 1, static_cast<rlim_t>(next) + 1};
      if (::setrlimit(RLIMIT_NOFILE, &one_more) != 0) return "no limit";
      Text text{};
      UniqueFd fds[2];
      const Result<size_t> count = Receive(two, text, fds);
      if (count.ok()) return "it did not fail";
      if (count.error().code() != EMFILE) return "another errno";
      const int again = ::dup(0);
      return again == next ? "" : "a descriptor was left behind";
    });
    CHECK(end.text == "");
  }
}

TEST_CASE("FdSocket: a payload of another size is an error, and its descriptors are closed") {
  const LeakCheck leaks;
  const UniqueFd null = Null();
  const FdRef fd = null.borrow();
  const char bytes[16] = {};
  for (size_t size : {1u, 7u, 9u, 16u}) {
    const Ends ends(SOCK_SEQPACKET);
    REQUIRE(SendFds(ends.one.borrow(), std::as_bytes(std::span(bytes, size)), {&fd, 1}).ok());
    Text text{};
    UniqueFd got[1];
    const Result<size_t> count = Receive(ends.two, text, got);
    REQUIRE_FALSE(count.ok());
    CHECK(count.error().code() == EBADMSG);
    CHECK_FALSE(got[0].valid());
  }
  Ends ends(SOCK_STREAM);  // a part, and then the end
  REQUIRE(SendFds(ends.one.borrow(), std::as_bytes(std::span(bytes, 3)), {&fd, 1}).ok());
  ends.one.reset();
  Text text{};
  UniqueFd got[1];
  CHECK(Receive(ends.two, text, got).error().code() == EBADMSG);
  CHECK_FALSE(got[0].valid());
}

TEST_CASE("FdSocket: an empty payload is refused at both ends") {
  const Ends ends(SOCK_SEQPACKET);
  const Error error = SendFds(ends.one.borrow(), {}, {});
  CHECK(error.code() == EINVAL);
  CHECK(error.hint() != nullptr);
  CHECK(ReceiveFds(ends.two.borrow(), {}, {}).error().code() == EINVAL);
}

TEST_CASE("FdSocket: what is no descriptor is not sent, and not received from") {
  for (const int type : kBothTypes) {
    const Ends ends(type);
    const FdRef none;
    CHECK(Send(ends.one, kText, {&none, 1}).code() == EBADF);
    CHECK(SendFds(FdRef(), std::as_bytes(std::span(kText)), {}).code() == EBADF);
    Text text{};
    CHECK(ReceiveFds(FdRef(), std::as_writable_bytes(std::span(text)), {}).error().code() == EBADF);
  }
}

TEST_CASE("FdSocket: an end that has gone is an error without a signal, in both directions") {
  for (const int type : kBothTypes) {
    const LeakCheck leaks;
    Ends ends(type);
    const UniqueFd null = Null();
    const FdRef fd = null.borrow();
    REQUIRE(Send(ends.one, kText, {&fd, 1}).ok());
    ends.one.reset();
    CHECK(Send(ends.two, kText).code() == EPIPE);
    Text text{};
    UniqueFd got[1];
    CHECK(*Receive(ends.two, text, got) == 1);  // what it sent before still comes
    CHECK(Receive(ends.two, text, got).error().code() == ECONNRESET);
    CHECK_FALSE(got[0].valid());
  }
}

TEST_CASE("FdSocket: an end that goes with unread messages resets the other") {
  for (const int type : kBothTypes) {
    Ends ends(type);
    REQUIRE(Send(ends.one, kText).ok());
    ends.two.reset();
    Text text{};
    CHECK(Receive(ends.one, text).error().code() == ECONNRESET);
  }
}

TEST_CASE("FdSocket: one who waits is told when the other process dies") {
  const ion::testing::Child child([](FdRef) -> std::string {
    ::raise(SIGKILL);
    return "";
  });
  char byte = 0;
  const Result<size_t> count =
      ReceiveFds(child.socket(), std::as_writable_bytes(std::span(&byte, 1)), {});
  CHECK(count.error().code() == ECONNRESET);
}

// The first `interrupts` calls are interrupted; then `answer` is given, or the kernel's.
struct Script {
  int interrupts = 0;
  long answer = 1;  // 1: the kernel's
  int calls = 0;
};
struct Scripted : ion::LinuxSocketCalls {
  explicit Scripted(Script* with) : script(with) {}
  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    if (++script->calls <= script->interrupts) return -EINTR;
    return script->answer != 1 ? script->answer : LinuxSocketCalls::Sendmsg(fd, message, flags);
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    if (++script->calls <= script->interrupts) return -EINTR;
    if (script->answer == 1) return LinuxSocketCalls::Recvmsg(fd, message, flags);
    message->msg_controllen = 0;
    return script->answer;
  }
  Script* script;
};
static_assert(ion::SocketCalls<Scripted>);
struct ThrowingReceive : ion::LinuxSocketCalls {
  long Recvmsg(int, msghdr*, int) const { return 0; }
};
struct NoSend {
  long Recvmsg(int, msghdr*, int) const noexcept { return 0; }
};
static_assert(!ion::SocketCalls<ThrowingReceive>);
static_assert(!ion::SocketCalls<NoSend>);

TEST_CASE("FdSocket: an interrupted call is made again") {
  const Ends ends(SOCK_SEQPACKET);
  Script script{.interrupts = 3};
  REQUIRE(SendFds(ends.one.borrow(), std::as_bytes(std::span(kText)), {}, Scripted(&script)).ok());
  CHECK(script.calls == 4);
  script = {.interrupts = 2};
  Text text{};
  REQUIRE(
      ReceiveFds(ends.two.borrow(), std::as_writable_bytes(std::span(text)), {}, Scripted(&script))
          .ok());
  CHECK(script.calls == 3);
  CHECK(text == kText);
}

TEST_CASE("FdSocket: what the kernel refuses keeps its errno") {
  const Ends ends(SOCK_SEQPACKET);
  for (int code : {ENOMEM, EAGAIN, ENOBUFS, ETOOMANYREFS}) {
    Script script{.answer = -code};
    CHECK(
        SendFds(ends.one.borrow(), std::as_bytes(std::span(kText)), {}, Scripted(&script)).code() ==
        code);
    Text text{};
    CHECK(ReceiveFds(ends.two.borrow(), std::as_writable_bytes(std::span(text)), {},
                     Scripted(&script))
              .error()
              .code() == code);
  }
}

TEST_CASE("FdSocket: a message that was taken in part is an error") {
  const Ends ends(SOCK_STREAM);
  Script script{.answer = 5};
  CHECK(SendFds(ends.one.borrow(), std::as_bytes(std::span(kText)), {}, Scripted(&script)).code() ==
        EMSGSIZE);
}

TEST_CASE("FdSocket: control messages of another kind are passed over") {
  const LeakCheck leaks;
  const Ends ends(SOCK_SEQPACKET);
  const int on = 1;
  REQUIRE(::setsockopt(ends.two.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
  const UniqueFd null = Null();
  const FdRef fd = null.borrow();
  REQUIRE(Send(ends.one, kText, {&fd, 1}).ok());
  Text text{};
  UniqueFd got[1];
  const Result<size_t> count = Receive(ends.two, text, got);
  REQUIRE(count.ok());
  CHECK(*count == 1);
  CHECK(InodeOf(got[0]) == InodeOf(null));
}

}  // namespace
