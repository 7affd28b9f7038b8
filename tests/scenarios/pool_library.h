// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/scenarios/pool_library.h
//
// What tests/scenarios/pool_library.cc offers, under the symbol pool_library.

#ifndef ION_TESTS_SCENARIOS_POOL_LIBRARY_H_
#define ION_TESTS_SCENARIOS_POOL_LIBRARY_H_

struct PoolLibrary {
  bool (*open)();            // makes a pool with 100 blocks
  int (*swing)(int);         // acquires up to so many, releases them; how many, or -1
  int (*close)();            // ends the pool; how many lay in it
  const void* (*statics)();  // where the library's table of pools is
};

extern "C" const PoolLibrary pool_library;

#endif  // ION_TESTS_SCENARIOS_POOL_LIBRARY_H_
