// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The demo as a program, and its two halves against a partner that is wrong, dead, or lying.

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "doctest/doctest.h"
#include "examples/choose.h"
#include "examples/composition.h"
#include "examples/consumer.h"
#include "examples/frame_checker.h"
#include "examples/message_socket.h"
#include "examples/options.h"
#include "examples/pattern_source.h"
#include "examples/png_writer.h"
#include "examples/producer.h"
#include "examples/test_pattern.h"
#include "examples/v4l2_source.h"
#include "examples/vgem.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/cpu_access.h"
#include "ion/platforms/linux.h"
#include "tests/support/leak_check.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"

#if ION_HAVE_PNG
#include <png.h>
#endif

namespace ion::demo {
namespace {

using testing::Skip;

// The demo, running. What it writes to stdout and stderr comes together.
class Demo {
 public:
  explicit Demo(std::vector<std::string> arguments) {
    // What the demo leaves behind becomes our child, and is found.
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    const auto self = std::filesystem::read_symlink("/proc/self/exe");
    const std::string program = self.parent_path().parent_path() / "examples" / "demo";
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::dup2(ends[1], STDERR_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_end_ = UniqueFd(ends[0]);
  }

  // Until `text` was written, or the output has ended.
  void ReadUntil(const std::string& text) {
    while (output_.find(text) == std::string::npos && ReadSome()) {
    }
  }
  // Until every process that could write is gone.
  void Finish() {
    while (ReadSome()) {
    }
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    while (::waitpid(-1, nullptr, 0) > 0) ++left_behind_;
    CHECK(errno == ECHILD);
  }

  pid_t pid() const { return pid_; }
  const std::string& output() const { return output_; }
  // Negative: the signal that killed it.
  int exit_code() const { return exit_code_; }
  int left_behind() const { return left_behind_; }
  std::string last_line() const {
    if (output_.size() < 2) return {};
    const size_t before = output_.rfind('\n', output_.size() - 2);
    return output_.substr(before == std::string::npos ? 0 : before + 1);
  }

 private:
  bool ReadSome() {
    char text[4096];
    const ssize_t got = ::read(output_end_.get(), text, sizeof(text));
    if (got > 0) output_.append(text, static_cast<size_t>(got));
    return got > 0;
  }

  pid_t pid_ = 0;
  UniqueFd output_end_;
  std::string output_;
  int exit_code_ = 0;
  int left_behind_ = 0;
};

Demo RunDemo(std::vector<std::string> arguments) {
  Demo demo(std::move(arguments));
  demo.Finish();
  CAPTURE(demo.output());
  CHECK(demo.left_behind() == 0);
  return demo;
}

// What the last line says; of the form that scripts rely on, to the letter.
struct Summary {
  unsigned frames = 0, mismatches = 0;
  unsigned long long bytes = 0;
  char backend[32] = "", heap[64] = "";

