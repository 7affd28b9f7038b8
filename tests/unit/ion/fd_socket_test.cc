// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "ion/base/fd_socket.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "tests/support/child.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"

namespace {

using ion::Error;
using ion::FdRef;
using ion::LinuxSocketCalls;
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
  return SendFds(socket.borrow(), std::as_bytes(std::span(text)), fds, LinuxSocketCalls());
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
  const Error error = SendFds(ends.one.borrow(), {}, {}, LinuxSocketCalls());
  CHECK(error.code() == EINVAL);
  CHECK(error.hint() != nullptr);
  CHECK(ReceiveFds(ends.two.borrow(), {}, {}).error().code() == EINVAL);
}

TEST_CASE("FdSocket: what is no descriptor is not sent, and not received from") {
  for (const int type : kBothTypes) {
    const Ends ends(type);
    const FdRef none;
    CHECK(Send(ends.one, kText, {&none, 1}).code() == EBADF);
    CHECK(SendFds(FdRef(), std::as_bytes(std::span(kText)), {}, LinuxSocketCalls()).code() ==
          EBADF);
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
  long then = 0;    // the second answer, where it is another
  int calls = 0;
};
struct Scripted : ion::LinuxSocketCalls {
  explicit Scripted(Script* with) : script(with) {}
  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    if (++script->calls <= script->interrupts) return -EINTR;
    if (script->calls == 2 && script->then != 0) return script->then;
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
  Script script{.answer = 5, .then = -EAGAIN};
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

// A socket that a peer writes to without our help: each call is a message, or a part of one.
long SendRaw(const UniqueFd& socket, const void* bytes, size_t size,
             const std::vector<int>& fds = {}) {
  iovec part{.iov_base = const_cast<void*>(bytes), .iov_len = size};
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size() * sizeof(int));
  }
  return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
}
void Set(const UniqueFd& socket, int option) {
  const int on = 1;
  REQUIRE(::setsockopt(socket.get(), SOL_SOCKET, option, &on, sizeof(on)) == 0);
}

TEST_CASE("FdSocket: credentials and as many descriptors as there can be arrive together") {
  for (const int type : kBothTypes) {
    const LeakCheck leaks;
    const Ends ends(type);
    Set(ends.two, SO_PASSCRED);
    Set(ends.two, SO_PASSSEC);
    const UniqueFd null = Null();
    const std::vector<FdRef> most(ion::kMaxSocketFds, null.borrow());
    std::vector<UniqueFd> fds(ion::kMaxSocketFds);
    REQUIRE(Send(ends.one, kText, most).ok());
    Text text{};
    const Result<size_t> count = Receive(ends.two, text, fds);
    REQUIRE(count.ok());
    CHECK(*count == ion::kMaxSocketFds);
  }
}

TEST_CASE("FdSocket: the descriptor of the sender's process (SCM_PIDFD) is closed") {
  constexpr int kPassPidfd = 76;  // SO_PASSPIDFD, Linux 6.5
  const LeakCheck leaks;
  const Ends ends(SOCK_SEQPACKET);
  const int on = 1;
  if (::setsockopt(ends.two.get(), SOL_SOCKET, kPassPidfd, &on, sizeof(on)) != 0) {
    return ion::testing::Skip("this kernel has no SO_PASSPIDFD (Linux 6.5)");
  }
  const UniqueFd null = Null();
  const FdRef fd = null.borrow();
  REQUIRE(Send(ends.one, kText, {&fd, 1}).ok());
  Text text{};
  UniqueFd got[2];
  const Result<size_t> count = Receive(ends.two, text, got);
  REQUIRE(count.ok());
  CHECK(*count == 1);
  CHECK(InodeOf(got[0]) == InodeOf(null));
  CHECK_FALSE(got[1].valid());
}

// As that kernel, on any: a control message with a descriptor of our own making behind the others.
struct WithPidfd : ion::LinuxSocketCalls {
  explicit WithPidfd(int number) : pidfd(number) {}
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    const size_t room = message->msg_controllen;
    const long got = LinuxSocketCalls::Recvmsg(fd, message, flags);
    const size_t used = CMSG_ALIGN(message->msg_controllen);
    if (used + CMSG_SPACE(sizeof(int)) > room) return -ENOBUFS;
    auto* const header =
        reinterpret_cast<cmsghdr*>(static_cast<char*>(message->msg_control) + used);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = 4;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &pidfd, sizeof(pidfd));
    message->msg_controllen = used + CMSG_SPACE(sizeof(int));
    return got;
  }
  int pidfd;
};

