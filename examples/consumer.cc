// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "examples/consumer.h"

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "examples/composition.h"
#include "examples/frame.h"
#include "examples/frame_checker.h"
#include "examples/latency.h"
#include "examples/png_writer.h"
#include "examples/protocol.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"

namespace ion::demo {
namespace {

// The descriptor that came is closed here: an import has a copy of its own.
template <class Client>
absl::StatusOr<ReadOnlyMapping> ImportNext(Client& client, MessageSocket& producer, uint32_t index,
                                           const FrameFormat& format) {
  absl::StatusOr<Received<BufferMessage>> received = producer.Receive<BufferMessage>();
  if (!received.ok()) return received.status();
  if (received->message.index != index) return absl::DataLossError("a buffer came out of turn");
  absl::StatusOr<Handle> handle = client.Import(received->fd.borrow());
  if (!handle.ok()) return handle.status();
  absl::StatusOr<ReadOnlyMapping> mapping = client.template Map<MapMode::kReadOnly>(*handle);
  if (!mapping.ok()) return mapping.status();
  if (mapping->bytes() < format.bytes) {
    return absl::DataLossError("a buffer came that is smaller than a frame");
  }
  return mapping;
}

// Checks a frame where it lies; copies it to `keep` unless that is null.
absl::StatusOr<Answer> CheckFrame(FrameChecker& checker, const FrameFormat& format,
                                  const ReadOnlyMapping& mapping, const FrameMessage& frame,
                                  std::vector<std::byte>* keep) {
  Answer answer{.buffer = frame.buffer, .received_ns = NowNs()};
  absl::StatusOr<CpuRead> cpu = CpuRead::Begin(mapping);
  if (!cpu.ok()) return cpu.status();
  answer.verdict = checker.Check(format, cpu->bytes(), frame.checksum);
  if (keep != nullptr) keep->assign(cpu->bytes().begin(), cpu->bytes().end());
  if (absl::Status status = std::move(*cpu).End(); !status.ok()) return status;
  answer.checked_ns = NowNs();
  return answer;
}

absl::Status ConsumeWith(Composition& memory, const Hello& hello, MessageSocket& producer,
                         const std::string& png) {
  auto client = memory.CreateClient({.name = "consumer"});
  if (!client.ok()) return client.status();
  std::vector<ReadOnlyMapping> buffers;
  for (uint32_t i = 0; i < hello.buffers; ++i) {
    absl::StatusOr<ReadOnlyMapping> buffer = ImportNext(*client, producer, i, hello.format);
    if (!buffer.ok()) return buffer.status();
    buffers.push_back(*std::move(buffer));
  }
  FrameChecker checker;
  std::vector<std::byte> last;
  for (uint32_t number = 0; number < hello.frames; ++number) {
    absl::StatusOr<Received<FrameMessage>> frame = producer.Receive<FrameMessage>();
    if (!frame.ok()) return frame.status();
    if (frame->message.buffer >= buffers.size()) {
      return absl::DataLossError("a frame came in a buffer that never did");
    }
    const bool keep = !png.empty() && number + 1 == hello.frames;
    absl::StatusOr<Answer> answer =
        CheckFrame(checker, hello.format, buffers[frame->message.buffer], frame->message,
                   keep ? &last : nullptr);
    if (!answer.ok()) return answer.status();
    if (absl::Status status = producer.Send(*answer); !status.ok()) return status;
  }
  return last.empty() ? absl::OkStatus() : WritePng(png, hello.format, last);
}

}  // namespace

absl::Status Consume(MessageSocket& producer, const std::string& png) {
  absl::StatusOr<Received<Hello>> received = producer.Receive<Hello>();
  if (!received.ok()) return received.status();
  Hello& hello = received->message;
  hello.backend[sizeof(hello.backend) - 1] = '\0';
  if (!hello.format.Valid() || hello.buffers == 0 || hello.buffers > kMostBuffers) {
    return absl::DataLossError("the producer's greeting makes no sense");
  }
  absl::StatusOr<Composition> memory = OpenComposition(hello.backend);
  if (!memory.ok()) return memory.status();
  return ConsumeWith(*memory, hello, producer, png);
}

}  // namespace ion::demo
