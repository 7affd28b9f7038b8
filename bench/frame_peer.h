// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/frame_peer.h
//
// FramePeer: the process that frames are handed to, and Board, on which it writes how long it took
// and how many system calls it made. Message: the text that a frame comes with.
//
// The two processes take turns: the peer waits while a batch is written and sent, then receives and
// reads all of it while the other waits. So neither is woken in the middle, and the turns count in
// no figure.
#ifndef ION_BENCH_FRAME_PEER_H_
#define ION_BENCH_FRAME_PEER_H_

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "ion/base/check.h"
#include "ion/base/fd.h"

namespace ion::bench {

inline constexpr uint32_t kBatch = 8;  // frames under way at a time
inline constexpr uint64_t kFrameBytes = 64 * 1024;

// CPU time of this thread.
inline uint64_t ThreadNs() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Shared by both processes; written by the peer before it says that a batch is done.
struct Board {
  uint64_t ns = 0;
  uint64_t calls = 0;
  char error[256] = "";

  void Fail(const absl::Status& status) {
    const std::string text(status.message());
    std::snprintf(error, sizeof(error), "the peer: %s", text.c_str());
  }
};

struct Message {
  uint32_t index = 0;  // of the ring
  uint32_t value = 0;  // each byte of the frame has it
};

class FramePeer {
 public:
  // P: Open(calls, socket) -> absl::Status, once, and Take(socket) -> absl::Status for each frame.
  // They run in the peer, and count their system calls in `calls`.
  template <class P>
  static std::unique_ptr<FramePeer> Start() {
    auto peer = std::make_unique<FramePeer>();
    peer->pid_ = ::fork();
    ION_CHECK(peer->pid_ >= 0, "fork failed");
    if (peer->pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      peer->frames_[0].reset();
      peer->turns_[0].reset();
      Serve<P>(*peer->board_, peer->frames_[1].borrow(), peer->turns_[1].get());
      ::_exit(0);
    }
    peer->frames_[1].reset();
    peer->turns_[1].reset();
    return peer;
  }
  FramePeer() {
    void* const at =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ION_CHECK(at != MAP_FAILED, "mmap failed");
    board_ = new (at) Board;
    Connect(frames_);
    Connect(turns_);
  }
  FramePeer(const FramePeer&) = delete;
  FramePeer& operator=(const FramePeer&) = delete;
  ~FramePeer() {
    turns_[0].reset();
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    ::munmap(board_, sizeof(Board));
  }

  // The socket of the frames.
  FdRef frames() const { return frames_[0].borrow(); }
  // Lets the peer open itself, and then, each time, take a batch; waits until it has. Returns the
  // reason why it could not.
  absl::Status Turn() {
    char turn = 0;
    const bool done = ::send(turns_[0].get(), &turn, 1, MSG_NOSIGNAL) == 1 &&
                      ::recv(turns_[0].get(), &turn, 1, 0) == 1;
    if (board_->error[0] != 0) return absl::InternalError(board_->error);
    return done ? absl::OkStatus() : absl::InternalError("the peer has gone");
  }
  const Board& board() const { return *board_; }

 private:
  static void Connect(UniqueFd (&ends)[2]) {
    int fds[2];
    ION_CHECK(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0, "no socket");
    ends[0] = UniqueFd(fds[0]);
    ends[1] = UniqueFd(fds[1]);
  }
  static bool Await(int turns) {
    char turn;
    return ::recv(turns, &turn, 1, 0) == 1;
  }
  static bool Done(int turns) {
    const char turn = 0;
    return ::send(turns, &turn, 1, MSG_NOSIGNAL) == 1;
  }
  template <class P>
  static void Serve(Board& board, FdRef frames, int turns) {
    P peer;
    if (!Await(turns)) return;
    if (const absl::Status opened = peer.Open(board.calls, frames); !opened.ok()) {
      board.Fail(opened);
    }
    while (Done(turns) && Await(turns)) {
      const uint64_t before = ThreadNs();
      absl::Status status;
      for (uint32_t i = 0; i < kBatch && status.ok(); ++i) status = peer.Take(frames);
      board.ns += ThreadNs() - before;
      if (!status.ok()) board.Fail(status);
    }
  }

  Board* board_ = nullptr;
  UniqueFd frames_[2];
  UniqueFd turns_[2];
  pid_t pid_ = -1;
};

}  // namespace ion::bench

#endif  // ION_BENCH_FRAME_PEER_H_
