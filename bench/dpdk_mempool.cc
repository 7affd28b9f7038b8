// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
#include "bench/dpdk_mempool.h"

#include "bench/exchanges.h"

#if ION_HAVE_DPDK
#include <rte_config.h>  // first: the others rely on it
#include <rte_eal.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <sched.h>

#include <cstdio>
#include <iterator>
#include <span>

#include "bench/contender.h"
#include "ion/base/check.h"

namespace ion::bench {
namespace {

// DPDK's environment, without huge pages, devices or files. Once in the process, and it binds the
// calling thread to a processor, which is undone.
bool StartDpdk() {
  static const bool started = [] {
    const char* arguments[] = {"bench",          "--no-shconf",   "--no-huge", "--no-pci",
                               "--no-telemetry", "--log-level=4", "-m64",      "-l0",
                               nullptr};
    cpu_set_t allowed;
    ::sched_getaffinity(0, sizeof(allowed), &allowed);
    const bool ok = rte_eal_init(std::size(arguments) - 1, const_cast<char**>(arguments)) >= 0;
    ::sched_setaffinity(0, sizeof(allowed), &allowed);
    return ok;
  }();
  return started;
}

// Its blocks are in memory of its own, each with a header before it.
class DpdkMempool {
 public:
  // Its ring makes a thread wait for another that was preempted in the middle.
  static constexpr bool kOversubscribed = false;

  explicit DpdkMempool(std::span<Block>) {
    ION_CHECK(StartDpdk(), "DPDK's environment does not start: see what it says above");
    // Twice as many as the others have: its caches would hoard them all.
    pool_ = rte_mempool_create("bench", 2 * kBlocks - 1, sizeof(Block), 32, 0, nullptr, nullptr,
                               nullptr, nullptr, SOCKET_ID_ANY, 0);
    ION_CHECK(pool_ != nullptr, "rte_mempool_create failed");
  }
  DpdkMempool(const DpdkMempool&) = delete;
  DpdkMempool& operator=(const DpdkMempool&) = delete;
  ~DpdkMempool() { rte_mempool_free(pool_); }

  // Gives the thread the number that its cache goes by.
  struct Thread {
    Thread(DpdkMempool&, int)
        : registered(rte_lcore_id() == LCORE_ID_ANY && rte_thread_register() == 0) {
      ION_CHECK(rte_lcore_id() != LCORE_ID_ANY, "DPDK has no number for this thread");
    }
    Thread(const Thread&) = delete;
    Thread& operator=(const Thread&) = delete;
    ~Thread() {
      if (registered) rte_thread_unregister();
    }
    bool registered;
  };
  Block* Acquire(Thread&) {
    void* block;
    return rte_mempool_get(pool_, &block) == 0 ? static_cast<Block*>(block) : nullptr;
  }
  void Release(Thread&, Block* block) { rte_mempool_put(pool_, block); }

 private:
  rte_mempool* pool_;
};

}  // namespace

void RegisterDpdkMempool() { RegisterExchanges<DpdkMempool>("DpdkMempool"); }

}  // namespace ion::bench

#else

namespace ion::bench {

void RegisterDpdkMempool() { RegisterMissing("DpdkMempool", "libdpdk-dev"); }

}  // namespace ion::bench

#endif
