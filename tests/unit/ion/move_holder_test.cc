// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A stream whose buffers have left for holders that agreed to moves: two phases, and the ways in
// which a holder can fail in each.

#include "ion/move_holder.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/status.h"
#include "ion/constraints.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/pixel_format.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/stream.h"
#include "tests/support/fake_kernel.h"
#include "tests/support/fake_machine.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_device.h"
#include "tests/support/scripted_heap.h"
#include "tests/support/scripted_holder.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it
using std::chrono::milliseconds;

constexpr Constraints kScattered{.cpu_read = CpuUse::kOften, .cpu_write = CpuUse::kOften};
constexpr Constraints kContiguous{.segments_max = 1};

// A kernel of its own for each that is made; copies share it.
class BoardSyscalls : public FakeSyscalls {
 public:
  BoardSyscalls() : FakeSyscalls(Linux612Machine()) {}
};

// A Manager over a fake kernel whose calls can fail, and what its error sink heard.
struct Rig {
  using Sys = FaultSyscallsOver<BoardSyscalls>;
  using Heaps = Manager<DmaHeapBackend<Sys>, System, Dma>;

  Rig()
      : faults(std::make_shared<Faults>()),
        sys(faults),
        errors(std::make_shared<ErrorSink>(&Rig::Take, this)),
        manager(Heaps::Open({.sys = sys, .errors = errors})),
        client(manager->CreateClient({})),
        offers(OffersOf(*manager)) {}
  static void Take(const Error& error, void* self) {
    static_cast<Rig*>(self)->reports += Describe(error) + "\n";
  }
  absl::StatusOr<BasicStream<Sys>> Reserve(const StreamOptions& options) {
    return BasicStream<Sys>::Reserve(*client, offers, options, sys);
  }

  std::string reports;
  std::shared_ptr<Faults> faults;
  Sys sys;
  std::shared_ptr<ErrorSink> errors;
  absl::StatusOr<Heaps> manager;
  absl::StatusOr<Heaps::Client> client;
  HeapOffers offers;
};

std::string Text(const absl::Status& status) { return std::string(status.message()); }
bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
bool IsRefusal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kFailedPrecondition && ErrnoOf(status) == EBUSY;
}

template <class Stream>
void Fill(Stream& stream, uint32_t buffer, unsigned char with) {
  auto mapping = stream.Map(buffer);
  REQUIRE_MESSAGE(mapping.ok(), Text(mapping.status()));
  auto cpu = mapping->Write();
  REQUIRE(cpu.ok());
  std::ranges::fill(cpu->bytes(), std::byte{with});
}
template <class Stream>
bool IsFull(Stream& stream, uint32_t buffer, unsigned char of) {
  auto mapping = stream.Map(buffer);
  REQUIRE_MESSAGE(mapping.ok(), Text(mapping.status()));
  auto cpu = mapping->Read();
  REQUIRE(cpu.ok());
  return std::ranges::all_of(cpu->bytes(), [&](std::byte b) { return b == std::byte{of}; });
}
// The bytes as a holder sees them.
bool Sees(const ScriptedHolder& holder, uint32_t buffer, unsigned char of) {
  const auto& [fd, bytes] = holder.held.at(buffer);
  void* const at = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  REQUIRE(at != MAP_FAILED);
  const bool full =
      std::all_of(static_cast<unsigned char*>(at), static_cast<unsigned char*>(at) + bytes,
                  [&](unsigned char byte) { return byte == of; });
  ::munmap(at, bytes);
  return full;
}

TEST_CASE("MoveHolder: the holders get the present memory, and the new memory after a move") {
  const LeakCheck leaks;
  Rig rig;
  ScriptedHolder viewer("viewer"), recorder("recorder");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 3, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  CHECK(stream->generation() == 1);
  constexpr std::array<uint32_t, 1> kSecond = {1};
  REQUIRE(stream->ShareWith(recorder, kSecond).ok());
  for (uint32_t i = 0; i < 3; ++i) Fill(*stream, i, static_cast<unsigned char>(i + 1));
  CHECK(viewer.held.size() == 3);
  CHECK(recorder.held.size() == 1);
  CHECK(viewer.held[0].bytes == 64_KiB);
  CHECK_FALSE(viewer.image);
  CHECK(Sees(recorder, 1, 2));

  // A write between the question and the answer is not lost.
  viewer.at_ask = [&] {
    void* const at =
        ::mmap(nullptr, 64_KiB, PROT_READ | PROT_WRITE, MAP_SHARED, viewer.held[2].fd.get(), 0);
    REQUIRE(at != MAP_FAILED);
    std::fill_n(static_cast<unsigned char*>(at), 64_KiB, 9);
    ::munmap(at, 64_KiB);
  };
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(viewer.generation == 2);
  CHECK(recorder.generation == 2);
  CHECK(Sees(viewer, 0, 1));
  CHECK(Sees(viewer, 2, 9));
  CHECK(Sees(recorder, 1, 2));
  Fill(*stream, 1, 7);  // and it is the stream's memory
  CHECK(Sees(recorder, 1, 7));
  CHECK(viewer.calls == "take 1\nask 2\ntake 2\n");
  CHECK(recorder.calls == viewer.calls);
  CHECK(stream->moves().moves == 1);
  CHECK(stream->moves().dropped == 0);
  CHECK(rig.reports == "");
}

