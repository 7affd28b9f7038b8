// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/dpdk_mempool.h
//
// DPDK's rte_mempool with a cache of 32 for each thread, over its default ring: the best that
// exists. A translation unit of its own, as DPDK's headers want a processor of their own.
#ifndef ION_BENCH_DPDK_MEMPOOL_H_
#define ION_BENCH_DPDK_MEMPOOL_H_

namespace ion::bench {

void RegisterDpdkMempool();

}  // namespace ion::bench

#endif  // ION_BENCH_DPDK_MEMPOOL_H_
