// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/fd_socket.h
//
// SendFds and ReceiveFds: descriptors on their way to another process, over a Unix socket
// (SCM_RIGHTS), with a few bytes that say what they are.
//
// Example:
//   absl::Status sent = ion::SendFd(socket, std::as_bytes(std::span(&message, 1)), fd);
//   // and in the other process
//   absl::StatusOr<ion::ReceivedFds> fds =
//       ion::ReceiveFds(socket, std::as_writable_bytes(std::span(&message, 1)));
//   if (fds.ok() && fds->size() == 1) auto handle = client.Import((*fds)[0].borrow());
//
// SOCK_SEQPACKET keeps messages apart. On SOCK_STREAM both ends must agree on each payload's size:
// more than was asked for is the begin of the next message there, and after any error the two ends
// are at different bytes, so close the socket.
//
// The other end is not trusted: surplus descriptors are closed, none is left behind, and no signal
// is raised after it has closed. A descriptor that the kernel adds (SCM_PIDFD, for a socket with
// SO_PASSPIDFD) is closed, too; credentials and security labels are passed over. The close of a
// received descriptor may wait for the program that serves its file: hold no lock.
//
// Both may wait for the other end, so both are cancellation points, and therefore not noexcept;
// they throw nothing. A thread that is cancelled there (pthread_cancel) leaves no descriptor
// behind; on a stream, close the socket then. With glibc before 2.41 the message that comes in that
// very moment may be lost, with its descriptors open.
//
// Cost: a system call each, and one for each part in which a long message comes over SOCK_STREAM;
// 3 KiB of stack. Thread-safe over SOCK_SEQPACKET, as the kernel keeps messages whole there; on
// SOCK_STREAM one thread at a time for each direction.
#ifndef ION_ION_BASE_FD_SOCKET_H_
#define ION_ION_BASE_FD_SOCKET_H_

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"

namespace ion {

class LinuxSocketCalls;
namespace internal {

// The kernel's own calls, or inherited ones.
template <class S>
concept SendsByTheKernel =
    std::is_same_v<decltype(&S::Sendmsg),
                   long (LinuxSocketCalls::*)(int, const msghdr*, int) const>;
template <class S>
concept ReceivesByTheKernel =
    std::is_same_v<decltype(&S::Recvmsg), long (LinuxSocketCalls::*)(int, msghdr*, int) const>;

}  // namespace internal

// As the Syscalls of ion/base/syscalls.h, for calls that only sockets need: a value, or a negative
// errno. The kernel's own are not noexcept: a thread that is cancelled unwinds from there.
template <class S>
concept SocketCalls =
    std::is_nothrow_copy_constructible_v<S> &&
    (internal::SendsByTheKernel<S> || requires(const S& s, int fd, const msghdr* out, int flags) {
      { s.Sendmsg(fd, out, flags) } noexcept -> std::same_as<long>;
    }) && (internal::ReceivesByTheKernel<S> || requires(const S& s, int fd, msghdr* in, int flags) {
      { s.Recvmsg(fd, in, flags) } noexcept -> std::same_as<long>;
    });

// The kernel itself. It also answers the calls that a policy leaves out (SocketType and HasGone).
class LinuxSocketCalls {
 public:
  long Sendmsg(int fd, const msghdr* message, int flags) const {
    return Answer(::sendmsg(fd, message, flags));
  }
  long Recvmsg(int fd, msghdr* message, int flags) const {
    return Answer(::recvmsg(fd, message, flags));
  }
  // SOCK_STREAM, or another.
  long SocketType(int fd) const noexcept {
    int type = 0;
    socklen_t bytes = sizeof(type);
    return ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) == 0 ? type : -errno;
  }
  // 1: the other end sends no more; 0: it may.
  long HasGone(int fd) const {
    pollfd polled{.fd = fd, .events = POLLRDHUP, .revents = 0};
    int answer;
    do answer = ::poll(&polled, 1, 0);
    while (answer == -1 && errno == EINTR);
    if (answer == -1) return -errno;
    return (polled.revents & (POLLRDHUP | POLLHUP)) != 0 ? 1 : 0;
  }

 private:
  static long Answer(ssize_t result) noexcept { return result == -1 ? -errno : result; }
};
static_assert(SocketCalls<LinuxSocketCalls>);

