// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Usage: manager_stress [SECONDS]
//
// Everything that may happen to a Manager at the same time: eight workers, clients that stay and
// clients that come and go while their leases live on, pools that zero at each of the three times,
// memory that is not recycled, a carveout, memory that is shared and a peer that holds on, quotas,
// a bound on bytes and on descriptors that are both too small, a Reclaimer, trims and reports. Each
// lease writes its number into its memory, and looks whether it is still there before it ends; and
// looks at first whether the memory shows what its client may not see. When a round ends, no byte,
// descriptor or mapping is left.
//
// Before that, four negative controls: the same stress with a bug planted, each in a child process.
// One that is not caught is a failure: the stress would not see the bug either.
//
// Last line: stress: N operations, 0 errors, controls caught: 4

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
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
#include "bench/pooled_memfd.h"
#include "ion/backend.h"
#include "ion/backends/all_of.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/budget.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/error_sink.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/core/reclaimer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/recycling/scrubber.h"
#include "ion/recycler.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/stress/program.h"
#include "tests/support/open_files.h"

namespace {

using ion::stress::Complain;
using ion::stress::kWorkers;
using ion::stress::milliseconds;
using ion::stress::misses;
using ion::stress::operations;

// --- the backend ---------------------------------------------------------------------------------

// What a control's process plants. Asked at run time, as each machine takes long to compile.
enum class Bug { kNone, kNoScrub, kNoProof, kTwoOwners, kLeak };
Bug planted = Bug::kNone;

// Who holds which memory beside the client that allocated it: what the kernel tells of dma-bufs,
// and of memfds does not.
class Peers {
 public:
  void Add(ino_t inode) {
    std::lock_guard lock(mutex_);
    ++counts_[inode];
  }
  void Drop(ino_t inode) {
    std::lock_guard lock(mutex_);
    if (--counts_[inode] == 0) counts_.erase(inode);
  }
  bool Hold(ino_t inode) {
    std::lock_guard lock(mutex_);
    return counts_.contains(inode);
  }

 private:
  std::mutex mutex_;
  std::map<ino_t, uint32_t> counts_;
};
Peers peers;

ino_t InodeOf(int fd) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 ? status.st_ino : 0;
}

// A memfd that can be proven to be nobody else's, because we know who has it.
class KnownMemfd : public ion::MemfdBackend<> {
 public:
  static constexpr ion::BackendCaps kCaps = {.proves_unshared = true, .inspects = true};

  static ion::Result<KnownMemfd> Open(const Options& options) noexcept {
    ion::Result<MemfdBackend<>> opened = MemfdBackend<>::Open(options);
    if (!opened.ok()) return opened.error();
    return KnownMemfd(*std::move(opened));
  }

  ion::Result<bool> IsUnshared(const ion::Block& block) noexcept {
    return planted == Bug::kNoProof || !peers.Hold(InodeOf(block.fd));
  }
  ion::Error Release(ion::Block& block) noexcept {
    if (planted == Bug::kLeak && block.bytes == ion::PageBytes()) {
      static std::atomic<uint32_t> count{0};
      if (count.fetch_add(1) % 64 == 0) (void)::fcntl(block.fd, F_DUPFD_CLOEXEC, 0);
    }
    return MemfdBackend<>::Release(block);
  }

 private:
  explicit KnownMemfd(MemfdBackend<>&& opened) noexcept : MemfdBackend<>(std::move(opened)) {}
};

struct Scrubber {
  template <ion::Backend B>
  static ion::Error Scrub(B& backend, ion::Block& block) noexcept {
    return planted == Bug::kNoScrub ? ion::Error() : ion::PlainScrubber::Scrub(backend, block);
  }
};

// --- the heaps -----------------------------------------------------------------------------------

// Small, so that all of its bounds are met.
constexpr ion::PoolSpec Pools(ion::Scrub scrub) {
  return {.capacity_bytes = 4 << 20,
          .high_bytes = 2 << 20,
          .low_bytes = 1 << 20,
          .age_ticks = 2,
          .largest_bytes = 1 << 20,
          .quarantine_blocks = 8,
          .quarantine_bytes = 1 << 20,
          .scrub = scrub};
}

template <class B, uint32_t kId>
using Plain = ion::bench::UnclaimedMemfd<ion::HeapId{kId}, B>;

template <class B, uint32_t kId, ion::Scrub kScrub>
class Recycler : public ion::PoolRecycler<Plain<B, kId>, Pools(kScrub), Scrubber> {
  using R = ion::PoolRecycler<Plain<B, kId>, Pools(kScrub), Scrubber>;

