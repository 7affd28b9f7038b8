// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/conformance/backend_conformance.h
//
// What ion/backend.h asks of every backend, one fact per test case, on every heap that the backend
// lists. A backend runs it with a file of a few lines (tests/conformance/memfd_conformance.cc); one
// that makes dma-bufs adds tests/conformance/dma_buf_conformance.h.
//
// Every case ends with no bytes held, no error in the sink, and the descriptors and mappings that
// it began with (OnEachHeap).

#ifndef ION_TESTS_CONFORMANCE_BACKEND_CONFORMANCE_H_
#define ION_TESTS_CONFORMANCE_BACKEND_CONFORMANCE_H_

#include "tests/conformance/backend_access_facts.h"
#include "tests/conformance/backend_memory_facts.h"
#include "tests/conformance/backend_sharing_facts.h"
#include "tests/support/backend_suite.h"

// Runs the suite on backends under test (tests/support/backend_suite.h).
#define ION_BACKEND_CONFORMANCE(...)               \
  namespace ion::testing {                         \
  ION_SUITE_INVOKE(lists_heaps, __VA_ARGS__);      \
  ION_SUITE_INVOKE(default_budget, __VA_ARGS__);   \
  ION_SUITE_INVOKE(sizes, __VA_ARGS__);            \
  ION_SUITE_INVOKE(block_facts, __VA_ARGS__);      \
  ION_SUITE_INVOKE(zeroed, __VA_ARGS__);           \
  ION_SUITE_INVOKE(zeroed_again, __VA_ARGS__);     \
  ION_SUITE_INVOKE(holds, __VA_ARGS__);            \
  ION_SUITE_INVOKE(close_on_exec, __VA_ARGS__);    \
  ION_SUITE_INVOKE(refused_sizes, __VA_ARGS__);    \
  ION_SUITE_INVOKE(budget, __VA_ARGS__);           \
  ION_SUITE_INVOKE(rounded_budget, __VA_ARGS__);   \
  ION_SUITE_INVOKE(private_flags, __VA_ARGS__);    \
  ION_SUITE_INVOKE(caching, __VA_ARGS__);          \
  ION_SUITE_INVOKE(no_such_heap, __VA_ARGS__);     \
  ION_SUITE_INVOKE(two_mappings, __VA_ARGS__);     \
  ION_SUITE_INVOKE(parts, __VA_ARGS__);            \
  ION_SUITE_INVOKE(ranges, __VA_ARGS__);           \
  ION_SUITE_INVOKE(bad_ranges, __VA_ARGS__);       \
  ION_SUITE_INVOKE(map_nothing, __VA_ARGS__);      \
  ION_SUITE_INVOKE(map_modes, __VA_ARGS__);        \
  ION_SUITE_INVOKE(map_to_keep, __VA_ARGS__);      \
  ION_SUITE_INVOKE(abandon, __VA_ARGS__);          \
  ION_SUITE_INVOKE(release, __VA_ARGS__);          \
  ION_SUITE_INVOKE(release_nothing, __VA_ARGS__);  \
  ION_SUITE_INVOKE(release_reserved, __VA_ARGS__); \
  ION_SUITE_INVOKE(directions, __VA_ARGS__);       \
  ION_SUITE_INVOKE(nested, __VA_ARGS__);           \
  ION_SUITE_INVOKE(names, __VA_ARGS__);            \
  ION_SUITE_INVOKE(share, __VA_ARGS__);            \
  ION_SUITE_INVOKE(share_nothing, __VA_ARGS__);    \
  ION_SUITE_INVOKE(share_outlives, __VA_ARGS__);   \
  ION_SUITE_INVOKE(other_process, __VA_ARGS__);    \
  ION_SUITE_INVOKE(import_own, __VA_ARGS__);       \
  ION_SUITE_INVOKE(import_copies, __VA_ARGS__);    \
  ION_SUITE_INVOKE(import_refuses, __VA_ARGS__);   \
  ION_SUITE_INVOKE(import_read_only, __VA_ARGS__); \
  ION_SUITE_INVOKE(threads, __VA_ARGS__);          \
  }                                                \
  static_assert(true)

#endif  // ION_TESTS_CONFORMANCE_BACKEND_CONFORMANCE_H_
