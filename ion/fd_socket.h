// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/fd_socket.h
//
// SendFds and ReceiveFds: descriptors on their way to another process, over a Unix socket
// (SCM_RIGHTS), with a few bytes that say what they are.
//
// Example:
//   Error error = ion::SendFds(socket, std::as_bytes(std::span(&message, 1)), {&fd, 1});
//   ...
//   ion::UniqueFd fds[2];
//   ion::Result<size_t> count =
//       ion::ReceiveFds(socket, std::as_writable_bytes(std::span(&message, 1)), fds);
//
// SOCK_SEQPACKET keeps messages apart. On SOCK_STREAM both ends must agree on each payload's size:
// more than was asked for is the begin of the next message there, and after any error the two ends
// are at different bytes, so close the socket.
//
// The other end is not trusted: what it sends too many of is closed, none is left behind, and no
// signal is raised where it has gone.
//
// Cost: a system call each; 1 KiB of stack. Thread-safe: the kernel keeps messages whole.
#ifndef ION_ION_FD_SOCKET_H_
#define ION_ION_FD_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "ion/error.h"
#include "ion/fd.h"
#include "ion/syscalls.h"

namespace ion {

// As the Syscalls of ion/syscalls.h, for what only sockets need: a value, or a negative errno.
template <class S>
concept SocketCalls = std::is_nothrow_copy_constructible_v<S> &&
    requires(const S& s, int fd, const msghdr* out, msghdr* in, int flags) {
  { s.Sendmsg(fd, out, flags) }
  noexcept->std::same_as<long>;
  { s.Recvmsg(fd, in, flags) }
  noexcept->std::same_as<long>;
};

// The kernel itself.
class LinuxSocketCalls {
 public:
  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    return Answer(::sendmsg(fd, message, flags));
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    return Answer(::recvmsg(fd, message, flags));
  }

 private:
  static long Answer(ssize_t result) noexcept { return result == -1 ? -errno : result; }
};
static_assert(SocketCalls<LinuxSocketCalls>);

// What one message carries at most: the kernel's SCM_MAX_FD.
inline constexpr size_t kMaxSocketFds = 253;

namespace internal {

// Room for as many descriptors as can come, so that none is left out for want of it.
union FdControl {
  cmsghdr header;
  std::byte bytes[CMSG_SPACE(kMaxSocketFds * sizeof(int))];
};

}  // namespace internal

// Sends `payload`, and copies of `fds` with it. EINVAL: an empty payload, or more than
// kMaxSocketFds. EBADF: one of `fds` is no descriptor. EPIPE, ECONNRESET: the other end has gone.
// EMSGSIZE: the socket takes no message of this size, or did not take all of it. Else, as sendmsg.
template <SocketCalls S = LinuxSocketCalls>
Error SendFds(FdRef socket, std::span<const std::byte> payload, std::span<const FdRef> fds,
              const S& sys = {}) noexcept {
  const Origin origin{"socket", Operation::kShare, {}, payload.size()};
  if (payload.empty()) {
    return Error(EINVAL, "an empty payload", origin, "send a byte: else none comes with the fds");
  }
  if (fds.size() > kMaxSocketFds) {
    return Error(EINVAL, "more than 253 descriptors", origin, "send them in several messages");
  }
  iovec part{.iov_base = const_cast<std::byte*>(payload.data()), .iov_len = payload.size()};
  internal::FdControl control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    for (size_t i = 0; i < fds.size(); ++i) {
      const int number = fds[i].get();
      std::memcpy(CMSG_DATA(&control.header) + i * sizeof(int), &number, sizeof(number));
    }
  }
  long sent;
  do sent = sys.Sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  while (sent == -EINTR);
  if (Failed(sent)) return Error(ErrnoFrom(sent), "sendmsg", origin);
  if (static_cast<size_t>(sent) != payload.size()) {
    return Error(EMSGSIZE, "sendmsg took a part", origin, "close the socket; send less at once");
  }
  return {};
}

// Waits for a message of exactly payload.size() bytes, and gives the descriptors that came with it,
// close-on-exec, in `fds`, where the rest is left without. Returns how many came. Where it fails
// `fds` has none, and what came is closed. EINVAL: an empty payload. ECONNRESET: the other end has
// gone. EBADMSG: a message of another size. EMSGSIZE: more descriptors than `fds` has room for.
// EMFILE: not all could be taken. Else, as recvmsg.
template <SocketCalls S = LinuxSocketCalls>
Result<size_t> ReceiveFds(FdRef socket, std::span<std::byte> payload, std::span<UniqueFd> fds,
                          const S& sys = {}) noexcept {
  const Origin origin{"socket", Operation::kImport, {}, payload.size()};
  for (UniqueFd& fd : fds) fd.reset();
  if (payload.empty()) {
    return Error(EINVAL, "an empty payload", origin, "receive a byte at least");
  }
  iovec part{.iov_base = payload.data(), .iov_len = payload.size()};
  internal::FdControl control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  long got;
  do got = sys.Recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
  while (got == -EINTR);
  if (Failed(got)) return Error(ErrnoFrom(got), "recvmsg", origin);

  // First all into our hands, whatever else is wrong.
  size_t count = 0;
  for (cmsghdr* part_of = CMSG_FIRSTHDR(&message); part_of != nullptr;
       part_of = CMSG_NXTHDR(&message, part_of)) {
    if (part_of->cmsg_level != SOL_SOCKET || part_of->cmsg_type != SCM_RIGHTS) continue;
    const size_t here = (part_of->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < here; ++i, ++count) {
      int number;
      std::memcpy(&number, CMSG_DATA(part_of) + i * sizeof(int), sizeof(number));
      UniqueFd fd(number);
      if (count < fds.size()) fds[count] = std::move(fd);
    }
  }
  const auto fail = [&](int code, const char* what, const char* hint) {
    for (UniqueFd& fd : fds) fd.reset();
    return Error(code, what, origin, hint);
  };
  if (got == 0) return fail(ECONNRESET, "recvmsg", "the process at the other end has gone");
  if (static_cast<size_t>(got) != payload.size() || (message.msg_flags & MSG_TRUNC) != 0) {
    return fail(EBADMSG, "a message of another size", "the two ends disagree: close the socket");
  }
  if (count > fds.size()) {
    return fail(EMSGSIZE, "more descriptors than there is room for",
                "the two ends disagree: close the socket");
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return fail(EMFILE, "a descriptor could not be taken", "raise `ulimit -n`");
  }
  return count;
}

}  // namespace ion

#endif  // ION_ION_FD_SOCKET_H_
