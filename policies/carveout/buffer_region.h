// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/buffer_region.h
//
// BufferRegion: a region that is one large buffer of the backend's: a memfd, or one contiguous
// dma-buf of a CMA heap. Taken when the heap is bound, and charged to the backend's budget as a
// whole. Nobody gets a descriptor of a part of it.
//
// Cost: one allocation from the kernel. Thread-safe.
#ifndef ION_POLICIES_CARVEOUT_BUFFER_REGION_H_
#define ION_POLICIES_CARVEOUT_BUFFER_REGION_H_

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/policies/carveout/region.h"
#include "ion/policies/claim.h"
#include "ion/request.h"

namespace ion {

template <Backend B>
class BufferRegion {
 public:
  static constexpr RegionCaps kCaps = {};

  // From the kernel heap that the spec names; without a name, from a contiguous one, else from a
  // scattered one. ENODEV: there is none.
  static Result<BufferRegion> Open(B& backend, const HeapSpec& spec) noexcept {
    HeapSpec source{.type = HeapType::kDma,
                    .id = spec.id,
                    .name = spec.name,
                    .interface = spec.interface,
                    .cached = spec.cached,
                    .zeroed = spec.zeroed,
                    .cpu_mappable = spec.cpu_mappable};
    Result<uint32_t> index = ClaimKernelHeapOf(backend, source);
    if (!index.ok()) {
      source.type = HeapType::kSystem;
      const Result<uint32_t> scattered = ClaimKernelHeapOf(backend, source);
      if (!scattered.ok()) return index.error();
      index = scattered;
    }
    OwnedBlock<B> owned(backend);
    if (Error error =
            backend.Allocate(*index, spec.bytes, Flags::kNone, spec.name.view(), owned.block);
        !error.ok()) {
      return error;
    }
    VouchFor(owned.block, spec);
    return BufferRegion(std::move(owned));
  }

  const Block& whole() const noexcept { return owned_.block; }
  void Scrub(std::byte* at, uint64_t bytes) const noexcept {
    std::memset(at, 0, static_cast<size_t>(bytes));
  }

 private:
  explicit BufferRegion(OwnedBlock<B>&& owned) noexcept : owned_(std::move(owned)) {}

  OwnedBlock<B> owned_;
};
static_assert(RegionCheck<BufferRegion<BackendArchetype>, BackendArchetype>::kOk);

// BufferRegion, described without a backend.
struct OneBuffer {
  template <Backend B>
  using On = BufferRegion<B>;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_BUFFER_REGION_H_