TEST_CASE(
    "FdSocket: a pidfd behind 253 descriptors is closed, and one that is none is passed over") {
  const LeakCheck leaks;
  const Ends ends(SOCK_SEQPACKET);
  const UniqueFd null = Null();
  const std::vector<FdRef> most(ion::kMaxSocketFds, null.borrow());
  for (const bool made : {true, false}) {
    std::vector<UniqueFd> fds(ion::kMaxSocketFds + 1);
    REQUIRE(Send(ends.one, kText, most).ok());
    const int pidfd = made ? Null().release() : -ESRCH;
    Text text{};
    const Result<size_t> count = ReceiveFds(
        ends.two.borrow(), std::as_writable_bytes(std::span(text)), fds, WithPidfd(pidfd));
    REQUIRE(count.ok());
    CHECK(*count == ion::kMaxSocketFds);
    CHECK_FALSE(fds.back().valid());
    if (made) CHECK(::fcntl(pidfd, F_GETFD) == -1);
  }
}

TEST_CASE("FdSocket: a stream message in parts arrives whole, with the descriptors of each part") {
  const LeakCheck leaks;
  const Ends ends(SOCK_STREAM);
  const UniqueFd null = Null(), zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  // The kernel ends a read where descriptors came, whatever else is there.
  CHECK(SendRaw(ends.one, kText.data(), 3, {null.get()}) == 3);
  CHECK(SendRaw(ends.one, kText.data() + 3, 1) == 1);
  CHECK(SendRaw(ends.one, kText.data() + 4, 4, {zero.get()}) == 4);
  REQUIRE(Send(ends.one, kText).ok());
  Text text{};
  UniqueFd fds[2];
  const Result<size_t> count = Receive(ends.two, text, fds);
  REQUIRE(count.ok());
  CHECK(*count == 2);
  CHECK(text == kText);
  CHECK(InodeOf(fds[0]) == InodeOf(null));
  CHECK(InodeOf(fds[1]) == InodeOf(zero));
  CHECK(*Receive(ends.two, text) == 0);
}

// A kernel whose calls a signal cuts after each so many bytes.
struct Cut : ion::LinuxSocketCalls {
  explicit Cut(size_t most) : bytes(most) {}
  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    const Limit limit(*message, bytes);
    return LinuxSocketCalls::Sendmsg(fd, message, flags);
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    const Limit limit(*message, bytes);
    return LinuxSocketCalls::Recvmsg(fd, message, flags);
  }
  struct Limit {
    Limit(const msghdr& message, size_t most) : part(*message.msg_iov), whole(part.iov_len) {
      part.iov_len = std::min(whole, most);
    }
    ~Limit() { part.iov_len = whole; }
    iovec& part;
    size_t whole;
  };
  size_t bytes;
};

TEST_CASE("FdSocket: a stream message that signals cut goes on, at both ends") {
  const LeakCheck leaks;
  const Ends ends(SOCK_STREAM);
  const UniqueFd null = Null();
  const FdRef fd = null.borrow();
  for (const size_t bytes : {1, 3, 7, 8}) {
    REQUIRE(SendFds(ends.one.borrow(), std::as_bytes(std::span(kText)), {&fd, 1}, Cut(bytes)).ok());
    Text text{};
    UniqueFd got[2];
    const Result<size_t> count =
        ReceiveFds(ends.two.borrow(), std::as_writable_bytes(std::span(text)), got, Cut(bytes));
    REQUIRE(count.ok());
    CHECK(*count == 1);
    CHECK(text == kText);
    CHECK(InodeOf(got[0]) == InodeOf(null));
  }
  // A message of its own is never continued.
  const Ends packets(SOCK_SEQPACKET);
  REQUIRE(Send(packets.one, kText).ok());
  REQUIRE(Send(packets.one, kText).ok());
  Text text{};
  CHECK(ReceiveFds(packets.two.borrow(), std::as_writable_bytes(std::span(text)), {}, Cut(3))
            .error()
            .code() == EBADMSG);
}

