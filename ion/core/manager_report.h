// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/manager_report.h
//
// Makes a Manager's report (ion/report.h): its heaps, the buffers of each client, and the counters
// of its pools. Prints what is mapped where a mapping outlives its buffer.
//
// Not for users.
//
// Cost: a walk over all blocks, of which each waits for the mutex of its list.
#ifndef ION_ION_CORE_MANAGER_REPORT_H_
#define ION_ION_CORE_MANAGER_REPORT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "ion/base/printable.h"
#include "ion/base/with_memory.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/heap_id.h"
#include "ion/report.h"
#include "ion/request.h"
#include "ion/slab.h"
#include "ion/sync_counts.h"

namespace ion::internal {

// Lists the leases; idle blocks in pools are no buffers. A lease that begins or ends meanwhile may
// be listed or not.
template <class Core>
Report MakeReport(Core& core) {
  Report report;
  if (core.InChild()) return report;
  std::vector<const Block*> idle;
  core.recycling_.List(idle, report);
  std::ranges::sort(idle);
  core.heaps_.Walk([&](const auto& heap, size_t at) {
    if (heap.ok()) report.heaps.push_back({Core::Heaps::kIds[at], std::string(heap->name())});
    return false;
  });
  const int64_t now = BlockNote::NowNs();
  std::set<const ClientIdentity*> counted;
  core.blocks_.ForEachListed([&](const Block& block, const BlockNote& listed) {
    if (listed.client != nullptr && counted.insert(listed.client.get()).second) {
      report.clients.push_back({.name = listed.client->name,
                                .pid = listed.client->pid,
                                .buffers = listed.client->buffers.load(std::memory_order_relaxed),
                                .most_buffers = listed.client->most_buffers});
    }
    // A block that was taken from the pools before they were listed has the mark since then.
    if (block.Marked(Block::kLeaving) || std::ranges::binary_search(idle, &block)) return;
    // Its note is of the lease that went to the kernel for it, and a hit tells nobody.
    BlockNote note = listed;
    const std::shared_ptr<const ClientIdentity> holder =
        core.clients_.Find(LeaseAccess::LastOf(block).account());
    if (holder != nullptr && holder != note.client) note.SetHolder(holder);
    const bool known = note.client != nullptr;
    report.buffers.push_back(
        {.name = note.name,
         .heap = note.foreign ? std::nullopt : std::optional<HeapId>(Core::Heaps::kIds[note.heap]),
         .client = known ? note.client->name : "",
         .pid = known ? note.client->pid : 0,
         .bytes = note.bytes,
         .age_ns = now - note.born_ns,
         .file = note.where.file,
         .line = note.where.line,
         .orphaned = note.orphaned || (known && !note.client->open.load()),
         .syncs = note.counts == nullptr ? std::nullopt : std::optional(note.counts->Get())});
  });
  return report;
}

// Prints the name of a buffer, its heap, its size and its mappings to the standard error. A
// recycled block's note may have the name of a former lease, so that is left out.
template <class Core>
void PrintMapped(Core& core, const Block& block) noexcept {
  CallSite where;
  char name[sizeof(BlockNote::name)] = {};
  // A child has a copy of the table's mutex, which somebody may hold.
  if (!core.InChild() && !core.recycling_.Owns(block)) {
    core.blocks_.Amend(block, [&](const BlockNote& note) {
      std::copy(std::begin(note.name), std::end(note.name), name);
      where = note.where;
    });
  }
  (void)TryWithMemory([&] {
    std::string text = absl::StrCat("ion: buffer '", Printable(name), "' of ", block.bytes,
                                    " bytes, of heap '", Printable(core.heaps_.NameOf(block)), "'");
    if (where.line != 0) absl::StrAppend(&text, ", allocated at ", where.file, ":", where.line);
    absl::StrAppend(&text, ", has ", block.mappings, " CpuMapping", block.mappings == 1 ? "" : "s");
    if (block.mapping != nullptr) {
      const auto at = reinterpret_cast<uintptr_t>(block.mapping);
      absl::StrAppend(&text, "; all of it is mapped at 0x", absl::Hex(at));
    }
    std::fputs((text + ": end each mapping before its Buffer\n").c_str(), stderr);
  });
}

}  // namespace ion::internal

#endif  // ION_ION_CORE_MANAGER_REPORT_H_
