// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/tails.cc
//
// The slowest leases of a client, while another thread has the same Manager do something large for
// another client. Counters are ns of real time: p50, p99, p99.9 and max of the single leases, taken
// as long as the other thread goes on; the time is their mean. Each has a control, in which the
// other thread sleeps, or ticks with nothing to age: its tail is the machine's own. (A Trim with
// nothing to trim would take the client's own idle memory.)
//
// A lease in the middle of which the scheduler gave the processor to another thread is left out, as
// other work of the machine decides its duration; kept_percent is the share of the rest. A lease
// that waits for a lock stays.
//
//   BM_TailAgeing     a zeroed lease of 4 KiB, while 192 MiB age out (Manager::Tick)
//   BM_TailZeroing    Allocate, MakeHandle and Free of 4 KiB, while 8 MiB are zeroed again and again
//   BM_TailTrim       a lease of 4 KiB, as the client's own domain left it, while 192 MiB are trimmed
//   BM_…Control       its control
//   BM_ReleaseWorst   34 leases of 8 MiB, more than the pools may keep, released by one thread;
//                     max is the slowest release of the round
#include <benchmark/benchmark.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/pinned.h"
#include "bench/pooled_memfd.h"
#include "bench/program.h"
#include "bench/proven_memfd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/request.h"

namespace ion::bench {
namespace {

using Heap = UnclaimedMemfd<HeapId{0}, ProvenMemfd<>>;
using Pools = Manager<ProvenMemfd<>, PooledHeap<Heap, kUsualPools>>;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kSmall = 4096;
constexpr uint64_t kLarge = uint64_t{8} << 20;
constexpr uint32_t kIdle = 24;  // 192 MiB
constexpr uint32_t kPastCapacity = 34;
constexpr int kRounds = 3;
// Ticks until all that lies idle has gone back.
constexpr uint32_t kTicks = 2 * kUsualPools.age_ticks + 1;
// How long a disturbance lasts that has no end of its own.
constexpr std::chrono::milliseconds kWindow{40};

uint32_t NsBetween(Clock::time_point before, Clock::time_point after) {
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(after - before).count();
  return static_cast<uint32_t>(std::clamp<int64_t>(ns, 0, UINT32_MAX));
}

// Tells if the scheduler took the processor from the calling thread.
class Preemption {
 public:
  // Shorter than a switch to another thread and back.
  static constexpr uint32_t kLeastNs = 5000;

  // Returns true if it has since the last call.
  bool Look() {
    rusage usage{};
    ::getrusage(RUSAGE_THREAD, &usage);
    return std::exchange(switches_, usage.ru_nivcsw) != usage.ru_nivcsw;
  }

 private:
  long switches_ = 0;
};

// The durations of single leases. Its memory is in place before the first is added.
class Samples {
 public:
  Samples() : ns_(kMost) {}

  void Add(uint32_t ns) {
    if (count_ < kMost) ns_[count_++] = ns;
  }
  void CountPreempted() { ++preempted_; }
  void Tell(benchmark::State& state) {
    if (count_ == 0) return state.SkipWithError("no lease was made meanwhile");
    const auto begin = ns_.begin();
    std::sort(begin, begin + static_cast<ptrdiff_t>(count_));
    const auto at = [&](double part) {
      const auto index = static_cast<size_t>(part * static_cast<double>(count_));
      return static_cast<double>(ns_[std::min(index, count_ - 1)]);
    };
    double sum = 0;
    for (size_t i = 0; i < count_; ++i) sum += ns_[i];
    state.SetIterationTime(1e-9 * sum / static_cast<double>(count_));
    state.counters["p50"] = at(0.50);
    state.counters["p99"] = at(0.99);
    state.counters["p99.9"] = at(0.999);
    state.counters["max"] = at(1);
    state.counters["leases"] = static_cast<double>(count_);
    // Not the number of the others: the deviation of zeroes is no number, and no JSON.
    state.counters["kept_percent"] =
        100 * static_cast<double>(count_) / static_cast<double>(count_ + preempted_);
  }

