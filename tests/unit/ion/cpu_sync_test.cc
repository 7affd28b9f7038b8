// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// CpuSync against a model of a cache that is not coherent with devices, at its worst: beginning to
// read throws away what the cache holds, written or not (arm64: DC IVAC); beginning to write does
// nothing; ending a write cleans; ending to read may throw away, too (Linux before 5.18). A call
// that fails may have done its work all the same. At any time the cache may fetch, or write back.
//
// The model follows one cache line, and in it the set of all states in which it can be: what the
// cache, the CPU and the device may do of themselves is not drawn by lot, but done and not done.

#include "ion/cpu_sync.h"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/error.h"
#include "tests/support/cache_line.h"

namespace {

using ion::CpuSync;
using ion::Direction;
using ion::Error;
using ion::Operation;
using ion::Reads;
using ion::Writes;
using ion::testing::Cleaned;
using ion::testing::Evicted;
using ion::testing::Fetched;
using ion::testing::Invalidated;
using ion::testing::Line;
using ion::testing::Same;
using ion::testing::WrittenInCache;
using ion::testing::WrittenPastCache;

// A set of states, one bit each; and what an act makes of each state, with all that the cache may
// then do of itself.
using Set = uint16_t;
using Act = std::array<Set, 16>;

constexpr Set OneOf(Line line) { return static_cast<Set>(1u << line.index()); }
constexpr Act ActOf(Line (*act)(Line)) {
  Act after{};
  for (size_t i = 0; i < after.size(); ++i) {
    const Line line = act(Line::At(i));
    // Cleaned or evicted, then fetched: there is nothing else to reach.
    after[i] = OneOf(line) | OneOf(Cleaned(line)) | OneOf(Fetched(line)) | OneOf(Evicted(line)) |
               OneOf(Fetched(Evicted(line)));
  }
  return after;
}
constexpr Act kNothing = ActOf(Same), kInvalidate = ActOf(Invalidated), kClean = ActOf(Cleaned),
              kCpuWrites = ActOf(WrittenInCache), kDeviceWrites = ActOf(WrittenPastCache);

// Every state in which the line may be.
class Lines {
 public:
  void Must(const Act& act) { states_ = After(act); }
  void May(const Act& act) { states_ |= After(act); }
  template <class Predicate>
  bool All(Predicate predicate) const {
    for (size_t i = 0; i < kNothing.size(); ++i) {
      if ((states_ >> i & 1) != 0 && !predicate(Line::At(i))) return false;
    }
    return true;
  }

 private:
  Set After(const Act& act) const {
    Set after = 0;
    for (size_t i = 0; i < act.size(); ++i) {
      if ((states_ >> i & 1) != 0) after |= act[i];
    }
    return after;
  }

  // At first memory is the truth, and the cache has nothing that differs.
  Set states_ = kNothing[Line{}.index()];
};

// One buffer: a CpuSync, or what stands for it, and the model behind it. Opens and closes scopes
// and takes down which promise was broken.
template <class Sync>
class Buffer {
 public:
  // `fails` says for each call to the kernel whether it fails.
  explicit Buffer(std::function<bool()> fails) : fails_(std::move(fails)) {}

  size_t open() const { return scopes_.size(); }
  const std::string& broken() const { return broken_; }

  void Open(Direction direction) {
    const size_t calls_before = calls_;
    const bool covered = Covers(begun_, direction);
    const bool all_covered = !failed_ && Covers(OpenBits(), direction);
    const Error error = sync_.Open(direction, Begin(), End());
    if ((covered || all_covered) && calls_ != calls_before) Broken("a covered scope sent a call");
    if (error.ok()) scopes_.push_back(direction);
    LetThingsHappen();
  }

  void Close(size_t scope) {
    const Direction direction = scopes_[scope];
    scopes_.erase(scopes_.begin() + static_cast<ptrdiff_t>(scope));
    const Error error = sync_.Close(direction, Begin(), End());
    if (Writes(direction) && !Covers(OpenBits(), Direction::kWrite)) {
      if (error.ok()) {
        if (!lines_.All([](Line line) { return line.memory_is_new && !line.dirty; })) {
          Broken("a write did not reach memory");
        }
      } else {
        // Its owner was told; what memory has now is all that there is.
        lines_ = Lines();
      }
    }
    LetThingsHappen();
  }