TEST_CASE(
    "MoveHolder: one that is not quiet prevents the move, and all that were asked hear of it") {
  const LeakCheck leaks;
  Rig rig;
  ScriptedHolder viewer("viewer"), recorder("recorder"), last("last");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.bytes = 64_KiB, .patience = milliseconds(60)});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  for (ScriptedHolder* holder : {&viewer, &recorder, &last}) {
    REQUIRE(stream->ShareWith(*holder).ok());
    holder->calls.clear();
  }
  Fill(*stream, 0, 5);
  for (const bool silent : {false, true}) {
    CAPTURE(silent);
    recorder.silent = silent;
    recorder.ask_errno = EBUSY;
    const auto begin = std::chrono::steady_clock::now();
    const auto late = stream->Attach(codec);
    const auto took = std::chrono::steady_clock::now() - begin;
    CHECK(IsRefusal(late.status()));
    CHECK_MESSAGE(Has(Text(late.status()), "stream recorder: move 65536 bytes"),
                  Text(late.status()));
    CHECK(Has(Text(late.status()), "the script fails"));
    CHECK((took >= milliseconds(60)) == silent);
    CHECK(took < milliseconds(2000));
    CHECK(std::exchange(viewer.calls, "") == "ask 2\ncancel 2\n");
    CHECK(std::exchange(recorder.calls, "") == "ask 2\ncancel 2\n");
    CHECK(last.calls == "");
    CHECK(stream->generation() == 1);
    CHECK(IsFull(*stream, 0, 5));
    CHECK(Sees(viewer, 0, 5));
  }
  CHECK(stream->moves().refused == 2);
  // The program knows that it has gone.
  CHECK(stream->DropHolder(recorder).ok());
  CHECK(ErrnoOf(stream->DropHolder(recorder)) == ENOENT);
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(viewer.calls == "ask 2\ntake 2\n");
  CHECK(last.calls == "ask 2\ntake 2\n");
  CHECK(recorder.calls == "");
  CHECK(rig.reports == "");
}

TEST_CASE("MoveHolder: one that dies in the second phase is dropped, and stays on its old memory") {
  const LeakCheck leaks;
  Rig rig;
  ScriptedHolder viewer("viewer"), recorder("recorder");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  constexpr Constraints kMost{.size_max = 128_KiB};
  ScriptedDevice other("other", kMost);
  auto stream = rig.Reserve({.bytes = 64_KiB});
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  REQUIRE(stream->ShareWith(recorder).ok());
  Fill(*stream, 0, 5);
  viewer.take_errno = ECONNRESET;
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(stream->moves().dropped == 1);
  CHECK(Has(rig.reports, "stream viewer: move (a holder did not take the new memory"));
  CHECK(rig.errors->count() == 1);
  Fill(*stream, 0, 6);
  CHECK(Sees(viewer, 0, 5));
  CHECK(Sees(recorder, 0, 6));
  CHECK(ErrnoOf(stream->DropHolder(viewer)) == ENOENT);
  CHECK(stream->DropHolder(recorder).ok());
}

TEST_CASE("MoveHolder: one that says nothing takes no time from the next one") {
  const LeakCheck leaks;
  Rig rig;
  ScriptedHolder viewer("viewer"), recorder("recorder");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.bytes = 64_KiB, .patience = milliseconds(50)});
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  REQUIRE(stream->ShareWith(recorder).ok());
  Fill(*stream, 0, 5);
  viewer.silent_at_take = true;
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->moves().dropped == 1);
  CHECK(recorder.had_time);
  CHECK(Sees(recorder, 0, 5));
}

TEST_CASE("MoveHolder: the patience of a stream may be without end") {
  const LeakCheck leaks;
  for (const milliseconds patience : {milliseconds::max(), milliseconds(INT64_MAX / 1'000'000)}) {
    Rig rig;
    ScriptedHolder viewer("viewer");
    ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
    auto stream = rig.Reserve({.bytes = 64_KiB, .patience = patience});
    auto first = stream->Attach(cpu);
    REQUIRE(stream->ShareWith(viewer).ok());
    CHECK(viewer.had_time);
    viewer.at_ask = [&] { CHECK(viewer.had_time); };
    CHECK(stream->Attach(codec).ok());
    CHECK(viewer.had_time);
  }
}

