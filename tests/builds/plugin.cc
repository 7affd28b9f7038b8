// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// A shared library with a Manager inside, as a driver's plug-in has one: plugin_test opens many
// copies of it.

#include "tests/builds/plugin.h"

#include "absl/status/statusor.h"
#include "ion/backends/memfd.h"
#include "ion/buffer.h"
#include "ion/client.h"
#include "ion/manager.h"
#include "ion/policies/pooled_heap.h"
#include "ion/policies/system_heap.h"
#include "ion/report.h"

[[gnu::visibility("default")]] extern const Plugin ion_test_plugin = {
    .lease =
        [](int count) {
          using B = ion::MemfdBackend<>;
          auto manager = ion::Manager<B, ion::PooledHeap<ion::SystemHeap<B>>>::Open();
          if (!manager.ok()) return -1;
          auto client = manager->CreateClient({.name = "plugin", .recycle_as_is = true});
          if (!client.ok()) return -1;
          for (int i = 0; i < count; ++i) {
            if (!client->Allocate({.bytes = 4096}).ok()) return -1;
          }
          int hits = 0;
          for (const auto& pool : manager->MakeReport().pools) {
            hits += static_cast<int>(pool.hits);
          }
          return hits;
        },
};
