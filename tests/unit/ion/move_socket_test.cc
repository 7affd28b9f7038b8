// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A stream that moves while another process has its memory, over a socket; and both ends of the
// socket against a peer that is slow, dead, or hostile.

#include "ion/move_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/fd_socket.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/constraints.h"
#include "ion/core/move_message.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_offers.h"
#include "ion/image_layout.h"
#include "ion/manager.h"
#include "ion/move_holder.h"
#include "ion/stream.h"
#include "tests/support/child.h"
#include "tests/support/fault_new.h"
#include "tests/support/fault_syscalls.h"
#include "tests/support/leak_check.h"
#include "tests/support/scripted_device.h"
#include "tests/support/scripted_heap.h"

namespace ion::testing {
namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it
using internal::MoveKind;
using internal::MoveMessage;
using std::chrono::milliseconds;

constexpr Constraints kScattered{.cpu_read = CpuUse::kOften, .cpu_write = CpuUse::kOften};
constexpr Constraints kContiguous{.segments_max = 1};
constexpr milliseconds kSlack{3000};  // arbitrary: of a machine that does much else

Deadline In(milliseconds time) { return std::chrono::steady_clock::now() + time; }
std::string Text(const absl::Status& status) { return std::string(status.message()); }
bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

struct Ends {
  explicit Ends(int type = SOCK_SEQPACKET) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) == 0);
    ours = UniqueFd(ends[0]);
    theirs = UniqueFd(ends[1]);
  }
  UniqueFd ours, theirs;
};
UniqueFd Dup(FdRef fd) { return UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)); }
UniqueFd Memory(uint64_t bytes) {
  UniqueFd fd(static_cast<int>(LinuxSyscalls().MemfdCreate("memory", MFD_CLOEXEC)));
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
  return fd;
}

// Two heaps of memfds, of which one is said to be contiguous.
template <Syscalls Sys = LinuxSyscalls>
struct Rig {
  using B = MemfdBackend<Sys>;
  using M = Manager<B, ScriptedHeap<B, HeapScript{.id = 0}>, ScriptedHeap<B, HeapScript{.id = 4}>>;

  explicit Rig(const Sys& on = {})
      : sys(on),
        errors(std::make_shared<ErrorSink>(&Rig::Take, this)),
        manager(M::Open({.sys = on, .errors = errors})),
        client(manager->CreateClient({})) {
    const Guarantees scattered{.ram = true, .mappable = true};
    Guarantees contiguous = scattered;
    contiguous.segments = 1;
    offers.Add({HeapId{0}, "system", scattered});
    offers.Add({HeapId{4}, "reserved", contiguous});
  }
  static void Take(const Error& error, void* self) {
    static_cast<Rig*>(self)->reports += Describe(error) + "\n";
  }
  absl::StatusOr<BasicStream<Sys>> Reserve(const StreamOptions& options) {
    return BasicStream<Sys>::Reserve(*client, offers, options, sys);
  }

  std::string reports;
  Sys sys;
  std::shared_ptr<ErrorSink> errors;
  absl::StatusOr<M> manager;
  absl::StatusOr<typename M::Client> client;
  HeapOffers offers;
};

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
// The same of a follower's memory, without asserts: a child calls them.
template <class Follower>
bool Has(Follower& follower, uint32_t buffer, unsigned char of) {
  auto use = follower.Use(buffer);
  if (!use.ok()) return false;
  void* const at = ::mmap(nullptr, use->bytes(), PROT_READ, MAP_SHARED, use->fd().get(), 0);
  if (at == MAP_FAILED) return false;
  const auto* bytes = static_cast<const unsigned char*>(at);
  const bool has = std::all_of(bytes, bytes + use->bytes(), [&](auto b) { return b == of; });
  ::munmap(at, use->bytes());
  return has;
}
template <class Follower>
bool Put(Follower& follower, uint32_t buffer, unsigned char with) {
  auto use = follower.Use(buffer);
  if (!use.ok()) return false;
  void* const at = ::mmap(nullptr, use->bytes(), PROT_WRITE, MAP_SHARED, use->fd().get(), 0);
  if (at == MAP_FAILED) return false;
  std::memset(at, with, use->bytes());
  ::munmap(at, use->bytes());
  return true;
}
// Serves until these news.
template <class Follower>
absl::Status ServeUntil(Follower& follower, MoveNews wanted) {
  for (;;) {
    const auto news = follower.Serve(In(milliseconds(20000)));
    if (!news.ok() || *news == wanted) return news.status();
  }
}