 public:
  static ion::Result<Recycler> Open(const Plain<B, kId>& heap, B& backend,
                                    const ion::PoolHost& host) noexcept {
    ion::Result<R> recycler = R::Open(heap, backend, host);
    if (!recycler.ok()) return recycler.error();
    return Recycler(*std::move(recycler));
  }
  // With the bug, gives a block now and then to a second owner while the first may have it yet.
  ion::Block* TryAcquire(uint32_t pool) noexcept {
    if (planted != Bug::kTwoOwners) return R::TryAcquire(pool);
    static std::mutex mutex;
    static uint32_t count = 0, last_pool = 0;
    static ion::Block* last = nullptr;
    std::lock_guard lock(mutex);
    if (last_pool == pool && ++count % 8 == 0) return last;
    last_pool = pool;
    return last = R::TryAcquire(pool);
  }

 private:
  explicit Recycler(R&& recycler) noexcept : R(std::move(recycler)) {}
};
template <class B, uint32_t kId, ion::Scrub kScrub>
using Pooled = ion::Recycled<Plain<B, kId>, Recycler<B, kId, kScrub>>;

constexpr ion::HeapSpec kRegion{
    .type = ion::HeapType::kCarveout, .id = 1, .name = "memfd", .bytes = 2 << 20};
constexpr uint32_t kHeaps = 5;

template <class B>
using MachineOver =
    ion::Manager<B, Pooled<B, 4, ion::Scrub::kOnAllocate>, Pooled<B, 3, ion::Scrub::kOnFree>,
                 Pooled<B, 2, ion::Scrub::kBackground>, ion::CarveoutHeap<B, kRegion>, Plain<B, 0>>;

// Less than the workers want.
constexpr uint64_t kBudget = 10 << 20;
constexpr rlim_t kDescriptors = 400;

// --- what lies in memory -------------------------------------------------------------------------

// Whose a page is: at its start and at its end. Zero: nobody's.
struct Mark {
  uint64_t domain = 0;
  uint64_t lease = 0;
  friend bool operator==(const Mark&, const Mark&) = default;
};

// f(where a Mark has its place) for each.
template <class Byte, class F>
void ForEachMark(std::span<Byte> bytes, F f) {
  for (size_t page = 0; page < bytes.size(); page += ion::PageBytes()) {
    f(bytes.data() + page);
    f(bytes.data() + page + ion::PageBytes() - sizeof(Mark));
  }
}
Mark Read(const std::byte* at) {
  Mark mark;
  std::memcpy(&mark, at, sizeof(mark));
  return mark;
}

// Whom a client trusts: a number for those that may see each other's memory.
struct Trust {
  uint64_t domain = 0;
  bool as_is = false;
};

void CheckFresh(std::span<const std::byte> bytes, const Trust& trust) {
  ForEachMark(bytes, [&](const std::byte* at) {
    const Mark mark = Read(at);
    if (mark == Mark()) return;
    if (mark.domain != trust.domain) Complain("memory shows what another domain left");
    if (!trust.as_is) Complain("memory is not zero");
  });
}
void CheckMark(std::span<const std::byte> bytes, const Mark& mark, const char* complaint) {
  ForEachMark(bytes, [&](const std::byte* at) {
    if (Read(at) != mark) Complain(complaint);
  });
}

// What may be said of an allocation, or anything that takes a descriptor.
bool IsShortage(int code) { return code == ENOMEM || code == EMFILE || code == EDQUOT; }
bool IsShortage(const absl::Status& status) { return IsShortage(ion::ErrnoOf(status)); }
void Expect(bool right, const absl::Status& status) {
  if (!right) Complain(std::string(status.message()).c_str());
}

// --- a round -------------------------------------------------------------------------------------

template <class B>
class Round {
  using Machine = MachineOver<B>;
  using Client = typename Machine::Client;

 public:
  Round()
      : errors_(std::make_shared<ion::ErrorSink>(&NoteError)),
        budget_(std::make_shared<ion::Budget>(kBudget)),
        descriptors_(ion::testing::DescriptorLines()),
        mappings_(ion::testing::DeviceMappings()) {
    typename B::Options options;
    options.budget = budget_;
    options.errors = errors_;
    absl::StatusOr<Machine> manager = Machine::Open(options);
    Expect(manager.ok(), manager.status());
    manager_.emplace(*std::move(manager));
    const absl::Status started =
        manager_->StartReclaimer({.interval = milliseconds(20), .pressure = std::nullopt}).status();
    Expect(started.ok(), started);
    for (const ion::ClientOptions& options : kMembers) {
      members_.push_back({Open(options), TrustOf(options)});
    }
  }

