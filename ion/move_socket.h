// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/move_socket.h
//
// SocketHolder and MoveFollower: the two ends of a socket by which another process takes part in
// the moves of a stream. The owner of the stream shares it with a SocketHolder, a move holder
// (ion/move_holder.h); the other process has a MoveFollower, which gets the descriptors and
// answers.
//
// Example:
//   absl::StatusOr<ion::SocketHolder> viewer = ion::SocketHolder::Of(std::move(ours), "viewer");
//   if (!viewer.ok()) return viewer.status();
//   absl::Status shared = stream.ShareWith(*viewer);
//   // and in the other process
//   absl::StatusOr<ion::MoveFollower> follower = ion::MoveFollower::Of(std::move(theirs));
//   if (!follower.ok()) return follower.status();
//   while (follower->Serve(ion::kNoDeadline).ok()) {
//     absl::StatusOr<ion::FollowedUse> frame = follower->Use(0);
//     if (frame.ok()) Show(frame->fd(), frame->generation());
//   }
//
// ShareWith waits for the follower's answers: Serve in the other process, or on another thread.
//
// The ends do not trust each other. All is checked: numbers, sizes, generations, descriptors, and
// the order of messages. The first message that does not fit breaks the link, and closes its
// socket: the holder's functions fail then, and the follower stays on the memory that it has. No
// call of a holder waits past its deadline, and no call of a follower but Serve waits at all. A
// follower keeps one descriptor for each buffer, and another during a move.
//
// The socket is one of SOCK_SEQPACKET (socketpair, or accept). It serves one ShareWith, and nothing
// else.
//
// Cost: cold; two system calls for a message, three messages for each buffer that moves. Not
// thread-safe: one thread at a time for a holder, and for a follower with its uses.
#ifndef ION_ION_MOVE_SOCKET_H_
#define ION_ION_MOVE_SOCKET_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/check.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/constraints.h"
#include "ion/core/move_message.h"
#include "ion/image_layout.h"
#include "ion/move_holder.h"
#include "ion/pixel_format.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls, SocketCalls Sock = LinuxSocketCalls>
class BasicSocketHolder {
  using Message = internal::MoveMessage;
  using Kind = internal::MoveKind;

 public:
  // The holder at the other end of the socket; of the name, 31 bytes are kept. EPROTOTYPE: not a
  // SOCK_SEQPACKET socket. Else, as getsockopt.
  static absl::StatusOr<BasicSocketHolder> Of(UniqueFd socket, std::string_view name,
                                              const Sys& sys = {}, const Sock& sock = {}) noexcept {
    BasicSocketHolder made({std::move(socket), PartyName::From(name), sys, sock});
    if (Error error = made.link_.Check(); !error.ok()) return ToStatus(error);
    return made;
  }

  // False: an error broke the link. The other process may have gone.
  bool connected() const noexcept { return !link_.broken(); }

  // The functions of a move holder (ion/move_holder.h).
  std::string_view name() const noexcept { return link_.name(); }
  // EBUSY: the other process declines. ETIMEDOUT: it did not answer; the link is as it was, or, if
  // the question could not be sent, broken. Other errors broke the link: ECONNRESET, EPIPE: the
  // other process has gone; EPROTO, EBADMSG: it does not follow the protocol.
  Error AskQuiet(uint64_t generation, Deadline deadline) noexcept {
    quiet_ = false;
    const Message question{.kind = Kind::kAsk, .sequence = ++sequence_, .generation = generation};
    if (Error error = link_.Send(question, {}, deadline); !error.ok()) return error;
    for (;;) {
      Message answer;
      if (Error error = Hear(answer, deadline); !error.ok()) return error;
      const bool known = answer.kind == Kind::kQuiet || answer.kind == Kind::kBusy;
      // Those of questions that were given up are late. Each question is answered once.
      if (!known || answer.sequence <= heard_ || answer.sequence > sequence_) {
        return link_.Garbage("an answer that nobody asked for");
      }
      heard_ = answer.sequence;
      if (answer.sequence != sequence_) continue;
      if (answer.kind == Kind::kBusy) {
        return Error(EBUSY, "the other process uses the memory", link_.Here());
      }
      quiet_ = true;
      return {};
    }
  }
  void Cancel(uint64_t generation) noexcept {
    quiet_ = false;
    const Message message{.kind = Kind::kCancel, .sequence = sequence_, .generation = generation};
    // A link that does not take it is broken, and so tells the same.
    (void)link_.Send(message, {}, Deadline{});
  }
  // Any error breaks the link.
  Error HandOver(const HandedMemory& memory, Deadline deadline) noexcept {
    if (!std::exchange(quiet_, false)) heard_ = ++sequence_;
    const Error error = Give(memory, deadline);
    return error.ok() ? error : link_.Break(error);
  }

