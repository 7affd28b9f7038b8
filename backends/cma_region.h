// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/cma_region.h
//
// How large a region of contiguous memory (CMA) is, and how much of it is free: for the error of an
// allocation that it could not serve.
//
// Example:
//   const std::optional<ion::Room> room = ion::CmaRoomOf(sys, names);
//
// Cost: three system calls a file, two files at most for each name. Thread-safe.
#ifndef ION_BACKENDS_CMA_REGION_H_
#define ION_BACKENDS_CMA_REGION_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>

#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/kernel_text.h"
#include "ion/base/memory_info.h"
#include "ion/base/syscalls.h"

namespace ion {

namespace internal {

// Reads a file of a region, in bytes; nothing if there is no such file.
template <Syscalls Sys>
std::optional<uint64_t> CmaBytes(const Sys& sys, std::string_view region,
                                 const char* file) noexcept {
  char path[320], text[32];
  std::snprintf(path, sizeof(path), "/sys/kernel/mm/cma/%.*s/%s", static_cast<int>(region.size()),
                region.data(), file);
  const std::optional<std::string_view> read = ReadBegin(sys, path, text, sizeof(text));
  if (!read.has_value()) return std::nullopt;
  const std::optional<uint64_t> pages = WholeNumber(*read);
  return pages.has_value() ? std::optional(*pages * PageBytes()) : std::nullopt;
}

}  // namespace internal

// Of the region that has one of `names`, as sysfs tells (CONFIG_CMA_SYSFS, and a kernel that counts
// pages there). Nothing: it does not tell.
template <Syscalls Sys>
std::optional<Room> CmaRoomOf(const Sys& sys, std::span<const std::string_view> names) noexcept {
  for (const std::string_view name : names) {
    const auto total = internal::CmaBytes(sys, name, "total_pages");
    const auto free = internal::CmaBytes(sys, name, "available_pages");
    if (total.has_value() && free.has_value()) return Room{.free = *free, .total = *total};
  }
  return std::nullopt;
}

// Returns the size in bytes of a region that would have room for `bytes` beside the memory in use
// now: whole steps of 16 MiB, as CMA takes whole blocks of pages (4 MiB on most machines).
constexpr uint64_t EnoughFor(const Room& room, uint64_t bytes) noexcept {
  constexpr uint64_t kStep = uint64_t{16} << 20;
  // If so much is free, it lies in pieces that are too short.
  const uint64_t used = bytes > room.free ? room.total - room.free : room.total;
  return (used + bytes + kStep - 1) / kStep * kStep;
}
// Of all regions together, as /proc/meminfo tells. Nothing: there is none.
template <Syscalls Sys>
std::optional<Room> CmaRoomOfAll(const Sys& sys) noexcept {
  char text[4096];
  const auto read = internal::ReadBegin(sys, "/proc/meminfo", text, sizeof(text));
  if (!read.has_value()) return std::nullopt;
  const auto total = MemoryInfo::BytesAfter(*read, "CmaTotal:");
  const auto free = MemoryInfo::BytesAfter(*read, "CmaFree:");
  if (!total.has_value() || !free.has_value() || *total == 0) return std::nullopt;
  return Room{.free = *free, .total = *total};
}

}  // namespace ion

#endif  // ION_BACKENDS_CMA_REGION_H_
