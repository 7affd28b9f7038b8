// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/request.h
//
// Request and Flags: the properties that a user wants of memory. Properties: those that a buffer's
// memory has.
//
// Example:
//   auto frame = manager.Allocate(
//       {.bytes = 8_MiB, .heaps = kCamera, .flags = ion::Flags::kCached, .name = "nv12"});
//
// Cost: plain data. Thread-compatible.
#ifndef ION_ION_REQUEST_H_
#define ION_ION_REQUEST_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "ion/base/known.h"
#include "ion/frame_shape.h"
#include "ion/heap_id.h"

namespace ion {

// Low 16 bits: the core's, understood by every heap. High 16 bits: private to a heap, handed to the
// kernel as they are. A flag that a heap cannot honour is refused (EINVAL), never dropped.
enum class Flags : uint32_t {
  kNone = 0,
  kCached = 1u << 0,    // wanted: mapped through the CPU's caches (ION_FLAG_CACHED)
  kUncached = 1u << 15  // wanted: mapped write-combining or uncached (ION: no flag)
};
constexpr Flags operator|(Flags a, Flags b) noexcept {
  return static_cast<Flags>(static_cast<uint32_t>(a) | static_cast<uint32_t>(b));
}
constexpr bool Has(Flags flags, Flags bit) noexcept {
  return (static_cast<uint32_t>(flags) & static_cast<uint32_t>(bit)) != 0;
}
constexpr Flags WithoutCaching(Flags flags) noexcept {
  return static_cast<Flags>(static_cast<uint32_t>(flags) &
                            ~static_cast<uint32_t>(Flags::kCached | Flags::kUncached));
}
// Bits of the low half that have no name: refused, so that they can get one later.
constexpr bool HasUnknownBits(Flags flags) noexcept {
  return (static_cast<uint32_t>(flags) & 0xffff &
          ~static_cast<uint32_t>(Flags::kCached | Flags::kUncached)) != 0;
}

namespace internal {
// Not constexpr: a consteval function that comes here does not compile, and names it. It has a body,
// because clang 14 calls a consteval function of an element of a list when the program runs.
[[noreturn]] inline unsigned APrivateFlagIsBit0To15() { std::abort(); }
}  // namespace internal
// A heap's private bit, 0 to 15: HeapPrivate(3) is bit 19 of the word.
consteval Flags HeapPrivate(unsigned bit) {
  return static_cast<Flags>(1u << (16 + (bit < 16 ? bit : internal::APrivateFlagIsBit0To15())));
}
constexpr uint32_t HeapPrivateBits(Flags flags) noexcept {
  return static_cast<uint32_t>(flags) >> 16;
}

// The nature of memory, not its origin. A property that nobody vouches for is unknown
// (ion/base/known.h).
struct Properties {
  Known cpu_mappable = {};
  Known cached = {};       // mapped through the CPU's caches: CPU access needs begin and end
  Known contiguous = {};   // one physical run, guaranteed
  Known zeroed = {};       // reads as zero when it comes from the kernel
  uint64_t alignment = 1;  // bytes, of the start in physical memory; a power of two

  friend constexpr bool operator==(const Properties&, const Properties&) = default;
};

// The properties of memory that may come from either: a property is known if both say the same of
// it; the alignment is the smaller one.
constexpr Properties Common(const Properties& a, const Properties& b) noexcept {
  return {.cpu_mappable = Common(a.cpu_mappable, b.cpu_mappable),
          .cached = Common(a.cached, b.cached),
          .contiguous = Common(a.contiguous, b.contiguous),
          .zeroed = Common(a.zeroed, b.zeroed),
          .alignment = std::min(a.alignment, b.alignment)};
}

struct Request {
  uint64_t bytes = 0;      // rounded up to pages; 0 is refused
  uint64_t alignment = 1;  // bytes, of the start in physical memory; refused where not promised
  // Where from. None: any heap but those that declare contiguous memory, which is scarce, and those
  // of memory that no device takes, if other interfaces are open as well (backends/all_of.h).
  std::optional<HeapMask> heaps = std::nullopt;
  Flags flags = Flags::kNone;
  std::string_view name = {};  // for debugging; the kernel keeps 31 bytes of it
  // The image that the bytes are for. A heap that makes frames asks its driver for one of at least
  // so many bytes, which no pool serves; other heaps give the bytes.
  FrameShape frame = {};
};

}  // namespace ion

#endif  // ION_ION_REQUEST_H_
