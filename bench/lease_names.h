// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/lease_names.h
//
// What the names of bench/pool_path.cc say: memory, case, bytes.
#ifndef ION_BENCH_LEASE_NAMES_H_
#define ION_BENCH_LEASE_NAMES_H_

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ion::bench {

// The order of tables; what ends another comes after it.
inline constexpr std::string_view kLeases[] = {
    "CameraKernel", "Camera",         "Kernel",         "Hit",  "HitUsed",
    "Scrubbed",     "ScrubbedOnFree", "ScrubbedBefore", "Miss", "Shared",
};

struct LeaseName {
  std::string memory;  // for people
  std::string_view lease;
  uint64_t bytes = 0;
};

inline std::string MemoryTitle(std::string_view memory) {
  constexpr std::string_view kTitles[][2] = {
      {"Memfd", "memfd"},
      {"Udmabuf", "udmabuf"},
      {"DmaHeap", "dma-heap, system"},
      {"DmaHeapContiguous", "dma-heap, contiguous"},
      {"IonUncached", "ION, uncached"},
      {"IonCached", "ION, cached"},
  };
  for (const auto& [id, title] : kTitles) {
    if (memory == id) return std::string(title);
  }
  return std::string(memory);
}

// BM_UdmabufHit/4096 -> {udmabuf, Hit, 4096}; nothing: another benchmark's name.
inline std::optional<LeaseName> ParseLeaseName(std::string_view name) {
  constexpr std::string_view kPrefix = "BM_";
  const size_t slash = name.find('/');
  if (!name.starts_with(kPrefix) || slash == std::string_view::npos) return std::nullopt;
  const std::string_view what = name.substr(kPrefix.size(), slash - kPrefix.size());
  uint64_t bytes = 0;
  const char* const digits = name.data() + slash + 1;
  if (std::from_chars(digits, name.data() + name.size(), bytes).ec != std::errc()) {
    return std::nullopt;
  }
  for (const std::string_view lease : kLeases) {
    if (!what.ends_with(lease) || what == lease) continue;
    return LeaseName{MemoryTitle(what.substr(0, what.size() - lease.size())), lease, bytes};
  }
  return std::nullopt;
}

}  // namespace ion::bench

#endif  // ION_BENCH_LEASE_NAMES_H_