  void Run(milliseconds time) {
    const ion::stress::HangGuard guard;
    std::array<std::thread, kWorkers> workers;
    for (uint32_t i = 0; i < kWorkers; ++i) workers[i] = std::thread([this, i] { Work(i + 1); });
    std::this_thread::sleep_for(time);
    stop_.store(true, std::memory_order_relaxed);
    for (std::thread& worker : workers) worker.join();
    Finish();
  }

 private:
  // Two who share what they leave, one of the same name that wants zeros, one with a quota, and
  // two who trust nobody.
  static constexpr ion::ClientOptions kMembers[] = {
      {.name = "camera", .domain = "camera", .recycle_as_is = true},
      {.name = "codec", .domain = "camera", .recycle_as_is = true},
      {.name = "preview", .domain = "camera"},
      {.name = "display", .quota_bytes = 2 << 20, .domain = "display", .recycle_as_is = true},
      {.name = "vault", .quota_bytes = 1 << 20, .exact_quota = true},
      {.name = "player", .quota_bytes = 3 << 20, .recycle_as_is = true},
  };
  static constexpr size_t kNoMember = SIZE_MAX;
  static constexpr size_t kMostHeld = 24;

  struct Member {
    Client client;
    Trust trust;
  };
  struct Lease {
    ion::Buffer buffer;
    Mark mark;
    size_t member = kNoMember;
  };
  // A peer's handle of memory that another client allocated.
  struct Held {
    size_t member = 0;
    ion::Handle handle;
    Mark mark;
    ino_t inode = 0;
  };
  template <class T>
  class Exchange {
   public:
    void Put(T one) {
      std::lock_guard lock(mutex_);
      all_.push_back(std::move(one));
    }
    // The oldest, where there are more than `keep`.
    std::optional<T> Take(size_t keep = 0) {
      std::lock_guard lock(mutex_);
      if (all_.size() <= keep) return std::nullopt;
      std::optional<T> one(std::move(all_.front()));
      all_.pop_front();
      return one;
    }

   private:
    std::mutex mutex_;
    std::deque<T> all_;
  };

  static void NoteError(const ion::Error& error, void*) {
    if (IsShortage(error.code())) return;
    Complain(ion::Describe(error).c_str());
  }

  bool stop() const { return stop_.load(std::memory_order_relaxed); }

  Client Open(const ion::ClientOptions& options) {
    absl::StatusOr<Client> client = manager_->CreateClient(options);
    Expect(client.ok(), client.status());
    return *std::move(client);
  }
  Trust TrustOf(const ion::ClientOptions& options) {
    if (options.domain == "camera") return {options.recycle_as_is ? 1u : 2u, options.recycle_as_is};
    return {last_domain_.fetch_add(1), options.recycle_as_is};
  }

  static ion::Request RandomRequest(std::minstd_rand& random) {
    ion::Request request;
    const uint64_t pages = random() % 4 != 0 ? 1 + random() % 4 : 1 + random() % 64;
    request.bytes = (random() % 256 == 0 ? 400 : pages) * ion::PageBytes() - random() % 4096;
    switch (random() % 8) {
      case 0:
        break;  // any heap
      case 1:
        request.heaps = ion::HeapMask(ion::HeapId{4}) | ion::HeapId{2};
        break;
      default:
        request.heaps = ion::HeapMask::FromBits(1u << random() % kHeaps);
    }
    if (random() % 4 == 0) request.flags = ion::Flags::kCached;
    if (random() % 8 == 0) request.alignment = ion::PageBytes();
    return request;
  }

  // --- leases ---

