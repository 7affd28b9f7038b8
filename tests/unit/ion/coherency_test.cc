// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// CoherencyState against a model of a cache that is not coherent with devices, at its worst:
// beginning to read throws away what the cache has, written or not; ending a write cleans; ending
// to read may throw away, too (Linux before 5.18). A call that fails may have done its work all the
// same. At any time the cache may fetch, or write back. A coherent device may leave what it writes
// in the cache or in memory.
//
// The model follows one cache line, and in it the set of all states in which it can be, as
// tests/unit/ion/cpu_sync_test.cc does. The least that can be sent is found in the model as well:
// by trying every begin and every end at each use, and keeping the cheapest ways that lose nothing.

#include "ion/coherency.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "doctest/doctest.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/cpu_sync.h"
#include "ion/sync_counts.h"
#include "tests/support/cache_line.h"

namespace {

using ion::CacheUse;
using ion::CoherencyState;
using ion::CpuSync;
using ion::DeviceUse;
using ion::Direction;
using ion::Error;
using ion::Holders;
using ion::Known;
using ion::Operation;
using ion::Reads;
using ion::SyncCounts;
using ion::Writes;
using ion::testing::Cleaned;
using ion::testing::Evicted;
using ion::testing::Fetched;
using ion::testing::Invalidated;
using ion::testing::Line;
using ion::testing::Same;
using ion::testing::WrittenInCache;
using ion::testing::WrittenPastCache;

constexpr uint8_t kRead = 1, kWrite = 2;
constexpr uint8_t Bits(Direction direction) { return static_cast<uint8_t>(direction); }
constexpr Direction kDirections[] = {Direction::kRead, Direction::kWrite, Direction::kReadWrite};

// ---- The model ----

// A coherent device's, which takes the copy away.
constexpr Line WrittenThrough(Line) { return {.memory_is_new = true}; }

// A set of states, one bit each; and what an act makes of each set, with all that the cache may
// then do of itself.
using Set = uint16_t;
constexpr Set OneOf(Line line) { return static_cast<Set>(1u << line.index()); }
class Act {
 public:
  explicit Act(Line (*act)(Line)) : after_(size_t{1} << 16) {
    std::array<Set, 16> of{};
    for (size_t i = 0; i < of.size(); ++i) {
      const Line line = act(Line::At(i));
      // Cleaned or evicted, then fetched: there is nothing else to reach.
      for (const Line then :
           {line, Cleaned(line), Fetched(line), Evicted(line), Fetched(Evicted(line))}) {
        of[i] |= OneOf(then);
      }
    }
    for (size_t set = 1; set < after_.size(); ++set) {
      const size_t lowest = set & (~set + 1);
      size_t i = 0;
      while (lowest >> i != 1) ++i;
      after_[set] = after_[set ^ lowest] | of[i];
    }
  }
  Set operator()(Set set) const { return after_[set]; }

 private:
  std::vector<Set> after_;
};
const Act kNothing(Same), kInvalidate(Invalidated), kClean(Cleaned), kCacheWrites(WrittenInCache),
    kPastWrites(WrittenPastCache), kThroughWrites(WrittenThrough);

constexpr Set SetOf(bool (*predicate)(Line)) {
  Set set = 0;
  for (size_t i = 0; i < 16; ++i) {
    if (predicate(Line::At(i))) set |= OneOf(Line::At(i));
  }
  return set;
}
constexpr Set kSeenByCache =
    SetOf([](Line line) { return line.copied ? line.copy_is_new : line.memory_is_new; });
constexpr Set kSeenPast = SetOf([](Line line) { return line.memory_is_new; });
constexpr Set kSomewhere =
    SetOf([](Line line) { return line.memory_is_new || (line.copied && line.copy_is_new); });
constexpr bool All(Set states, Set of) { return (states & ~of) == 0; }
// At first memory is the truth, and the cache may have anything older: others have used the memory.
Set AtFirst() { return kNothing(OneOf(Line{}) | OneOf({.memory_is_new = true, .copied = true})); }
Set AfterBegin(Set states, uint8_t bits) {
  return (bits & kRead) != 0 ? kInvalidate(states) : states;
}
Set AfterEnd(Set states, uint8_t bits) {
  if ((bits & kWrite) != 0) return kClean(states);
  return static_cast<Set>(states | kInvalidate(states));
}

// A user of a buffer, and what it does to it: the CPU is the user without a device.
struct Event {
  enum Kind { kOpen, kClose, kBegin, kEnd } kind;
  Direction direction;
  CacheUse caches = CacheUse::kKernelCpu;  // the CPU's, too
  bool device = false;
};
// Those that use a buffer now.
struct Use {
  std::vector<Direction> scopes;
  std::vector<DeviceUse> devices;