  explicit Summary(const Demo& demo) {
    CAPTURE(demo.output());
    constexpr const char* kForm =
        "demo: %u frames, %llu bytes, %u mismatches, backend=%31s heap=%63s";
    REQUIRE(std::sscanf(demo.last_line().c_str(), kForm, &frames, &bytes, &mismatches, backend,
                        heap) == 5);
    CHECK(demo.last_line() == absl::StrCat("demo: ", frames, " frames, ", bytes, " bytes, ",
                                           mismatches, " mismatches, backend=", backend,
                                           " heap=", heap, "\n"));
  }
};

// An empty heap is any.
void CheckSuccess(const Demo& demo, uint32_t frames, const std::string& backend,
                  const std::string& heap) {
  CAPTURE(demo.output());
  CHECK(demo.exit_code() == 0);
  const Summary summary(demo);
  CHECK(summary.frames == frames);
  CHECK(summary.bytes > 0);
  CHECK(summary.mismatches == 0);
  CHECK(summary.backend == backend);
  CHECK((heap.empty() || summary.heap == heap));
}

constexpr FrameFormat kSmall{.width = 100, .height = 64, .stride = 304, .bytes = 304 * 64};

// A producer's half over memfd, with a source that is told what to do wrong.
struct Stage {
  explicit Stage(uint32_t count = 3) {
    auto ends = MessageSocket::Pair();
    REQUIRE(ends.ok());
    ours = std::make_unique<MessageSocket>(std::move(ends->first));
    theirs = std::make_unique<MessageSocket>(std::move(ends->second));
    auto opened = platforms::Memfd::Open();
    REQUIRE(opened.ok());
    manager = std::make_unique<platforms::Memfd>(*std::move(opened));
    auto made = manager->CreateClient({.name = "stage"});
    REQUIRE(made.ok());
    client = std::make_unique<platforms::Memfd::Client>(*std::move(made));
    std::unique_ptr<FrameSource> source = std::make_unique<PatternSource>(kSmall);
    Options options;
    options.buffers = count;
    auto chosen = TrySource(*manager, *client, std::move(source), options);
    REQUIRE(chosen.ok());
    choice = *std::move(chosen);
  }
  absl::Status HandOverAll(uint32_t frames) {
    return HandOver("memfd", choice.buffers, kSmall, frames, *ours);
  }
  absl::StatusOr<Tally> ProduceAll(FrameSource& source, uint32_t frames) {
    return Produce(source, static_cast<uint32_t>(choice.buffers.size()), frames, *ours);
  }

  std::unique_ptr<MessageSocket> ours, theirs;
  std::unique_ptr<platforms::Memfd> manager;
  std::unique_ptr<platforms::Memfd::Client> client;
  Choice choice;
};

// Changes one byte of one frame after its checksum was made.
class SpoilingSource final : public FrameSource {
 public:
  SpoilingSource(Choice& choice, uint32_t which) : choice_(choice), which_(which) {}

  std::string_view name() const override { return "spoilt"; }
  std::string_view act() const override { return "spoil"; }
  const FrameFormat& format() const override { return choice_.source->format(); }
  absl::Status Start(std::span<const FrameBuffer>) override { return absl::OkStatus(); }
  absl::Status Queue(uint32_t buffer) override { return choice_.source->Queue(buffer); }
  FdRef readable() const override { return FdRef(); }
  absl::StatusOr<std::optional<Frame>> Dequeue() override {
    auto frame = choice_.source->Dequeue();
    if (frame.ok() && number_++ == which_) {
      auto cpu = CpuReadWrite::Begin(choice_.buffers[(*frame)->buffer].mapping);
      if (!cpu.ok()) return cpu.status();
      // The last byte that can be seen.
      cpu->bytes()[kSmall.stride * (kSmall.height - 1) + kSmall.row_bytes() - 1] ^= std::byte{1};
    }
    return frame;
  }

