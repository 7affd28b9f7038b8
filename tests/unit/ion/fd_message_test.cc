// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Descriptors to another process and back, by the calls that return a Status.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <span>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"
#include "tests/support/leak_check.h"

namespace ion::testing {
namespace {

struct Ends {
  Ends() {
    int fds[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
    one = UniqueFd(fds[0]);
    other = UniqueFd(fds[1]);
  }
  UniqueFd one, other;
};

TEST_CASE("SendFd: one descriptor arrives with its payload, close-on-exec, and is owned") {
  const LeakCheck leaks;
  const Ends ends;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(SendFd(ends.one.borrow(), std::as_bytes(std::span("nv12")), file.borrow()).ok());
  char text[5] = {};
  absl::StatusOr<ReceivedFds> fds =
      ReceiveFds(ends.other.borrow(), std::as_writable_bytes(std::span(text)));
  REQUIRE(fds.ok());
  CHECK(std::string_view(text) == "nv12");
  REQUIRE(fds->size() == 1);
  CHECK((::fcntl((*fds)[0].get(), F_GETFD) & FD_CLOEXEC) != 0);
  const int number = (*fds)[0].get();
  UniqueFd mine = std::move(*fds->begin());
  fds = absl::CancelledError();
  CHECK(::fcntl(number, F_GETFD) >= 0);
  mine.reset();
  CHECK(::fcntl(number, F_GETFD) < 0);
}

TEST_CASE("ReceiveFds: a message without descriptors is an empty list") {
  const LeakCheck leaks;
  const Ends ends;
  REQUIRE(SendFds(ends.one.borrow(), std::as_bytes(std::span("x")), {}).ok());
  char text[2] = {};
  const auto fds = ReceiveFds(ends.other.borrow(), std::as_writable_bytes(std::span(text)));
  REQUIRE(fds.ok());
  CHECK(fds->empty());
}

TEST_CASE("SendFds: several descriptors in one message, and an error is a Status") {
  const LeakCheck leaks;
  const Ends ends;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::array<FdRef, 2> both = {file.borrow(), ends.one.borrow()};
  const absl::Status sent = SendFds(ends.one.borrow(), std::as_bytes(std::span("x")), both);
  REQUIRE(sent.ok());
  char text[2] = {};
  const auto fds = ReceiveFds(ends.other.borrow(), std::as_writable_bytes(std::span(text)));
  REQUIRE(fds.ok());
  CHECK(fds->size() == 2);
  CHECK(ErrnoOf(SendFds(ends.one.borrow(), {}, both)) == EINVAL);
}

TEST_CASE("SendFd, ReceiveFds: errors are a Status with the errno, and nothing is left") {
  const LeakCheck leaks;
  Ends ends;
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(ErrnoOf(SendFd(ends.one.borrow(), std::as_bytes(std::span("x")), FdRef())) == EBADF);
  REQUIRE(SendFd(ends.one.borrow(), std::as_bytes(std::span("long")), file.borrow()).ok());
  char text[2] = {};
  CHECK(
      ErrnoOf(ReceiveFds(ends.other.borrow(), std::as_writable_bytes(std::span(text))).status()) ==
      EBADMSG);
  ends.one.reset();
  CHECK(
      ErrnoOf(ReceiveFds(ends.other.borrow(), std::as_writable_bytes(std::span(text))).status()) ==
      ECONNRESET);
}

}  // namespace
}  // namespace ion::testing
