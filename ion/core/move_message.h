// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/move_message.h
//
// The messages between an owner of memory and another process that agreed to moves, and the socket
// that they go over (ion/move_socket.h). Not for users.
//
//     owner                     follower
//     kAsk                      kQuiet, or kBusy, or nothing for now
//     kCancel
//     kGive, with a descriptor  kTook
//     kUse                                         all that was given since kAsk is in use
//
// The follower uses no memory that it was given before it hears kUse, so an owner that hears no
// kTook, and closes the socket, knows that the follower stays on its old memory.
//
// Each message is of one size. A link is broken by its first error other than a deadline: its
// socket is closed, so that the other end hears of it.
//
// Cost: two system calls a message. Not thread-safe.
#ifndef ION_ION_CORE_MOVE_MESSAGE_H_
#define ION_ION_CORE_MOVE_MESSAGE_H_

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/no_cancel.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/constraints.h"
#include "ion/pixel_format.h"

namespace ion::internal {

enum class MoveKind : uint32_t {
  kAsk = 1,  // of the owner: be quiet
  kCancel,   // stay on the old memory
  kGive,     // a buffer's new memory
  kUse,      // of all that was given
  kQuiet,    // of the follower: nobody touches the memory
  kBusy,     // somebody does
  kTook,     // the memory that was given, not in use yet
};

// One machine's: the bytes are in its own order.
struct MoveMessage {
  static constexpr uint32_t kMagic = 0x766f6d69;  // "imov"
  static constexpr uint32_t kVersion = 1;

  uint32_t magic = kMagic;
  uint32_t version = kVersion;
  MoveKind kind = MoveKind::kAsk;
  uint32_t buffer = 0;      // of kGive and kTook
  uint64_t sequence = 0;    // of the owner's question; answers repeat it
  uint64_t generation = 0;  // of kAsk and kGive
  uint64_t bytes = 0;       // of kGive
  uint64_t planes = 0;      // of the image in the memory; 0: bytes
  uint64_t offset[kMostPlanes] = {};
  uint64_t stride[kMostPlanes] = {};
};
static_assert(sizeof(MoveMessage) == 96);
static_assert(std::has_unique_object_representations_v<MoveMessage>, "it has no padding");
static_assert(std::is_trivially_copyable_v<MoveMessage>);

// Socket calls that never wait, and so are no cancellation points.
template <SocketCalls Sock>
class SocketAtOnce {
 public:
  explicit SocketAtOnce(const Sock& sock) noexcept : sock_(sock) {}

  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    const NoCancel guard;
    return sock_.Sendmsg(fd, message, flags | MSG_DONTWAIT);
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    const NoCancel guard;
    return sock_.Recvmsg(fd, message, flags | MSG_DONTWAIT);
  }
  long SocketType(int fd) const noexcept {
    if constexpr (requires { sock_.SocketType(fd); }) return sock_.SocketType(fd);
    return LinuxSocketCalls().SocketType(fd);
  }
  long HasGone(int fd) const noexcept {
    const NoCancel guard;
    return internal::HasGone(sock_, fd) ? 1 : 0;
  }

 private:
  Sock sock_;
};

template <Syscalls Sys, SocketCalls Sock>
class MoveLink {
 public:
  MoveLink(UniqueFd socket, const PartyName& name, const Sys& sys, const Sock& sock) noexcept
      : socket_(std::move(socket)), name_(name), sys_(sys), sock_(sock) {}

  // EPROTOTYPE: not a SOCK_SEQPACKET socket.
  Error Check() noexcept {
    const long type = sock_.SocketType(socket_.get());
    if (Failed(type)) return Error(ErrnoFrom(type), "getsockopt", Here());
    if (type == SOCK_SEQPACKET) return {};
    return Error(EPROTOTYPE, "not a SOCK_SEQPACKET socket", Here(), "others cut messages");
  }
  std::string_view name() const noexcept { return name_.view(); }
  FdRef socket() const noexcept { return socket_.borrow(); }
  bool broken() const noexcept { return !socket_.valid(); }
  Origin Here(uint64_t bytes = 0) const noexcept {
    return {"socket", Operation::kMove, name_.view(), bytes};
  }
  // Closes the socket, and returns the error.
  Error Break(const Error& error) noexcept {
    socket_.reset();
    return error;
  }
  Error Garbage(const char* what) noexcept { return Break(Error(EPROTO, what, Here())); }

  Error Send(const MoveMessage& message, std::span<const FdRef> fds, Deadline deadline) noexcept {
    if (broken()) return Lost();
    for (;;) {
      const Error error =
          SendFds(socket_.borrow(), std::as_bytes(std::span(&message, 1)), fds, sock_);
      if (error.ok()) return {};
      if (error.code() != EAGAIN) return Break(Named(error));
      if (Error wait = Wait(POLLOUT, deadline); !wait.ok()) return Break(wait);
    }
  }
  // The next message, and the number of descriptors that came with it. ETIMEDOUT: there is none,
  // and the link is as it was.
  Result<size_t> Receive(MoveMessage& message, std::span<UniqueFd> fds,
                         Deadline deadline) noexcept {
    if (broken()) return Lost();
    for (;;) {
      if (Error wait = Wait(POLLIN, deadline); !wait.ok()) {
        return wait.code() == ETIMEDOUT ? wait : Break(wait);
      }
      const Result<size_t> got =
          ReceiveFds(socket_.borrow(), std::as_writable_bytes(std::span(&message, 1)), fds, sock_);
      if (!got.ok() && got.error().code() == EAGAIN) continue;
      if (!got.ok()) return Break(Named(got.error()));
      if (message.magic != MoveMessage::kMagic) return Garbage("a message that is not of a move");
      if (message.version != MoveMessage::kVersion) return Garbage("a message of another version");
      return got;
    }
  }
  const Sys& sys() const noexcept { return sys_; }

 private:
  Error Lost() const noexcept {
    return Error(ENOTCONN, "the link was broken before", Here(), "make a new one, and share again");
  }
  Error Named(const Error& error) const noexcept {
    return Error(error.code(), error.what(), Here(), error.hint());
  }
  Error Wait(short events, Deadline deadline) noexcept {
    const long answer = PollUntil(sys_, socket_.get(), events, deadline);
    return Failed(answer) ? Error(ErrnoFrom(answer), "poll", Here()) : Error();
  }

  UniqueFd socket_;
  PartyName name_;
  Sys sys_;
  SocketAtOnce<Sock> sock_;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_MOVE_MESSAGE_H_