 private:
  static uint8_t Bits(Direction direction) { return static_cast<uint8_t>(direction); }
  static bool Covers(uint8_t bits, Direction direction) { return (Bits(direction) & ~bits) == 0; }
  uint8_t OpenBits() const {
    uint8_t bits = 0;
    for (const Direction scope : scopes_) bits |= Bits(scope);
    return bits;
  }
  void Broken(const char* promise) {
    if (broken_.empty()) broken_ = promise;
  }

  auto Begin() {
    return [this](Direction direction) {
      if ((begun_ & Bits(direction)) != 0) Broken("begun twice");
      const Error error = Call(Reads(direction) ? kInvalidate : kNothing);
      if (error.ok()) begun_ |= Bits(direction);
      return error;
    };
  }
  auto End() {
    return [this](Direction direction) {
      if (!Covers(begun_, direction)) Broken("an end without its begin");
      begun_ &= static_cast<uint8_t>(~Bits(direction));
      if (!Writes(direction)) lines_.May(kInvalidate);
      return Call(Writes(direction) ? kClean : kNothing);
    };
  }
  Error Call(const Act& act) {
    ++calls_;
    if (!fails_()) {
      lines_.Must(act);
      return {};
    }
    lines_.May(act);
    failed_ = true;
    return Error(EIO, "planted", {"model", Operation::kBeginAccess});
  }

  // The CPU and the device use the buffer, as far as they are allowed to, or do not.
  void LetThingsHappen() {
    if (Covers(OpenBits(), Direction::kRead) && !lines_.All([](Line line) {
          return line.copied ? line.copy_is_new : line.memory_is_new;
        })) {
      Broken("a stale read");
    }
    if (Covers(OpenBits(), Direction::kWrite)) lines_.May(kCpuWrites);
    if (sync_.open() != !scopes_.empty()) Broken("open() is wrong");
    if (!scopes_.empty()) return;
    if (begun_ != 0) Broken("a begin was left without its end");
    failed_ = false;
    lines_.May(kDeviceWrites);
  }

  Sync sync_;
  Lines lines_;
  std::function<bool()> fails_;
  std::vector<Direction> scopes_;
  uint8_t begun_ = 0;
  size_t calls_ = 0;
  bool failed_ = false;  // a call, since everything was closed
  std::string broken_;
};

constexpr Direction kDirections[] = {Direction::kRead, Direction::kWrite, Direction::kReadWrite};

// A sequence is a list of decisions, each of a few choices; all of them are gone through by
// counting: the last decision that has a choice left takes it, and those after it are made anew.
class Decisions {
 public:
  size_t Choose(size_t choices) {
    if (at_ == made_.size()) made_.push_back({0, choices});
    return made_[at_++].taken;
  }
  // False where there is no other sequence.
  bool Next() {
    at_ = 0;
    while (!made_.empty() && made_.back().taken + 1 == made_.back().choices) made_.pop_back();
    if (made_.empty()) return false;
    ++made_.back().taken;
    return true;
  }