TEST_CASE("MoveSocket: another process keeps its content over a move, and so do we") {
  const LeakCheck leaks;
  Child child([](FdRef socket) -> std::string {
    auto follower = MoveFollower::Of(Dup(socket));
    if (!follower.ok()) return Text(follower.status());
    if (const auto got = ServeUntil(*follower, MoveNews::kGiven); !got.ok()) return Text(got);
    auto early = follower->Use(0);
    if (!early.ok() || early->generation() != 1) return "no first memory";
    if (::fcntl(early->fd().get(), F_GETFD) != FD_CLOEXEC) return "not close-on-exec";
    if (follower->Use(2).ok()) return "a buffer that was not shared";
    // The move waits for this use, and for its last write.
    if (const auto asked = ServeUntil(*follower, MoveNews::kAsked); !asked.ok()) return Text(asked);
    if (ErrnoOf(follower->Use(0).status()) != EBUSY) return "a use, while the owner waits";
    void* const at = ::mmap(nullptr, early->bytes(), PROT_WRITE, MAP_SHARED, early->fd().get(), 0);
    if (at == MAP_FAILED) return "mmap";
    std::memset(at, 77, early->bytes());
    ::munmap(at, early->bytes());
    { const FollowedUse ends = *std::move(early); }
    if (ErrnoOf(follower->Use(0).status()) != EBUSY) return "a use, while the memory moves";
    if (const auto moved = ServeUntil(*follower, MoveNews::kMoved); !moved.ok()) return Text(moved);
    if (!Has(*follower, 0, 77) || !Has(*follower, 1, 2)) return "the content is lost";
    if (follower->Use(1)->generation() != 2) return "the old generation";
    if (!Put(*follower, 1, 5)) return "the new memory cannot be written";
    const auto end = follower->Serve(In(milliseconds(20000)));  // until the owner closes
    return ErrnoOf(end.status()) == ECONNRESET ? "" : Text(end.status());
  });
  Rig rig;
  ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
  auto stream = rig.Reserve({.buffers = 3, .bytes = 64_KiB, .patience = milliseconds(20000)});
  REQUIRE(stream.ok());
  auto first = stream->Attach(cpu);
  Fill(*stream, 0, 1);
  Fill(*stream, 1, 2);
  std::optional<SocketHolder> holder = *SocketHolder::Of(Dup(child.socket()), "viewer");
  constexpr std::array<uint32_t, 2> kTwo = {0, 1};
  const absl::Status shared = stream->ShareWith(*holder, kTwo);
  REQUIRE_MESSAGE(shared.ok(), Text(shared));
  auto late = stream->Attach(codec);
  REQUIRE_MESSAGE(late.ok(), Text(late.status()));
  CHECK(stream->generation() == 2);
  CHECK(IsFull(*stream, 0, 77));
  CHECK(holder->connected());
  const auto until = In(milliseconds(20000));
  while (!IsFull(*stream, 1, 5) && std::chrono::steady_clock::now() < until)
    std::this_thread::yield();
  CHECK(IsFull(*stream, 1, 5));
  CHECK(stream->DropHolder(*holder).ok());
  holder.reset();
  const ChildEnd end = child.Join();
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
  CHECK(rig.reports == "");
}

// The child's deeds once it has memory.
enum class Deed { kIsKilled, kNeverAnswers, kDeclines, kIsKilledQuiet, kIsKilledTaking };

