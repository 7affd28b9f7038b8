// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/message_socket.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/error.h"
#include "ion/base/fd_socket.h"
#include "ion/base/status.h"

namespace ion::demo {
namespace {

absl::Status Gone() { return absl::UnavailableError("the process at the other end has gone"); }

absl::Status Broken(const absl::Status& status) {
  switch (ErrnoOf(status)) {
    case EPIPE:
    case ECONNRESET:
      return Gone();
    case EBADMSG:
      return absl::DataLossError(status.message());
    default:
      return status;
  }
}

}  // namespace

// SOCK_SEQPACKET keeps messages apart, and tells an end of the conversation from an empty stream.
absl::StatusOr<std::pair<MessageSocket, MessageSocket>> MessageSocket::Pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return MakeStatus(errno, absl::StrCat("socketpair: ", ErrnoName(errno)));
  }
  return std::pair(MessageSocket(fds[0]), MessageSocket(fds[1]));
}

absl::Status MessageSocket::SendBytes(std::span<const std::byte> message, FdRef fd) {
  const absl::Status sent =
      SendFds(fd_.borrow(), message, std::span(&fd, fd == FdRef() ? size_t{0} : size_t{1}));
  return sent.ok() ? sent : Broken(sent);
}

absl::StatusOr<UniqueFd> MessageSocket::ReceiveBytes(std::span<std::byte> message) {
  UniqueFd fd;
  const Result<size_t> count = ReceiveFds(fd_.borrow(), message, std::span(&fd, 1));
  if (!count.ok()) return Broken(ToStatus(count));
  return fd;
}

}  // namespace ion::demo
