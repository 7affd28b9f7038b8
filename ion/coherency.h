// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/coherency.h
//
// CoherencyState decides which begins and ends of CPU access the kernel is told of when the CPU and
// devices use a buffer in turn. It knows who used the buffer last, so it sends no more than the
// caches need; ion/cpu_sync.h, which knows scopes of the CPU alone, tells of each.
//
// Users are of two kinds. The CPU, the kernel's CPU and a device that snoops go through the caches;
// a device that is not coherent goes past them. Between users of one kind nothing is sent. So:
//   - an end for writing (it cleans the caches) is sent when a device past the caches begins, if a
//     user of the caches has written since the last one; not at the end of the writer's scope;
//   - a begin for reading (it throws away what the caches have) is sent when a user of the caches
//     begins to read, if a device past them may have written since the last one. Nothing is known
//     of the time before the first use, so the first reader sends one;
//   - the same end is sent before the kernel ends the import of such a device, or makes one to ask
//     it, because that may throw away what the caches have (Clean);
//   - a begin for writing is sent with the first scope that writes, because an end needs one;
//   - an end for reading is sent when a device past the caches begins to write, or with an end for
//     writing. Between one begin for reading and the next there is always its end.
// Uncached memory is told of nothing. Memory of unknown caching, and memory whose descriptor others
// have (Publish), is told of each use at once: each scope that no open one covers, and each use by
// a device that goes through the caches.
//
// If no begin is sent, the kernel does not wait for the fences of devices, so the caller's `wait`
// is called: to leave out maintenance never leaves out waiting.
//
// Example:
//   constexpr ion::DeviceUse kCamera{ion::Direction::kWrite, ion::CacheUse::kPast};
//   ion::CoherencyState state(buffer.properties().cached);
//   error = state.BeginDevice(kCamera, begin, end);  // before QBUF
//   error = state.EndDevice(kCamera, begin, end);    // after DQBUF
//   error = state.Open(ion::Direction::kRead, begin, end, wait);
//   error = state.Close(ion::Direction::kRead, begin, end);
//
// `begin` and `end` take a Direction, tell the kernel (DMA_BUF_IOCTL_SYNC), and return an Error;
// `wait` takes a Direction, waits for the fences that conflict with such an access, and returns an
// Error. After an end that failed, the caches may still have bytes that memory lacks: the next use
// that needs them in memory sends a begin and an end again. Nothing is ended twice.
//
// Devices wait for fences by themselves, or do not: nothing here waits for them. Bytes that the CPU
// writes in a scope while a device past the caches uses the buffer are in memory after that scope.
//
// Cost: 56 bytes per buffer, no heap memory, a few instructions a use. Not thread-safe: one thread
// at a time per buffer.
#ifndef ION_ION_COHERENCY_H_
#define ION_ION_COHERENCY_H_

#include <cstdint>
#include <limits>

#include "ion/base/check.h"
#include "ion/base/direction.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/sync_counts.h"

namespace ion {

// The way of a device to memory.
enum class CacheUse : uint8_t {
  kPast,       // it is not coherent: it sees memory alone
  kSnoops,     // it is coherent: it sees what the CPU's caches have
  kKernelCpu,  // the kernel's CPU copies for it (UVC cameras, and other queues of vmalloc memory)
};

// A device's use of a buffer.
struct DeviceUse {
  Direction direction = Direction::kReadWrite;
  CacheUse caches = CacheUse::kPast;
};

// The other holders of a buffer whose descriptor was given out.
enum class Holders : uint8_t {
  kUnknown,  // they use it without a word to us
  kKnown,    // each use of theirs is announced to the CoherencyState, as those of our own devices
};

class CoherencyState {
 public:
  // A buffer that nobody uses. `cached`: of the CPU's mapping.
  constexpr explicit CoherencyState(Known cached = {}) noexcept : cached_(cached) {}

  // Returns true if Open of this scope sends no begin, and so calls `wait`.
  constexpr bool MustWait(Direction direction) const noexcept { return BeginOf(direction) == 0; }
  // The most that Open of this scope begins: a begin of that waits for all fences of its kind.
  constexpr Direction MayBegin(Direction direction) const noexcept {
    return cpu_.writers != 0 ? Direction::kReadWrite : direction;
  }

  // Opens a scope of the CPU. On an error, `wait`'s too, no scope was opened, and those that were
  // open can still be closed.
  template <class BeginFn, class EndFn, class WaitFn>
  constexpr Error Open(Direction direction, BeginFn begin, EndFn end, WaitFn wait) noexcept {
    if (MustWait(direction)) {
      if (Error error = wait(direction); !error.ok()) return error;
    }
    const uint64_t before = counts_.begins;
    if (Error error = BeginFor(direction, begin, end); !error.ok()) return error;
    Add(direction, cpu_);
    if (counts_.begins == before) ++counts_.elided_begins;
    return {};
  }