 private:
  static constexpr size_t kMost = size_t{1} << 22;

  std::vector<uint32_t> ns_;
  size_t count_ = 0;
  uint32_t preempted_ = 0;
};

// A Manager with the client that leases, and the other one.
struct Both {
  Pools manager;
  Pools::Client user;
  Pools::Client other;

  static absl::StatusOr<Both> Open(bool user_as_is) {
    absl::StatusOr<Pools> manager = Pools::Open();
    if (!manager.ok()) return manager.status();
    auto user = manager->CreateClient({.name = "user", .recycle_as_is = user_as_is});
    if (!user.ok()) return user.status();
    auto other = manager->CreateClient({.name = "other"});
    if (!other.ok()) return other.status();
    return Both{*std::move(manager), *std::move(user), *std::move(other)};
  }
  // Bytes that lie idle in blocks of the other client's size.
  uint64_t idle_bytes() const {
    uint64_t bytes = 0;
    for (const PoolReport& pool : manager.MakeReport().pools) {
      if (pool.block_bytes >= kLarge) bytes += pool.held_bytes;
    }
    return bytes;
  }
};

// Binds the calling thread to the last of its processors: the first is of the benchmark's thread.
void BindToLast() {
  cpu_set_t allowed;
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  for (int cpu = CPU_SETSIZE - 1; cpu >= 0; --cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    CPU_ZERO(&allowed);
    CPU_SET(cpu, &allowed);
    ::sched_setaffinity(0, sizeof(allowed), &allowed);
    return;
  }
}

// f() on a thread of its own, each time that Start is called.
class Disturber {
 public:
  template <class F>
  explicit Disturber(F f)
      : thread_([this, f] {
          BindToLast();
          for (uint32_t round = 1;; ++round) {
            started_.wait(round - 1);
            if (ends_.load()) return;
            f();
            ended_.store(round);
          }
        }) {}
  Disturber(const Disturber&) = delete;
  Disturber& operator=(const Disturber&) = delete;
  ~Disturber() {
    ends_.store(true);
    Start();
    thread_.join();
  }

  void Start() {
    ++started_;
    started_.notify_one();
  }
  bool Busy() const { return ended_.load(std::memory_order_relaxed) != started_.load(); }