TEST_CASE("FdSocket: a stream message of 1 MiB arrives whole while it is sent") {
  const LeakCheck leaks;
  const Ends ends(SOCK_STREAM);
  const UniqueFd null = Null();
  std::vector<std::byte> sent(1 << 20), got(sent.size());
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<std::byte>(i * 7 + (i >> 12));
  Error error;
  UniqueFd fds[1];
  Result<size_t> count = size_t{0};
  {
    const std::jthread sender([&] {
      const FdRef fd = null.borrow();
      error = SendFds(ends.one.borrow(), sent, {&fd, 1}, LinuxSocketCalls());
    });
    count = ReceiveFds(ends.two.borrow(), got, fds);
  }
  CHECK(error.ok());
  REQUIRE(count.ok());
  CHECK(*count == 1);
  CHECK(got == sent);
}

TEST_CASE("FdSocket: an empty message is told from an end that has gone") {
  const LeakCheck leaks;
  Ends ends(SOCK_SEQPACKET);
  const UniqueFd null = Null();
  CHECK(SendRaw(ends.one, "", 0, {null.get()}) == 0);
  Text text{};
  UniqueFd fds[1];
  const Error empty = Receive(ends.two, text, fds).error();
  CHECK(empty.code() == EBADMSG);
  CHECK(std::string(empty.what()) == "an empty message");
  CHECK_FALSE(fds[0].valid());
  REQUIRE(Send(ends.one, kText).ok());
  CHECK(*Receive(ends.two, text) == 0);
  ends.one.reset();
  CHECK(Receive(ends.two, text).error().code() == ECONNRESET);
}

TEST_CASE("FdSocket: a stranger's messages of any shape leave nothing behind") {
  const LeakCheck leaks;
  const UniqueFd null = Null();
  const std::vector<char> bytes(4096);
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const bool stream = round % 2 != 0;
    Ends ends(stream ? SOCK_STREAM : SOCK_SEQPACKET);
    for (int i = static_cast<int>(random() % 4); i >= 0; --i) {
      const size_t sizes[] = {0, 1, 7, 8, 9, 4096};
      const std::vector<int> fds(random() % 3 == 0 ? 253 : random() % 3, null.get());
      SendRaw(ends.one, bytes.data(), sizes[random() % 6], fds);
    }
    ends.one.reset();
    for (int i = 0; i < 6; ++i) {
      Text text{};
      UniqueFd got[2];
      const Result<size_t> count = Receive(ends.two, text, got);
      if (count.ok()) CHECK(*count <= 2);
      for (const UniqueFd& fd : got) {
        CHECK(fd.valid() == (count.ok() && static_cast<size_t>(&fd - got) < *count));
        if (fd.valid()) CHECK(::fcntl(fd.get(), F_GETFD) == FD_CLOEXEC);
      }
    }
  }
}

// A security module that lets no descriptor pass, and a limit, look the same.
struct Dropped : ion::LinuxSocketCalls {
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    const long got = LinuxSocketCalls::Recvmsg(fd, message, flags);
    message->msg_controllen = 0;
    message->msg_flags |= MSG_CTRUNC;
    return got;
  }
};

TEST_CASE("FdSocket: a descriptor that was dropped is told with both causes") {
  const Ends ends(SOCK_SEQPACKET);
  REQUIRE(Send(ends.one, kText).ok());
  Text text{};
  const Error error =
      ReceiveFds(ends.two.borrow(), std::as_writable_bytes(std::span(text)), {}, Dropped()).error();
  CHECK(error.code() == EMFILE);
  const std::string hint = error.hint();
  CHECK(hint.find("ulimit -n") != std::string::npos);
  CHECK(hint.find("security module") != std::string::npos);
}

TEST_CASE("FdSocket: too many descriptors on their way are told with what to do") {
  const Ends ends(SOCK_SEQPACKET);
  Script script{.answer = -ETOOMANYREFS};
  const Error error =
      SendFds(ends.one.borrow(), std::as_bytes(std::span(kText)), {}, Scripted(&script));
  CHECK(error.code() == ETOOMANYREFS);
  REQUIRE(error.hint() != nullptr);
  CHECK(std::string(error.hint()).find("ulimit -n") != std::string::npos);
}

}  // namespace