 private:
  explicit BasicSocketHolder(internal::MoveLink<Sys, Sock> link) noexcept
      : link_(std::move(link)) {}

  Error Hear(Message& answer, Deadline deadline) noexcept {
    const Result<size_t> got = link_.Receive(answer, {}, deadline);
    if (!got.ok() && got.error().code() == ETIMEDOUT) {
      return got.error().Advised("the other process did not answer in time");
    }
    return got.error();
  }
  Error Give(const HandedMemory& memory, Deadline deadline) noexcept {
    for (const HandedBuffer& one : memory.buffers) {
      Message given{.kind = Kind::kGive,
                    .buffer = one.buffer,
                    .sequence = sequence_,
                    .generation = memory.generation,
                    .bytes = one.bytes};
      if (memory.image != nullptr) {
        given.planes = memory.image->planes;
        for (unsigned plane = 0; plane < memory.image->planes; ++plane) {
          given.offset[plane] = memory.image->plane[plane].offset;
          given.stride[plane] = memory.image->plane[plane].stride;
        }
      }
      if (Error error = link_.Send(given, {&one.fd, 1}, deadline); !error.ok()) return error;
      Message answer;
      if (Error error = Hear(answer, deadline); !error.ok()) return error;
      if (answer.kind != Kind::kTook || answer.sequence != sequence_ ||
          answer.buffer != one.buffer) {
        return link_.Garbage("an answer that nobody asked for");
      }
    }
    const Message use{.kind = Kind::kUse, .sequence = sequence_, .generation = memory.generation};
    return link_.Send(use, {}, deadline);
  }

  internal::MoveLink<Sys, Sock> link_;
  uint64_t sequence_ = 0;  // of the last question
  uint64_t heard_ = 0;     // the last one that was answered
  bool quiet_ = false;     // the other process waits for HandOver or Cancel
};
using SocketHolder = BasicSocketHolder<>;
static_assert(MoveHolderCheck<SocketHolder>::kOk);

// Bounds of a follower: more than that is not taken from the owner.
struct FollowerOptions {
  uint32_t buffers = 64;                    // of the stream, up to 1024
  uint64_t most_bytes = uint64_t{1} << 32;  // of each
  // True: each question is answered by a no, and the memory stays.
  bool declines = false;
};

// The effect of a message that a follower was sent.
enum class MoveNews : uint8_t {
  kNothing,    // the message was one part of several
  kGiven,      // the first memory has come
  kAsked,      // a use is open: the end of the last one answers, or Decline
  kQuiet,      // the memory may move: no use can be opened for now
  kDeclined,   // by FollowerOptions::declines
  kMoved,      // there is new memory; mappings and imports of the old are of no use any more
  kCancelled,  // the old memory stays
};

namespace internal {

template <Syscalls Sys, SocketCalls Sock>
struct FollowerState {
  using Message = MoveMessage;
  using Kind = MoveKind;

  struct Memory {
    UniqueFd fd;
    uint64_t bytes = 0;
    uint64_t generation = 0;
    unsigned planes = 0;
    uint64_t offset[kMostPlanes] = {};
    uint64_t stride[kMostPlanes] = {};
  };
  struct Slot {
    Memory now;
    Memory next;  // given, and not in use before kUse
  };
  enum class Phase : uint8_t {
    kIdle,
    kAsked,   // an answer is due
    kQuiet,   // kGive, kUse or kCancel follows
    kGiving,  // the first memory
  };

