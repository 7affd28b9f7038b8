// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/manager_report.h
//
// What a Manager's report says (ion/report.h): its heaps, who holds which buffers, and what its
// pools did.
//
// Not for users.
//
// Cost: a walk over all blocks, of which each waits for the mutex of its list.
#ifndef ION_ION_MANAGER_REPORT_H_
#define ION_ION_MANAGER_REPORT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ion/block.h"
#include "ion/heap_id.h"
#include "ion/report.h"
#include "ion/slab.h"

namespace ion::internal {

// What lies in pools is no buffer. (While it is told apart, pools are empty for a moment.)
template <class Core>
Report MakeReport(Core& core) {
  Report report;
  if (core.InChild()) return report;
  std::vector<const Block*> idle;
  core.ForEachRecycling([&](auto& heap) {
    heap.ListIdle(idle);
    heap.ListPools(report.pools);
  });
  std::ranges::sort(idle);
  Core::Walk(core, [&](const auto& heap, size_t at) {
    if (heap.ok()) report.heaps.push_back({Core::kIds[at], std::string(heap->name())});
    return false;
  });
  const int64_t now = BlockNote::NowNs();
  core.blocks.ForEachListed([&](const Block& block, const BlockNote& note) {
    if (std::ranges::binary_search(idle, &block)) return;
    const bool known = note.client != nullptr;
    report.buffers.push_back(
        {.name = note.name,
         .heap = note.foreign ? std::nullopt : std::optional<HeapId>(Core::kIds[note.heap]),
         .client = known ? note.client->name : "",
         .pid = known ? note.client->pid : 0,
         .bytes = note.bytes,
         .age_ns = now - note.born_ns,
         .file = note.where.file,
         .line = note.where.line,
         .orphaned = note.orphaned || (known && !note.client->open.load())});
  });
  return report;
}

}  // namespace ion::internal

#endif  // ION_ION_MANAGER_REPORT_H_
