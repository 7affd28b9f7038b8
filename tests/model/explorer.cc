// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors

#include "tests/model/explorer.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>

namespace ion::model {
namespace {

// Steps in a row without a choice, or accesses in one step, after which a thread is said to go
// round in a circle.
constexpr uint32_t kMaxStepsAlone = 100000;

bool Acquires(std::memory_order order) {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
bool Releases(std::memory_order order) {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

uint64_t ReadWord(const void* at, uint32_t bytes) {
  uint64_t word = 0;
  std::memcpy(&word, at, bytes);
  return word;
}

}  // namespace

// --- fibers --------------------------------------------------------------------------------------

uint32_t Explorer::AddFiber(std::function<void()> body, uint32_t processor) {
  auto fiber = std::make_unique<Fiber>();
  const auto index = static_cast<uint32_t>(fibers_.size());
  fiber->index = index;
  fiber->processor = processor;
  fiber->body = std::move(body);
  fiber->stack = std::make_unique<std::byte[]>(kStackBytes);
  fibers_.push_back(std::move(fiber));
  return index;
}

// makecontext hands over ints only.
void Explorer::Body(uint32_t low, uint32_t high) {
  auto* fiber = reinterpret_cast<Fiber*>(uintptr_t{high} << 32 | low);
  fiber->body();
  fiber->done = true;
  running->SwitchToSearch();
}

void Explorer::Yield(Intent intent) {
  current_->intent = intent;
  SwitchToSearch();
}

void Explorer::Resume(Fiber& fiber) {
  on_switch_(fiber.index);
  current_ = &fiber;
  fiber.started = true;
  accesses_ = 0;
  if (fiber.intent.kind != Kind::kChoice) buffer().settled = buffer().count;
  std::memset(StackPointer(fiber.context) - kScratchBytes, 0, kScratchBytes);
  swapcontext(&search_, &fiber.context);
  current_ = nullptr;
  fiber.hash = HashFiber(fiber);
}

std::byte* Explorer::StackPointer(const ucontext_t& context) {
#if defined(__x86_64__)
  return reinterpret_cast<std::byte*>(context.uc_mcontext.gregs[REG_RSP]);
#elif defined(__aarch64__)
  return reinterpret_cast<std::byte*>(context.uc_mcontext.sp);
#else
#error "say where a context has its stack pointer, and which registers a call keeps"
#endif
}

uint64_t Explorer::HashRegisters(const ucontext_t& context) {
  uint64_t hash = 0;
#if defined(__x86_64__)
  for (int r : {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15, REG_RSP, REG_RIP}) {
    hash = Mix(hash, static_cast<uint64_t>(context.uc_mcontext.gregs[r]));
  }
#elif defined(__aarch64__)
  for (int r = 19; r <= 30; ++r) hash = Mix(hash, context.uc_mcontext.regs[r]);
  hash = Mix(Mix(hash, context.uc_mcontext.sp), context.uc_mcontext.pc);
#endif
  return hash;
}

uint64_t Explorer::MixBytes(uint64_t hash, const std::byte* at, size_t bytes) {
  for (; bytes >= 8; at += 8, bytes -= 8) hash = Mix(hash, ReadWord(at, 8));
  return bytes == 0 ? hash : Mix(hash, ReadWord(at, static_cast<uint32_t>(bytes)));
}

uint64_t Explorer::HashFiber(const Fiber& fiber) {
  if (fiber.done) return 1;
  uint64_t hash = HashRegisters(fiber.context);
  hash = Mix(hash, static_cast<uint64_t>(fiber.intent.kind) << 32 | fiber.intent.place);
  hash = Mix(hash, uint64_t{fiber.intent.choices} << 32 | fiber.intent.choice_mask);
  const std::byte* live = StackPointer(fiber.context);
  return MixBytes(hash, live, static_cast<size_t>(fiber.stack.get() + kStackBytes - live));
}

// --- what a fiber calls --------------------------------------------------------------------------

void Explorer::Touch(uint32_t object) {
  if (current_ == nullptr) return;
  const auto bit = static_cast<uint8_t>(1 << object);
  if ((known() & bit) == 0) {
    Fail("object " + std::to_string(object) +
         " is used, and what its last owner wrote did not happen before");
  }
  const auto others = static_cast<uint8_t>(~bit);
  for (uint8_t& objects : live_.known) objects &= others;
  for (uint8_t& objects : live_.published) objects &= others;
  for (Buffer& buffer : live_.buffers) {
    for (Pending& store : buffer.stores) store.known &= others;
  }
  known() |= bit;
}

void Explorer::Fail(std::string violation) {
  if (violation_.empty()) violation_ = std::move(violation);
  if (current_ != nullptr) SwitchToSearch();
}

void Explorer::Membarrier() {
  Yield({.kind = Kind::kRmw});
  uint32_t rest = 0;
  for (const auto& fiber : fibers_) rest |= uint32_t{1} << fiber->processor;
  rest &= ~(uint32_t{1} << current_->processor);
  while (rest != 0) {
    Yield({.kind = Kind::kBarrier, .choices = kMaxFibers, .choice_mask = rest});
    if (logging_) Log("membarrier reaches processor " + std::to_string(chosen_));
    const uint32_t processor = chosen_;
    while (live_.buffers[processor].settled > 0) FlushOldest(processor);
    rest &= ~(uint32_t{1} << processor);
  }
}

uint64_t Explorer::Load(const void* at, uint32_t bytes, std::memory_order order) {
  const uint32_t place = PlaceOf(at);
  const bool matters = Matters(place, true, false);
  if (interruptible()) {
    Yield({.kind = Kind::kLocal, .place = place});
  } else if (matters) {
    Yield({.kind = Kind::kLoad, .place = place});
  }
  const Pending* store = nullptr;  // the last of its own that is not visible yet
  for (uint32_t i = 0; i < buffer().count; ++i) {
    if (buffer().stores[i].place == place) store = &buffer().stores[i];
  }
  const uint64_t value = store != nullptr ? store->value : ReadWord(at, bytes);
  if (store == nullptr && Acquires(order)) {
    known() |= live_.published[place];
  }
  LogAccess("reads", place, value);
  return value;
}

void Explorer::Store(void* at, uint32_t bytes, uint64_t value, std::memory_order order) {
  const uint32_t place = PlaceOf(at);
  const bool matters = Matters(place, false, true);
  const bool at_once = order == std::memory_order_seq_cst || !matters;
  if (matters && order == std::memory_order_seq_cst) {
    Yield({.kind = Kind::kRmw, .place = place});
  } else if (!at_once && (interruptible() || buffer().count == kBuffered)) {
    Yield({.kind = Kind::kStore, .place = place});
  } else if (interruptible()) {
    Yield({.kind = Kind::kLocal, .place = place});
  }
  const uint8_t published = Releases(order) ? known() : uint8_t{0};
  LogAccess(at_once ? "writes" : "stores in its buffer", place, value);
  if (at_once) {
    std::memcpy(at, &value, bytes);
    live_.published[place] = published;
    return;
  }
  Buffer& mine = buffer();
  mine.stores[mine.count++] = {value, static_cast<uint16_t>(place), static_cast<uint8_t>(bytes),
                               published};
}

void Explorer::BeforeRmw(void* at) {
  const uint32_t place = PlaceOf(at);
  if (Matters(place, true, true)) {
    Yield({.kind = Kind::kRmw, .place = place});
  } else if (interruptible()) {
    Yield({.kind = Kind::kLocal, .place = place});
  }
}

void Explorer::AfterRmw(void* at, bool written, std::memory_order order) {
  const uint32_t place = PlaceOf(at);
  if (Acquires(order)) known() |= live_.published[place];
  // One that does not release goes on with the release sequence that it found.
  if (written && Releases(order)) live_.published[place] |= known();
  LogAccess(written ? "modifies" : "fails to modify", place, ReadWord(at, 4));
}

void Explorer::FlushOldest(uint32_t processor) {
  Buffer& from = live_.buffers[processor];
  const Pending store = from.stores[0];
  std::memcpy(places_[store.place].at, &store.value, store.bytes);
  live_.published[store.place] = store.known;
  std::move(from.stores.begin() + 1, from.stores.begin() + from.count, from.stores.begin());
  from.stores[--from.count] = {};
  if (from.settled > 0) --from.settled;
  if (logging_) Log("processor " + std::to_string(processor) + ": its oldest store is visible");
}

// --- places --------------------------------------------------------------------------------------

uint32_t Explorer::PlaceOf(const void* at) {
  if (++accesses_ > kMaxStepsAlone) Fail("a thread goes round in a circle");
  const auto [found, is_new] = place_of_.try_emplace(at, static_cast<uint32_t>(places_.size()));
  if (is_new) {
    const bool shared = std::any_of(regions_.begin(), regions_.end(), [at](const Region& region) {
      const auto* byte = static_cast<const std::byte*>(at);
      return byte >= region.at && byte < region.at + region.bytes;
    });
    if (!shared || places_.size() == kMaxPlaces) {
      std::fputs(
          "explorer: an atomic lies in no memory that Share() named, or there are too many\n",
          stderr);
      std::abort();
    }
    places_.push_back({static_cast<std::byte*>(const_cast<void*>(at))});
  }
  return found->second;
}

bool Explorer::Matters(uint32_t index, bool read, bool write) {
  Place& place = places_[index];
  const uint32_t bit = uint32_t{1} << current_->index;
  const Place before = place;
  if (read) place.readers |= bit;
  if (write) place.writers |= bit;
  for (uint32_t fiber = 0; fiber < fibers_.size(); ++fiber) {
    const uint32_t other = uint32_t{1} << fiber;
    const bool load_changed =
        (before.readers & other) != 0 && LoadMatters(before, other) != LoadMatters(place, other);
    const bool store_changed =
        (before.writers & other) != 0 && StoreMatters(before, other) != StoreMatters(place, other);
    learned_ = learned_ || load_changed || store_changed;
  }
  if (!reduced_) return true;
  return write ? StoreMatters(place, bit) : LoadMatters(place, bit);
}

void Explorer::Log(const std::string& words) {
  const std::string who =
      current_ == nullptr ? "" : "thread " + std::to_string(current_->index) + ": ";
  log_.push_back(who + words);
}

void Explorer::LogAccess(const char* what, uint32_t place, uint64_t value) {
  if (!logging_) return;
  for (const Region& region : regions_) {
    const std::byte* at = places_[place].at;
    if (at < region.at || at >= region.at + region.bytes) continue;
    char words[160];
    std::snprintf(words, sizeof(words), "%s %s+%zu: %#llx", what, region.name.c_str(),
                  static_cast<size_t>(at - region.at), static_cast<unsigned long long>(value));
    Log(words);
  }
}

// --- the search ----------------------------------------------------------------------------------

bool Explorer::Enabled(const Fiber& fiber) const {
  if (fiber.done) return false;
  if (fiber.handler >= 0) {
    const Fiber& handler = *fibers_[static_cast<size_t>(fiber.handler)];
    if (handler.started && !handler.done) return false;
  }
  const uint32_t buffered = live_.buffers[fiber.processor].count;
  switch (fiber.intent.kind) {
    case Kind::kRmw:
      return buffered == 0;
    case Kind::kStore:
      return buffered < kBuffered;
    default:
      return true;
  }
}

void Explorer::ListTransitions(std::vector<Transition>* list) const {
  list->clear();
  const auto add = [list](const Fiber& fiber) {
    for (uint32_t choice = 0; choice < fiber.intent.choices; ++choice) {
      if ((fiber.intent.choice_mask >> choice & 1) == 0) continue;
      list->push_back({static_cast<uint8_t>(fiber.index), static_cast<uint8_t>(choice)});
    }
  };
  for (const auto& fiber : fibers_) {
    if (Commutes(*fiber) && Enabled(*fiber)) return add(*fiber);
  }
  for (const auto& fiber : fibers_) {
    if (Enabled(*fiber)) add(*fiber);
  }
  const uint32_t flushes = FlushesThatMatter(list->empty());
  for (uint32_t processor = 0; processor < kMaxFibers; ++processor) {
    if ((flushes >> processor & 1) == 0) continue;
    list->push_back({static_cast<uint8_t>(kMaxFibers + processor), 0});
  }
}

// What a thread decides by itself, and an access to what nobody who still runs will touch. A
// handler may come before the next access, so it needs no point here.
bool Explorer::Commutes(const Fiber& fiber) const {
  if (fiber.intent.kind == Kind::kChoice) return true;
  if (fiber.intent.kind != Kind::kLoad && fiber.intent.kind != Kind::kRmw) return false;
  if (fiber.intent.place == kNone || !reduced_) return false;
  const Place& place = places_[fiber.intent.place];
  const uint32_t others =
      fiber.intent.kind == Kind::kLoad ? place.writers : place.readers | place.writers;
  for (const auto& other : fibers_) {
    if (other->index == fiber.index) continue;
    if (!other->done && (others >> other->index & 1) != 0) return false;
    if (Buffers(other->processor, fiber.intent.place)) return false;
  }
  return true;
}

bool Explorer::Buffers(uint32_t processor, uint32_t place) const {
  const Buffer& buffer = live_.buffers[processor];
  return std::any_of(buffer.stores.begin(), buffer.stores.begin() + buffer.count,
                     [place](const Pending& store) { return store.place == place; });
}

// That a store becomes visible commutes with all but accesses to the same place and what waits for
// the buffer: it may be put off until one of these comes next.
uint32_t Explorer::FlushesThatMatter(bool nothing_else) const {
  uint32_t matter = 0;
  const auto mark = [&](uint32_t processor) {
    const uint32_t bit = uint32_t{1} << processor;
    if ((matter & bit) != 0 || live_.buffers[processor].count == 0) return false;
    matter |= bit;
    return true;
  };
  // Of all processors but `except`.
  const auto mark_place = [&](uint32_t place, uint32_t except) {
    bool marked = false;
    for (uint32_t processor = 0; processor < kMaxFibers; ++processor) {
      if (processor != except && Buffers(processor, place)) marked = mark(processor) || marked;
    }
    return marked;
  };
  const auto mark_stores_of = [&](uint32_t processor) {
    bool marked = false;
    const Buffer& buffer = live_.buffers[processor];
    for (uint32_t i = 0; i < buffer.count; ++i) {
      marked = mark_place(buffer.stores[i].place, processor) || marked;
    }
    return marked;
  };
  for (const auto& fiber : fibers_) {
    if (fiber->done) continue;
    if (fiber->intent.place != kNone) mark_place(fiber->intent.place, fiber->processor);
    if (fiber->intent.kind == Kind::kRmw || fiber->intent.kind == Kind::kStore) {
      mark(fiber->processor);
    }
    if (fiber->intent.kind != Kind::kBarrier) continue;
    for (uint32_t processor = 0; processor < kMaxFibers; ++processor) {
      if ((fiber->intent.choice_mask >> processor & 1) != 0) mark_stores_of(processor);
    }
  }
  if (nothing_else || !reduced_) {
    for (uint32_t processor = 0; processor < kMaxFibers; ++processor) mark(processor);
  }
  for (bool more = true; more;) {
    more = false;
    for (uint32_t processor = 0; processor < kMaxFibers; ++processor) {
      if ((matter >> processor & 1) != 0) more = mark_stores_of(processor) || more;
    }
  }
  return matter;
}

void Explorer::Execute(Transition transition) {
  path_.push_back(transition);
  if (transition.fiber >= kMaxFibers) return FlushOldest(transition.fiber - kMaxFibers);
  chosen_ = transition.choice;
  Resume(*fibers_[transition.fiber]);
}

void Explorer::CheckEnd() {
  const bool ended =
      std::all_of(fibers_.begin(), fibers_.end(), [](const auto& fiber) { return fiber->done; });
  if (!ended) return Fail("no thread can go on");
  at_end_();
}

bool Explorer::Advance(Verdict* verdict, std::vector<Frame>* frames, size_t* depth) {
  if (*depth == frames->size()) frames->emplace_back();
  Frame& frame = (*frames)[*depth];
  ListTransitions(&frame.todo);
  for (uint32_t steps = 0; frame.todo.size() == 1; ++steps) {
    if (steps == kMaxStepsAlone) Fail("a thread goes round in a circle");
    if (!violation_.empty() || learned_) return false;
    Execute(frame.todo[0]);
    ++verdict->transitions;
    ListTransitions(&frame.todo);
  }
  if (!violation_.empty() || learned_) return false;
  if (!seen_.Insert(HashState())) return true;
  if (frame.todo.empty()) {
    ++verdict->ends;
    CheckEnd();
    return violation_.empty();
  }
  frame.next = 0;
  frame.path = path_.size();
  Save(&frame.snapshot);
  ++*depth;
  return true;
}

bool Explorer::Search(Verdict* verdict) {
  std::vector<Frame> frames;
  size_t depth = 0;
  learned_ = false;
  violation_.clear();
  path_.clear();
  seen_.Clear();
  *verdict = {};
  Restore(initial_);
  // Up to the first point of each.
  for (const auto& fiber : fibers_) {
    if (fiber->interrupts < 0) Execute({static_cast<uint8_t>(fiber->index), 0});
  }
  while (Advance(verdict, &frames, &depth)) {
    while (depth > 0 && frames[depth - 1].next == frames[depth - 1].todo.size()) --depth;
    if (depth == 0) break;
    Frame& frame = frames[depth - 1];
    if (frame.next > 0) Restore(frame.snapshot);
    path_.resize(frame.path);
    Execute(frame.todo[frame.next++]);
    ++verdict->transitions;
  }
  verdict->states = seen_.count();
  verdict->violation = violation_;
  return !learned_;
}

std::vector<std::string> Explorer::TraceOf(const std::vector<Transition>& path) {
  log_.clear();
  logging_ = true;
  path_.clear();
  Restore(initial_);
  for (Transition transition : path) Execute(transition);
  logging_ = false;
  return std::move(log_);
}

Verdict Explorer::Explore() {
  running = this;
  live_.known.fill(0xFF);
  for (auto& fiber : fibers_) {
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = kStackBytes;
    fiber->context.uc_link = nullptr;
    const auto address = reinterpret_cast<uintptr_t>(fiber.get());
    makecontext(&fiber->context, reinterpret_cast<void (*)()>(&Body), 2,
                static_cast<uint32_t>(address), static_cast<uint32_t>(address >> 32));
    fiber->hash = HashFiber(*fiber);
  }
  Save(&initial_);
  Verdict verdict;
  while (!Search(&verdict)) {
  }
  if (!verdict.violation.empty()) {
    const std::vector<Transition> path = path_;
    verdict.trace = TraceOf(path);
  }
  Restore(initial_);
  running = nullptr;
  return verdict;
}

uint64_t Explorer::HashState() const {
  uint64_t hash = fibers_.size();
  for (const auto& fiber : fibers_) {
    hash = Mix(hash, fiber->hash + (fiber->started ? 2 : 0) + (fiber->done ? 1 : 0));
  }
  for (const Region& region : regions_) hash = MixBytes(hash, region.at, region.bytes);
  for (const Buffer& buffer : live_.buffers) {
    hash = Mix(hash, uint64_t{buffer.settled} << 32 | buffer.count);
    for (uint32_t i = 0; i < buffer.count; ++i) {
      const Pending& store = buffer.stores[i];
      hash = Mix(Mix(hash, store.value), uint64_t{store.place} << 8 | store.known);
    }
  }
  hash = MixBytes(hash, reinterpret_cast<const std::byte*>(live_.known.data()), kMaxFibers);
  return MixBytes(hash, reinterpret_cast<const std::byte*>(live_.published.data()), places_.size());
}

namespace {

void Append(std::vector<std::byte>* out, const void* at, size_t bytes) {
  const auto* first = static_cast<const std::byte*>(at);
  out->insert(out->end(), first, first + bytes);
}
const std::byte* Take(const std::byte* in, void* at, size_t bytes) {
  std::memcpy(at, in, bytes);
  return in + bytes;
}

}  // namespace

void Explorer::Save(std::vector<std::byte>* out) const {
  out->clear();
  for (const Region& region : regions_) Append(out, region.at, region.bytes);
  Append(out, &live_, sizeof(live_));
  for (const auto& fiber : fibers_) {
    Append(out, &fiber->context, sizeof(fiber->context));
    Append(out, &fiber->intent, sizeof(fiber->intent));
    Append(out, &fiber->started, sizeof(fiber->started));
    Append(out, &fiber->done, sizeof(fiber->done));
    Append(out, &fiber->hash, sizeof(fiber->hash));
    const std::byte* live = StackPointer(fiber->context);
    Append(out, live, static_cast<size_t>(fiber->stack.get() + kStackBytes - live));
  }
}

void Explorer::Restore(const std::vector<std::byte>& from) {
  const std::byte* in = from.data();
  for (const Region& region : regions_) in = Take(in, region.at, region.bytes);
  in = Take(in, &live_, sizeof(live_));
  for (const auto& fiber : fibers_) {
    in = Take(in, &fiber->context, sizeof(fiber->context));
    in = Take(in, &fiber->intent, sizeof(fiber->intent));
    in = Take(in, &fiber->started, sizeof(fiber->started));
    in = Take(in, &fiber->done, sizeof(fiber->done));
    in = Take(in, &fiber->hash, sizeof(fiber->hash));
    std::byte* live = StackPointer(fiber->context);
    in = Take(in, live, static_cast<size_t>(fiber->stack.get() + kStackBytes - live));
  }
}

}  // namespace ion::model