 private:
  struct Decision {
    size_t taken;
    size_t choices;
  };
  std::vector<Decision> made_;
  size_t at_ = 0;
};

struct Outcome {
  size_t sequences = 0;
  size_t broken = 0;
  std::string first;  // what the first broken one broke
  void Add(const std::string& promise) {
    ++sequences;
    if (promise.empty()) return;
    if (++broken == 1) first = promise;
  }
};

// Every sequence of `steps` steps with at most 3 scopes open, in any order of closing, with every
// call failing or not; then what is open is closed.
template <class Sync>
Outcome EverySequence(size_t steps, bool with_failures) {
  Outcome outcome;
  Decisions decisions;
  do {
    Buffer<Sync> buffer([&] { return with_failures && decisions.Choose(2) == 1; });
    for (size_t step = 0; step < steps; ++step) {
      const size_t closable = buffer.open();
      const size_t choice = decisions.Choose(closable + (closable < 3 ? 3 : 0));
      choice < closable ? buffer.Close(choice) : buffer.Open(kDirections[choice - closable]);
    }
    while (buffer.open() != 0) buffer.Close(0);
    outcome.Add(buffer.broken());
  } while (decisions.Next());
  return outcome;
}

TEST_CASE("CpuSync: keeps its promises in every sequence of 6 steps") {
  const Outcome outcome = EverySequence<CpuSync>(6, false);
  CHECK_MESSAGE(outcome.broken == 0, outcome.first);
  CHECK(outcome.sequences == 3078);  // all walks of 6 steps: 3 ways to open, one to close each
}

TEST_CASE("CpuSync: keeps its promises in every sequence of 6 steps, whichever calls fail") {
  const Outcome outcome = EverySequence<CpuSync>(6, true);
  CHECK_MESSAGE(outcome.broken == 0, outcome.first);
  CHECK(outcome.sequences > 3078);
}

TEST_CASE("CpuSync: keeps its promises in 100,000 long random sequences") {
  std::mt19937 random(20240607);  // arbitrary, and always the same
  const auto below = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  Outcome outcome;
  for (int sequence = 0; sequence < 100000; ++sequence) {
    const size_t one_in = below(2) == 0 ? SIZE_MAX : 8;  // half of them without failures
    Buffer<CpuSync> buffer([&] { return below(one_in) == 0; });
    for (size_t step = 0; step < 40; ++step) {
      const bool close = buffer.open() != 0 && (buffer.open() == 12 || below(2) == 0);
      close ? buffer.Close(below(buffer.open())) : buffer.Open(kDirections[below(3)]);
    }
    while (buffer.open() != 0) buffer.Close(below(buffer.open()));
    outcome.Add(buffer.broken());
  }
  CHECK_MESSAGE(outcome.broken == 0, outcome.first);
}

// What the model must find: a CpuSync that is kept from doing one thing.

struct Unclean : CpuSync {
  template <class BeginFn, class EndFn>
  Error Open(Direction direction, BeginFn begin, EndFn) {
    return CpuSync::Open(direction, begin, [](Direction) { return Error(); });
  }
};

struct Impatient : CpuSync {
  template <class BeginFn, class EndFn>
  Error Close(Direction direction, BeginFn begin, EndFn end) {
    const Error error = CpuSync::Close(direction, begin, end);
    return direction == Direction::kRead && open() ? end(direction) : error;
  }
};

struct Hopeful : CpuSync {
  template <class BeginFn, class EndFn>
  Error Open(Direction direction, BeginFn begin, EndFn end) {
    const auto try_to_begin = [&](Direction d) { return static_cast<void>(begin(d)), Error(); };
    return CpuSync::Open(direction, try_to_begin, end);
  }
};

struct AsTheyCome {
  template <class BeginFn, class EndFn>
  Error Open(Direction direction, BeginFn begin, EndFn) {
    ++scopes;
    return begin(direction);
  }
  template <class BeginFn, class EndFn>
  Error Close(Direction direction, BeginFn, EndFn end) {
    --scopes;
    return end(direction);
  }
  bool open() const { return scopes != 0; }
  int scopes = 0;
};

TEST_CASE("CpuSync: the model finds a read that began before the write around it was cleaned") {
  CHECK(EverySequence<Unclean>(2, false).broken > 0);
}

TEST_CASE("CpuSync: the model finds an end of reading that does not wait for the writer") {
  CHECK(EverySequence<Impatient>(3, false).broken > 0);
}

TEST_CASE("CpuSync: the model finds a failed begin that counts as begun") {
  CHECK(EverySequence<Hopeful>(2, false).broken == 0);
  CHECK(EverySequence<Hopeful>(2, true).broken > 0);
}

TEST_CASE("CpuSync: the model finds scopes that are sent as they come") {
  CHECK(EverySequence<AsTheyCome>(2, false).broken > 0);
}

}  // namespace