 private:
  Choice& choice_;
  const uint32_t which_;
  uint32_t number_ = 0;
};

TEST_CASE("demo: frames go round, and the last line says so") {
  const Demo demo = RunDemo({"--frames", "30"});
  const auto best = [] {
    if (platforms::DmaHeaps::Open().ok()) return "dma_heap";
    return platforms::Udmabuf::Open().ok() ? "udmabuf" : "memfd";
  };
  CheckSuccess(demo, 30, best(), "");
}

TEST_CASE("demo: the bytes of the last line are those of all frames") {
  const Demo demo = RunDemo({"--frames", "5", "--backend", "memfd", "--source", "pattern",
                             "--width", "101", "--height", "67", "--buffers", "2"});
  CAPTURE(demo.output());
  CHECK(demo.last_line() == absl::StrCat("demo: 5 frames, ", 5 * 101 * 67 * 3,
                                         " bytes, 0 mismatches, backend=memfd heap=memfd\n"));
}

TEST_CASE("demo: a backend that is named is taken, or its refusal is the error") {
  for (const std::string backend : {"dma_heap", "udmabuf", "memfd"}) {
    const Demo demo = RunDemo({"--frames", "10", "--backend", backend});
    if (demo.exit_code() == 0) {
      CheckSuccess(demo, 10, backend, "");
    } else {
      CAPTURE(demo.output());
      CHECK(backend != "memfd");
      CHECK(demo.exit_code() == 1);
      CHECK(demo.last_line().find(absl::StrCat(" ", backend, " ")) != std::string::npos);
      CHECK(demo.last_line().find("[ion.errno=") != std::string::npos);
    }
  }
}

TEST_CASE("demo: wrong options end with the usage and 2") {
  const std::vector<std::string> wrong[] = {
      {"--nonsense"},          {"nonsense"},           {"--frames"},
      {"--frames", "0"},       {"--frames", "12x"},    {"--buffers", "1"},
      {"--buffers", "33"},     {"--width", "9999999"}, {"--height", "-1"},
      {"--backend", "nobody"}, {"--source", "nobody"}};
  for (const auto& arguments : wrong) {
    const Demo demo = RunDemo(arguments);
    CAPTURE(demo.output());
    CHECK(demo.exit_code() == 2);
    CHECK(demo.output().find("usage: demo") != std::string::npos);
  }
}

TEST_CASE("demo: --help is the usage, and no error") {
  const Demo demo = RunDemo({"--help"});
  CHECK(demo.exit_code() == 0);
  CHECK(demo.output().starts_with("usage: demo"));
}

TEST_CASE("demo: a device that is none is an error that names it") {
  const Demo demo = RunDemo({"--device", "/dev/null"});
  CHECK(demo.exit_code() == 1);
  CHECK(demo.last_line().find("/dev/null") != std::string::npos);
}

TEST_CASE("demo: a consumer that is killed is told, with its signal") {
  Demo demo({"--frames", "100000000", "--backend", "memfd", "--source", "pattern"});
  demo.ReadUntil("demo: taken");
  int consumer = 0;
  REQUIRE(std::sscanf(demo.output().c_str(), "demo: the consumer is process %d", &consumer) == 1);
  REQUIRE(consumer > 1);
  REQUIRE(::kill(consumer, SIGKILL) == 0);
  demo.Finish();
  CAPTURE(demo.output());
  CHECK(demo.exit_code() == 1);
  CHECK(demo.last_line().find("the consumer was killed by signal 9") != std::string::npos);
  CHECK(demo.left_behind() == 0);
}

TEST_CASE("demo: a producer that is killed leaves no consumer running") {
  Demo demo({"--frames", "100000000", "--backend", "memfd", "--source", "pattern"});
  demo.ReadUntil("demo: taken");
  REQUIRE(::kill(demo.pid(), SIGKILL) == 0);
  demo.Finish();  // returns when both have ended
  CAPTURE(demo.output());
  CHECK(demo.exit_code() == -SIGKILL);
  CHECK(demo.last_line().find("demo: consumer: UNAVAILABLE") != std::string::npos);
}

TEST_CASE("demo: --png writes the last frame") {
#if ION_HAVE_PNG
  const testing::TempDir dir;
  const std::string path = dir.At("frame.png");
  CheckSuccess(RunDemo({"--frames", "7", "--backend", "memfd", "--source", "pattern", "--width",
                        "100", "--height", "70", "--png", path}),
               7, "memfd", "memfd");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE(png_image_begin_read_from_file(&image, path.c_str()) != 0);
  CHECK(image.width == 100);
  CHECK(image.height == 70);
  CHECK(image.format == PNG_FORMAT_RGB);
  const FrameFormat format = PatternFormat(image.width, image.height);
  std::vector<std::byte> pixels(format.bytes);
  REQUIRE(png_image_finish_read(&image, nullptr, pixels.data(), 0, nullptr) != 0);
  CHECK(ChecksumOf(format, pixels) == PatternChecksum(format, 6));
#else
  const Demo demo = RunDemo({"--png", "frame.png"});
  CHECK(demo.exit_code() == 1);
  CHECK(demo.last_line().find("libpng-dev") != std::string::npos);
#endif
}

TEST_CASE("demo: a picture that cannot be written is an error") {
  const Demo demo = RunDemo({"--frames", "3", "--source", "pattern", "--png", "/nowhere/x.png"});
  CHECK(demo.exit_code() == 1);
}

TEST_CASE("demo: every vivid device writes straight into our buffers") {
  const std::vector<std::string> nodes = FindVividNodes();
  if (nodes.empty()) return Skip("no vivid capture device");
  if (!platforms::DmaHeaps::Open().ok()) return Skip("no dma-heaps");
  for (const std::string& node : nodes) {
    const Demo demo = RunDemo({"--frames", "20", "--backend", "dma_heap", "--device", node});
    CheckSuccess(demo, 20, "dma_heap", "");
  }
}

TEST_CASE("demo: vgem sees the frames of every backend that makes dma-bufs") {
  if (!drm::OpenVgem().valid()) return Skip("no vgem");
  for (const std::string& backend : BackendNames()) {
    if (backend == "memfd" || !OpenComposition(backend).ok()) continue;
    const Demo demo =
        RunDemo({"--frames", "10", "--source", "pattern", "--prime", "--backend", backend});
    CAPTURE(demo.output());
    CHECK(demo.exit_code() == 0);
    CHECK(demo.output().find("taken: test pattern, seen by vgem, ") != std::string::npos);
    CHECK(demo.last_line().find("10 frames") != std::string::npos);
  }
}

TEST_CASE("demo: a device that cannot follow scattered memory gets contiguous memory") {
  const auto manager = platforms::DmaHeaps::Open();
  if (!manager.ok()) return Skip("no dma-heaps");
  const std::string contiguous(manager->HeapName(HeapId{4}));
  if (contiguous.empty()) return Skip("no contiguous heap");
  bool refused = false;
  for (const std::string& node : FindVividNodes()) {
    const Demo demo = RunDemo({"--frames", "3", "--backend", "dma_heap", "--device", node});
    if (demo.output().find("not taken: heap system: ") == std::string::npos) continue;
    refused = true;
    CheckSuccess(demo, 3, "dma_heap", contiguous);
    CHECK(demo.output().find("VIDIOC_QBUF: EFAULT") != std::string::npos);
  }
  if (!refused) return Skip("no vivid device with a dma-contig queue");
}

TEST_CASE("PatternChecksum: is that of the frame as drawn, gaps between rows left out") {
  std::vector<std::byte> frame(kSmall.bytes, std::byte{0xee});
  DrawPattern(kSmall, 41, frame);
  CHECK(ChecksumOf(kSmall, frame) == PatternChecksum(kSmall, 41));
  frame[kSmall.row_bytes()] ^= std::byte{1};  // the first byte of the first gap
  CHECK(ChecksumOf(kSmall, frame) == PatternChecksum(kSmall, 41));
  frame[kSmall.row_bytes() - 1] ^= std::byte{1};
  CHECK(ChecksumOf(kSmall, frame) != PatternChecksum(kSmall, 41));
}

TEST_CASE("PatternChecksum: no two neighbours are alike") {
  for (uint32_t number = 0; number < 500; ++number) {
    CHECK(PatternChecksum(kSmall, number) != PatternChecksum(kSmall, number + 1));
  }
}

TEST_CASE("FrameChecker: tells a wrong frame from one that came before") {
  std::vector<std::byte> frame(kSmall.bytes);
  FrameChecker checker;
  DrawPattern(kSmall, 0, frame);
  CHECK(checker.Check(kSmall, frame, PatternChecksum(kSmall, 0)) == Verdict::kMatch);
  CHECK(checker.Check(kSmall, frame, PatternChecksum(kSmall, 0)) == Verdict::kStill);
  CHECK(checker.Check(kSmall, frame, PatternChecksum(kSmall, 1)) == Verdict::kWrong);
  DrawPattern(kSmall, 1, frame);
  CHECK(checker.Check(kSmall, frame, PatternChecksum(kSmall, 1)) == Verdict::kMatch);
}

TEST_CASE("Consume: answers a wrong checksum as a mismatch, and goes on") {
  Stage stage;
  absl::Status consumed;
  std::jthread consumer([&] { consumed = Consume(*stage.theirs, ""); });
  REQUIRE(stage.HandOverAll(2).ok());
  for (const Verdict expected : {Verdict::kWrong, Verdict::kMatch}) {
    const auto frame = stage.choice.source->Dequeue();
    REQUIRE(frame.ok());
    const uint64_t wrong = expected == Verdict::kWrong ? 1 : 0;
    REQUIRE(stage.ours->Send(FrameMessage{(*frame)->buffer, (*frame)->checksum + wrong}).ok());
    const auto answer = stage.ours->Receive<Answer>();
    REQUIRE(answer.ok());
    CHECK(answer->message.buffer == (*frame)->buffer);
    CHECK(answer->message.verdict == expected);
    CHECK(answer->message.checked_ns >= answer->message.received_ns);
  }
  consumer.join();
  CHECK(consumed.ok());
}

TEST_CASE("Consume: refuses what makes no sense") {
  Stage stage;
  Hello hello{.format = kSmall, .buffers = 1, .frames = 1};
  std::string_view("memfd").copy(hello.backend, sizeof(hello.backend));
  SUBCASE("rows past the frame's end") { hello.format.height *= 2; }
  SUBCASE("too many buffers") { hello.buffers = kMostBuffers + 1; }
  SUBCASE("no such backend") { hello.backend[0] = 'x'; }
  SUBCASE("a buffer smaller than a frame") {
    hello.format.bytes = stage.choice.buffers[0].memory.bytes() + 1;
    REQUIRE(stage.ours->Send(hello).ok());
    REQUIRE(stage.ours->Send(BufferMessage{0}, stage.choice.buffers[0].memory.fd()).ok());
  }
  SUBCASE("a descriptor that is no memory of ours") {
    REQUIRE(stage.ours->Send(hello).ok());
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    REQUIRE(stage.ours->Send(BufferMessage{0}, null.borrow()).ok());
  }
  SUBCASE("no descriptor at all") {
    REQUIRE(stage.ours->Send(hello).ok());
    REQUIRE(stage.ours->Send(BufferMessage{0}).ok());
  }
  SUBCASE("a frame in a buffer that never came") {
    REQUIRE(stage.HandOverAll(1).ok());
    REQUIRE(stage.ours->Send(FrameMessage{.buffer = 3}).ok());
  }
  static_cast<void>(stage.ours->Send(hello));
  const absl::Status consumed = Consume(*stage.theirs, "");
  CHECK(!consumed.ok());
  CHECK(!absl::IsUnavailable(consumed));
}

TEST_CASE("Consume: a producer that goes is an error") {
  Stage stage;
  REQUIRE(stage.HandOverAll(5).ok());
  stage.ours->Close();
  CHECK(absl::IsUnavailable(Consume(*stage.theirs, "")));
}

TEST_CASE("Produce: one spoilt byte is one mismatch") {
  Stage stage;
  SpoilingSource source(stage.choice, 4);
  absl::Status consumed;
  std::jthread consumer([&] { consumed = Consume(*stage.theirs, ""); });
  REQUIRE(stage.HandOverAll(12).ok());
  const auto tally = stage.ProduceAll(source, 12);
  consumer.join();
  CHECK(consumed.ok());
  REQUIRE(tally.ok());
  CHECK(tally->frames == 12);
  CHECK(tally->wrong == 1);
  CHECK(tally->still == 0);
  CHECK(tally->bytes == 12 * kSmall.visible_bytes());
  REQUIRE(tally->latencies.size() == 4);
  for (const Latency& latency : tally->latencies) CHECK(latency.samples_ns.size() == 12);
}

TEST_CASE("Produce: a frame that was seen before is a mismatch") {
  Stage stage;
  std::jthread consumer([&] {
    for (int i = 0; i < 6; ++i) {
      const auto frame = stage.theirs->Receive<FrameMessage>();
      if (!frame.ok()) return;
      const Verdict verdict = i % 3 == 1 ? Verdict::kStill : Verdict::kMatch;
      if (!stage.theirs->Send(Answer{frame->message.buffer, verdict, 1, 2}).ok()) return;
    }
  });
  const auto tally = stage.ProduceAll(*stage.choice.source, 6);
  REQUIRE(tally.ok());
  CHECK(tally->still == 2);
  CHECK(tally->mismatches() == 2);
}

TEST_CASE("Produce: a consumer that goes is an error, not a wait") {
  Stage stage;
  std::jthread consumer([&] {
    static_cast<void>(stage.theirs->Receive<FrameMessage>());
    stage.theirs->Close();
  });
  const auto tally = stage.ProduceAll(*stage.choice.source, 1'000'000);
  CHECK(absl::IsUnavailable(tally.status()));
}

TEST_CASE("Produce: an answer for a buffer that the consumer does not have is an error") {
  Stage stage;
  for (const uint32_t buffer : {0u, 3u, UINT32_MAX}) {
    REQUIRE(stage.theirs->Send(Answer{.buffer = buffer}).ok());
    CHECK(absl::IsDataLoss(stage.ProduceAll(*stage.choice.source, 5).status()));
  }
}

TEST_CASE("MessageSocket: a message of another size is an error") {
  auto ends = MessageSocket::Pair();
  REQUIRE(ends.ok());
  REQUIRE(ends->first.Send(BufferMessage{}).ok());
  CHECK(absl::IsDataLoss(ends->second.Receive<Hello>().status()));
  REQUIRE(ends->first.Send(Hello{}).ok());
  CHECK(absl::IsDataLoss(ends->second.Receive<BufferMessage>().status()));
}

TEST_CASE("MessageSocket: a descriptor arrives close-on-exec") {
  auto ends = MessageSocket::Pair();
  REQUIRE(ends.ok());
  const UniqueFd sent(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  REQUIRE(ends->first.Send(BufferMessage{7}, sent.borrow()).ok());
  const auto received = ends->second.Receive<BufferMessage>();
  REQUIRE(received.ok());
  CHECK(received->message.index == 7);
  REQUIRE(received->fd.valid());
  CHECK(received->fd.get() != sent.get());
  CHECK(::fcntl(received->fd.get(), F_GETFD) == FD_CLOEXEC);
}

TEST_CASE("MessageSocket: of two descriptors that come at once, none stays behind") {
  auto ends = MessageSocket::Pair();
  REQUIRE(ends.ok());
  const testing::LeakCheck leaks;
  const BufferMessage text{7};
  const FdRef both[2] = {FdRef(0), FdRef(1)};
  REQUIRE(SendFds(ends->first.fd(), std::as_bytes(std::span(&text, 1)), both).ok());
  CHECK(ErrnoOf(ends->second.Receive<BufferMessage>().status()) == EMSGSIZE);
}

TEST_CASE("Latency: percentiles are samples, by nearest rank") {
  Latency latency{"x"};
  CHECK(latency.Percentile(50) == 0);
  for (int64_t ns = 200; ns > 0; --ns) latency.samples_ns.push_back(ns);
  CHECK(latency.Percentile(50) == 100);
  CHECK(latency.Percentile(99) == 198);
  CHECK(latency.Percentile(100) == 200);
}

}  // namespace
}  // namespace ion::demo