TEST_CASE(
    "MoveSocket: a process that dies, declines or is silent costs no more than the patience") {
  for (const Deed deed : {Deed::kIsKilled, Deed::kNeverAnswers, Deed::kDeclines,
                          Deed::kIsKilledQuiet, Deed::kIsKilledTaking}) {
    CAPTURE(static_cast<int>(deed));
    const LeakCheck leaks;
    Child child([&](FdRef socket) -> std::string {
      auto follower = MoveFollower::Of(Dup(socket), {.declines = deed == Deed::kDeclines});
      if (const auto got = ServeUntil(*follower, MoveNews::kGiven); !got.ok()) return Text(got);
      switch (deed) {
        case Deed::kIsKilledQuiet:
          if (!ServeUntil(*follower, MoveNews::kQuiet).ok()) return "not asked";
          break;
        case Deed::kIsKilledTaking:
          if (!ServeUntil(*follower, MoveNews::kQuiet).ok()) return "not asked";
          if (!follower->Serve(In(milliseconds(20000))).ok()) return "not given";
          break;
        case Deed::kDeclines:
          if (!ServeUntil(*follower, MoveNews::kCancelled).ok()) return "not cancelled";
          return Has(*follower, 0, 3) ? "" : "the content is lost";
        case Deed::kNeverAnswers: {
          pollfd gone{.fd = socket.get(), .events = POLLRDHUP, .revents = 0};
          ::poll(&gone, 1, 20000);
          return Has(*follower, 0, 3) ? "" : "the content is lost";
        }
        case Deed::kIsKilled:
          break;
      }
      ::kill(::getpid(), SIGKILL);
      return "it lives";
    });
    Rig rig;
    ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
    auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB, .patience = milliseconds(1500)});
    auto first = stream->Attach(cpu);
    Fill(*stream, 0, 3);
    std::optional<SocketHolder> holder = *SocketHolder::Of(Dup(child.socket()), "viewer");
    const absl::Status shared = stream->ShareWith(*holder);
    REQUIRE_MESSAGE(shared.ok(), Text(shared));
    if (deed == Deed::kIsKilled) {
      pollfd polled{.fd = child.socket().get(), .events = POLLRDHUP, .revents = 0};
      REQUIRE(::poll(&polled, 1, 20000) == 1);
    }
    const auto begin = std::chrono::steady_clock::now();
    {
      const auto late = stream->Attach(codec);
      const auto took = std::chrono::steady_clock::now() - begin;
      CHECK(took < 2 * milliseconds(1500) + kSlack);
      if (deed == Deed::kIsKilledTaking || deed == Deed::kIsKilledQuiet) {
        CHECK_MESSAGE(late.ok(), Text(late.status()));
        CHECK(stream->generation() == 2);
        CHECK(stream->moves().dropped == 1);
        CHECK(Has(rig.reports, "stream viewer: move"));
        CHECK(ErrnoOf(stream->DropHolder(*holder)) == ENOENT);
      } else {
        CHECK(late.status().code() == absl::StatusCode::kFailedPrecondition);
        CHECK_MESSAGE(Has(Text(late.status()), "stream viewer: move"), Text(late.status()));
        CHECK((took >= milliseconds(1500)) == (deed == Deed::kNeverAnswers));
        CHECK(stream->generation() == 1);
        CHECK(stream->DropHolder(*holder).ok());
      }
      CHECK(IsFull(*stream, 0, 3));
    }
    // Without the process the memory moves.
    if (stream->generation() == 1) {
      const auto again = stream->Attach(codec);
      CHECK_MESSAGE(again.ok(), Text(again.status()));
    }
    CHECK(IsFull(*stream, 0, 3));
    CHECK(rig.client->held_bytes() == 2 * 64_KiB);
    holder.reset();
    const ChildEnd end = child.Join();
    CHECK(end.text == "");
    const bool killed = deed != Deed::kNeverAnswers && deed != Deed::kDeclines;
    CHECK(end.signal == (killed ? SIGKILL : 0));
  }
}

// A follower and the messages of an owner.
struct Fake {
  explicit Fake(const FollowerOptions& options = {}) {
    Ends ends;
    owner = std::move(ends.ours);
    follower.emplace(*MoveFollower::Of(std::move(ends.theirs), options));
  }
  // Sends, and serves.
  absl::StatusOr<MoveNews> Say(const MoveMessage& message, FdRef fd = {}) {
    const bool with = fd != FdRef();
    REQUIRE(
        SendFds(owner.borrow(), std::as_bytes(std::span(&message, 1)), {&fd, with ? 1u : 0u}).ok());
    return follower->Serve(Deadline{});
  }
  std::optional<MoveKind> Hear(uint64_t sequence) {
    MoveMessage answer;
    pollfd polled{.fd = owner.get(), .events = POLLIN, .revents = 0};
    if (::poll(&polled, 1, 0) != 1) return std::nullopt;
    const auto got = ReceiveFds(owner.borrow(), std::as_writable_bytes(std::span(&answer, 1)));
    if (!got.ok() || answer.sequence != sequence) return std::nullopt;
    return answer.kind;
  }
  void GiveFirst(uint32_t buffers = 1) {
    const UniqueFd memory = Memory(64_KiB);
    for (uint32_t i = 0; i < buffers; ++i) {
      REQUIRE(*Say({.kind = MoveKind::kGive,
                    .buffer = i,
                    .sequence = 1,
                    .generation = 1,
                    .bytes = 64_KiB},
                   memory.borrow()) == MoveNews::kNothing);
      REQUIRE(Hear(1) == MoveKind::kTook);
    }
    REQUIRE(*Say({.kind = MoveKind::kUse, .sequence = 1}) == MoveNews::kGiven);
  }

