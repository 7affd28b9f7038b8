// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/physical_memory.h
//
// Physical memory through /dev/mem, in the guest only: the range that its kernel leaves alone,
// which tests may write, and the memory of dma-bufs whose addresses tests/support/scatter_probe.h
// tells.
//
// Example:
//   const std::optional<PhysicalRange> reserved = ReservedRange();
//   if (!reserved.has_value()) return Skip(kNoReservedRange);
//   const PhysicalMapping mapping(*reserved);
//   REQUIRE(mapping.ok());
//   mapping.bytes()[0] = std::byte{1};

#ifndef ION_TESTS_SUPPORT_PHYSICAL_MEMORY_H_
#define ION_TESTS_SUPPORT_PHYSICAL_MEMORY_H_

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>

#include "ion/base/fd.h"

namespace ion::testing {

struct PhysicalRange {
  uint64_t base = 0;
  uint64_t bytes = 0;
};

inline constexpr const char* kNoReservedRange =
    "no ION_RESERVED_BASE and ION_RESERVED_BYTES: no physical memory is reserved";

// What tests/guest/guest tells in these variables; on a machine of which nobody said so, nothing
// may be written through /dev/mem.
inline std::optional<PhysicalRange> ReservedRange() {
  const char* const base = std::getenv("ION_RESERVED_BASE");
  const char* const bytes = std::getenv("ION_RESERVED_BYTES");
  if (base == nullptr || bytes == nullptr) return std::nullopt;
  return PhysicalRange{std::strtoull(base, nullptr, 0), std::strtoull(bytes, nullptr, 0)};
}

// A mapping of a range of whole pages. The kernel lets each be of its own: two of one range share
// nothing but the memory.
class PhysicalMapping {
 public:
  explicit PhysicalMapping(PhysicalRange range) : bytes_(range.bytes) {
    const UniqueFd memory(::open("/dev/mem", O_RDWR | O_CLOEXEC));
    if (memory.valid()) {
      at_ = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(),
                   static_cast<off_t>(range.base));
    }
    if (!ok()) errno_code_ = errno;
  }
  PhysicalMapping(const PhysicalMapping&) = delete;
  PhysicalMapping& operator=(const PhysicalMapping&) = delete;
  ~PhysicalMapping() {
    if (ok()) ::munmap(at_, bytes_);
  }

  bool ok() const { return at_ != MAP_FAILED; }
  int errno_code() const { return errno_code_; }
  std::span<std::byte> bytes() const { return {static_cast<std::byte*>(at_), bytes_}; }

 private:
  uint64_t bytes_;
  void* at_ = MAP_FAILED;
  int errno_code_ = 0;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_PHYSICAL_MEMORY_H_