  bool any() const { return !scopes.empty() || !devices.empty(); }
  bool cpu_reads() const { return std::ranges::any_of(scopes, Reads); }
  bool cpu_writes() const { return std::ranges::any_of(scopes, Writes); }
  // Whether one may join those that are there: who writes is alone, but for the CPU's own scopes.
  bool Admits(Direction direction, bool device) const {
    const auto writes = [](DeviceUse use) { return Writes(use.direction); };
    if (std::ranges::any_of(devices, writes) || (device && cpu_writes())) return false;
    return !Writes(direction) || (devices.empty() && (!device || scopes.empty()));
  }
  // What the line can be after they did what they may.
  Set Acted(Set states) const {
    const auto may = [&](const Act& act) { states = static_cast<Set>(states | act(states)); };
    if (cpu_writes()) may(kCacheWrites);
    for (const DeviceUse use : devices) {
      if (!Writes(use.direction)) continue;
      may(use.caches == CacheUse::kPast ? kPastWrites : kCacheWrites);
      if (use.caches == CacheUse::kSnoops) may(kThroughWrites);
    }
    return states;
  }
  // Whether all that read see what was written last.
  bool SeeAll(Set states) const {
    if (cpu_reads() && !All(states, kSeenByCache)) return false;
    return std::ranges::all_of(devices, [&](DeviceUse use) {
      return !Reads(use.direction) ||
             All(states, use.caches == CacheUse::kPast ? kSeenPast : kSeenByCache);
    });
  }
};

// The least number of calls with which a sequence of uses loses nothing and shows nobody old bytes,
// whatever comes next, if calls are sent as late as possible and none with a later use in mind: at
// the begin of a use alone; a begin for reading by one that reads, for writing by one that writes
// or to clean; a user of the caches ends only to begin for reading; each scope that writes has
// begun; a device past the caches that writes finds no begin for reading open, and another device
// ends none while a scope reads. All ways are tried.
class Least {
 public:
  // A buffer that nobody uses.
  void Start() {
    for (const Key key : std::exchange(reached_, {})) cost_[key] = kNever;
    Reach(AtFirst(), 0, 0);
  }

  // A use begins: `use` has it, too. Before it all ways of sending are tried.
  void Begins(const Use& use, Direction direction, bool device, bool past) {
    uint8_t may = past ? 0 : Bits(direction) & kRead;
    if (use.cpu_writes()) may |= kWrite;
    const bool keeps_reading = device && use.cpu_reads();
    for (size_t i = 0; i < reached_.size(); ++i) {  // which grows
      const Key key = reached_[i];
      const uint32_t cost = cost_[key] + 1;
      const Set states = StatesOf(key);
      const uint8_t begun = BegunOf(key);
      for (uint8_t bits = 1; bits <= 3; ++bits) {
        if ((begun & bits) == 0 && (bits == kWrite || (bits & ~may) == 0)) {
          const uint8_t owes = (bits & kRead) != 0 ? 0 : begun & kOwes;
          Reach(AfterBegin(states, bits), (begun & ~kOwes) | bits | owes, cost);
        }
        if ((begun & bits) == bits && !(keeps_reading && (bits & kRead) != 0)) {
          const uint8_t owes = past ? 0 : kOwes;
          Reach(AfterEnd(states, bits), (begun & ~bits) | owes, cost);
        }
      }
    }
    const bool writes_past = past && Writes(direction);
    Then(use, [&](uint8_t begun) {
      return (begun & kOwes) == 0 && (!use.cpu_writes() || (begun & kWrite) != 0) &&
             (!writes_past || (begun & kRead) == 0);
    });
  }
  void Ends(const Use& use) {
    Then(use, [](uint8_t) { return true; });
  }
  uint32_t calls() const {
    uint32_t least = kNever;
    for (const Key key : reached_) least = std::min(least, cost_[key]);
    return least;
  }

 private:
  using Key = uint32_t;
  static constexpr uint32_t kNever = std::numeric_limits<uint32_t>::max();
  static constexpr uint8_t kOwes = 4;  // beside what was begun: a begin for reading has to follow
  static Set StatesOf(Key key) { return static_cast<Set>(key >> 3); }
  static uint8_t BegunOf(Key key) { return key & 7; }

  void Reach(Set states, int begun, uint32_t cost) {
    const Key key = Key{states} << 3 | static_cast<Key>(begun);
    if (cost_[key] <= cost) return;
    cost_[key] = cost;
    reached_.push_back(key);  // again, if it was there: its followers cost less, too
  }
  // The users act; ways that lose something, or break a rule, end here.
  template <class Rule>
  void Then(const Use& use, Rule keeps) {
    std::vector<std::pair<Key, uint32_t>> all;
    for (const Key key : std::exchange(reached_, {})) {
      if (cost_[key] == kNever) continue;
      all.emplace_back(key, std::exchange(cost_[key], kNever));
    }
    for (const auto& [key, cost] : all) {
      const Set states = use.Acted(StatesOf(key));
      if (!keeps(BegunOf(key)) || !use.SeeAll(states) || !All(states, kSomewhere)) continue;
      Reach(states, BegunOf(key), cost);
    }
  }