  FollowerState(MoveLink<Sys, Sock> to, const FollowerOptions& with)
      : link(std::move(to)), options(with), slots(with.buffers) {}

  Result<MoveNews> Serve(Deadline deadline) noexcept {
    Message message;
    UniqueFd fd;
    const Result<size_t> got = link.Receive(message, {&fd, 1}, deadline);
    if (!got.ok()) {
      if (got.error().code() != ETIMEDOUT) Reset();
      return got.error();
    }
    Result<MoveNews> news = Take(message, std::move(fd), *got);
    if (!news.ok()) Reset();
    return news;
  }
  // The owner is not heard of any more, or has given up.
  void Reset() noexcept {
    phase = Phase::kIdle;
    for (Slot& slot : slots) slot.next = {};
  }
  Result<MoveNews> Take(const Message& message, UniqueFd fd, size_t fds) noexcept {
    if (fds != (message.kind == Kind::kGive ? 1 : 0)) {
      return link.Garbage("a message with another number of descriptors");
    }
    switch (message.kind) {
      case Kind::kAsk:
        return Asked(message);
      case Kind::kCancel:
        if (message.sequence != sequence || phase == Phase::kGiving) break;
        Reset();
        return MoveNews::kCancelled;
      case Kind::kGive:
        return Given(message, std::move(fd));
      case Kind::kUse:
        return UseAll(message);
      default:
        break;
    }
    return link.Garbage("a message that has no place here");
  }
  Result<MoveNews> Asked(const Message& message) noexcept {
    if (phase != Phase::kIdle || message.sequence <= sequence || message.generation <= generation) {
      return link.Garbage("a question out of order");
    }
    sequence = message.sequence;
    asked_generation = message.generation;
    if (options.declines) {
      if (Error error = Answer(Kind::kBusy); !error.ok()) return error;
      return MoveNews::kDeclined;
    }
    if (uses != 0) {
      phase = Phase::kAsked;
      return MoveNews::kAsked;
    }
    if (Error error = Answer(Kind::kQuiet); !error.ok()) return error;
    return MoveNews::kQuiet;
  }
  Error Answer(Kind kind, uint32_t buffer = 0) noexcept {
    if (kind != Kind::kTook) phase = kind == Kind::kQuiet ? Phase::kQuiet : Phase::kIdle;
    return link.Send({.kind = kind, .buffer = buffer, .sequence = sequence}, {}, Deadline{});
  }
  Result<MoveNews> Given(const Message& message, UniqueFd fd) noexcept {
    const bool moves = phase == Phase::kQuiet;
    const bool first = phase == Phase::kIdle;
    if (phase == Phase::kAsked || message.buffer >= options.buffers ||
        (first ? message.sequence <= sequence : message.sequence != sequence)) {
      return link.Garbage("memory out of order");
    }
    Slot& slot = slots[message.buffer];
    const bool fits = moves ? message.generation == asked_generation
                            : message.generation != 0 && message.generation >= generation;
    if (!fits || slot.next.fd.valid() || slot.now.fd.valid() != moves) {
      return link.Garbage("memory of another generation, or of another buffer");
    }
    if (message.bytes == 0 || message.bytes > options.most_bytes || !PlanesFit(message)) {
      return link.Garbage("memory of a size that is not taken");
    }
    const long end = link.sys().Lseek(fd.get(), 0, SEEK_END);
    if (Failed(end)) {
      return link.Break(Error(ErrnoFrom(end), "lseek", link.Here(message.bytes)));
    }
    if (static_cast<uint64_t>(end) < message.bytes) {
      return link.Garbage("a descriptor of less memory than was said");
    }
    if (first) {
      phase = Phase::kGiving;
      sequence = message.sequence;
      asked_generation = message.generation;
    }
    if (message.generation != asked_generation) return link.Garbage("memory of two generations");
    slot.next = {.fd = std::move(fd),
                 .bytes = message.bytes,
                 .generation = message.generation,
                 .planes = static_cast<unsigned>(message.planes)};
    std::ranges::copy(message.offset, slot.next.offset);
    std::ranges::copy(message.stride, slot.next.stride);
    if (Error error = Answer(Kind::kTook, message.buffer); !error.ok()) return error;
    return MoveNews::kNothing;
  }
  static bool PlanesFit(const Message& message) noexcept {
    if (message.planes > kMostPlanes) return false;
    for (uint64_t plane = 0; plane < message.planes; ++plane) {
      if (message.offset[plane] >= message.bytes || message.stride[plane] > message.bytes) {
        return false;
      }
    }
    return true;
  }
  Result<MoveNews> UseAll(const Message& message) noexcept {
    const bool moves = phase == Phase::kQuiet;
    if ((!moves && phase != Phase::kGiving) || message.sequence != sequence) {
      return link.Garbage("a word that has no place here");
    }
    for (const Slot& slot : slots) {
      if (moves && slot.now.fd.valid() != slot.next.fd.valid()) {
        return link.Garbage("a part of the memory has not moved");
      }
    }
    for (Slot& slot : slots) {
      if (slot.next.fd.valid()) slot.now = std::exchange(slot.next, {});
    }
    generation = asked_generation;
    phase = Phase::kIdle;
    return moves ? MoveNews::kMoved : MoveNews::kGiven;
  }

