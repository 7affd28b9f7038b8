// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/builds/plugin.h
//
// What tests/builds/plugin.cc offers, under the symbol ion_test_plugin.
#ifndef ION_TESTS_BUILDS_PLUGIN_H_
#define ION_TESTS_BUILDS_PLUGIN_H_

struct Plugin {
  // Opens a Manager with pools, and takes so many leases through a client of it, one after the
  // other. How many of them were hits, or -1.
  int (*lease)(int count);
};

extern "C" const Plugin ion_test_plugin;

#endif  // ION_TESTS_BUILDS_PLUGIN_H_
