// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/pool.cc
//
// The pool, and what it is measured by; bench/README.md tells what each figure says.
#include <benchmark/benchmark.h>

#include "bench/dpdk_mempool.h"
#include "bench/exchanges.h"
#include "bench/ion_pool.h"
#include "bench/mutex_vector.h"
#include "bench/pool_drain.h"
#include "bench/pool_memory.h"
#include "bench/program.h"
#include "bench/spsc_ring.h"
#include "bench/tls_array.h"

#if ION_HAVE_BOOST_LOCKFREE
#include "bench/boost_lockfree.h"
#endif
#if ION_HAVE_CONCURRENTQUEUE
#include "bench/concurrent_queue.h"
#endif

namespace ion::bench {
namespace {

void RegisterAll() {
  RegisterExchanges<IonPool>("Pool");
  RegisterOwn<TlsArray>("TlsArray");
  RegisterHandOver<BareRing>("BareRing");
  RegisterDpdkMempool();
#if ION_HAVE_CONCURRENTQUEUE
  RegisterExchanges<ConcurrentQueue>("ConcurrentQueue");
#else
  RegisterMissing("ConcurrentQueue", "libconcurrentqueue-dev");
#endif
  RegisterExchanges<MutexVector>("MutexVector");
#if ION_HAVE_BOOST_LOCKFREE
  RegisterExchanges<BoostStack>("BoostStack");
  RegisterExchanges<BoostQueue>("BoostQueue");
#else
  RegisterMissing("BoostStack", "libboost-dev");
  RegisterMissing("BoostQueue", "libboost-dev");
#endif
  RegisterPoolDrain();
  RegisterPoolMemory();
}

}  // namespace
}  // namespace ion::bench

int main(int argc, char** argv) {
  return ion::bench::RunProgram(argc, argv,
                                {"--benchmark_repetitions=9", "--benchmark_min_time=0.05"},
                                ion::bench::RegisterAll);
}