  UniqueFd owner;
  std::optional<MoveFollower> follower;
};

TEST_CASE("MoveFollower: a use delays the answer, or declines; a cancelled move changes nothing") {
  const LeakCheck leaks;
  Fake fake;
  CHECK(ErrnoOf(fake.follower->Use(0).status()) == EINVAL);
  CHECK(ErrnoOf(fake.follower->Serve(Deadline{}).status()) == ETIMEDOUT);
  fake.GiveFirst();
  CHECK(ErrnoOf(fake.follower->Decline()) == EINVAL);
  {
    auto use = fake.follower->Use(0);
    REQUIRE(use.ok());
    CHECK(use->bytes() == 64_KiB);
    CHECK(use->planes() == 0);
    CHECK(*fake.Say({.kind = MoveKind::kAsk, .sequence = 2, .generation = 2}) == MoveNews::kAsked);
    CHECK_FALSE(fake.Hear(2).has_value());
    CHECK(fake.follower->Decline().ok());
    CHECK(fake.Hear(2) == MoveKind::kBusy);
    CHECK(*fake.Say({.kind = MoveKind::kCancel, .sequence = 2}) == MoveNews::kCancelled);
    CHECK(*fake.Say({.kind = MoveKind::kAsk, .sequence = 3, .generation = 2}) == MoveNews::kAsked);
    // Given up by the owner: the end of the use answers nothing.
    CHECK(*fake.Say({.kind = MoveKind::kCancel, .sequence = 3}) == MoveNews::kCancelled);
  }
  CHECK_FALSE(fake.Hear(3).has_value());
  CHECK(*fake.Say({.kind = MoveKind::kAsk, .sequence = 4, .generation = 2}) == MoveNews::kQuiet);
  CHECK(fake.Hear(4) == MoveKind::kQuiet);
  CHECK(ErrnoOf(fake.follower->Use(0).status()) == EBUSY);
  const UniqueFd memory = Memory(64_KiB);
  CHECK(*fake.Say({.kind = MoveKind::kGive, .sequence = 4, .generation = 2, .bytes = 64_KiB},
                  memory.borrow()) == MoveNews::kNothing);
  CHECK(fake.Hear(4) == MoveKind::kTook);
  CHECK(*fake.Say({.kind = MoveKind::kCancel, .sequence = 4}) == MoveNews::kCancelled);
  auto use = fake.follower->Use(0);
  REQUIRE(use.ok());
  CHECK(use->generation() == 1);
}

TEST_CASE("MoveFollower: an owner that goes in the midst of a move leaves the old memory in use") {
  const LeakCheck leaks;
  Fake fake;
  fake.GiveFirst();
  CHECK(*fake.Say({.kind = MoveKind::kAsk, .sequence = 2, .generation = 2}) == MoveNews::kQuiet);
  const UniqueFd memory = Memory(64_KiB);
  CHECK(fake.Say({.kind = MoveKind::kGive, .sequence = 2, .generation = 2, .bytes = 64_KiB},
                 memory.borrow())
            .ok());
  fake.owner.reset();
  CHECK(ErrnoOf(fake.follower->Serve(In(milliseconds(2000))).status()) == ECONNRESET);
  CHECK(ErrnoOf(fake.follower->Serve(In(milliseconds(2000))).status()) == ENOTCONN);
  CHECK_FALSE(fake.follower->connected());
  auto use = fake.follower->Use(0);
  REQUIRE(use.ok());
  CHECK(use->generation() == 1);
}

