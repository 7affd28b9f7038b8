// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/fault_pools.h
//
// FaultPools: pools behind the heaps of a Rig's backend, with the Rig's faults, budget and errors,
// and two trust domains that use them. Whatever failed in a scenario, both domains go on with all
// that lies idle, see none of the other's bytes, and the pools' figures add up to what the kernel
// gave and got back; what is not so goes to the Rig's problems.
//
// Example:
//   FaultPools<B> pools(rig, {.bytes = Bytes(), .heaps = id});
//   pools.Take(pools.ours());  // never fails
//   {
//     const typename Rig<B>::Window window(rig);
//     pools.Release(pools.ours());  // may
//   }
//   pools.Settle();
#ifndef ION_TESTS_SUPPORT_FAULT_POOLS_H_
#define ION_TESTS_SUPPORT_FAULT_POOLS_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/handle.h"
#include "ion/manager.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/recycling/pool_spec.h"
#include "ion/policies/system_heap.h"
#include "ion/recycling.h"
#include "ion/report.h"
#include "ion/request.h"
#include "tests/support/fault_points.h"
#include "tests/support/pooled.h"
#include "tests/support/stale_bytes.h"

namespace ion::testing {

template <class B, Scrub kScrub = Scrub::kOnAllocate>
class FaultPools {
 public:
  static constexpr PoolSpec kSpec{.age_ticks = 2, .scrub = kScrub};
  using Manager = ion::Manager<B, PooledHeap<SystemHeap<B>, kSpec>, PooledHeap<DmaHeap<B>, kSpec>>;

  struct Lease {
    Buffer buffer;
    bool used = false;  // has the domain's byte in it
  };
  struct Domain {
    int byte;
    bool as_is;
    std::optional<typename Manager::Client> client = std::nullopt;
    std::vector<Lease> leases = {};
    std::vector<Handle> handles = {};
  };

  FaultPools(Rig<B>& rig, const Request& request) : rig_(rig), request_(request) {
    absl::StatusOr<Manager> opened = Manager::Open(rig.Options());
    if (!rig.Note(opened.status())) return;
    manager_.emplace(*std::move(opened));
    Warm(rig, manager_->backend());
    for (Domain* domain : {&ours_, &theirs_}) {
      auto client = manager_->CreateClient({.recycle_as_is = domain->as_is});
      if (rig.Note(client.status())) domain->client.emplace(*std::move(client));
    }
  }
  FaultPools(const FaultPools&) = delete;
  FaultPools& operator=(const FaultPools&) = delete;

  // What is taken from here on.
  void Ask(const Request& request) { request_ = request; }
  Manager& manager() { return *manager_; }
  Domain& ours() { return ours_; }      // its memory reads as zero
  Domain& theirs() { return theirs_; }  // takes what it left itself as it is

  void Take(Domain& domain, uint64_t bytes = Bytes()) {
    Request request = request_;
    request.bytes = bytes;
    absl::StatusOr<Buffer> buffer = domain.client->Allocate(request);
    if (!rig_.Note(buffer.status())) return;
    pool_leases_ += LeaseAccess::TokenOf(*buffer).pool() != 0;
    domain.leases.push_back({*std::move(buffer)});
  }
  void Reserve(Domain& domain, uint32_t count) {
    rig_.Note(domain.client->Prefill(request_, count));
    // Some of them may be of no pool.
    const PoolReport sum = Sum(manager_->MakeReport());
    Expect(sum.hits + sum.misses <= pool_leases_ + count, "a lease is counted twice");
    pool_leases_ = sum.hits + sum.misses;
  }
  // Looks at each lease of the domain, and fills it.
  void Use(Domain& domain) {
    for (Lease& lease : domain.leases) {
      auto mapping = WritableMapping::Of(lease.buffer);
      if (!rig_.Note(mapping.status())) continue;
      auto access = CpuReadWrite::Begin(*mapping);
      if (!rig_.Note(access.status())) continue;
      const int found = OnlyByte(access->bytes());
      const bool own = found == domain.byte && (lease.used || domain.as_is);
      Expect(own || (found == 0 && !lease.used), "stale bytes");
      std::memset(access->bytes().data(), domain.byte, access->bytes().size());
      lease.used = true;
      rig_.Note(std::move(*access).End());
    }
  }
  void Release(Domain& domain) { domain.leases.clear(); }

