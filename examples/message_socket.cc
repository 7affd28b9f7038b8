// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/message_socket.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "ion/status.h"

namespace ion::demo {
namespace {

// One SCM_RIGHTS message with one descriptor.
union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

absl::Status Gone() { return absl::UnavailableError("the process at the other end has gone"); }

absl::Status Broken(const char* call, int code) {
  if (code == EPIPE || code == ECONNRESET) return Gone();
  return MakeStatus(code, absl::StrCat(call, ": ", ErrnoName(code)));
}

}  // namespace

// SOCK_SEQPACKET keeps messages apart, and tells an end of the conversation from an empty stream.
absl::StatusOr<std::pair<MessageSocket, MessageSocket>> MessageSocket::Pair() {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return Broken("socketpair", errno);
  }
  return std::pair(MessageSocket(fds[0]), MessageSocket(fds[1]));
}

absl::Status MessageSocket::SendBytes(std::span<const std::byte> message, FdRef fd) {
  iovec part{.iov_base = const_cast<std::byte*>(message.data()), .iov_len = message.size()};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  Control control{};
  if (fd != FdRef()) {
    header.msg_control = control.bytes;
    header.msg_controllen = sizeof(control.bytes);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = fd.get();
    std::memcpy(CMSG_DATA(rights), &number, sizeof(number));
  }
  ssize_t sent;
  do sent = ::sendmsg(fd_.get(), &header, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? Broken("sendmsg", errno) : absl::OkStatus();
}

absl::StatusOr<UniqueFd> MessageSocket::ReceiveBytes(std::span<std::byte> message) {
  iovec part{.iov_base = message.data(), .iov_len = message.size()};
  Control control{};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes;
  // Not CMSG_SPACE: its padding has room for a second descriptor, which nobody would close.
  header.msg_controllen = CMSG_LEN(sizeof(int));
  ssize_t got;
  do got = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return Broken("recvmsg", errno);
  UniqueFd fd;
  const cmsghdr* rights = CMSG_FIRSTHDR(&header);
  if (rights != nullptr && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS &&
      rights->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(rights), sizeof(number));
    fd = UniqueFd(number);
  }
  if (got == 0) return Gone();
  if (static_cast<size_t>(got) != message.size() || (header.msg_flags & MSG_TRUNC) != 0) {
    return absl::DataLossError(absl::StrCat("recvmsg: a message that is not of ", message.size(),
                                            " bytes: the two ends disagree"));
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    return MakeStatus(EMFILE,
                      "recvmsg: more than one descriptor came, or none could be taken: "
                      "raise `ulimit -n`");
  }
  return fd;
}

}  // namespace ion::demo