TEST_CASE("MoveFollower: a message that does not fit breaks the link, and the memory stays") {
  const UniqueFd memory = Memory(64_KiB);
  const FdRef fd = memory.borrow();
  const MoveMessage give{
      .kind = MoveKind::kGive, .buffer = 2, .sequence = 2, .generation = 1, .bytes = 64_KiB};
  struct Bad {
    MoveMessage message;
    bool with;
  };
  std::vector<Bad> all;
  const auto add = [&](bool with, MoveMessage message, auto change) {
    change(message);
    all.push_back({message, with});
  };
  const MoveMessage ask{.kind = MoveKind::kAsk, .sequence = 2, .generation = 2};
  add(false, ask, [](auto& m) { m.magic ^= 1; });
  add(false, ask, [](auto& m) { m.version = 2; });
  add(true, ask, [](auto&) {});
  add(false, ask, [](auto& m) { m.sequence = 1; });
  add(false, ask, [](auto& m) { m.generation = 1; });
  add(false, ask, [](auto& m) { m.kind = MoveKind::kQuiet; });
  add(false, ask, [](auto& m) { m.kind = static_cast<MoveKind>(99); });
  add(false, ask, [](auto& m) { m.kind = MoveKind::kUse; });
  add(false, ask, [](auto& m) { m.kind = MoveKind::kCancel; });
  add(false, give, [](auto&) {});
  add(true, give, [](auto& m) { m.buffer = 0; });
  add(true, give, [](auto& m) { m.buffer = 4; });
  add(true, give, [](auto& m) { m.buffer = UINT32_MAX; });
  add(true, give, [](auto& m) { m.sequence = 1; });
  add(true, give, [](auto& m) { m.generation = 0; });
  add(true, give, [](auto& m) { m.bytes = 0; });
  add(true, give, [](auto& m) { m.bytes = 64_KiB + 1; });
  add(true, give, [](auto& m) { m.bytes = UINT64_MAX; });
  add(true, give, [](auto& m) { m.planes = 4; });
  add(true, give, [](auto& m) { m.planes = 1, m.offset[0] = 64_KiB; });
  add(true, give, [](auto& m) { m.planes = 1, m.stride[0] = 64_KiB + 1; });
  for (size_t i = 0; i < all.size(); ++i) {
    CAPTURE(i);
    const LeakCheck leaks;
    Fake fake({.buffers = 4, .most_bytes = 1_MiB});
    fake.GiveFirst();
    const auto news = fake.Say(all[i].message, all[i].with ? fd : FdRef());
    CHECK_MESSAGE(ErrnoOf(news.status()) == EPROTO, Text(news.status()));
    CHECK_FALSE(fake.follower->connected());
    CHECK(fake.follower->Use(0).ok());
    CHECK_FALSE(fake.follower->Use(2).ok());
  }
  // More descriptors than one, half a message, one and a half, and what is no memory.
  for (const size_t bytes : {size_t{1}, sizeof(give) / 2, sizeof(give) + 1, size_t{0}}) {
    const LeakCheck leaks;
    Fake fake;
    fake.GiveFirst();
    const std::array<FdRef, 3> three = {fd, fd, fd};
    std::vector<std::byte> some(sizeof(give) * 2);
    std::memcpy(some.data(), &give, sizeof(give));
    REQUIRE(SendFds(fake.owner.borrow(), std::span(some).first(bytes == 0 ? sizeof(give) : bytes),
                    three)
                .ok());
    const auto news = fake.follower->Serve(Deadline{});
    CHECK(ErrnoOf(news.status()) == (bytes == 0 ? EMSGSIZE : EBADMSG));
    CHECK(fake.follower->Use(0).ok());
  }
  Fake fake;
  CHECK(ErrnoOf(fake.Say(give, fake.owner.borrow()).status()) == ESPIPE);
}

TEST_CASE("MoveFollower: a move of one buffer of two is none") {
  const LeakCheck leaks;
  Fake fake;
  fake.GiveFirst(2);
  const UniqueFd memory = Memory(64_KiB);
  CHECK(*fake.Say({.kind = MoveKind::kAsk, .sequence = 2, .generation = 2}) == MoveNews::kQuiet);
  CHECK(fake.Say({.kind = MoveKind::kGive, .sequence = 2, .generation = 2, .bytes = 64_KiB},
                 memory.borrow())
            .ok());
  CHECK(ErrnoOf(fake.Say({.kind = MoveKind::kUse, .sequence = 2}).status()) == EPROTO);
  CHECK(fake.follower->Use(0)->generation() == 1);
}

TEST_CASE("MoveSocket: only SOCK_SEQPACKET, and 1 to 1024 buffers") {
  const LeakCheck leaks;
  for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
    Ends ends(type);
    CHECK(ErrnoOf(SocketHolder::Of(std::move(ends.ours), "viewer").status()) == EPROTOTYPE);
    CHECK(ErrnoOf(MoveFollower::Of(std::move(ends.theirs)).status()) == EPROTOTYPE);
  }
  CHECK(ErrnoOf(SocketHolder::Of(Memory(1), "viewer").status()) == ENOTSOCK);
  CHECK(ErrnoOf(MoveFollower::Of({}).status()) == EBADF);
  for (const uint32_t buffers : {0u, 1025u}) {
    CHECK(ErrnoOf(MoveFollower::Of(std::move(Ends().ours), {.buffers = buffers}).status()) ==
          EINVAL);
  }
}

