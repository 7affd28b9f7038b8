// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/cpu_copy.h
//
// ReadBytes, CopyTo and CopyFrom: reading and writing device memory in one call, which maps it,
// begins CPU access, copies, and ends the access. For those who copy; code that works on the bytes
// for a while opens a CpuAccess itself (ion/cpu_access.h).
//
// Example:
//   absl::Status status = ion::CopyTo(buffer, std::as_bytes(std::span(table)));
//   status = ion::CopyFrom(buffer, std::as_writable_bytes(std::span(header)), /*offset=*/64);
//   status = ion::ReadBytes(buffer, [&](std::span<const std::byte> bytes) { sum = Sum(bytes); });
//
// The memory is a Buffer, a SharedBuffer or a CpuMapping. Offsets are in bytes from its start, and
// need not be a multiple of anything. EINVAL: the range ends past the memory; nothing is copied
// then. Else, the errors of CpuMapping::Of and of CpuAccess.
//
// Cost: of a CpuAccess, and of the copy; the first call for a buffer also maps it. Not thread-safe:
// one thread at a time per buffer.
#ifndef ION_ION_CPU_COPY_H_
#define ION_ION_CPU_COPY_H_

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/block.h"
#include "ion/buffer.h"
#include "ion/cpu_access.h"
#include "ion/cpu_mapping.h"
#include "ion/cpu_sync.h"
#include "ion/shared_buffer.h"

namespace ion {

// Memory that the CPU can copy to and from.
template <class M>
concept Mappable = std::derived_from<M, Buffer> || std::same_as<M, SharedBuffer> ||
                   std::same_as<M, ReadOnlyMapping> || std::same_as<M, WritableMapping>;

namespace internal {

// Calls f(mapping) with `memory`, or with a mapping of all of it.
template <MapMode kMode, Mappable M, class F>
absl::Status WithMapping(const M& memory, F f) {
  if constexpr (std::same_as<M, ReadOnlyMapping> || std::same_as<M, WritableMapping>) {
    return f(memory);
  } else {
    const absl::StatusOr<CpuMapping<kMode>> mapping = CpuMapping<kMode>::Of(memory);
    return mapping.ok() ? f(*mapping) : mapping.status();
  }
}

// Calls f(bytes of the memory from `offset` on) in one CpuAccess. Requires: offset <= memory's
// size.
template <Direction kDirection, class Mapping, class F>
absl::Status WithBytes(const Mapping& mapping, uint64_t offset, F f) {
  absl::StatusOr<CpuAccess<kDirection>> cpu = CpuAccess<kDirection>::Begin(mapping);
  if (!cpu.ok()) return cpu.status();
  f(cpu->bytes().subspan(static_cast<size_t>(offset)));
  return std::move(*cpu).End();
}

// Checks [offset, offset + bytes) against the size of the memory.
inline absl::Status CheckCopy(uint64_t offset, uint64_t bytes, uint64_t size) noexcept {
  if (offset <= size && bytes <= size - offset) return absl::OkStatus();
  return ToStatus(Error(EINVAL, "the range ends past the memory",
                        {"cpu", Operation::kBeginAccess, {}, bytes},
                        "offset and bytes together are at most the size of the memory"));
}

}  // namespace internal

// Calls f(std::span<const std::byte>) with the bytes of `memory` from `offset` to its end. The span
// is valid during the call only. `f` returns nothing: its result would be lost.
template <Mappable M, class F>
  requires std::is_void_v<std::invoke_result_t<F&, std::span<const std::byte>>>
absl::Status ReadBytes(const M& memory, F f, uint64_t offset = 0) {
  return internal::WithMapping<MapMode::kReadOnly>(memory, [&](const auto& mapping) {
    absl::Status status = internal::CheckCopy(offset, 0, mapping.bytes());
    if (!status.ok()) return status;
    return internal::WithBytes<Direction::kRead>(
        mapping, offset, [&](std::span<const std::byte> bytes) { f(bytes); });
  });
}

// Copies `from` to the bytes of `memory` that begin at `offset`; the others stay as they are. A
// ReadOnlyMapping does not compile.
template <Mappable M>
absl::Status CopyTo(const M& memory, std::span<const std::byte> from,
                    uint64_t offset = 0) noexcept {
  static_assert(!std::same_as<M, ReadOnlyMapping>,
                "ion: CopyTo writes, and this mapping is read-only; take a WritableMapping");
  return internal::WithMapping<MapMode::kWritable>(memory, [&](const auto& mapping) {
    absl::Status status = internal::CheckCopy(offset, from.size(), mapping.bytes());
    if (!status.ok() || from.empty()) return status;
    const auto copy = [&](std::span<std::byte> to) {
      std::memcpy(to.data(), from.data(), from.size());
    };
    // A part may begin and end inside a cache line, whose other bytes a device may have written.
    if (from.size() == mapping.bytes()) {
      return internal::WithBytes<Direction::kWrite>(mapping, offset, copy);
    }
    return internal::WithBytes<Direction::kReadWrite>(mapping, offset, copy);
  });
}

// Fills `to` with the bytes of `memory` that begin at `offset`.
template <Mappable M>
absl::Status CopyFrom(const M& memory, std::span<std::byte> to, uint64_t offset = 0) noexcept {
  return internal::WithMapping<MapMode::kReadOnly>(memory, [&](const auto& mapping) {
    absl::Status status = internal::CheckCopy(offset, to.size(), mapping.bytes());
    if (!status.ok() || to.empty()) return status;
    return internal::WithBytes<Direction::kRead>(
        mapping, offset,
        [&](std::span<const std::byte> from) { std::memcpy(to.data(), from.data(), to.size()); });
  });
}

}  // namespace ion

#endif  // ION_ION_CPU_COPY_H_