  // Of the domain's last lease, which is a handle then.
  void Keep(Domain& domain) {
    if (domain.leases.empty()) return;
    auto handle = domain.client->MakeHandle(std::move(domain.leases.back().buffer));
    const bool kept = rig_.Note(handle.status());
    Expect(kept != domain.leases.back().buffer.valid(), "the lease is lost");
    if (!kept) return;
    domain.handles.push_back(*handle);
    domain.leases.pop_back();
  }
  // Of its last handle.
  UniqueFd Share(Domain& domain) {
    auto fd = domain.client->Share(domain.handles.back());
    return rig_.Note(fd.status()) ? *std::move(fd) : UniqueFd();
  }
  void Free(Domain& domain) {
    rig_.Note(domain.client->Free(domain.handles.back()));
    domain.handles.pop_back();
  }

  // What the domain has used lies idle, for others as well.
  void LeaveIdle(Domain& domain, uint64_t bytes = Bytes()) {
    Take(domain, bytes);
    Use(domain);
    Release(domain);
    (void)manager_->Trim(0);
  }
  // Has a handle of what it has used and shared. Not valid: it could not.
  UniqueFd TakeAndShare(Domain& domain) {
    Take(domain);
    Use(domain);
    Keep(domain);
    return Share(domain);
  }
  // Lets the other domain use memory while somebody holds what `domain` has used and freed.
  void GoOnBeside(Domain& domain, FdRef held) {
    Domain& other = &domain == &ours_ ? theirs_ : ours_;
    (void)manager_->Trim(0);
    Take(other);
    Use(other);
    const long at = rig_.sys().Mmap(Bytes(), PROT_READ, held.get(), 0);
    if (Failed(at)) return Expect(false, "what somebody holds cannot be mapped");
    auto* const bytes = reinterpret_cast<std::byte*>(at);
    Expect(OnlyByte({bytes, Bytes()}) == domain.byte, "what somebody holds was given to others");
    (void)rig_.sys().Munmap(bytes, Bytes());
  }

  // Ends all leases, lets both domains go on, and gives all that is idle back. Requires: whatever
  // others held has been let go.
  void Settle() {
    for (Domain* domain : {&ours_, &theirs_}) {
      Release(*domain);
      while (!domain->handles.empty()) Free(*domain);
    }
    CheckHeld();
    // Each finds what was left: by itself, and by the other.
    for (Domain* domain : {&ours_, &theirs_, &ours_}) {
      for (int i = 0; i < 2; ++i) Take(*domain);
      Use(*domain);
      Release(*domain);
      CheckHeld();
    }
    (void)manager_->Trim();
    const PoolReport sum = CheckHeld();
    Expect(sum.held_bytes + sum.quarantined_bytes == 0, "something is idle after a Trim");
    Expect(sum.hits + sum.misses == pool_leases_, "leases of pools are not counted as they were");
    pool_leases_ = sum.hits + sum.misses;  // said once
  }
  // All of it at once: clients, pools and backend.
  void End() {
    ours_.client.reset();
    theirs_.client.reset();
    manager_.reset();
  }

 private:
  void Expect(bool met, const char* otherwise) {
    if (!met) rig_.Note(absl::UnknownError(otherwise));
  }
  // While nothing is leased: what came to the pools and did not go back is idle, and all that is
  // held of the kernel's.
  PoolReport CheckHeld() {
    const Report report = manager_->MakeReport();
    const PoolReport sum = Sum(report);
    const uint64_t idle = sum.held_bytes + sum.quarantined_bytes;
    Expect(report.buffers.empty(), "what is nobody's is reported as somebody's");
    uint64_t came = 0, went = 0;
    for (const PoolReport& pool : report.pools) {
      came += pool.misses * pool.block_bytes;
      for (const uint64_t bytes : pool.given_back_bytes) went += bytes;
    }
    Expect(came == went + idle, "what came to the pools neither lies there nor went back");
    // A mapping that is kept is of what has gone.
    Expect(rig_.budget().held() == idle || manager_->backend().kept_mappings() != 0,
           "what the pools hold is not what the budget does");
    return sum;
  }

  Rig<B>& rig_;
  Request request_;
  uint64_t pool_leases_ = 0;
  std::optional<Manager> manager_;
  Domain ours_{.byte = 1, .as_is = false};
  Domain theirs_{.byte = 2, .as_is = true};
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_FAULT_POOLS_H_
