// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/demo.cc
//
// A small camera stack of two processes. The producer takes memory from the first backend that
// opens, has frames written into it by a device (or draws them), and hands it over by descriptor;
// the consumer imports it, and checks every frame inside a scope of CPU access.
//
//   bazel run //examples:demo -- --help

#include <cstdio>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "examples/child_process.h"
#include "examples/choose.h"
#include "examples/composition.h"
#include "examples/consumer.h"
#include "examples/latency.h"
#include "examples/message_socket.h"
#include "examples/options.h"
#include "examples/png_writer.h"
#include "examples/producer.h"
#include "ion/base/error.h"
#include "ion/base/status.h"

namespace ion::demo {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

int Fail(std::string_view who, const absl::Status& status) {
  std::fprintf(stderr, "%s: %s\n", std::string(who).c_str(), status.ToString().c_str());
  return kFailed;
}

struct Outcome {
  Tally tally;
  std::string backend;
  std::string heap;
};

// The producer's whole work.
absl::StatusOr<Outcome> RunProducer(const Options& options, MessageSocket& consumer) {
  absl::StatusOr<Composition> memory = OpenComposition(options.backend);
  if (!memory.ok()) return memory.status();
  for (const Error& refusal : memory->backend().refusals()) {
    std::printf("demo: not taken: %s\n", Describe(refusal).c_str());
  }
  const char* const backend = memory->backend().name();
  auto client = memory->CreateClient({.name = "demo"});
  if (!client.ok()) return client.status();
  absl::StatusOr<Choice> choice = Choose(*memory, *client, options);
  if (!choice.ok()) return choice.status();
  FrameSource& source = *choice->source;
  const FrameFormat& format = source.format();
  std::printf("demo: taken: %s, %ux%u RGB, into %u buffers of %llu bytes, backend %s, heap %s\n",
              std::string(source.name()).c_str(), format.width, format.height, options.buffers,
              static_cast<unsigned long long>(choice->buffers.front().memory.bytes()), backend,
              choice->heap.c_str());
  absl::Status status = HandOver(backend, choice->buffers, format, options.frames, consumer);
  if (!status.ok()) return status;
  absl::StatusOr<Tally> tally = Produce(source, options.buffers, options.frames, consumer);
  if (!tally.ok()) return tally.status();
  return Outcome{*std::move(tally), backend, choice->heap};
}

int Run(const Options& options) {
  if (!options.png.empty()) {
    if (absl::Status status = CanWritePng(); !status.ok()) return Fail("demo", status);
  }
  absl::StatusOr<std::pair<MessageSocket, MessageSocket>> sockets = MessageSocket::Pair();
  if (!sockets.ok()) return Fail("demo", sockets.status());
  auto& [to_consumer, to_producer] = *sockets;
  // Before the first Manager: handles are their process's own.
  absl::StatusOr<ChildProcess> consumer =
      ChildProcess::Run([&to_consumer = to_consumer, &to_producer = to_producer, &options] {
        to_consumer.Close();
        const absl::Status status = Consume(to_producer, options.png);
        return status.ok() ? 0 : Fail("demo: consumer", status);
      });
  if (!consumer.ok()) return Fail("demo", consumer.status());
  to_producer.Close();
  std::printf("demo: the consumer is process %d\n", consumer->pid());

  absl::StatusOr<Outcome> result = RunProducer(options, to_consumer);
  // One that has gone can say why; with another error of ours it goes, too.
  if (result.ok() || absl::IsUnavailable(result.status())) {
    if (absl::Status end = consumer->Wait(); !end.ok()) {
      return Fail("demo", absl::Status(end.code(),
                                       absl::StrCat("the consumer ", std::string(end.message()))));
    }
  }
  if (!result.ok()) return Fail("demo", result.status());

  Tally& tally = result->tally;
  std::printf("%s", LatencyTable(tally.latencies).c_str());
  if (tally.mismatches() != 0) {
    std::printf("demo: %u frames were not what was sent, %u were the frame before again\n",
                tally.wrong, tally.still);
  }
  std::printf("demo: %u frames, %llu bytes, %u mismatches, backend=%s heap=%s\n", tally.frames,
              static_cast<unsigned long long>(tally.bytes), tally.mismatches(),
              result->backend.c_str(), result->heap.c_str());
  return tally.mismatches() == 0 ? 0 : kFailed;
}

int Main(int argc, char** argv) {
  const absl::StatusOr<Options> options = ParseOptions(argc, argv);
  if (!options.ok()) {
    std::fprintf(stderr, "demo: %s\n%s", std::string(options.status().message()).c_str(),
                 Usage().c_str());
    return kUsage;
  }
  if (options->help) {
    std::fputs(Usage().c_str(), stdout);
    return 0;
  }
  // A line at a time, also into a pipe: who watches sees what happens while it does.
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  return Run(*options);
}

}  // namespace
}  // namespace ion::demo

int main(int argc, char** argv) { return ion::demo::Main(argc, argv); }