  std::vector<uint32_t> cost_ = std::vector<uint32_t>(size_t{1} << 19, kNever);  // by key
  std::vector<Key> reached_;
};

// One buffer: a CoherencyState, or what stands for it, and the model behind it. It takes down which
// promise was broken.
template <class State>
class Buffer {
 public:
  // `fails` says for each call to the kernel whether it fails.
  Buffer(Known cached, std::function<bool()> fails) : state_(cached), fails_(std::move(fails)) {}

  const Use& use() const { return use_; }
  const std::string& broken() const { return broken_; }
  size_t calls() const { return begins_ + ends_; }
  const State& state() const { return state_; }

  bool Open(Direction direction) {
    const size_t begins = begins_;
    size_t waits = 0;
    const bool must = state_.MustWait(direction);
    const Error error = state_.Open(direction, Begin(), End(), [&](Direction for_what) {
      ++waits;
      if (for_what != direction) Broken("it waited for another access");
      if (begins_ != begins) Broken("it waited after a begin");
      return Error();
    });
    if (waits != must) Broken("MustWait is wrong");
    if (error.ok() && (waits == 0) != (begins_ != begins)) Broken("neither begun nor waited for");
    if (error.ok()) use_.scopes.push_back(direction);
    LetThingsHappen();
    return error.ok();
  }
  void Close(size_t scope) {
    const Direction direction = use_.scopes[scope];
    use_.scopes.erase(use_.scopes.begin() + static_cast<ptrdiff_t>(scope));
    Told(state_.Close(direction, Begin(), End()), direction);
    LetThingsHappen();
  }
  bool BeginDevice(DeviceUse use) {
    const Error error = state_.BeginDevice(use, Begin(), End());
    if (error.ok()) use_.devices.push_back(use);
    LetThingsHappen();
    return error.ok();
  }
  void EndDevice(size_t device) {
    const DeviceUse use = use_.devices[device];
    use_.devices.erase(use_.devices.begin() + static_cast<ptrdiff_t>(device));
    Told(state_.EndDevice(use, Begin(), End()), use.direction);
    LetThingsHappen();
  }
  void Publish(Holders holders) {
    while (!state_.Publish(holders, Begin(), End()).ok()) {
    }
    others_ |= holders == Holders::kUnknown;
    LetThingsHappen();
  }
  void Finish() {
    while (!use_.scopes.empty()) Close(0);
    while (!use_.devices.empty()) EndDevice(0);
    while (!state_.Flush(Begin(), End()).ok()) {
    }
    if (begun_ != 0) Broken("a begin was left without its end");
    if (!All(lines_, kSeenPast)) Broken("a write did not reach memory");
    if (state_.counts().begins != begins_ || state_.counts().ends != ends_) {
      Broken("it counts what it did not send");
    }
  }

 private:
  void Broken(const char* promise) {
    if (broken_.empty()) broken_ = promise;
  }
  // An end that failed: its owner was told. What memory has now is all that other holders see.
  void Told(const Error& error, Direction direction) {
    if (others_ && !error.ok() && Writes(direction)) lines_ = kNothing(OneOf(Line{}));
  }

  auto Begin() {
    return [this](Direction direction) {
      ++begins_;
      if ((begun_ & Bits(direction)) != 0) Broken("begun twice");
      const Error error = Call(AfterBegin(lines_, Bits(direction)));
      if (error.ok()) begun_ |= Bits(direction);
      return error;
    };
  }
  auto End() {
    return [this](Direction direction) {
      ++ends_;
      if ((Bits(direction) & ~begun_) != 0) Broken("an end without its begin");
      begun_ &= static_cast<uint8_t>(~Bits(direction));
      return Call(AfterEnd(lines_, Bits(direction)));
    };
  }
  Error Call(Set after) {
    if (!fails_()) {
      lines_ = after;
      return {};
    }
    lines_ |= after;
    return Error(EIO, "planted", {"model", Operation::kBeginAccess});
  }

  // All use the buffer, as far as they are allowed to, or do not.
  void LetThingsHappen() {
    if (others_ && !use_.any()) {
      if (!All(lines_, kSeenPast)) Broken("another holder reads old bytes");
      lines_ |= kPastWrites(lines_);
    }
    lines_ = use_.Acted(lines_);
    if (!use_.SeeAll(lines_)) Broken("a stale read");
    if (!All(lines_, kSomewhere)) Broken("a write was lost");
    if (state_.open() == use_.scopes.empty()) Broken("open() is wrong");
    if (state_.in_device() == use_.devices.empty()) Broken("in_device() is wrong");
  }

  State state_;
  Set lines_ = AtFirst();
  std::function<bool()> fails_;
  Use use_;
  bool others_ = false;  // have the descriptor, and say nothing
  uint8_t begun_ = 0;
  size_t begins_ = 0, ends_ = 0;
  std::string broken_;
};

constexpr DeviceUse kDevices[] = {
    {Direction::kWrite, CacheUse::kPast},      {Direction::kRead, CacheUse::kPast},
    {Direction::kReadWrite, CacheUse::kPast},  {Direction::kRead, CacheUse::kSnoops},
    {Direction::kWrite, CacheUse::kSnoops},    {Direction::kReadWrite, CacheUse::kSnoops},
    {Direction::kWrite, CacheUse::kKernelCpu}, {Direction::kRead, CacheUse::kKernelCpu}};

class Draw {
 public:
  size_t Below(size_t n) { return random_() % n; }

