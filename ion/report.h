// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/report.h
//
// Report: the memory that each client holds, as data, and as text in the format of ION's debugfs.
//
// Example:
//   const ion::Report report = manager.MakeReport();
//   std::fputs(ion::HeapText(report, ion::HeapId{0}).c_str(), stderr);   // ION's heaps/<name>
//   std::fputs(ion::ClientText(report, "camera").c_str(), stderr);       // ION's clients/<name>
//   std::fputs(ion::PoolText(report).c_str(), stderr);
//   std::fputs(ion::SyncText(report).c_str(), stderr);                   // flushes sent, left out
//
// Each buffer's line is consistent in itself; different lines may be of different moments. The data
// has names as they were given; a text has them escaped (ion/base/printable.h).
//
// The texts are strings, so making one may throw bad_alloc.
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
#include "ion/base/format_text.h"
#include "ion/base/printable.h"
#include "ion/heap_id.h"
#include "ion/recycling.h"
#include "ion/sync_counts.h"

namespace ion {

struct HeapReport {
  HeapId id;
  std::string name;
};

// One piece of memory that is alive.
struct BufferReport {
  // As in the request, cut at 31 bytes. Empty, as the line is, if a pool moved the memory from
  // another client to its holder.
  std::string name;
  std::optional<HeapId> heap;  // none: imported
  std::string client;          // its holder; empty: the Manager's own
  int pid = 0;
  uint64_t bytes = 0;
  int64_t age_ns = 0;
  const char* file = "";  // which line allocated or imported it
  uint32_t line = 0;
  bool orphaned = false;  // its client, or its handle, is gone: a lease or a mapping keeps it
  // None: no stream has it, so that each scope is told of.
  std::optional<SyncCounts> syncs = {};
};

// The number of buffers that a client has, and its limit (ClientOptions::max_buffers): those of the
// report, and those idle in pools that it had last.
struct ClientReport {
  std::string name;
  int pid = 0;
  uint32_t buffers = 0;
  uint32_t most_buffers = 0;
};

struct Report {
  bool complete = true;           // false: there was no memory to tell of anything
  std::vector<HeapReport> heaps;  // those that have memory
  std::vector<BufferReport> buffers;
  std::vector<PoolReport> pools;      // of heaps that recycle
  std::vector<ClientReport> clients;  // those that have buffers
  // Leases whose memory no pool takes back, because there was no pool left for them.
  uint64_t unpooled = 0;

  // Returns the sum of the bytes of `buffers`.
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
      internal::AppendFormat(&orphans, "%16s %16d %16d %d %d\n", Printable(buffer.client),
                             buffer.pid, buffer.bytes, 0, 1);
    } else {
      clients[{buffer.client, buffer.pid}] += buffer.bytes;
    }
  }
  std::string text = internal::Format("%16s %16s %16s\n%s\n", "client", "pid", "size", rule);
  for (const auto& [client, bytes] : clients) {
    internal::AppendFormat(&text, "%16s %16d %16d\n", Printable(client.first), client.second,
                           bytes);
  }
  absl::StrAppend(&text, rule, "\n", "orphaned allocations (info is from last known client):\n",
                  orphans, rule, "\n");
  internal::AppendFormat(&text, "%16s %16d\n%16s %16d\n%s\n", "total orphaned", orphaned, "total ",
                         total, rule);
  return text;
}

// ION's debugfs file of a client: the bytes that it holds of each heap. Imported memory is listed
// last, as of no heap.
inline std::string ClientText(const Report& report, std::string_view client) {
  std::map<std::optional<HeapId>, uint64_t> heaps;
  for (const BufferReport& buffer : report.buffers) {
    if (buffer.client == client && !buffer.orphaned) heaps[buffer.heap] += buffer.bytes;
  }
  std::string text = internal::Format("%16.16s: %16.16s\n", "heap_name", "size_in_bytes");
  for (const HeapReport& heap : report.heaps) {
    if (const auto at = heaps.find(heap.id); at != heaps.end()) {
      internal::AppendFormat(&text, "%16s: %16d\n", Printable(heap.name, 16), at->second);
    }
  }
  if (const auto at = heaps.find(std::nullopt); at != heaps.end()) {
    internal::AppendFormat(&text, "%16.16s: %16d\n", "imported", at->second);
  }
  return text;
}

