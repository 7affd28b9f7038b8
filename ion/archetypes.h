// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/archetypes.h
//
// The smallest types that satisfy our concepts: exactly what is required, move-only, no default
// constructor. Every template is instantiated with them, so that none asks for more than its
// concept says. tests/concepts/concepts_test.cc has, beside them, one type for each broken rule.
//
// They do nothing: not for use, and no example of a backend (backends/memfd.h is one).
#ifndef ION_ION_ARCHETYPES_H_
#define ION_ION_ARCHETYPES_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "ion/backend.h"
#include "ion/device.h"
#include "ion/heap.h"
#include "ion/move_holder.h"
#include "ion/recycler.h"
#include "ion/recycling.h"

namespace ion {

class BackendArchetype {
 public:
  static constexpr const char* kName = "archetype";
  static constexpr BackendCaps kCaps = {};
  struct Options {};

  BackendArchetype(BackendArchetype&&) noexcept = default;

  static Result<BackendArchetype> Open(const Options&) noexcept { return Nothing(); }
  const char* name() const noexcept { return kName; }
  std::span<const KernelHeap> heaps() const noexcept { return {}; }
  Error Allocate(uint32_t, uint64_t, Flags, std::string_view, Block&) noexcept { return Nothing(); }
  Error Release(Block&) noexcept { return Nothing(); }
  Result<std::byte*> Map(const Block&, uint64_t, uint64_t, MapMode) noexcept { return Nothing(); }
  Error Unmap(std::byte*, uint64_t) noexcept { return Nothing(); }
  Result<std::byte*> MapToKeep(const Block&) noexcept { return Nothing(); }
  Error Abandon(Block&) noexcept { return Nothing(); }
  Error BeginCpuAccess(const Block&, Direction) noexcept { return Nothing(); }
  Error EndCpuAccess(const Block&, Direction) noexcept { return Nothing(); }
  Error SetName(const Block&, std::string_view) noexcept { return Nothing(); }
  Result<UniqueFd> Share(const Block&) noexcept { return Nothing(); }
  Error Import(FdRef, Block&) noexcept { return Nothing(); }
  Result<BufferIdentity> Identify(FdRef, Operation) noexcept { return Nothing(); }
  Budget& budget() const noexcept { return *budget_; }
  ErrorSink& errors() const noexcept { return *errors_; }

 private:
  static Error Nothing() noexcept {
    return Error(ENOSYS, "an archetype does nothing", {kName, Operation::kOpen});
  }

  Budget* budget_;
  ErrorSink* errors_;
};
static_assert(BackendCheck<BackendArchetype>::kOk);

class HeapArchetype {
 public:
  static constexpr HeapId kId{0};
  static constexpr HeapType kType = HeapType::kCustom;
  static constexpr HeapCaps kCaps = {};

  HeapArchetype(HeapArchetype&&) noexcept = default;

  static Result<HeapArchetype> Bind(BackendArchetype&) noexcept { return Nothing(); }
  std::string_view name() const noexcept { return "archetype"; }
  const Properties& properties() const noexcept { return properties_; }
  Error Allocate(const Request&, Block&) noexcept { return Nothing(); }
  Error Free(Block&) noexcept { return Nothing(); }
  Result<std::byte*> Map(const Block&, uint64_t, uint64_t, MapMode) noexcept { return Nothing(); }
  Error Unmap(std::byte*, uint64_t) noexcept { return Nothing(); }

 private:
  static Error Nothing() noexcept {
    return Error(ENOSYS, "an archetype does nothing", {"archetype", Operation::kOpen});
  }

  Properties properties_;
};
static_assert(HeapCheck<HeapArchetype, BackendArchetype>::kOk);

class RecyclerArchetype {
 public:
  RecyclerArchetype(RecyclerArchetype&&) noexcept = default;

  static Result<RecyclerArchetype> Open(const HeapArchetype&, BackendArchetype&,
                                        const PoolHost&) noexcept {
    return Error(ENOSYS, "an archetype does nothing", {"archetype", Operation::kOpen});
  }
  static PoolBounds Ceiling() noexcept { return {}; }
  uint32_t PoolFor(const Request&, uint16_t) const noexcept { return 0; }
  uint64_t PagesOf(uint32_t) const noexcept { return 0; }
  Block* TryAcquire(uint32_t) noexcept { return nullptr; }
  Block* TryAcquireZeroing(uint32_t) noexcept { return nullptr; }
  bool TryRelease(uint32_t, Block&) noexcept { return false; }
  Block* AcquireFromDepot(uint32_t) noexcept { return nullptr; }
  bool ReleaseToDepot(uint32_t, Block&) noexcept { return false; }
  PooledBlock SearchIdle(const Request&, PoolDomain) noexcept { return {}; }
  uint64_t BytesFor(const Request& request) const noexcept { return request.bytes; }
  static uint32_t MostPercent() noexcept { return 100; }
  Result<uint32_t> Adopt(Block&, const Request&, PoolDomain) noexcept { return 0u; }
  bool Owns(const Block&) const noexcept { return false; }
  bool ReleaseForReuse(Block&, bool) noexcept { return false; }
  void Disown(Block&) noexcept {}
  void Tick() noexcept {}
  uint64_t Trim(uint64_t, GiveBack) noexcept { return 0; }
  void CloseDomain(PoolDomain) noexcept {}
  void Shutdown() noexcept {}
  void ListIdle(std::vector<const Block*>&) {}
  void ListPools(std::vector<PoolReport>&) {}
  uint64_t unpooled() const noexcept { return 0; }
};
static_assert(RecyclerCheck<RecyclerArchetype, HeapArchetype, BackendArchetype>::kOk);

class DeviceArchetype {
 public:
  DeviceArchetype(DeviceArchetype&&) noexcept = default;

  Party party() const noexcept { return {}; }
  DeviceTraits traits() const noexcept { return {}; }
  Acceptance Accepts(const DeviceMemory&) noexcept { return {}; }
  Result<Imported> Map(const DeviceMemory&) noexcept { return Imported{}; }
  Error Unmap(const Imported&) noexcept { return {}; }
  bool InUse(const Imported&) const noexcept { return false; }
};
static_assert(DeviceCheck<DeviceArchetype>::kOk);

class MoveHolderArchetype {
 public:
  MoveHolderArchetype(MoveHolderArchetype&&) noexcept = default;

  std::string_view name() const noexcept { return "archetype"; }
  Error AskQuiet(uint64_t, Deadline) noexcept { return {}; }
  void Cancel(uint64_t) noexcept {}
  Error HandOver(const HandedMemory&, Deadline) noexcept { return {}; }
};
static_assert(MoveHolderCheck<MoveHolderArchetype>::kOk);

}  // namespace ion

#endif  // ION_ION_ARCHETYPES_H_
