// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/report.h
//
// Report: who holds what, as data, and in the words of ION's debugfs.
//
// Example:
//   const ion::Report report = manager.MakeReport();
//   std::fputs(ion::HeapText(report, ion::HeapId{0}).c_str(), stderr);   // ION's heaps/<name>
//   std::fputs(ion::ClientText(report, "camera").c_str(), stderr);       // ION's clients/<name>
//   std::fputs(ion::PoolText(report).c_str(), stderr);
//
// What it says is from one moment for each buffer, not for all of them together.
//
// Cost: a lock that allocations and releases take as well, while every buffer is looked at.
// Thread-compatible.
#ifndef ION_ION_REPORT_H_
#define ION_ION_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"

namespace ion {

struct HeapReport {
  HeapId id;
  std::string name;
};

// One piece of memory that is alive.
struct BufferReport {
  std::string name;            // as in the request, cut at 31 bytes
  std::optional<HeapId> heap;  // none: imported
  std::string client;          // empty: the Manager's own
  int pid = 0;
  uint64_t bytes = 0;
  int64_t age_ns = 0;
  const char* file = "";  // which line allocated or imported it
  uint32_t line = 0;
  bool orphaned = false;  // its client, or its handle, is gone: a lease or a mapping keeps it
};

struct Report {
  std::vector<HeapReport> heaps;  // those that have memory
  std::vector<BufferReport> buffers;
  std::vector<PoolReport> pools;  // of heaps that recycle

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const BufferReport& buffer : buffers) sum += buffer.bytes;
    return sum;
  }
};

// ION's debugfs file of a heap (Linux 4.2): each client's sum, then the orphans.
inline std::string HeapText(const Report& report, HeapId heap) {
  const std::string rule(52, '-');
  std::map<std::pair<std::string, int>, uint64_t> clients;
  std::string orphans;
  uint64_t total = 0, orphaned = 0;
  for (const BufferReport& buffer : report.buffers) {
    if (buffer.heap != heap) continue;
    total += buffer.bytes;
    if (buffer.orphaned) {
      orphaned += buffer.bytes;
      // No count of kernel mappings is kept, and one reference is what keeps it alive.
      absl::StrAppendFormat(&orphans, "%16s %16d %16d %d %d\n", buffer.client, buffer.pid,
                            buffer.bytes, 0, 1);
    } else {
      clients[{buffer.client, buffer.pid}] += buffer.bytes;
    }
  }
  std::string text = absl::StrFormat("%16s %16s %16s\n%s\n", "client", "pid", "size", rule);
  for (const auto& [client, bytes] : clients) {
    absl::StrAppendFormat(&text, "%16s %16d %16d\n", client.first, client.second, bytes);
  }
  absl::StrAppend(&text, rule, "\n", "orphaned allocations (info is from last known client):\n",
                  orphans, rule, "\n");
  absl::StrAppendFormat(&text, "%16s %16d\n%16s %16d\n%s\n", "total orphaned", orphaned, "total ",
                        total, rule);
  return text;
}

// ION's debugfs file of a client: what it holds of each heap. Imported memory is listed last, as of
// no heap.
inline std::string ClientText(const Report& report, std::string_view client) {
  std::map<std::optional<HeapId>, uint64_t> heaps;
  for (const BufferReport& buffer : report.buffers) {
    if (buffer.client == client && !buffer.orphaned) heaps[buffer.heap] += buffer.bytes;
  }
  std::string text = absl::StrFormat("%16.16s: %16.16s\n", "heap_name", "size_in_bytes");
  for (const HeapReport& heap : report.heaps) {
    if (const auto at = heaps.find(heap.id); at != heaps.end()) {
      absl::StrAppendFormat(&text, "%16.16s: %16d\n", heap.name, at->second);
    }
  }
  if (const auto at = heaps.find(std::nullopt); at != heaps.end()) {
    absl::StrAppendFormat(&text, "%16.16s: %16d\n", "imported", at->second);
  }
  return text;
}

// What lies in pools, and what became of it: a line for each pool, in bytes where it is no count.
// Who has gone still has a line while blocks of his are out.
inline std::string PoolText(const Report& report) {
  std::string text = absl::StrFormat("%16s %6s %10s %8s %10s %10s %12s %12s %10s %10s  %s\n",
                                     "heap", "domain", "size", "", "hits", "misses", "held",
                                     "quarantined", "scrubs", "moves", "given back");
  for (const PoolReport& pool : report.pools) {
    std::string heap, given;
    for (const HeapReport& each : report.heaps) {
      if (each.id == pool.heap) heap = each.name;
    }
    for (size_t why = 0; why < kGiveBacks; ++why) {
      if (pool.given_back_bytes[why] == 0) continue;
      if (!given.empty()) given += ", ";
      given += GiveBackName(static_cast<GiveBack>(why));
      absl::StrAppend(&given, " ", pool.given_back_bytes[why]);
    }
    const std::string domain = pool.open ? absl::StrCat(pool.domain.slot) : "gone";
    absl::StrAppendFormat(&text, "%16s %6s %10d %8s %10d %10d %12d %12d %10d %10d  %s\n", heap,
                          domain, pool.block_bytes, pool.cached ? "cached" : "uncached", pool.hits,
                          pool.misses, pool.held_bytes, pool.quarantined_bytes, pool.scrubs,
                          pool.moves, given.empty() ? "nothing" : given);
  }
  return text;
}

// Everything that is alive, a line each: what a Manager says of what outlives it.
inline std::string LeakText(const Report& report) {
  std::string text;
  for (const BufferReport& buffer : report.buffers) {
    absl::StrAppendFormat(
        &text,
        "ion: alive: %d bytes, name '%s', heap %s, client '%s' of process %d, %.3f s old, %s:%d\n",
        buffer.bytes, buffer.name,
        buffer.heap.has_value() ? absl::StrCat(buffer.heap->value()) : "none (imported)",
        buffer.client, buffer.pid, static_cast<double>(buffer.age_ns) / 1e9, buffer.file,
        buffer.line);
  }
  return text;
}

}  // namespace ion

#endif  // ION_ION_REPORT_H_