TEST_CASE("MoveHolder: who uses the memory here is named before any holder is asked") {
  const LeakCheck leaks;
  Rig rig;
  ScriptedHolder viewer("viewer");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.bytes = 64_KiB});
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  auto mapping = stream->Map(0);
  auto scope = mapping->Read();
  REQUIRE(scope.ok());
  CHECK(Has(Text(stream->Attach(codec).status()), "a CPU scope of a buffer is open"));
  CHECK(viewer.calls == "take 1\n");
  REQUIRE(std::move(*scope).End().ok());
  // A descriptor that anybody may have is not helped by a holder that agrees.
  REQUIRE(stream->fd(0).ok());
  CHECK(Has(Text(stream->Attach(codec).status()), "the descriptor of a buffer was given out"));
  CHECK(viewer.calls == "take 1\n");
}

TEST_CASE("MoveHolder: a stream is shared with each holder once, by numbers that it has") {
  const LeakCheck leaks;
  Rig rig;
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  std::deque<ScriptedHolder> many;
  for (int i = 0; i < 65; ++i) many.emplace_back("one of many");
  constexpr std::array<uint32_t, 1> kNone = {2};
  constexpr std::array<uint32_t, 2> kTwice = {1, 1};
  CHECK(ErrnoOf(stream->ShareWith(many[0], kNone)) == EINVAL);
  CHECK(ErrnoOf(stream->ShareWith(many[0], kTwice)) == EINVAL);
  CHECK_FALSE(stream->committed());
  many[0].take_errno = EPIPE;
  CHECK(ErrnoOf(stream->ShareWith(many[0])) == EPIPE);
  CHECK(stream->committed());
  many[0].take_errno = 0;
  for (int i = 0; i < 64; ++i) REQUIRE(stream->ShareWith(many[i]).ok());
  CHECK(ErrnoOf(stream->ShareWith(many[3])) == EEXIST);
  CHECK(ErrnoOf(stream->ShareWith(many[64])) == E2BIG);
}

TEST_CASE("MoveHolder: it hears of the image's layout, which a move may change") {
  const LeakCheck leaks;
  Rig rig;
  struct Layouts : ScriptedHolder {
    using ScriptedHolder::ScriptedHolder;
    Error HandOver(const HandedMemory& memory, Deadline deadline) noexcept {
      REQUIRE(memory.image != nullptr);
      strides.push_back(memory.image->plane[0].stride);
      return ScriptedHolder::HandOver(memory, deadline);
    }
    std::vector<uint64_t> strides;
  };
  Layouts viewer("viewer");
  constexpr Constraints kWide{.stride_min = 1024};
  ScriptedDevice cpu("cpu", kScattered), wide("wide", kWide);
  auto stream =
      rig.Reserve({.image = ImageSpec{.format = PixelFormat::kR8, .width = 640, .height = 48}});
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  auto late = stream->Attach(wide);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(viewer.strides == std::vector<uint64_t>{640, 1024});
}

TEST_CASE("MoveHolder: a range of a region is not given to a holder") {
  const LeakCheck leaks;
  static constexpr HeapSpec kCarveout{.type = HeapType::kCarveout, .id = 2, .bytes = 1_MiB};
  using B = MemfdBackend<>;
  auto manager = Manager<B, Carveout<kCarveout>>::Open();
  REQUIRE_MESSAGE(manager.ok(), Text(manager.status()));
  auto client = manager->CreateClient({});
  HeapOffers offers;
  offers.Add({HeapId{2}, "carveout", Guarantees{.ram = true, .mappable = true}});
  // The first range of a region is at its start, so that only the file's size tells.
  auto stream = Stream::Reserve(*client, offers, {.buffers = 2, .bytes = 64_KiB});
  for (const uint32_t buffer : {0u, 1u}) {
    ScriptedHolder viewer("viewer");
    const absl::Status status = stream->ShareWith(viewer, std::span(&buffer, 1));
    CHECK_MESSAGE(ErrnoOf(status) == ENOTSUP, Text(status));
    CHECK(viewer.calls == "");
  }
}

TEST_CASE("MoveHolder: memory that a holder may have is not recycled") {
  const LeakCheck leaks;
  auto manager = Manager<MemfdBackend<>, Pooled<System>>::Open();
  REQUIRE_MESSAGE(manager.ok(), Text(manager.status()));
  auto client = manager->CreateClient({});
  HeapOffers offers;
  offers.Add({HeapId{0}, "system", Guarantees{.ram = true, .mappable = true}});
  ScriptedHolder viewer("viewer");
  // The holder is dropped; the buffers are taken; the stream ends.
  for (const int end : {0, 1, 2}) {
    CAPTURE(end);
    {
      auto stream = Stream::Reserve(*client, offers, {.bytes = 64_KiB});
      REQUIRE(stream->ShareWith(viewer).ok());
      Fill(*stream, 0, 5);
      if (end == 0) CHECK(stream->DropHolder(viewer).ok());
      if (end == 1) CHECK(std::move(*stream).TakeBuffers().ok());
    }
    auto next = Stream::Reserve(*client, offers, {.bytes = 64_KiB});
    Fill(*next, 0, 6);
    CHECK(Sees(viewer, 0, 5));
  }
}