 private:
  std::mt19937 random_{20261130};  // arbitrary, and always the same
};

struct Outcome {
  size_t steps = 0;
  size_t broken = 0;
  size_t unequal = 0;  // sequences in which not the least was sent
  size_t calls = 0, least = 0;
  std::string first;  // what the first broken one broke
};

enum class Memory { kCached, kUnknown, kPublished, kKnownHolders };

// Random sequences of up to 50 steps each, in which users take turns. Where nothing fails and nothing has
// to be sent at once, what was sent is compared with the least.
template <class State>
Outcome RandomSequences(size_t steps, Memory memory, bool with_failures) {
  Outcome outcome;
  Draw draw;
  Least least;
  while (outcome.steps < steps) {
    const bool fails = with_failures && draw.Below(2) == 0;
    Buffer<State> buffer(memory == Memory::kUnknown ? Known() : Known(true),
                         [&] { return fails && draw.Below(8) == 0; });
    const bool lazy = !fails && (memory == Memory::kCached || memory == Memory::kKnownHolders);
    if (lazy) least.Start();
    const size_t published = draw.Below(50);
    for (size_t step = 0; step < 50; ++step) {
      if (step == published && memory == Memory::kPublished) buffer.Publish(Holders::kUnknown);
      if (step == published && memory == Memory::kKnownHolders) buffer.Publish(Holders::kKnown);
      const Use& use = buffer.use();
      const size_t scopes = use.scopes.size(), devices = use.devices.size();
      if (use.any() && (scopes + devices == 5 || draw.Below(2) == 0)) {
        const size_t which = draw.Below(scopes + devices);
        which < scopes ? buffer.Close(which) : buffer.EndDevice(which - scopes);
        if (lazy) least.Ends(use);
        ++outcome.steps;
        continue;
      }
      const size_t which = draw.Below(std::size(kDirections) + std::size(kDevices));
      if (which < std::size(kDirections)) {
        const Direction direction = kDirections[which];
        if (!use.Admits(direction, false)) continue;
        ++outcome.steps;
        if (buffer.Open(direction) && lazy) least.Begins(use, direction, false, false);
      } else {
        const DeviceUse device = kDevices[which - std::size(kDirections)];
        if (!use.Admits(device.direction, true)) continue;
        ++outcome.steps;
        if (buffer.BeginDevice(device) && lazy) {
          least.Begins(use, device.direction, true, device.caches == CacheUse::kPast);
        }
      }
    }
    if (lazy) {
      outcome.calls += buffer.calls();
      outcome.least += least.calls();
      outcome.unequal += buffer.calls() != least.calls();
    }
    buffer.Finish();
    if (buffer.broken().empty()) continue;
    if (++outcome.broken == 1) outcome.first = buffer.broken();
  }
  return outcome;
}

TEST_CASE("CoherencyState: 1,000,000 steps over cached memory, and no call more than the least") {
  const Outcome outcome = RandomSequences<CoherencyState>(1'000'000, Memory::kCached, false);
  CHECK_MESSAGE(outcome.broken == 0, outcome.first);
  CHECK(outcome.unequal == 0);
  CHECK(outcome.calls == outcome.least);
  CHECK(outcome.calls > 100'000);  // of so many steps: it is no empty test
}

TEST_CASE("CoherencyState: 100,000 steps with holders that are known, and no call more") {
  const Outcome outcome = RandomSequences<CoherencyState>(100'000, Memory::kKnownHolders, false);
  CHECK_MESSAGE(outcome.broken == 0, outcome.first);
  CHECK(outcome.unequal == 0);
  CHECK(outcome.calls == outcome.least);
}

TEST_CASE(
    "CoherencyState: 600,000 steps in which calls fail, memory is unknown, or others have it") {
  for (const Memory memory : {Memory::kCached, Memory::kUnknown, Memory::kPublished}) {
    const Outcome outcome = RandomSequences<CoherencyState>(200'000, memory, true);
    CHECK_MESSAGE(outcome.broken == 0, outcome.first);
  }
}

// ---- What the model must find: a state that is kept from doing one thing ----

constexpr auto kSink = [](Direction) { return Error(); };

// Cleans for nobody.
struct NeverCleans : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn, EndFn) {
    return CoherencyState::BeginDevice(use, kSink, kSink);
  }
};
// Cleans for devices that read alone.
struct LeavesDirty : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) {
    return use.direction == Direction::kWrite && use.caches == CacheUse::kPast
               ? CoherencyState::BeginDevice(use, kSink, kSink)
               : CoherencyState::BeginDevice(use, begin, end);
  }
};
// Takes what was begun once as begun for ever.
struct NeverStale : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn, class WaitFn>
  Error Open(Direction direction, BeginFn begin, EndFn end, WaitFn wait) {
    const auto writes = [&](Direction d) { return Reads(d) ? Error() : begin(d); };
    return CoherencyState::Open(direction, writes, end, wait);
  }
};
// Leaves out all that is for a coherent device.
struct TrustsSnoopers : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) {
    if (use.caches == CacheUse::kSnoops) return ++snoopers, Error();
    return CoherencyState::BeginDevice(use, begin, end);
  }
  template <class BeginFn, class EndFn>
  Error EndDevice(DeviceUse use, BeginFn begin, EndFn end) {
    if (use.caches == CacheUse::kSnoops) return --snoopers, Error();
    return CoherencyState::EndDevice(use, begin, end);
  }
  bool in_device() const { return snoopers != 0 || CoherencyState::in_device(); }
  int snoopers = 0;
};
// Takes the kernel's CPU for a device past the caches.
struct ForgetsKernelCpu : CoherencyState {
  using CoherencyState::CoherencyState;
  static DeviceUse As(DeviceUse use) {
    if (use.caches == CacheUse::kKernelCpu) use.caches = CacheUse::kPast;
    return use;
  }
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) {
    return CoherencyState::BeginDevice(As(use), begin, end);
  }
  template <class BeginFn, class EndFn>
  Error EndDevice(DeviceUse use, BeginFn begin, EndFn end) {
    return CoherencyState::EndDevice(As(use), begin, end);
  }
};
// Takes an end that failed for one that was sent.
struct Hopeful : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) {
    return CoherencyState::BeginDevice(
        use, begin, [&](Direction d) { return static_cast<void>(end(d)), Error(); });
  }
};
// Sends as it did before others had the descriptor.
struct StaysLazy : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error Publish(Holders, BeginFn begin, EndFn end) {
    return Flush(begin, end);
  }
};
// Ends each write at once.
struct Eager : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error Close(Direction direction, BeginFn begin, EndFn end) {
    const Error error = CoherencyState::Close(direction, begin, end);
    return error.ok() ? Flush(begin, end) : error;
  }
};