  Error Open(uint32_t buffer) noexcept {
    if (buffer >= options.buffers || !slots[buffer].now.fd.valid()) {
      return Error(EINVAL, "there is no memory of that number", link.Here());
    }
    if (phase == Phase::kQuiet || phase == Phase::kAsked) {
      return Error(EBUSY, "the memory is about to move", link.Here(), "call Serve first");
    }
    ++uses;
    return {};
  }
  void Close() noexcept {
    if (--uses != 0 || phase != Phase::kAsked) return;
    // A link that does not take it is broken: Serve tells.
    if (Error error = Answer(Kind::kQuiet); !error.ok()) Reset();
  }

  MoveLink<Sys, Sock> link;
  FollowerOptions options;
  std::vector<Slot> slots;
  Phase phase = Phase::kIdle;
  uint64_t sequence = 0;          // of the last question
  uint64_t asked_generation = 0;  // of memory that is given
  uint64_t generation = 0;        // of memory that is in use
  uint32_t uses = 0;
};

}  // namespace internal

template <Syscalls Sys, SocketCalls Sock>
class BasicMoveFollower;

// A use of a buffer by this process: by the CPU, or by a device that it gave the memory to. While
// one is open, no memory of the follower moves.
template <Syscalls Sys = LinuxSyscalls, SocketCalls Sock = LinuxSocketCalls>
class [[nodiscard]] BasicFollowedUse {
  using State = internal::FollowerState<Sys, Sock>;

 public:
  BasicFollowedUse(BasicFollowedUse&& other) noexcept
      : state_(std::move(other.state_)), buffer_(other.buffer_) {}
  BasicFollowedUse& operator=(BasicFollowedUse&& other) noexcept {
    if (this != &other) {
      End();
      state_ = std::move(other.state_);
      buffer_ = other.buffer_;
    }
    return *this;
  }
  // Answers the owner if this was the last use, and the owner has asked.
  ~BasicFollowedUse() { End(); }

  // The descriptor, as long as the use is open. A sender that is not trusted may cut a memfd:
  // Client::Import refuses one that can be cut.
  FdRef fd() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return memory().fd.borrow(); }
  // The size of the buffer, from the descriptor's start. The descriptor had so many when it came.
  uint64_t bytes() const noexcept { return memory().bytes; }
  // Another one than at the last use: the memory is another, so map it again.
  uint64_t generation() const noexcept { return memory().generation; }
  // The planes of the image in the memory; 0: bytes.
  unsigned planes() const noexcept { return memory().planes; }
  // The first byte of a plane, which lies within bytes(). Requires: plane < planes() (checked).
  uint64_t offset(unsigned plane) const noexcept { return memory().offset[Checked(plane)]; }
  // The bytes from a row to the next, at most bytes(). Requires: plane < planes() (checked).
  uint64_t stride(unsigned plane) const noexcept { return memory().stride[Checked(plane)]; }

 private:
  friend class BasicMoveFollower<Sys, Sock>;
  BasicFollowedUse(std::shared_ptr<State> state, uint32_t buffer) noexcept
      : state_(std::move(state)), buffer_(buffer) {}
  const typename State::Memory& memory() const noexcept {
    ION_CHECK(state_ != nullptr, "a FollowedUse was used after it was moved from");
    return state_->slots[buffer_].now;
  }
  unsigned Checked(unsigned plane) const noexcept {
    ION_CHECK(plane < planes(), "the image has fewer planes");
    return plane;
  }
  void End() noexcept {
    if (state_ != nullptr) state_->Close();
    state_.reset();
  }

  std::shared_ptr<State> state_;
  uint32_t buffer_;
};