// The most descriptors of one message: the kernel's SCM_MAX_FD.
inline constexpr size_t kMaxSocketFds = 253;

namespace internal {

// Linux 6.5; older headers do not name it.
inline constexpr int kScmPidfd = 4;

// Room for as many descriptors as can come, so that none is left out, and for the kernel's
// additions: credentials, a security label and a pidfd.
union FdControl {
  static constexpr size_t kOthers = 1024;
  cmsghdr header;
  std::byte bytes[CMSG_SPACE(kMaxSocketFds * sizeof(int)) + kOthers];
};

template <class S>
bool IsStream(const S& sys, int fd) noexcept {
  if constexpr (requires { sys.SocketType(fd); }) {
    return sys.SocketType(fd) == SOCK_STREAM;
  } else {
    return LinuxSocketCalls().SocketType(fd) == SOCK_STREAM;
  }
}
template <class S>
bool HasGone(const S& sys, int fd) {
  if constexpr (requires { sys.HasGone(fd); }) {
    return sys.HasGone(fd) == 1;
  } else {
    return LinuxSocketCalls().HasGone(fd) == 1;
  }
}

// Takes the descriptors that came with a message into our hands, whatever else is wrong with it:
// into `fds` from `count` on, and the rest is closed. Returns the count of all.
inline size_t TakeFds(msghdr& message, std::span<UniqueFd> fds, size_t count) noexcept {
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    const bool rights = part->cmsg_type == SCM_RIGHTS;
    if (part->cmsg_level != SOL_SOCKET || (!rights && part->cmsg_type != kScmPidfd)) continue;
    if (part->cmsg_len < CMSG_LEN(0)) break;
    const size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < here; ++i) {
      int number;
      std::memcpy(&number, CMSG_DATA(part) + i * sizeof(int), sizeof(number));
      if (number < 0) continue;  // a pidfd that could not be made
      UniqueFd fd(number);
      if (!rights) continue;
      if (count < fds.size()) fds[count] = std::move(fd);
      ++count;
    }
  }
  return count;
}

}  // namespace internal

// For callers that need plain data, or socket calls of their own: as SendFds below, with an Error.
// EINVAL: an empty payload, or more than
// kMaxSocketFds. EBADF: one of `fds` is no descriptor. EPIPE, ECONNRESET: the other end has gone.
// EMSGSIZE: the socket takes no message of this size, or did not take all of it. ETOOMANYREFS: too
// many descriptors are on their way. Else, as sendmsg.
template <SocketCalls S>
Error SendFds(FdRef socket, std::span<const std::byte> payload, std::span<const FdRef> fds,
              const S& sys) {
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
  // A signal may cut a message on SOCK_STREAM: the rest follows, and the descriptors have gone.
  for (size_t all = 0; all < payload.size();) {
    const long sent = sys.Sendmsg(socket.get(), &message, MSG_NOSIGNAL);
    if (sent == -EINTR) continue;
    if (Failed(sent) && all == 0) {
      return Error(ErrnoFrom(sent), "sendmsg", origin,
                   sent == -ETOOMANYREFS
                       ? "as many descriptors of this user are on their way as `ulimit -n` allows: "
                         "let the other end receive some; or a Unix socket is sent through one "
                         "that is itself on its way, too many times over"
                       : nullptr);
    }
    if (Failed(sent) || sent == 0) {
      return Error(EMSGSIZE, "sendmsg took a part", origin, "close the socket; send less at once");
    }
    all += static_cast<size_t>(sent);
    part = {.iov_base = const_cast<std::byte*>(payload.data()) + all,
            .iov_len = payload.size() - all};
    message.msg_control = nullptr;
    message.msg_controllen = 0;
  }
  return {};
}