TEST_CASE("SocketHolder: late answers of questions that were given up do no harm") {
  const LeakCheck leaks;
  Ends ends;
  auto holder = SocketHolder::Of(std::move(ends.ours), "viewer");
  const auto answer = [&](MoveKind kind, uint64_t sequence) {
    const MoveMessage message{.kind = kind, .sequence = sequence};
    REQUIRE(SendFds(ends.theirs.borrow(), std::as_bytes(std::span(&message, 1)), {}).ok());
  };
  for (int i = 0; i < 3; ++i) {
    CHECK(holder->AskQuiet(2, Deadline{}).code() == ETIMEDOUT);
    holder->Cancel(2);
  }
  answer(MoveKind::kQuiet, 1);
  answer(MoveKind::kBusy, 3);
  answer(MoveKind::kQuiet, 4);
  CHECK(holder->AskQuiet(2, In(milliseconds(2000))).ok());
  CHECK(holder->connected());
  answer(MoveKind::kBusy, 5);
  CHECK(holder->AskQuiet(2, In(milliseconds(2000))).code() == EBUSY);
  CHECK(holder->connected());
  answer(MoveKind::kQuiet, 5);  // twice
  CHECK(holder->AskQuiet(2, In(milliseconds(2000))).code() == EPROTO);
  CHECK_FALSE(holder->connected());
  CHECK(holder->AskQuiet(2, In(milliseconds(2000))).code() == ENOTCONN);
  CHECK(holder->HandOver({}, In(milliseconds(2000))).code() == ENOTCONN);
}

TEST_CASE("SocketHolder: a peer that does not take the memory in time never uses it") {
  const LeakCheck leaks;
  Ends ends;
  auto holder = SocketHolder::Of(std::move(ends.ours), "viewer");
  auto follower = MoveFollower::Of(std::move(ends.theirs));
  const UniqueFd memory = Memory(64_KiB);
  const HandedBuffer buffer{0, memory.borrow(), 64_KiB};
  CHECK(holder->HandOver({{&buffer, 1}, 1}, Deadline{}).code() == ETIMEDOUT);
  CHECK_FALSE(holder->connected());
  // It finds the descriptor, and the end.
  CHECK_FALSE(follower->Serve(Deadline{}).ok());
  CHECK_FALSE(follower->connected());
  CHECK_FALSE(follower->Use(0).ok());
}

TEST_CASE("SocketHolder: a peer that reads nothing is broken with, not waited for") {
  const LeakCheck leaks;
  Ends ends;
  auto holder = SocketHolder::Of(std::move(ends.ours), "viewer");
  int asked = 0;
  for (; holder->connected() && asked < 100'000; ++asked) {
    (void)holder->AskQuiet(2, Deadline{});
    holder->Cancel(2);
  }
  CHECK(asked > 10);
  CHECK_FALSE(holder->connected());
}

// Of the socket calls, counted from 0, one fails.
struct SocketFaults {
  size_t n = SIZE_MAX;
  size_t calls = 0;
  int code = EIO;
  bool Fails() noexcept { return calls++ == n; }
};
class FaultSockets {
 public:
  explicit FaultSockets(std::shared_ptr<SocketFaults> faults = std::make_shared<SocketFaults>())
      : faults_(std::move(faults)) {}
  long Sendmsg(int fd, const msghdr* message, int flags) const noexcept {
    return faults_->Fails() ? -faults_->code : LinuxSocketCalls().Sendmsg(fd, message, flags);
  }
  long Recvmsg(int fd, msghdr* message, int flags) const noexcept {
    return faults_->Fails() ? -faults_->code : LinuxSocketCalls().Recvmsg(fd, message, flags);
  }
  long SocketType(int fd) const noexcept {
    return faults_->Fails() ? -faults_->code : LinuxSocketCalls().SocketType(fd);
  }

 private:
  std::shared_ptr<SocketFaults> faults_;
};