// Two holders have a stream of two buffers, which moves for a late device while something fails.
// Returns true if nothing failed.
template <class R, class Begin, class End>
bool MoveWhile(R& rig, Begin begin, End end) {
  ScriptedHolder viewer("viewer"), recorder("recorder");
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  REQUIRE(stream->ShareWith(viewer).ok());
  REQUIRE(stream->ShareWith(recorder).ok());
  Fill(*stream, 0, 7);
  Fill(*stream, 1, 8);
  viewer.calls.reserve(200);
  recorder.calls.reserve(200);
  viewer.calls.clear();
  begin();
  auto late = stream->Attach(codec);
  const bool failed = end();
  const uint64_t generation = late.ok() ? 2 : 1;
  CHECK((late.ok() || failed));
  CHECK(stream->generation() == generation);
  CHECK(viewer.generation == generation);
  CHECK(recorder.generation == generation);
  // Who was asked to be quiet is not left so.
  if (!late.ok() && viewer.calls != "") CHECK(viewer.calls == "ask 2\ncancel 2\n");
  for (const ScriptedHolder* holder : {&viewer, &recorder}) {
    CHECK(Sees(*holder, 0, 7));
    CHECK(Sees(*holder, 1, 8));
  }
  CHECK(IsFull(*stream, 0, 7));
  CHECK(IsFull(*stream, 1, 8));
  CHECK(rig.client->held_bytes() == 2 * 64_KiB);
  return !failed;
}

TEST_CASE("MoveHolder: each system call of a move fails once, and nobody is left quiet") {
  size_t points = 0;
  for (size_t n = 0;; ++n, ++points) {
    const LeakCheck leaks;
    Rig rig;
    CAPTURE(n);
    const bool done = MoveWhile(
        rig, [&] { rig.faults->Begin({.n = n, .code = EIO}); },
        [&] {
          rig.faults->End();
          return rig.faults->failed().has_value();
        });
    CHECK(rig.client->held_bytes() == 0);
    if (done) break;
  }
  CHECK(points > 20);
}

// Two heaps of memfds, of which one is said to be contiguous: a fake kernel allocates, too.
struct MemfdRig {
  using B = MemfdBackend<>;
  using M = Manager<B, ScriptedHeap<B, HeapScript{.id = 0}>, ScriptedHeap<B, HeapScript{.id = 4}>>;

  MemfdRig() : manager(M::Open()), client(manager->CreateClient({})) {
    const Guarantees scattered{.ram = true, .mappable = true};
    Guarantees contiguous = scattered;
    contiguous.segments = 1;
    offers.Add({HeapId{0}, "system", scattered});
    offers.Add({HeapId{4}, "reserved", contiguous});
  }
  absl::StatusOr<Stream> Reserve(const StreamOptions& options) {
    return Stream::Reserve(*client, offers, options);
  }

  absl::StatusOr<M> manager;
  absl::StatusOr<M::Client> client;
  HeapOffers offers;
};

TEST_CASE("MoveHolder: each operator new of a share and of a move fails once") {
  size_t points = 0;
  for (size_t n = 0;; ++n) {
    const LeakCheck leaks;
    MemfdRig rig;
    ScriptedHolder viewer("viewer");
    viewer.calls.reserve(200);
    auto stream = rig.Reserve({.bytes = 4096});
    REQUIRE(stream->Commit().ok());
    FaultNew::Begin(n);
    struct Quiet : ScriptedHolder {
      using ScriptedHolder::ScriptedHolder;
      Error HandOver(const HandedMemory&, Deadline) noexcept { return {}; }
    } quiet("quiet");
    const absl::Status status = stream->ShareWith(quiet);
    if (!FaultNew::End()) break;
    CHECK(ErrnoOf(status) == ENOMEM);
    CHECK(ErrnoOf(stream->DropHolder(quiet)) == ENOENT);
    ++points;
  }
  CHECK(points > 1);
  points = 0;
  for (size_t n = 0;; ++n, ++points) {
    const LeakCheck leaks;
    MemfdRig rig;
    CAPTURE(n);
    if (MoveWhile(
            rig, [&] { FaultNew::Begin(n); }, [] { return FaultNew::End(); })) {
      break;
    }
  }
  CHECK(points > 3);
}

}  // namespace
}  // namespace ion::testing
