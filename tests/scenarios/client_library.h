// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/scenarios/client_library.h
//
// What tests/scenarios/client_library.cc offers, under the symbol client_library: two libraries of
// hidden visibility hand a client, and then a Manager, to each other.

#ifndef ION_TESTS_SCENARIOS_CLIENT_LIBRARY_H_
#define ION_TESTS_SCENARIOS_CLIENT_LIBRARY_H_

#include <cstdint>

struct ClientLibrary {
  void* (*open)();                  // a Manager with pools
  void* (*create)(void* manager);   // a client of it with a quota of 16 pages; nullptr: refused
  int (*use)(void* client);         // allocates, keeps, shares, imports and frees: 0, or the line
  uint64_t (*held)(void* client);   // bytes that it is charged
  uint64_t (*idle)(void* manager);  // bytes that lie in its pools; and trims them
  void (*close)(void* client);
  void (*end)(void* manager);
};

extern "C" const ClientLibrary client_library;

#endif  // ION_TESTS_SCENARIOS_CLIENT_LIBRARY_H_