 private:
  std::atomic<uint32_t> started_{0};
  std::atomic<uint32_t> ended_{0};
  std::atomic<bool> ends_{false};
  std::thread thread_;
};

// --- the work of both threads --------------------------------------------------------------------

absl::Status Lease(Pools::Client& user) { return user.Allocate({.bytes = kSmall}).status(); }

absl::Status LeaseWithHandle(Pools::Client& user) {
  absl::StatusOr<Buffer> lease = user.Allocate({.bytes = kSmall});
  if (!lease.ok()) return lease.status();
  const absl::StatusOr<Handle> handle = user.MakeHandle(*std::move(lease));
  return handle.ok() ? user.Free(*handle) : handle.status();
}

void AgeOut(Both& both) {
  for (uint32_t tick = 0; tick < kTicks; ++tick) both.manager.Tick();
}

// With nothing to age: the ticks are as far apart as if there were.
void AgeNothing(Both& both) {
  for (uint32_t tick = 0; tick < kTicks; ++tick) {
    both.manager.Tick();
    std::this_thread::sleep_for(kWindow / kTicks);
  }
}

void Zero(Both& both) {
  const Clock::time_point end = Clock::now() + kWindow;
  while (Clock::now() < end && both.other.Allocate({.bytes = kLarge}).ok()) {
  }
}

void DoNothing(Both&) { std::this_thread::sleep_for(kWindow); }

void Trim(Both& both) { both.manager.Trim(); }

// --- measurements --------------------------------------------------------------------------------

struct Tail {
  bool as_is;
  absl::Status (*lease)(Pools::Client&);
  void (*disturb)(Both&);
  uint32_t idle;    // buffers of the other client that lie idle before
  bool gone_after;  // all of them have to be gone then
};

// Leases and takes samples while `disturber` is busy.
absl::Status Sample(const Tail& tail, Pools::Client& user, const Disturber& disturber,
                    Samples& samples) {
  Preemption preemption;
  preemption.Look();
  absl::Status status;
  Clock::time_point after = Clock::now();
  while (disturber.Busy() && status.ok()) {
    const Clock::time_point before = Clock::now();
    // Between two leases.
    if (NsBetween(after, before) > Preemption::kLeastNs) preemption.Look();
    status = tail.lease(user);
    after = Clock::now();
    const uint32_t ns = NsBetween(before, after);
    if (ns > Preemption::kLeastNs && preemption.Look()) {
      samples.CountPreempted();
    } else {
      samples.Add(ns);
    }
  }
  return status;
}

void Run(benchmark::State& state, const Tail& tail) {
  absl::StatusOr<Both> opened = Both::Open(tail.as_is);
  if (!opened.ok()) return state.SkipWithError(std::string(opened.status().message()).c_str());
  Both& both = *opened;
  Samples samples;
  Disturber disturber([&] { tail.disturb(both); });
  const Pinned pinned(state);  // after: the other thread is bound elsewhere
  absl::Status status = tail.lease(both.user);
  for (auto _ : state) {
    for (int round = 0; round < kRounds && status.ok(); ++round) {
      status = both.other.Prefill({.bytes = kLarge}, tail.idle);
      if (!status.ok()) break;
      disturber.Start();
      status = Sample(tail, both.user, disturber, samples);
      while (disturber.Busy()) std::this_thread::yield();
      if (tail.gone_after && both.idle_bytes() != 0) status = absl::InternalError("some stayed");
    }
    samples.Tell(state);
  }
  if (!status.ok()) state.SkipWithError(std::string(status.message()).c_str());
}

void ReleaseWorst(benchmark::State& state) {
  const Pinned pinned(state);
  absl::StatusOr<Both> both = Both::Open(/*user_as_is=*/false);
  if (!both.ok()) return state.SkipWithError(std::string(both.status().message()).c_str());
  for (auto _ : state) {
    std::array<Buffer, kPastCapacity> leases;
    for (Buffer& lease : leases) {
      absl::StatusOr<Buffer> buffer = both->user.Allocate({.bytes = kLarge});
      if (!buffer.ok()) {
        return state.SkipWithError(std::string(buffer.status().message()).c_str());
      }
      lease = *std::move(buffer);
    }
    Samples samples;
    for (Buffer& lease : leases) {
      const Clock::time_point before = Clock::now();
      lease = Buffer();
      samples.Add(NsBetween(before, Clock::now()));
    }
    samples.Tell(state);
  }
}

void RegisterAll() {
  const auto add = [](const char* name, auto run) {
    benchmark::RegisterBenchmark(name, run)->Iterations(1)->UseManualTime()->Unit(
        benchmark::kNanosecond);
  };
  const auto tail = [&](const char* name, Tail what) {
    add(name, [what](benchmark::State& state) { Run(state, what); });
  };
  tail("BM_TailAgeing", {false, Lease, AgeOut, kIdle, true});
  tail("BM_TailAgeingControl", {false, Lease, AgeNothing, 0, false});
  tail("BM_TailZeroing", {false, LeaseWithHandle, Zero, 1, false});
  tail("BM_TailZeroingControl", {false, LeaseWithHandle, DoNothing, 1, false});
  tail("BM_TailTrim", {true, Lease, Trim, kIdle, true});
  tail("BM_TailTrimControl", {true, Lease, DoNothing, 0, false});
  add("BM_ReleaseWorst", ReleaseWorst);
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv, {"--benchmark_repetitions=3"}, ion::bench::RegisterAll);
}