// How many buffers each client has, a line each.
inline std::string CountText(const Report& report) {
  std::string text =
      internal::Format("%16s %16s %16s %16s\n", "client", "pid", "buffers", "of at most");
  for (const ClientReport& client : report.clients) {
    internal::AppendFormat(&text, "%16s %16d %16d %16d\n", Printable(client.name), client.pid,
                           client.buffers, client.most_buffers);
  }
  return text;
}

// The content of the pools and its history: a line for each pool, in bytes but for the counts. A
// closed domain is listed until its last block is returned.
inline std::string PoolText(const Report& report) {
  std::string text = internal::Format("%16s %6s %10s %8s %10s %10s %12s %12s %10s %10s  %s\n",
                                      "heap", "domain", "size", "", "hits", "misses", "held",
                                      "quarantined", "scrubs", "moves", "given back");
  for (const PoolReport& pool : report.pools) {
    std::string heap, given;
    for (const HeapReport& each : report.heaps) {
      if (each.id == pool.heap) heap = Printable(each.name);
    }
    for (size_t why = 0; why < kGiveBacks; ++why) {
      if (pool.given_back_bytes[why] == 0) continue;
      if (!given.empty()) given += ", ";
      given += GiveBackName(static_cast<GiveBack>(why));
      absl::StrAppend(&given, " ", pool.given_back_bytes[why]);
    }
    const char* const caching = pool.cached.yes()  ? "cached"
                                : pool.cached.no() ? "uncached"
                                                   : "unknown";
    const std::string domain = pool.open ? absl::StrCat(pool.domain.slot) : "gone";
    internal::AppendFormat(&text, "%16s %6s %10d %8s %10d %10d %12d %12d %10d %10d  %s\n", heap,
                           domain, pool.block_bytes, caching, pool.hits, pool.misses,
                           pool.held_bytes, pool.quarantined_bytes, pool.scrubs, pool.moves,
                           given.empty() ? "nothing" : given);
  }
  if (report.unpooled != 0) {
    absl::StrAppend(&text, "no pool was left for ", report.unpooled, " leases\n");
  }
  return text;
}

// The begins and ends of CPU access that the kernel was told of, and those that were left out: a line
// for each buffer of a stream.
inline std::string SyncText(const Report& report) {
  std::string text = internal::Format("%16s %16s %12s %10s %10s %10s %10s\n", "client", "buffer",
                                      "size", "begins", "ends", "no begin", "no end");
  for (const BufferReport& buffer : report.buffers) {
    if (!buffer.syncs.has_value()) continue;
    internal::AppendFormat(&text, "%16s %16s %12d %10d %10d %10d %10d\n", Printable(buffer.client),
                           Printable(buffer.name), buffer.bytes, buffer.syncs->begins,
                           buffer.syncs->ends, buffer.syncs->elided_begins,
                           buffer.syncs->elided_ends);
  }
  return text;
}

// A line for each living buffer, as a Manager prints for buffers that outlive it.
inline std::string LeakText(const Report& report) {
  std::string text;
  for (const BufferReport& buffer : report.buffers) {
    internal::AppendFormat(
        &text,
        "ion: alive: %d bytes, name '%s', heap %s, client '%s' of process %d, %.3f s old, %s:%d\n",
        buffer.bytes, Printable(buffer.name),
        buffer.heap.has_value() ? absl::StrCat(buffer.heap->value()) : "none (imported)",
        Printable(buffer.client), buffer.pid, static_cast<double>(buffer.age_ns) / 1e9,
        Printable(buffer.file), buffer.line);
  }
  return text;
}

}  // namespace ion

#endif  // ION_ION_REPORT_H_