TEST_CASE("CoherencyState: the model finds each kind of call that is left out") {
  constexpr size_t kSteps = 20'000;
  CHECK(RandomSequences<NeverCleans>(kSteps, Memory::kCached, false).broken > 0);
  CHECK(RandomSequences<LeavesDirty>(kSteps, Memory::kCached, false).broken > 0);
  CHECK(RandomSequences<NeverStale>(kSteps, Memory::kCached, false).broken > 0);
  CHECK(RandomSequences<TrustsSnoopers>(kSteps, Memory::kCached, false).broken > 0);
  CHECK(RandomSequences<ForgetsKernelCpu>(kSteps, Memory::kCached, false).broken > 0);
  CHECK(RandomSequences<StaysLazy>(kSteps, Memory::kPublished, false).broken > 0);
}

TEST_CASE("CoherencyState: the model finds an end that failed and counts as sent") {
  constexpr size_t kSteps = 20'000;
  CHECK(RandomSequences<Hopeful>(kSteps, Memory::kCached, false).broken == 0);
  CHECK(RandomSequences<Hopeful>(kSteps, Memory::kCached, true).broken > 0);
}

TEST_CASE("CoherencyState: the model finds calls that are sent too early") {
  const Outcome outcome = RandomSequences<Eager>(20'000, Memory::kCached, false);
  CHECK(outcome.broken == 0);
  CHECK(outcome.calls > outcome.least);
}

// ---- What is sent, by name ----

// The calls as they were sent: "R", "W" or "RW" for a begin, the same after a slash for an end, and
// in brackets for a wait.
class Traced {
 public:
  explicit Traced(Known cached = true) : state(cached) {}

  std::string Open(Direction direction) {
    return Said(state.Open(direction, Note(""), Note("/"), [this](Direction d) {
      Add(std::string("(") + Name(d) + ")");
      return waits_fail ? Planted() : Error();
    }));
  }
  std::string Close(Direction direction) {
    return Said(state.Close(direction, Note(""), Note("/")));
  }
  std::string Scope(Direction direction) {
    std::string said = Open(direction);
    const std::string closed = Close(direction);
    return said.empty() || closed.empty() ? said + closed : said + " " + closed;
  }
  std::string Begin(DeviceUse use) { return Said(state.BeginDevice(use, Note(""), Note("/"))); }
  std::string End(DeviceUse use) { return Said(state.EndDevice(use, Note(""), Note("/"))); }
  std::string Use(DeviceUse use) {
    const std::string begun = Begin(use);
    return begun + End(use);
  }
  std::string Publish(Holders holders = Holders::kUnknown) {
    return Said(state.Publish(holders, Note(""), Note("/")));
  }
  std::string Flush() { return Said(state.Flush(Note(""), Note("/"))); }

  CoherencyState state;
  std::string fails;  // the call that fails, as it is named
  bool waits_fail = false;

 private:
  static const char* Name(Direction direction) {
    constexpr const char* kNames[] = {"", "R", "W", "RW"};
    return kNames[Bits(direction)];
  }
  static Error Planted() { return Error(EIO, "planted", {"model", Operation::kBeginAccess}); }
  std::function<Error(Direction)> Note(const std::string& before) {
    return [this, before](Direction direction) {
      Add(before + Name(direction));
      return before + Name(direction) == fails ? Planted() : Error();
    };
  }
  void Add(const std::string& call) { said_ += (said_.empty() ? "" : " ") + call; }
  std::string Said(const Error& error) {
    if (!error.ok()) said_ += "!";
    return std::exchange(said_, {});
  }

  std::string said_;
};

constexpr auto kR = Direction::kRead, kW = Direction::kWrite, kRW = Direction::kReadWrite;
constexpr DeviceUse kCamera{kW, CacheUse::kPast}, kDisplay{kR, CacheUse::kPast};
constexpr DeviceUse kGpu{kRW, CacheUse::kSnoops}, kUvc{kW, CacheUse::kKernelCpu};

TEST_CASE("CoherencyState: what the CPU wrote is cleaned when a device begins, and once") {
  Traced t;
  CHECK(t.Scope(kW) == "W");
  CHECK(t.Scope(kW) == "(W)");
  CHECK(t.Use(kDisplay) == "/W");
  CHECK(t.Use(kDisplay) == "");
  CHECK(t.Use(kCamera) == "");
}

TEST_CASE("CoherencyState: the CPU begins to read what a device has written since, and once") {
  Traced t;
  CHECK(t.Use(kCamera) == "");
  CHECK(t.Scope(kR) == "R");
  CHECK(t.Scope(kR) == "(R)");
  CHECK(t.Use(kDisplay) == "");
  CHECK(t.Scope(kR) == "(R)");
  CHECK(t.Use(kCamera) == "/R");
  CHECK(t.Scope(kRW) == "RW");
  CHECK(t.Use(kDisplay) == "/RW");
}

TEST_CASE("CoherencyState: a device that wrote after a begin is read with another one") {
  Traced t;
  CHECK(t.Begin(kCamera) == "");
  CHECK(t.Scope(kR) == "R");  // it may still write
  CHECK(t.End(kCamera) == "");
  CHECK(t.Scope(kR) == "/R R");
}

TEST_CASE("CoherencyState: an open scope covers others, which are waited for") {
  Traced t;
  CHECK(t.Open(kRW) == "RW");
  CHECK(t.Scope(kR) == "(R)");
  CHECK(t.Scope(kRW) == "(RW)");
  CHECK(t.Close(kRW) == "");
  CHECK(t.Begin(kDisplay) == "/RW");
}

TEST_CASE("CoherencyState: a read in an open write cleans before it throws away") {
  Traced t;
  CHECK(t.Open(kW) == "W");
  CHECK(t.state.MayBegin(kR) == kRW);
  CHECK(t.Open(kR) == "/W RW");
  CHECK(t.Close(kR) == "");
  CHECK(t.Close(kW) == "");
  CHECK(t.state.MayBegin(kR) == kR);
  CHECK(t.Begin(kDisplay) == "/RW");
}

TEST_CASE("CoherencyState: a device that begins in an open write sees what was written before") {
  Traced t;
  CHECK(t.Open(kW) == "W");
  CHECK(t.Begin(kDisplay) == "/W");
  CHECK(t.Close(kW) == "W /W");  // and what was written since
  CHECK(t.End(kDisplay) == "");
  CHECK(t.Use(kDisplay) == "");
}

TEST_CASE("CoherencyState: uncached memory is waited for, and told of nothing") {
  Traced t(false);
  for (const Direction direction : kDirections) {
    CHECK(t.state.MustWait(direction));
    CHECK(t.Scope(direction).starts_with("("));
    for (const DeviceUse use : kDevices) CHECK(t.Use(use) == "");
  }
  CHECK(t.Publish() == "");
  CHECK(t.Scope(kRW) == "(RW)");
  CHECK(t.state.counts().begins == 0);
  CHECK(t.state.counts().elided_begins == 4);
  CHECK(t.state.counts().elided_ends == 4);
}

TEST_CASE(
    "CoherencyState: nothing is sent between the CPU, coherent devices and the kernel's CPU") {
  Traced t;
  CHECK(t.Scope(kRW) == "RW");  // of the time before nothing is known
  for (int i = 0; i < 3; ++i) {
    CHECK(t.Use(kGpu) == "");
    CHECK(t.Use(kUvc) == "");
    CHECK(t.Scope(kRW) == "(RW)");
  }
}

TEST_CASE("CoherencyState: users of the caches and devices past them are kept in step") {
  Traced t;
  CHECK(t.Use(kUvc) == "");
  CHECK(t.Use(kDisplay) == "W /W");
  CHECK(t.Use(kCamera) == "");
  CHECK(t.Use(kGpu) == "R");
  CHECK(t.Use(kCamera) == "W /RW");
}

TEST_CASE("CoherencyState: memory of unknown caching is told of each use at once") {
  Traced t{Known()};
  CHECK(t.Scope(kW) == "W /W");
  CHECK(t.Scope(kR) == "R /R");
  CHECK(t.Scope(kR) == "R /R");
  CHECK(t.Open(kRW) == "RW");
  CHECK(t.Scope(kR) == "(R)");
  CHECK(t.Close(kRW) == "/RW");
  CHECK(t.Use(kDisplay) == "");
  CHECK(t.Begin(kGpu) == "R /R");
  CHECK(t.End(kGpu) == "W /W");
}

TEST_CASE("CoherencyState: with its descriptor, what is due goes out, and all else at once") {
  Traced t;
  CHECK(t.Scope(kRW) == "RW");
  CHECK(t.Publish() == "/RW");
  CHECK(t.Publish() == "");
  CHECK(t.Scope(kR) == "R /R");
  CHECK(t.Scope(kW) == "W /W");
  CHECK(t.Use(kUvc) == "W /W");

  Traced known;
  CHECK(known.Publish(Holders::kKnown) == "");
  CHECK(known.Scope(kRW) == "RW");
  CHECK(known.Scope(kRW) == "(RW)");
  CHECK(known.Publish() == "/RW");
  CHECK(known.Publish(Holders::kKnown) == "");
  CHECK(known.Scope(kR) == "R /R");

  Traced open;
  CHECK(open.Open(kW) == "W");
  CHECK(open.Publish() == "");
  CHECK(open.Close(kW) == "/W");
}

TEST_CASE("CoherencyState: a wait that fails leaves all as it was") {
  Traced t;
  CHECK(t.Scope(kRW) == "RW");
  t.waits_fail = true;
  CHECK(t.Open(kRW) == "(RW)!");
  CHECK_FALSE(t.state.open());
  CHECK(t.Use(kCamera) == "/RW");
  CHECK(t.Scope(kR) == "R");  // a begin waits by itself
}

TEST_CASE("CoherencyState: a begin that fails is due again") {
  Traced t;
  t.fails = "R";
  CHECK(t.Open(kR) == "R!");
  CHECK_FALSE(t.state.open());
  t.fails = "";
  CHECK(t.Scope(kR) == "R");

  Traced nested;
  CHECK(nested.Open(kW) == "W");
  nested.fails = "RW";
  CHECK(nested.Open(kR) == "/W RW!");
  nested.fails = "";
  CHECK(nested.Close(kW) == "");
  CHECK(nested.Begin(kDisplay) == "W /W");
}

TEST_CASE("CoherencyState: an end that fails is not sent twice, and its bytes are not lost") {
  Traced t;
  CHECK(t.Scope(kW) == "W");
  t.fails = "/W";
  CHECK(t.Begin(kDisplay) == "/W!");
  CHECK_FALSE(t.state.in_device());
  CHECK(t.Begin(kDisplay) == "W /W!");
  CHECK(t.Open(kR) == "W /W!");
  CHECK(t.Publish() == "W /W!");
  t.fails = "W";
  CHECK(t.Flush() == "W!");
  t.fails = "";
  CHECK(t.Flush() == "W /W");
  CHECK(t.Begin(kDisplay) == "");

  // Nor by an end for reading alone.
  Traced reader{Known()};
  CHECK(reader.Open(kRW) == "RW");
  CHECK(reader.Open(kR) == "(R)");
  reader.fails = "/W";
  CHECK(reader.Close(kRW) == "/W!");
  reader.fails = "W";
  CHECK(reader.Close(kR) == "W!");
  reader.fails = "";
  CHECK(reader.Scope(kR) == "W /RW R /R");

  Traced at_once{Known()};
  at_once.fails = "/W";
  CHECK(at_once.Scope(kW) == "W /W!");
  CHECK_FALSE(at_once.state.open());
  at_once.fails = "";
  CHECK(at_once.Begin(kDisplay) == "W /W");
}

TEST_CASE("CoherencyState: it counts what it sends, and the scopes for which it did not") {
  Traced t;
  for (int i = 0; i < 4; ++i) (void)t.Scope(kRW);
  CHECK(t.state.counts().begins == 1);
  CHECK(t.state.counts().elided_begins == 3);
  CHECK(t.state.counts().ends == 0);
  CHECK(t.state.counts().elided_ends == 3);  // one is due
  (void)t.Use(kDisplay);
  CHECK(t.state.counts().ends == 1);
  CHECK(t.state.counts().elided_ends == 3);

  Traced nested{Known()};
  (void)nested.Open(kRW);
  (void)nested.Scope(kR);
  (void)nested.Close(kRW);
  CHECK(nested.state.counts().begins == 1);
  CHECK(nested.state.counts().elided_begins == 1);
  CHECK(nested.state.counts().ends == 1);
  CHECK(nested.state.counts().elided_ends == 1);
}

// A CpuSync, in words.
std::string Told(CpuSync& sync, Direction direction, bool open) {
  std::string said;
  const auto note = [&](const char* before) {
    return [&said, before](Direction d) {
      constexpr const char* kNames[] = {"", "R", "W", "RW"};
      said += (said.empty() ? "" : " ") + std::string(before) + kNames[Bits(d)];
      return Error();
    };
  };
  const Error error =
      open ? sync.Open(direction, note(""), note("/")) : sync.Close(direction, note(""), note("/"));
  CHECK(error.ok());
  return said;
}

TEST_CASE("CoherencyState: at once it sends what CpuSync sends, in 20,000 steps of the CPU") {
  Draw draw;
  for (int sequence = 0; sequence < 500; ++sequence) {
    Traced t{Known()};
    CpuSync sync;
    std::vector<Direction> scopes;
    for (int step = 0; step < 40; ++step) {
      if (!scopes.empty() && (scopes.size() == 6 || draw.Below(2) == 0)) {
        const size_t which = draw.Below(scopes.size());
        const Direction direction = scopes[which];
        scopes.erase(scopes.begin() + static_cast<ptrdiff_t>(which));
        REQUIRE(t.Close(direction) == Told(sync, direction, false));
        continue;
      }
      const Direction direction = kDirections[draw.Below(3)];
      scopes.push_back(direction);
      const std::string said = t.Open(direction), told = Told(sync, direction, true);
      REQUIRE((told.empty() ? said.starts_with("(") : said == told));
    }
  }
}

// ---- A loop of frames ----

// A camera writes each of 300 frames into the buffer, the CPU draws on it, a display shows it.
template <class State>
SyncCounts Frames(std::initializer_list<Direction> scopes) {
  Buffer<State> buffer(true, [] { return false; });
  for (int frame = 0; frame < 300; ++frame) {
    buffer.BeginDevice(kCamera);
    buffer.EndDevice(0);
    for (const Direction scope : scopes) {
      buffer.Open(scope);
      buffer.Close(0);
    }
    buffer.BeginDevice(kDisplay);
    buffer.EndDevice(0);
  }
  CHECK(buffer.broken() == "");
  return buffer.state().counts();
}

TEST_CASE("CoherencyState: camera, CPU, display: 300 frames take the least number of flushes") {
  // In each frame: the cache may have old lines of what the camera wrote, so one call has to throw
  // them away between the camera's write and the CPU's first read; and it has lines that memory
  // lacks, so one call has to clean between the CPU's last write and the display. They are two, as
  // the first is before the CPU's use and the second after it. 300 * 2.
  const SyncCounts drawn = Frames<CoherencyState>({kRW});
  CHECK(drawn.begins == 300);
  CHECK(drawn.ends == 300);
  CHECK(drawn.elided_begins + drawn.elided_ends == 0);

  // Statistics first: the scope that draws reads nothing that was written since they were taken,
  // and has a begin for its end. 300 * (2 + 1) calls, where each scope's own would be 300 * 6.
  const SyncCounts measured = Frames<CoherencyState>({kR, kR, kRW});
  CHECK(measured.begins == 600);
  CHECK(measured.ends == 300);
  CHECK(measured.elided_begins == 300);
  CHECK(measured.elided_ends == 600);

  // Where the CPU only looks, there is nothing to clean: one begin for each frame, and the end that
  // belongs to it before the camera writes again, which after the last frame it does not.
  const SyncCounts seen = Frames<CoherencyState>({kR});
  CHECK(seen.begins == 300);
  CHECK(seen.ends == 299);
}

// Sends one end more than the least, and one fewer.
struct OneMore : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error Close(Direction direction, BeginFn begin, EndFn end) {
    const Error error = CoherencyState::Close(direction, begin, end);
    return ++closes == 7 ? Flush(begin, end) : error;
  }
  int closes = 0;
};
struct OneFewer : CoherencyState {
  using CoherencyState::CoherencyState;
  template <class BeginFn, class EndFn>
  Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) {
    if (++devices == 8) return CoherencyState::BeginDevice(use, kSink, kSink);
    return CoherencyState::BeginDevice(use, begin, end);
  }
  int devices = 0;
};