  // Closes a scope of the CPU; it is closed even if the kernel refuses an end.
  template <class BeginFn, class EndFn>
  constexpr Error Close(Direction direction, BeginFn begin, EndFn end) noexcept {
    Remove(direction, cpu_);
    const bool sends = EndAtClose() != 0;
    // One end is for all scopes since the last one.
    if (sends ? ends_due_ : ends_due_ || !HasBegun()) ++counts_.elided_ends;
    if (!sends) {
      ends_due_ = HasBegun();
      return {};
    }
    const Error error = SendEnd(EndAtClose(), begin, end);
    if (!error.ok()) stale_ = true;  // a begin for reading may be left: it covers nobody
    return error;
  }

  // A device begins to use the buffer: call it before the device can. On an error it did not begin.
  template <class BeginFn, class EndFn>
  constexpr Error BeginDevice(DeviceUse use, BeginFn begin, EndFn end) noexcept {
    if (use.caches == CacheUse::kPast) {
      if (Error error = SendEnd(EndForDevice(use.direction), begin, end); !error.ok()) return error;
      Add(use.direction, past_);
      stale_ |= Writes(use.direction);
      return {};
    }
    if (Reads(use.direction)) {
      if (Error error = BeginFor(Direction::kRead, begin, end); !error.ok()) return error;
      if (at_once() && cpu_.readers == 0 && cpu_.writers == 0) {
        if (Error error = SendEnd(started_ & kRead, begin, end); !error.ok()) return error;
      }
    }
    Add(use.direction, snooping_);
    dirty_ |= Writes(use.direction);
    return {};
  }

  // The device has ended its use: call it when it cannot use the buffer any more. It has ended even
  // if the kernel refuses an end.
  template <class BeginFn, class EndFn>
  constexpr Error EndDevice(DeviceUse use, BeginFn begin, EndFn end) noexcept {
    if (use.caches == CacheUse::kPast) {
      Remove(use.direction, past_);
      stale_ |= Writes(use.direction);  // a begin may have come between
      return {};
    }
    Remove(use.direction, snooping_);
    if (!Writes(use.direction)) return {};
    return SendEnd(EndAtClose(), begin, end);
  }

  // Others get the descriptor, or the memory was imported. From here on each use is told of at once,
  // unless the holders are known. Sends the ends that are due; on an error they are still due, and
  // another Publish or Flush sends them.
  template <class BeginFn, class EndFn>
  constexpr Error Publish(Holders holders, BeginFn begin, EndFn end) noexcept {
    if (holders == Holders::kKnown) return {};
    published_ = true;
    return Flush(begin, end);
  }

  // Sends the ends that are due: before the memory is given back, to a pool as well.
  template <class BeginFn, class EndFn>
  constexpr Error Flush(BeginFn begin, EndFn end) noexcept {
    if (cached_.no() || cpu_.writers != 0) return {};
    const unsigned reads = cpu_.readers == 0 ? started_ & kRead : 0;
    return SendEnd(reads | (dirty_ ? kWrite : 0), begin, end);
  }

  // Puts in memory what the caches have, whatever is open: before the kernel ends the import of a
  // device past the caches, which may throw away what they have (arm64).
  template <class BeginFn, class EndFn>
  constexpr Error Clean(BeginFn begin, EndFn end) noexcept {
    return SendEnd(EndForDevice(Direction::kRead), begin, end);
  }

  // The number of begins and ends that were sent, and left out.
  constexpr const SyncCounts& counts() const noexcept { return counts_; }
  // True if a scope of the CPU is open.
  constexpr bool open() const noexcept { return cpu_.any(); }
  // True if a device uses the buffer.
  constexpr bool in_device() const noexcept { return past_.any() || snooping_.any(); }
  // True if each use is told of at once.
  constexpr bool at_once() const noexcept {
    return !cached_.no() && (cached_.unknown() || published_);
  }

 private:
  static constexpr unsigned kRead = 1, kWrite = 2;
  static constexpr uint16_t kMost = std::numeric_limits<uint16_t>::max();