  std::optional<Lease> Take(Client& client, const Trust& trust, const ion::Request& request) {
    ++operations;
    absl::StatusOr<ion::Buffer> buffer = client.Allocate(request);
    if (!buffer.ok()) {
      ++misses;
      Expect(IsShortage(buffer.status()), buffer.status());
      return std::nullopt;
    }
    Lease lease{*std::move(buffer), {trust.domain, last_lease_.fetch_add(1)}};
    // The mapping is a new one where memory is not pooled.
    absl::StatusOr<ion::WritableMapping> mapping = ion::WritableMapping::Of(lease.buffer);
    Expect(mapping.ok(), mapping.status());
    if (!mapping.ok()) return std::nullopt;
    auto access = ion::CpuReadWrite::Begin(*mapping);
    Expect(access.ok(), access.status());
    CheckFresh(std::span<const std::byte>(access->bytes()), trust);
    ForEachMark(access->bytes(),
                [&](std::byte* at) { std::memcpy(at, &lease.mark, sizeof(lease.mark)); });
    return lease;
  }
  std::optional<Lease> TakeAsMember(size_t member, const ion::Request& request) {
    std::optional<Lease> lease = Take(members_[member].client, members_[member].trust, request);
    if (lease.has_value()) lease->member = member;
    return lease;
  }
  // What most users do: the same again and again, which pools serve.
  void Loop(std::minstd_rand& random) {
    const size_t member = random() % members_.size();
    const ion::Request request = RandomRequest(random);
    for (int i = 0; i < 50; ++i) {
      std::optional<Lease> lease = TakeAsMember(member, request);
      if (lease.has_value()) Give(*std::move(lease));
    }
  }
  static void Check(const Lease& lease) {
    absl::StatusOr<ion::ReadOnlyMapping> mapping = ion::ReadOnlyMapping::Of(lease.buffer);
    Expect(mapping.ok(), mapping.status());
    if (!mapping.ok()) return;
    const auto access = ion::CpuRead::Begin(*mapping);
    CheckMark(access->bytes(), lease.mark, "a lease's memory was written by another");
  }
  static void Give(Lease lease) {
    ++operations;
    Check(lease);
  }

  // --- handles ---

  void CheckHandle(size_t member, const ion::Handle& handle, const Mark& mark,
                   const char* complaint) {
    auto mapping = members_[member].client.template Map<ion::MapMode::kReadOnly>(handle);
    Expect(mapping.ok() || IsShortage(mapping.status()), mapping.status());
    if (!mapping.ok()) return;
    const auto access = ion::CpuRead::Begin(*mapping);
    CheckMark(access->bytes(), mark, complaint);
  }
  void Free(size_t member, const ion::Handle& handle) {
    ++operations;
    const absl::Status freed = members_[member].client.Free(handle);
    Expect(freed.ok(), freed);
  }
  void End(const Held& held) {
    CheckHandle(held.member, held.handle, held.mark, "what a peer holds was written by another");
    Free(held.member, held.handle);
    peers.Drop(held.inode);
  }

  void Share(Lease lease, std::minstd_rand& random) {
    Client& owner = members_[lease.member].client;
    const ino_t inode = InodeOf(lease.buffer.fd().get());
    absl::StatusOr<ion::Handle> handle = owner.MakeHandle(std::move(lease.buffer));
    Expect(handle.ok(), handle.status());
    if (!handle.ok()) return;
    CheckHandle(lease.member, *handle, lease.mark, "a handle's memory was written by another");
    // Before there is a second descriptor: from then on nobody may take it to be the owner's alone.
    peers.Add(inode);
    absl::StatusOr<ion::UniqueFd> fd = owner.Share(*handle);
    std::optional<Held> held;
    if (fd.ok()) {
      const size_t peer = (lease.member + 1 + random() % (members_.size() - 1)) % members_.size();
      const absl::StatusOr<ion::Handle> theirs = members_[peer].client.Import(fd->borrow());
      Expect(theirs.ok() || IsShortage(theirs.status()), theirs.status());
      if (theirs.ok()) held = Held{peer, *theirs, lease.mark, inode};
      fd = ion::UniqueFd();
    } else {
      // A carveout's descriptor shows its neighbours.
      Expect(IsShortage(fd.status()) || ion::ErrnoOf(fd.status()) == ENOTSUP, fd.status());
    }
    if (!held.has_value()) peers.Drop(inode);
    if (held.has_value() && random() % 2 == 0) End(*std::exchange(held, std::nullopt));
    if (random() % 4 == 0) {
      // The mapping outlives the handle.
      auto mapping = owner.template Map<ion::MapMode::kWritable>(*handle);
      Free(lease.member, *handle);
      if (mapping.ok()) {
        CheckMark(mapping->unsynced(), lease.mark, "an orphan's memory was written by another");
      }
    } else {
      Free(lease.member, *handle);
    }
    if (held.has_value()) held_.Put(*held);
  }

  // A client that comes and goes; a lease of it may outlive it, and a handle dies with it.
  void Visit(std::minstd_rand& random) {
    ion::ClientOptions options{.name = "visitor", .recycle_as_is = random() % 2 == 0};
    if (random() % 2 == 0) options.domain = "camera";
    if (random() % 4 == 0) options.quota_bytes = 256 << 10;
    Client client = Open(options);
    const Trust trust = TrustOf(options);
    for (uint32_t i = 0; i < 4; ++i) {
      std::optional<Lease> lease = Take(client, trust, RandomRequest(random));
      if (!lease.has_value()) continue;
      switch (random() % 3) {
        case 0:
          leases_.Put(*std::move(lease));
          break;
        case 1:
          Check(*lease);
          Expect(client.MakeHandle(std::move(lease->buffer)).ok(), absl::OkStatus());
          break;
        default:
          Give(*std::move(lease));
      }
    }
  }