TEST_CASE("CoherencyState: one flush more, or one fewer, is found") {
  CHECK(Frames<CoherencyState>({kR, kRW}).ends == 300);
  CHECK(Frames<OneMore>({kR, kRW}).ends == 301);
  Buffer<OneFewer> buffer(true, [] { return false; });
  for (int frame = 0; frame < 4; ++frame) {
    buffer.BeginDevice(kCamera);
    buffer.EndDevice(0);
    buffer.Open(kRW);
    buffer.Close(0);
    CHECK(buffer.broken() == "");
    buffer.BeginDevice(kDisplay);
    buffer.EndDevice(0);
  }
  CHECK(buffer.broken() != "");
}

// It needs no run time.
constexpr uint64_t SentInAFrame() {
  const auto call = [](Direction) { return Error(); };
  CoherencyState state{Known(true)};
  bool ok =
      state.BeginDevice(kCamera, call, call).ok() && state.EndDevice(kCamera, call, call).ok();
  ok = ok && state.Open(kRW, call, call, call).ok() && state.Close(kRW, call, call).ok();
  ok = ok && state.BeginDevice(kDisplay, call, call).ok();
  return ok ? state.counts().begins + state.counts().ends : 0;
}
static_assert(SentInAFrame() == 2);

}  // namespace
