// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Nobody sees stale bytes, of memory that was shared: another process imports it, writes into it
// and holds on, while it and the domains of this one go on. The controls are a pool that does not
// zero, and a backend that takes all memory for nobody else's.

#include <sched.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "doctest/doctest.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/backends/ion.h"
#include "ion/backends/memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/handle.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/system_heap.h"
#include "tests/support/byte_socket.h"
#include "tests/support/child.h"
#include "tests/support/kernel_release.h"
#include "tests/support/leak_check.h"
#include "tests/support/pinned.h"
#include "tests/support/pooled.h"
#include "tests/support/skip.h"
#include "tests/support/stale_bytes.h"

namespace ion::testing {
namespace {

// Another process. It writes into all that it was sent, at each word, and holds on to the last four
// of it: by a descriptor and a mapping, or by the mapping alone.
std::string WriteAndHold(FdRef socket) {
  struct Held {
    UniqueFd fd;
    void* at;
  };
  std::deque<Held> held;
  uint64_t received = 0;
  for (UniqueFd fd; const char word = ReceiveByte(socket, &fd);) {
    if (fd.valid()) {
      void* at = ::mmap(nullptr, kDomainBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
      if (at == MAP_FAILED) return "mmap: " + ErrnoName(errno);
      if (++received % 2 == 0) fd.reset();
      held.push_back({std::move(fd), at});
    }
    if (held.size() > 4) {
      ::munmap(held.front().at, kDomainBytes);
      held.pop_front();
    }
    for (const Held& one : held) std::memset(one.at, kPeersByte, kDomainBytes);
    if (!SendByte(socket, word)) return "it could not answer";
  }
  return "";
}
// Waits until it has.
bool Tell(const Child& peer, FdRef fd = {}) {
  return SendByte(peer.socket(), 'w', fd) && ReceiveByte(peer.socket()) == 'w';
}

// A domain lends the peer descriptors of what it releases then, and another one takes memory. The
// lender's own may show what the peer writes.
template <class M>
uint64_t StaleAfterLending(M& manager, Child& peer, std::span<Domain<M>> domains,
                           uint64_t recycles) {
  constexpr size_t kLeases = 16, kLent = 4;
  uint64_t stale = 0;
  bool well = true;
  for (uint64_t i = 0; i < recycles / kLeases && well; ++i) {
    std::vector<Buffer> leases;
    for (size_t n = 0; n < kLeases; ++n) leases.push_back(domains[0].Take());
    for (size_t n = 0; n < kLent; ++n) well = Tell(peer, leases[n].fd()) && well;
    leases.clear();
    manager.Trim(0);  // drains: what a thread has at hand is not moved
    for (size_t n = 0; n < kLeases; ++n) {
      leases.push_back(domains[1].Take());
      stale += domains[1].LookAndFill(leases.back());
    }
    well = Tell(peer) && well;
    for (const Buffer& own : leases) stale += domains[1].LookAgain(own);
    leases.clear();
    manager.Trim();
  }
  CHECK(well);
  return stale;
}

// A domain shares with the peer what it frees then, and it and others go on.
template <class M>
uint64_t StaleWithPeer(M&, Child& peer, std::span<Domain<M>> domains, uint64_t recycles) {
  uint64_t stale = 0;
  bool well = true;
  Domain<M>& sharer = domains[0];
  sharer.shares = true;
  for (uint64_t i = 0; i < recycles / 2 && well; ++i) {
    Buffer shared = sharer.Take();
    stale += sharer.LookAndFill(shared);
    const Handle handle = sharer.client.MakeHandle(std::move(shared)).value();
    well = Tell(peer, sharer.client.Share(handle).value().borrow());
    well = sharer.client.Free(handle).ok() && well;
    // Whoever gets memory now has it for himself.
    Domain<M>& next = domains[i % domains.size()];
    const Buffer own = next.Take();
    stale += next.LookAndFill(own);
    well = Tell(peer) && well;
    stale += next.LookAgain(own);
  }
  CHECK(well);
  return stale;
}

// A backend that takes all memory for nobody else's.
template <Backend B>
class Trusting : public B {
 public:
  static constexpr BackendCaps kCaps = [] {
    BackendCaps caps = B::kCaps;
    caps.proves_unshared = true;
    return caps;
  }();
  static Result<Trusting> Open(const typename B::Options& options) noexcept {
    Result<B> opened = B::Open(options);
    if (!opened.ok()) return opened.error();
    return Trusting(*std::move(opened));
  }
  Result<bool> IsUnshared(const Block&) noexcept { return true; }

 private:
  explicit Trusting(B&& backend) noexcept : B(std::move(backend)) {}
};

enum class Find { kNothing, kSomething };
enum class Way { kShared, kLent };

// A process gets memory of two domains, writes and holds on, if the machine has the memory.
template <class M>
void GiveToPeer(Way way, Find find, uint64_t recycles, bool as_is) {
  const LeakCheck leaks;
  // Two processes that take turns do so at once on one CPU; on two, a guest waits for a tick.
  const Pinned pinned(::sched_getcpu());
  Child peer(WriteAndHold);  // first: it inherits nothing
  {
    auto manager = M::Open();
    if (!manager.ok()) {
      const int code = ErrnoOf(manager.status());
      CHECK((code == ENOENT || code == ENODEV));
      return Skip(std::string(manager.status().message()));
    }
    std::array domains = {MakeDomain(*manager, 1, as_is), MakeDomain(*manager, 2, as_is)};
    const uint64_t stale =
        (way == Way::kShared ? StaleWithPeer<M> : StaleAfterLending<M>)(*manager, peer, domains,
                                                                        recycles);
    if (find == Find::kNothing) {
      CHECK(stale == 0);
    } else {
      CHECK(stale >= recycles / 100);
    }
    // What was shared has been recycled, and not replaced; but where its pages may be lent.
    const PoolReport sum = Sum(manager->MakeReport());
    const bool recycled = BackendOf<M>::kCaps.proves_unshared && !IsAs510();
    if (way == Way::kShared && recycled) CHECK(sum.misses <= 64);
  }
  const ChildEnd end = peer.Join();
  CHECK(end.text == "");
  CHECK(end.exit_code == 0);
}

template <class Inner>
void FindsNothing(uint64_t recycles) {
  using M = Pooled<Inner>;
  SUBCASE("as it is") { GiveToPeer<M>(Way::kShared, Find::kNothing, recycles / 2, true); }
  SUBCASE("zeroed") { GiveToPeer<M>(Way::kShared, Find::kNothing, recycles / 2, false); }
  SUBCASE("lent, as it is") { GiveToPeer<M>(Way::kLent, Find::kNothing, recycles / 2, true); }
  SUBCASE("lent, zeroed") { GiveToPeer<M>(Way::kLent, Find::kNothing, recycles / 2, false); }
}
template <template <class> class HeapOf, class B>
void FindsControls() {
  using Unproven = Pooled<HeapOf<Trusting<B>>>;
  SUBCASE("with the proof off") {
    GiveToPeer<Unproven>(Way::kShared, Find::kSomething, 1000, true);
  }
  SUBCASE("with the proof off, zeroed") {
    GiveToPeer<Unproven>(Way::kShared, Find::kSomething, 1000, false);
  }
  SUBCASE("with the proof off, lent") {
    GiveToPeer<Unproven>(Way::kLent, Find::kSomething, 1000, true);
  }
  SUBCASE("with the zeroing off") {
    GiveToPeer<Unzeroed<HeapOf<B>>>(Way::kShared, Find::kSomething, 1000, false);
  }
}

template <class B>
using System = SystemHeap<B>;
template <class B>
using Dma = DmaHeap<B>;

TEST_CASE("StaleBytes: a memfd that a peer holds is never recycled") {
  FindsNothing<System<MemfdBackend<>>>(2000);
}
TEST_CASE("StaleBytes: 10,000 recycles while a peer holds on, dma_heap, system") {
  FindsNothing<System<DmaHeapBackend<>>>(4'000);
}
TEST_CASE("StaleBytes: 10,000 recycles while a peer holds on, dma_heap, cma") {
  FindsNothing<Dma<DmaHeapBackend<>>>(4'000);
}
TEST_CASE("StaleBytes: 10,000 recycles while a peer holds on, udmabuf") {
  FindsNothing<System<UdmabufBackend<>>>(4'000);
}
TEST_CASE("StaleBytes: 10,000 recycles while a peer holds on, ion, system") {
  FindsNothing<System<IonBackend<>>>(4'000);
}
TEST_CASE("StaleBytes: 10,000 recycles while a peer holds on, ion, cma") {
  FindsNothing<Dma<IonBackend<>>>(4'000);
}
TEST_CASE("StaleBytes: the search finds what is there, memfd") {
  FindsControls<System, MemfdBackend<>>();
}
TEST_CASE("StaleBytes: the search finds what is there, dma_heap") {
  FindsControls<System, DmaHeapBackend<>>();
}
TEST_CASE("StaleBytes: the search finds what is there, dma_heap, cma") {
  FindsControls<Dma, DmaHeapBackend<>>();
}
TEST_CASE("StaleBytes: the search finds what is there, udmabuf") {
  FindsControls<System, UdmabufBackend<>>();
}
TEST_CASE("StaleBytes: the search finds what is there, ion") {
  FindsControls<System, IonBackend<>>();
}

}  // namespace
}  // namespace ion::testing
