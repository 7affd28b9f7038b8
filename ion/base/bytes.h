// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/bytes.h
//
// Sizes in bytes: the literals _KiB, _MiB and _GiB, and rounding to the machine's pages, which is
// what every kernel interface does to a request.
//
// Example:
//   using namespace ion::literals;
//   auto frame = manager.Allocate({.bytes = 8_MiB});
#ifndef ION_ION_BASE_BYTES_H_
#define ION_ION_BASE_BYTES_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>

namespace ion {

// Inline, so that code inside namespace ion needs no using directive.
inline namespace literals {

constexpr uint64_t operator""_KiB(unsigned long long n) { return n << 10; }
constexpr uint64_t operator""_MiB(unsigned long long n) { return n << 20; }
constexpr uint64_t operator""_GiB(unsigned long long n) { return n << 30; }

}  // namespace literals

// The machine's page in bytes: 4 KiB on x86-64; 4, 16 or 64 KiB on arm64. Read from the auxiliary
// vector: no system call.
inline uint64_t PageBytes() noexcept { return static_cast<uint64_t>(::sysconf(_SC_PAGESIZE)); }

inline bool IsPageAligned(uint64_t bytes) noexcept { return bytes % PageBytes() == 0; }

// The number of pages that hold `bytes`.
inline uint64_t PagesIn(uint64_t bytes) noexcept {
  return bytes / PageBytes() + (bytes % PageBytes() != 0 ? 1 : 0);
}

// `bytes` as a length in memory. A 32-bit program gets SIZE_MAX for a length that it cannot
// address: mmap answers that with ENOMEM.
constexpr size_t AddressableBytes(uint64_t bytes) noexcept {
  return bytes > SIZE_MAX ? SIZE_MAX : static_cast<size_t>(bytes);
}

// `bytes` rounded up to whole pages; nothing where that does not fit into 64 bits.
inline std::optional<uint64_t> RoundUpToPages(uint64_t bytes) noexcept {
  const uint64_t page = PageBytes();
  if (bytes > UINT64_MAX - (page - 1)) return std::nullopt;
  return (bytes + page - 1) / page * page;
}

}  // namespace ion

#endif  // ION_ION_BASE_BYTES_H_
