// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/region.h
//
// The contract of a region: the memory that a CarveoutHeap (policies/carveout/carveout_heap.h) cuts
// its blocks from. It holds one descriptor, and knows how its memory is zeroed. BufferRegion,
// ComposedRegion and PhysRegion are our three.
//
// Rules that a compiler cannot see:
//   Ensures: whole() is filled, and stays so until the region ends, which gives it back.
//   Requires: all calls but Open may come from several threads at once.
#ifndef ION_POLICIES_CARVEOUT_REGION_H_
#define ION_POLICIES_CARVEOUT_REGION_H_

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/block.h"
#include "ion/heap_spec.h"

namespace ion {

struct RegionCaps {
  bool shares = false;      // Share: a descriptor of a range and no more; HeldByOthers
  bool knows_phys = false;  // offset 0 lies at the spec's base
  bool syncs = true;        // the backend begins and ends CPU access for it; false: nobody needs to
};

// The backend outlives it.
template <class R, class B>
concept Region =
    std::is_nothrow_move_constructible_v<R> &&
    requires(B& backend, const HeapSpec& spec, R& r, const R& c, std::byte* at, uint64_t bytes) {
      { R::kCaps } -> std::same_as<const RegionCaps&>;
      { R::Open(backend, spec) } noexcept -> std::same_as<Result<R>>;
      // All of it.
      { c.whole() } noexcept -> std::same_as<const Block&>;
      // Zeroes whole pages that are mapped for writing.
      { c.Scrub(at, bytes) } noexcept -> std::same_as<void>;
    } &&
    (!R::kCaps.shares || requires(R& r, const R& c, uint64_t offset, uint64_t bytes, FdRef share) {
      { r.Share(offset, bytes) } noexcept -> std::same_as<Result<UniqueFd>>;
      // Returns true if anything but this one descriptor holds the share, or if that cannot be told.
      { c.HeldByOthers(share) } noexcept -> std::same_as<bool>;
    });

template <class R, class B>
struct RegionCheck {
  static_assert(
      Region<R, B>,
      "ion: a region needs `static constexpr RegionCaps kCaps`, a noexcept move "
      "constructor, `static Result<R> Open(Backend&, const HeapSpec&) noexcept`, `const "
      "Block& whole() const noexcept`, `void Scrub(std::byte*, uint64_t) const noexcept`; "
      "and `Result<UniqueFd> Share(uint64_t offset, uint64_t bytes) noexcept` and `bool "
      "HeldByOthers(FdRef) const noexcept` where kCaps.shares says so");
  static constexpr bool kOk = Region<R, B>;
};

// The smallest region.
class RegionArchetype {
 public:
  static constexpr RegionCaps kCaps = {};

  RegionArchetype(RegionArchetype&&) noexcept = default;

  static Result<RegionArchetype> Open(BackendArchetype&, const HeapSpec&) noexcept {
    return Error(ENOSYS, "an archetype does nothing", {"archetype", Operation::kOpen});
  }
  const Block& whole() const noexcept { return whole_; }
  void Scrub(std::byte*, uint64_t) const noexcept {}

 private:
  Block whole_;
};
static_assert(RegionCheck<RegionArchetype, BackendArchetype>::kOk);

// A block that is given back to its backend at the end; an error then goes to the backend's sink.
template <Backend B>
class OwnedBlock {
 public:
  explicit OwnedBlock(B& backend) noexcept : backend_(&backend) {}
  OwnedBlock(OwnedBlock&& other) noexcept
      : block(std::exchange(other.block, Block{})), backend_(other.backend_) {}
  OwnedBlock& operator=(OwnedBlock&&) = delete;
  ~OwnedBlock() {
    if (block.filled()) backend_->errors().Report(backend_->Release(block));
  }

  Block block;

 private:
  B* backend_;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_REGION_H_