// A stream of two buffers is shared with a follower on another thread, and moves. Returns true if
// nothing failed.
bool ShareAndMove(const std::shared_ptr<Faults>& faults,
                  const std::shared_ptr<SocketFaults>& sockets, const Faults::Plan& plan, size_t n,
                  int code) {
  const LeakCheck leaks;
  using Sys = FaultSyscalls;
  Rig<Sys> rig{Sys(faults)};
  Ends ends;
  auto follower = MoveFollower::Of(std::move(ends.theirs));
  std::thread other([&] {
    while (follower->Serve(In(milliseconds(20000))).ok()) {
    }
  });
  bool failed = false;
  {
    ScriptedDevice cpu("cpu", kScattered), codec("codec", kContiguous);
    auto stream = rig.Reserve({.buffers = 2, .bytes = 64_KiB, .patience = milliseconds(20000)});
    auto first = stream->Attach(cpu);
    Fill(*stream, 0, 3);
    Fill(*stream, 1, 4);
    faults->Begin(plan);
    sockets->calls = 0;
    sockets->n = n;
    sockets->code = code;
    {
      auto holder = BasicSocketHolder<Sys, FaultSockets>::Of(std::move(ends.ours), "viewer",
                                                             Sys(faults), FaultSockets(sockets));
      absl::Status status = holder.status();
      if (holder.ok()) status = stream->ShareWith(*holder);
      const bool shared = status.ok();
      std::optional<BasicAttachment<Sys>> late;
      if (shared) {
        auto moved = stream->Attach(codec);
        status = moved.status();
        if (moved.ok()) late = *std::move(moved);
      }
      faults->End();
      failed = faults->failed().has_value() || (n != SIZE_MAX && sockets->calls > n);
      sockets->n = SIZE_MAX;
      CHECK((failed || (shared && late.has_value())));
      CHECK(stream->generation() == (late.has_value() ? 2 : 1));
      if (!status.ok()) CHECK(ErrnoOf(status) != 0);
      if (late.has_value() && !failed) CHECK(stream->moves().dropped == 0);
      CHECK(IsFull(*stream, 0, 3));
      CHECK(IsFull(*stream, 1, 4));
      // The holder ends, and the follower hears of that.
      if (shared) (void)stream->DropHolder(*holder);
      if (!holder.ok()) ends.ours.reset();
    }
    other.join();
    // It is left quiet by nobody, and its memory is whole, old or new.
    CHECK_FALSE(follower->connected());
    if (follower->Use(0).ok()) {
      CHECK(Has(*follower, 0, 3));
      CHECK(Has(*follower, 1, 4));
      CHECK(follower->Use(0)->generation() == follower->Use(1)->generation());
    }
    CHECK(rig.client->held_bytes() == 2 * 64_KiB);
  }
  CHECK(rig.client->held_bytes() == 0);
  return !failed;
}

TEST_CASE("SocketHolder: each system call of a share and of a move fails once") {
  size_t points = 0;
  for (const int code : {EIO, EINTR, EAGAIN, ENOMEM}) {
    for (size_t n = 0;; ++n, ++points) {
      CAPTURE(code);
      CAPTURE(n);
      if (ShareAndMove(std::make_shared<Faults>(), std::make_shared<SocketFaults>(), {}, n, code)) {
        break;
      }
    }
  }
  CHECK(points > 40);
  points = 0;
  for (size_t n = 0;; ++n, ++points) {
    CAPTURE(n);
    if (ShareAndMove(std::make_shared<Faults>(), std::make_shared<SocketFaults>(),
                     {.n = n, .code = EIO}, SIZE_MAX, 0)) {
      break;
    }
  }
  CHECK(points > 20);
}

TEST_CASE("MoveFollower: each operator new fails once") {
  size_t points = 0;
  for (size_t n = 0;; ++n, ++points) {
    const LeakCheck leaks;
    Ends ends;
    FaultNew::Begin(n);
    const auto follower = MoveFollower::Of(std::move(ends.theirs));
    if (!FaultNew::End()) break;
    CHECK(ErrnoOf(follower.status()) == ENOMEM);
  }
  CHECK(points > 1);
}

// Random messages that lie near valid ones.
struct Fuzz {
  explicit Fuzz(unsigned seed) : random(seed) {}
  uint64_t Below(uint64_t n) { return random() % n; }
  MoveMessage Message(uint64_t sequence, uint64_t generation) {
    MoveMessage message;
    message.kind = static_cast<MoveKind>(1 + Below(Below(20) == 0 ? 12 : 7));
    message.buffer = static_cast<uint32_t>(Below(3));
    message.sequence = sequence + Below(3) - (sequence != 0 && Below(4) == 0);
    message.generation = generation + Below(3);
    message.bytes = Below(8) == 0 ? random() : 4096;
    message.planes = Below(10) == 0 ? Below(5) : 0;
    for (auto& offset : message.offset) offset = Below(5000);
    for (auto& stride : message.stride) stride = Below(5000);
    if (Below(20) == 0) {
      auto* const bytes = reinterpret_cast<unsigned char*>(&message);
      bytes[Below(sizeof(message))] ^= static_cast<unsigned char>(1 + Below(255));
    }
    return message;
  }
  size_t Bytes(size_t whole) { return Below(100) == 0 ? 1 + Below(2 * whole) : whole; }
  std::mt19937_64 random;
};

