// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/libraries/lease_library.h
//
// What bench/libraries/lease_library.cc offers: in a shared library under the symbol
// ion_bench_leases.
#ifndef ION_BENCH_LIBRARIES_LEASE_LIBRARY_H_
#define ION_BENCH_LIBRARIES_LEASE_LIBRARY_H_

#include <cstdint>

// Takes so many leases of a page, one after the other, each a hit but for the first of all. False:
// there is no memory.
using LeaseLoop = bool(int64_t count);

extern "C" LeaseLoop ion_bench_leases;

#endif  // ION_BENCH_LIBRARIES_LEASE_LIBRARY_H_
