// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/producer.h
//
// Sends frames round: from the source to the consumer, and the buffer back with the answer. The
// consumer's pace is the pace: a buffer that was not answered is not filled again.
#ifndef ION_EXAMPLES_PRODUCER_H_
#define ION_EXAMPLES_PRODUCER_H_

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "examples/frame_source.h"
#include "examples/latency.h"
#include "examples/message_socket.h"
#include "examples/protocol.h"

namespace ion::demo {

// What became of the frames.
struct Tally {
  uint32_t frames = 0;
  uint32_t wrong = 0;
  uint32_t still = 0;
  uint64_t bytes = 0;  // checked by the consumer
  std::vector<Latency> latencies = {};

  uint32_t mismatches() const { return wrong + still; }
};

// Greets the consumer and sends it each buffer, once. `backend`: what it shall import them with.
inline absl::Status HandOver(std::string_view backend, std::span<const FrameBuffer> buffers,
                             const FrameFormat& format, uint32_t frames, MessageSocket& consumer) {
  Hello hello{.format = format, .buffers = static_cast<uint32_t>(buffers.size()), .frames = frames};
  backend.copy(hello.backend, sizeof(hello.backend) - 1);
  if (absl::Status status = consumer.Send(hello); !status.ok()) return status;
  for (uint32_t i = 0; i < buffers.size(); ++i) {
    // The consumer gets a descriptor of its own.
    absl::Status status = consumer.Send(BufferMessage{i}, buffers[i].memory.fd());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// Sends `frames` frames round. Requires: `source` was started with `buffers` buffers, all of them
// handed over. UNAVAILABLE: the consumer has gone. DEADLINE_EXCEEDED: for long, neither a frame nor
// an answer came.
absl::StatusOr<Tally> Produce(FrameSource& source, uint32_t buffers, uint32_t frames,
                              MessageSocket& consumer);

}  // namespace ion::demo

#endif  // ION_EXAMPLES_PRODUCER_H_