TEST_CASE("MoveFollower: 100,000 messages of a fuzzer leave nothing behind") {
  const LeakCheck leaks;
  Fuzz fuzz(1);
  const UniqueFd memory = Memory(4096);
  const std::array<FdRef, 2> fds = {memory.borrow(), memory.borrow()};
  uint64_t messages = 0, links = 0, given = 0, moved = 0;
  while (messages < 100'000) {
    ++links;
    Fake fake({.buffers = 2, .most_bytes = 8192});
    uint64_t sequence = 0, generation = 1;
    std::optional<FollowedUse> use;
    while (messages < 100'000 && fake.follower->connected()) {
      ++messages;
      const MoveMessage message = fuzz.Message(sequence, generation);
      std::array<std::byte, 2 * sizeof(message)> bytes{};
      std::memcpy(bytes.data(), &message, sizeof(message));
      const size_t count =
          message.kind == MoveKind::kGive ? 1 + (fuzz.Below(30) == 0) : fuzz.Below(30) == 0;
      const size_t size = fuzz.Bytes(sizeof(message));
      if (!SendFds(fake.owner.borrow(), std::span(bytes).first(size), std::span(fds).first(count))
               .ok()) {
        break;
      }
      const auto news = fake.follower->Serve(Deadline{});
      if (!news.ok()) continue;
      given += *news == MoveNews::kGiven;
      moved += *news == MoveNews::kMoved;
      sequence = message.sequence;
      if (*news == MoveNews::kMoved || *news == MoveNews::kGiven) generation = message.generation;
      while (fake.Hear(sequence).has_value()) {
      }
      if (fuzz.Below(4) == 0) use.reset();
      if (fuzz.Below(4) == 0) {
        auto begun = fake.follower->Use(static_cast<uint32_t>(fuzz.Below(3)));
        if (begun.ok()) {
          REQUIRE(begun->bytes() > 0);
          REQUIRE(begun->bytes() <= 4096);
          REQUIRE(begun->planes() <= 3);
          use = *std::move(begun);
        }
      }
    }
  }
  CHECK(links < messages);
  CHECK(given > 100);
  CHECK(moved > 10);
}

TEST_CASE("SocketHolder: 100,000 answers of a fuzzer are heard in time, and leave nothing behind") {
  const LeakCheck leaks;
  Fuzz fuzz(2);
  const UniqueFd memory = Memory(4096);
  const FdRef fd = memory.borrow();
  const std::array<HandedBuffer, 1> buffers = {HandedBuffer{0, fd, 4096}};
  uint64_t messages = 0, quiet = 0, took = 0;
  while (messages < 100'000) {
    Ends ends;
    auto holder = SocketHolder::Of(std::move(ends.ours), "viewer");
    uint64_t sequence = 0;
    while (messages < 100'000 && holder->connected()) {
      ++sequence;
      for (uint64_t i = 1 + fuzz.Below(2); i != 0; --i) {
        ++messages;
        MoveMessage message = fuzz.Message(sequence, 1);
        if (fuzz.Below(2) == 0) message.kind = MoveKind::kQuiet;
        if (fuzz.Below(2) == 0) message.sequence = sequence, message.buffer = 0;
        if (i == 1 && fuzz.Below(2) == 0) message.kind = MoveKind::kTook;
        std::array<std::byte, 2 * sizeof(message)> bytes{};
        std::memcpy(bytes.data(), &message, sizeof(message));
        (void)SendFds(ends.theirs.borrow(), std::span(bytes).first(fuzz.Bytes(sizeof(message))),
                      {&fd, fuzz.Below(50) == 0 ? 1u : 0u});
      }
      const Error error = holder->AskQuiet(2, Deadline{});
      quiet += error.ok();
      if (!error.ok() || fuzz.Below(2) == 0) {
        holder->Cancel(2);
      } else {
        took += holder->HandOver({buffers, 2}, Deadline{}).ok();
      }
    }
  }
  CHECK(quiet > 100);
  CHECK(took > 10);
}

}  // namespace
}  // namespace ion::testing