  // Users of one kind.
  struct Users {
    uint16_t readers = 0;
    uint16_t writers = 0;
    constexpr bool any() const noexcept { return readers != 0 || writers != 0; }
  };
  static constexpr void Add(Direction direction, Users& users) noexcept {
    ION_CHECK(users.readers < kMost && users.writers < kMost, "65535 users are at one buffer");
    users.readers = static_cast<uint16_t>(users.readers + Reads(direction));
    users.writers = static_cast<uint16_t>(users.writers + Writes(direction));
  }
  static constexpr void Remove(Direction direction, Users& users) noexcept {
    ION_CHECK(users.readers >= Reads(direction) && users.writers >= Writes(direction),
              "a use of a buffer ended that had not begun");
    users.readers = static_cast<uint16_t>(users.readers - Reads(direction));
    users.writers = static_cast<uint16_t>(users.writers - Writes(direction));
  }

  // True if an end will be sent some time.
  constexpr bool HasBegun() const noexcept { return !cached_.no() && (started_ != 0 || dirty_); }
  // True if the caches may have old bytes of the buffer.
  constexpr bool stale() const noexcept { return stale_ || past_.writers != 0; }
  // The directions that a user of the caches begins. A begin for reading throws away what an open
  // scope writes, so that is ended before, and begun with it.
  constexpr unsigned BeginOf(Direction direction) const noexcept {
    if (cached_.no()) return 0;
    const bool covered = (started_ & kRead) != 0;
    const bool reads = Reads(direction) && (stale() || (at_once() && !covered));
    if (!reads) return static_cast<unsigned>(direction) & ~unsigned{started_} & kWrite;
    return kRead | (Writes(direction) || cpu_.writers != 0 ? kWrite : 0);
  }
  template <class BeginFn, class EndFn>
  constexpr Error BeginFor(Direction direction, BeginFn begin, EndFn end) noexcept {
    unsigned missing = BeginOf(direction);
    if ((missing & kRead) != 0) {
      const unsigned ending = (started_ & kRead) | (dirty_ ? kWrite : 0);
      if (Error error = SendEnd(ending, begin, end); !error.ok()) return error;
    }
    missing &= ~unsigned{started_};
    if (missing != 0) {
      if (Error error = SendBegin(missing, begin); !error.ok()) return error;
    }
    if ((missing & kRead) != 0) stale_ = false;
    dirty_ |= Writes(direction);
    return {};
  }

  // The directions that end when a device past the caches begins.
  constexpr unsigned EndForDevice(Direction direction) const noexcept {
    if (cached_.no()) return 0;
    const unsigned ending = dirty_ ? kWrite : 0;
    // With an end for writing nothing is lost by that for reading, if nobody reads.
    const bool reads = Writes(direction) || (ending != 0 && cpu_.readers == 0);
    return ending | (reads ? started_ & kRead : 0);
  }
  // The directions that end when a user of the caches has ended. An end for reading waits while a
  // scope writes: before Linux 5.18 it throws away what the caches have.
  constexpr unsigned EndAtClose() const noexcept {
    if (cached_.no() || cpu_.writers != 0) return 0;
    const bool cleans = dirty_ && (at_once() || past_.any());
    const bool reads = cpu_.readers == 0 && (cleans || at_once());
    return (cleans ? kWrite : 0) | (reads ? started_ & kRead : 0);
  }

  template <class BeginFn>
  constexpr Error SendBegin(unsigned directions, BeginFn begin) noexcept {
    ++counts_.begins;
    const Error error = begin(static_cast<Direction>(directions));
    if (error.ok()) started_ = static_cast<uint8_t>(started_ | directions);
    return error;
  }
  // Sends an end, if there is one to send, and before it the begin that it lacks.
  template <class BeginFn, class EndFn>
  constexpr Error SendEnd(unsigned directions, BeginFn begin, EndFn end) noexcept {
    if (directions == 0) return {};
    if (const unsigned lacks = directions & ~unsigned{started_}; lacks != 0) {
      if (Error error = SendBegin(lacks, begin); !error.ok()) return error;
    }
    started_ = static_cast<uint8_t>(started_ & ~directions);
    ends_due_ = false;
    ++counts_.ends;
    const Error error = end(static_cast<Direction>(directions));
    if (!error.ok() || (directions & kWrite) == 0) return error;
    dirty_ = cpu_.writers != 0 || snooping_.writers != 0;
    return {};
  }

  SyncCounts counts_;
  Users cpu_;       // scopes of the CPU
  Users past_;      // devices past the caches
  Users snooping_;  // devices through them
  Known cached_;
  uint8_t started_ = 0;     // directions that the kernel was told to begin, and not yet to end
  bool dirty_ = false;      // the caches may have bytes that memory lacks
  bool stale_ = true;       // memory may have bytes that the caches have older ones of
  bool published_ = false;  // others have the descriptor, and are not known
  bool ends_due_ = false;   // a scope was closed whose end has not been sent
};
static_assert(sizeof(CoherencyState) <= 56);

}  // namespace ion

#endif  // ION_ION_COHERENCY_H_