  // --- workers ---

  void Work(uint32_t self) {
    std::minstd_rand random(self);
    std::vector<Lease> mine;
    const auto pick = [&] {
      std::swap(mine[random() % mine.size()], mine.back());
      Lease lease = std::move(mine.back());
      mine.pop_back();
      return lease;
    };
    while (!stop()) {
      const uint32_t dice = random() % 256;
      if (dice < 100) {
        if (mine.size() == kMostHeld) Give(pick());
        auto lease = TakeAsMember(random() % members_.size(), RandomRequest(random));
        if (lease.has_value()) mine.push_back(*std::move(lease));
      } else if (dice < 190) {
        if (!mine.empty()) Give(pick());
      } else if (dice < 210) {
        if (!mine.empty()) leases_.Put(pick());
      } else if (dice < 230) {
        if (auto lease = leases_.Take(); lease.has_value()) Give(*std::move(lease));
      } else if (dice < 242) {
        if (!mine.empty()) {
          Lease lease = pick();
          if (lease.member != kNoMember) Share(std::move(lease), random);
        }
      } else if (dice < 248) {
        if (auto held = held_.Take(/*keep=*/8); held.has_value()) End(*held);
      } else if (dice < 253) {
        Loop(random);
      } else {
        Manage(random);
      }
    }
    while (!mine.empty()) Give(pick());
  }
  void Manage(std::minstd_rand& random) {
    ++operations;
    switch (random() % 8) {
      case 0:
        manager_->Trim(random() % 4 == 0 ? UINT64_MAX : random() % (1 << 20));
        break;
      case 1:
        manager_->Tick();
        break;
      case 2:
        for (const ion::PoolReport& pool : manager_->MakeReport().pools) {
          if (pool.hits > uint64_t{1} << 60) Complain("a pool has fewer hits than none");
        }
        break;
      case 3: {
        const absl::Status reserved = members_[random() % members_.size()].client.Prefill(
            RandomRequest(random), random() % 8);
        Expect(reserved.ok() || IsShortage(reserved), reserved);
        break;
      }
      default:
        Visit(random);
    }
  }

  void Finish() {
    while (auto lease = leases_.Take()) Give(*std::move(lease));
    while (auto held = held_.Take()) End(*held);
    for (Member& member : members_) {
      if (member.client.held_bytes() != 0) Complain("a client is charged for what it gave back");
    }
    if (!manager_->MakeReport().buffers.empty()) Complain("a report shows buffers that are gone");
    members_.clear();
    manager_.reset();
    if (budget_->held() != 0) Complain("bytes are left when the Manager has gone");
    if (ion::testing::DescriptorLines() != descriptors_) Complain("descriptors are left");
    if (ion::testing::DeviceMappings() != mappings_) Complain("mappings are left");
  }

  const std::shared_ptr<ion::ErrorSink> errors_;
  const std::shared_ptr<ion::Budget> budget_;
  const std::string descriptors_;
  const std::string mappings_;
  std::optional<Machine> manager_;
  std::vector<Member> members_;
  std::atomic<bool> stop_{false};
  std::atomic<uint64_t> last_lease_{1};
  std::atomic<uint64_t> last_domain_{3};
  Exchange<Lease> leases_;
  Exchange<Held> held_;
};

template <class B>
void RunRound(milliseconds time) {
  std::make_unique<Round<B>>()->Run(time);
}
using SeveralInterfaces = ion::AllOf<KnownMemfd, ion::UdmabufBackend<>>;
template <Bug kBug>
void Control() {
  planted = kBug;
  ion::stress::RepeatRound(&RunRound<KnownMemfd>);
}

}  // namespace

int main(int argc, char** argv) {
  const rlimit few{kDescriptors, kDescriptors};
  (void)::setrlimit(RLIMIT_NOFILE, &few);
  constexpr ion::stress::Control kControls[] = {
      {"no scrub", &Control<Bug::kNoScrub>},
      {"no proof", &Control<Bug::kNoProof>},
      {"two owners", &Control<Bug::kTwoOwners>},
      {"a leak", &Control<Bug::kLeak>},
  };
  constexpr ion::stress::Kind kRounds[] = {
      {"a life of a Manager", &RunRound<KnownMemfd>},
      {"a life of a Manager of several interfaces", &RunRound<SeveralInterfaces>},
  };
  return ion::stress::Run(argc, argv, kControls, kRounds);
}