template <Syscalls Sys = LinuxSyscalls, SocketCalls Sock = LinuxSocketCalls>
class [[nodiscard]] BasicMoveFollower {
  using State = internal::FollowerState<Sys, Sock>;

 public:
  // A follower without memory. EINVAL: no buffers, or more than 1024. EPROTOTYPE: not a
  // SOCK_SEQPACKET socket. ENOMEM.
  static absl::StatusOr<BasicMoveFollower> Of(UniqueFd socket, const FollowerOptions& options = {},
                                              const Sys& sys = {}, const Sock& sock = {}) noexcept {
    internal::MoveLink<Sys, Sock> link(std::move(socket), "owner", sys, sock);
    if (options.buffers == 0 || options.buffers > 1024) {
      return ToStatus(Error(EINVAL, "the number of buffers is not 1 to 1024", link.Here()));
    }
    if (Error error = link.Check(); !error.ok()) return ToStatus(error);
    auto state =
        internal::WithMemory([&] { return std::make_shared<State>(std::move(link), options); },
                             [] { return std::shared_ptr<State>(); });
    if (state == nullptr) {
      return ToStatus(Error(ENOMEM, "operator new", {"socket", Operation::kMove}));
    }
    return BasicMoveFollower(std::move(state));
  }

  // Waits for one message of the owner, and does its part; a deadline in the past makes it a look.
  // DEADLINE_EXCEEDED (ETIMEDOUT): none came. Other errors broke the link, and the memory stays as
  // it is: ECONNRESET: the owner has gone; EPROTO, EBADMSG, EMSGSIZE: it does not follow the
  // protocol; ENOTCONN: the link was broken before.
  absl::StatusOr<MoveNews> Serve(Deadline deadline) noexcept {
    const Result<MoveNews> news = state().Serve(deadline);
    if (!news.ok()) return ToStatus(news);
    return *news;
  }
  // Begins to use a buffer. EINVAL: there is no memory of that number. FAILED_PRECONDITION (EBUSY):
  // the owner was told that nobody uses the memory, or waits for that.
  absl::StatusOr<BasicFollowedUse<Sys, Sock>> Use(uint32_t buffer) noexcept {
    if (Error error = state().Open(buffer); !error.ok()) return ToStatus(error);
    return BasicFollowedUse<Sys, Sock>(state_, buffer);
  }
  // Answers the owner that the memory may not move now. EINVAL: no answer is due.
  absl::Status Decline() noexcept {
    if (state().phase != State::Phase::kAsked) {
      return ToStatus(Error(EINVAL, "no answer is due", state().link.Here()));
    }
    return ToStatus(state().Answer(internal::MoveKind::kBusy));
  }
  // For a poll of the caller's: POLLIN means that Serve has something to do. -1: the link is
  // broken.
  FdRef socket() const noexcept ABSL_ATTRIBUTE_LIFETIME_BOUND { return state().link.socket(); }
  // False: the link is broken, and the memory moves no more.
  bool connected() const noexcept { return !state().link.broken(); }

 private:
  explicit BasicMoveFollower(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  State& state() const noexcept {
    ION_CHECK(state_ != nullptr, "a MoveFollower was used after it was moved from");
    return *state_;
  }

  std::shared_ptr<State> state_;
};
using MoveFollower = BasicMoveFollower<>;
using FollowedUse = BasicFollowedUse<>;

}  // namespace ion

#endif  // ION_ION_MOVE_SOCKET_H_
