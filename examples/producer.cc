// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/producer.h"

#include <poll.h>

#include <cerrno>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "ion/base/status.h"

namespace ion::demo {
namespace {

// A device or a consumer that says nothing for so long will not; arbitrary, and far above what an
// emulated machine needs.
constexpr int kPatienceMs = 20'000;

class Round {
 public:
  Round(FrameSource& source, uint32_t buffers, MessageSocket& consumer)
      : source_(source), consumer_(consumer), sent_ns_(buffers, kNotSent), queued_(buffers) {}

  absl::StatusOr<Tally> Run(uint32_t frames) {
    tally_.latencies = {{source_.act()}, {"hand over"}, {"check"}, {"round trip"}};
    while (tally_.frames < frames) {
      const bool wanted = sent_ < frames && queued_ != 0;
      if (wanted && waiting_since_ns_ == 0) waiting_since_ns_ = NowNs();
      absl::StatusOr<Ready> ready = Wait(wanted);
      if (!ready.ok()) return ready.status();
      if (ready->answer) {
        if (absl::Status status = TakeAnswer(); !status.ok()) return status;
      }
      if (ready->frame) {
        if (absl::Status status = SendFrame(); !status.ok()) return status;
      }
    }
    tally_.bytes = uint64_t{tally_.frames} * source_.format().visible_bytes();
    return std::move(tally_);
  }

 private:
  static constexpr int64_t kNotSent = -1;
  enum Stage { kFill, kHandOver, kCheck, kRoundTrip };
  struct Ready {
    bool answer;
    bool frame;
  };

  // Until the consumer has something to say, or, where a frame is wanted, the source has one.
  absl::StatusOr<Ready> Wait(bool wanted) {
    const bool at_once = wanted && source_.readable() == FdRef();
    pollfd on[] = {{.fd = consumer_.fd().get(), .events = POLLIN, .revents = 0},
                   // A number below 0 is passed over.
                   {.fd = wanted ? source_.readable().get() : -1, .events = POLLIN, .revents = 0}};
    int count;
    do count = ::poll(on, std::size(on), at_once ? 0 : kPatienceMs);
    while (count < 0 && errno == EINTR);
    if (count < 0) return MakeStatus(errno, absl::StrCat("poll: ", ErrnoName(errno)));
    if (count == 0 && !at_once) {
      return absl::DeadlineExceededError(absl::StrCat(
          wanted ? absl::StrCat("no frame from ", std::string(source_.name()), ", and ") : "",
          "no answer from the consumer, for ", kPatienceMs / 1000, " s"));
    }
    // Whatever the event is, an error too: the call that follows says which.
    return Ready{.answer = on[0].revents != 0, .frame = at_once || on[1].revents != 0};
  }

  absl::Status TakeAnswer() {
    absl::StatusOr<Received<Answer>> received = consumer_.Receive<Answer>();
    if (!received.ok()) return received.status();
    const Answer& answer = received->message;
    if (answer.buffer >= sent_ns_.size() || sent_ns_[answer.buffer] == kNotSent) {
      return absl::DataLossError("the consumer answered for a buffer that it does not have");
    }
    const int64_t sent = std::exchange(sent_ns_[answer.buffer], kNotSent);
    Sample(kHandOver, answer.received_ns - sent);
    Sample(kCheck, answer.checked_ns - answer.received_ns);
    Sample(kRoundTrip, NowNs() - sent);
    ++tally_.frames;
    if (answer.verdict == Verdict::kStill) {
      ++tally_.still;
    } else if (answer.verdict != Verdict::kMatch) {
      ++tally_.wrong;
    }
    ++queued_;
    return source_.Queue(answer.buffer);
  }

  absl::Status SendFrame() {
    const absl::StatusOr<std::optional<Frame>> dequeued = source_.Dequeue();
    if (!dequeued.ok()) return dequeued.status();
    const std::optional<Frame>& frame = *dequeued;
    if (!frame.has_value()) return StillPatient();
    --queued_;
    const int64_t now = NowNs();
    Sample(kFill, now - std::exchange(waiting_since_ns_, 0));
    sent_ns_[frame->buffer] = now;
    ++sent_;
    return consumer_.Send(FrameMessage{.buffer = frame->buffer, .checksum = frame->checksum});
  }

  absl::Status StillPatient() const {
    if (NowNs() - waiting_since_ns_ < int64_t{kPatienceMs} * 1'000'000) return absl::OkStatus();
    return absl::DeadlineExceededError(absl::StrCat(
        "no new frame from ", std::string(source_.name()), " for ", kPatienceMs / 1000, " s"));
  }

  void Sample(Stage stage, int64_t ns) { tally_.latencies[stage].samples_ns.push_back(ns); }

  FrameSource& source_;
  MessageSocket& consumer_;
  std::vector<int64_t> sent_ns_;  // of each buffer that the consumer has
  uint32_t sent_ = 0;             // frames
  uint32_t queued_;               // buffers that the source has
  int64_t waiting_since_ns_ = 0;
  Tally tally_;
};

}  // namespace

absl::StatusOr<Tally> Produce(FrameSource& source, uint32_t buffers, uint32_t frames,
                              MessageSocket& consumer) {
  return Round(source, buffers, consumer).Run(frames);
}

}  // namespace ion::demo