// Waits for a message of exactly payload.size() bytes, and puts the descriptors that came with it,
// close-on-exec, into the first elements of `fds`. Returns their number. After an error `fds` has
// none, and received descriptors are closed. EINVAL: an empty payload. ECONNRESET: the other end
// has gone. EBADMSG: a message of another size, or an empty one. EMSGSIZE: more descriptors than
// `fds` has room for. EMFILE: not all could be taken. Else, as recvmsg.
template <SocketCalls S = LinuxSocketCalls>
Result<size_t> ReceiveFds(FdRef socket, std::span<std::byte> payload, std::span<UniqueFd> fds,
                          const S& sys = {}) {
  const Origin origin{"socket", Operation::kImport, {}, payload.size()};
  for (UniqueFd& fd : fds) fd.reset();
  const auto fail = [&](int code, const char* what, const char* hint = nullptr) {
    for (UniqueFd& fd : fds) fd.reset();
    return Error(code, what, origin, hint);
  };
  if (payload.empty()) return fail(EINVAL, "an empty payload", "receive a byte at least");
  // SOCK_STREAM gives a message in parts after a signal, and at the end of the part that its
  // descriptors came with, MSG_WAITALL or not.
  size_t all = 0, count = 0;
  bool cut = false, longer = false;
  do {
    iovec part{.iov_base = payload.data() + all, .iov_len = payload.size() - all};
    internal::FdControl control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    const long got = sys.Recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC | MSG_WAITALL);
    if (got == -EINTR) continue;
    if (Failed(got) && all == 0) return fail(ErrnoFrom(got), "recvmsg");
    if (Failed(got)) break;
    count = internal::TakeFds(message, fds, count);
    cut = cut || (message.msg_flags & MSG_CTRUNC) != 0;
    longer = (message.msg_flags & MSG_TRUNC) != 0;
    if (got == 0 && all == 0) {
      if (internal::HasGone(sys, socket.get())) {
        return fail(ECONNRESET, "recvmsg", "the process at the other end has gone");
      }
      return fail(EBADMSG, "an empty message", "the two ends disagree: close the socket");
    }
    if (got == 0) break;
    all += static_cast<size_t>(got);
  } while (all < payload.size() && (all == 0 || internal::IsStream(sys, socket.get())));

  if (all != payload.size() || longer) {
    return fail(EBADMSG, "a message of another size", "the two ends disagree: close the socket");
  }
  if (count > fds.size()) {
    return fail(EMSGSIZE, "more descriptors than there is room for",
                "the two ends disagree: close the socket");
  }
  if (cut) {
    return fail(EMFILE, "a descriptor could not be taken",
                "raise `ulimit -n` where this process has none left; else a security module "
                "refused it: SELinux needs a rule that lets this domain use the sender's "
                "descriptors (fd use), and their files");
  }
  return count;
}

// The descriptors of one message, in the order in which they were sent; at most kMaxSocketFds. They
// are closed with it, but for those that are moved out.
class ReceivedFds {
 public:
  size_t size() const noexcept { return count_; }
  bool empty() const noexcept { return count_ == 0; }
  // Requires: at < size() (checked).
  UniqueFd& operator[](size_t at) noexcept {
    ION_CHECK(at < count_, "there are fewer descriptors in a ReceivedFds");
    return fds_[at];
  }
  UniqueFd* begin() noexcept { return fds_.data(); }
  UniqueFd* end() noexcept { return fds_.data() + count_; }

 private:
  friend absl::StatusOr<ReceivedFds> ReceiveFds(FdRef socket, std::span<std::byte> payload);

  std::array<UniqueFd, kMaxSocketFds> fds_;
  size_t count_ = 0;
};

// Sends `payload`, at least 1 byte, and copies of `fds`, at most kMaxSocketFds, with it. The Status
// has the errno of the overload above, and advice.
inline absl::Status SendFds(FdRef socket, std::span<const std::byte> payload,
                            std::span<const FdRef> fds) {
  return ToStatus(SendFds(socket, payload, fds, LinuxSocketCalls()));
}

// Sends `payload`, and a copy of `fd` with it. As SendFds.
inline absl::Status SendFd(FdRef socket, std::span<const std::byte> payload, FdRef fd) {
  return SendFds(socket, payload, {&fd, 1});
}

// Waits for a message of exactly payload.size() bytes, and returns the descriptors that came with
// it, close-on-exec. Errors as above; none of the descriptors is kept then.
inline absl::StatusOr<ReceivedFds> ReceiveFds(FdRef socket, std::span<std::byte> payload) {
  ReceivedFds received;
  const Result<size_t> count = ReceiveFds(socket, payload, received.fds_);
  if (!count.ok()) return ToStatus(count);
  received.count_ = *count;
  return received;
}

}  // namespace ion

#endif  // ION_ION_BASE_FD_SOCKET_H_
