// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_heap_names.h
//
// The properties that the name of a dma-heap promises; the kernel tells no more. For the backend,
// and for a platform's table of heaps, whose build need not have that backend.
//
// Example:
//   static_assert(ion::DmaHeapNameTraits("linux,cma").type == ion::HeapType::kDma);
//
// Cost: none at run time where the name is a constant. Thread-safe.
#ifndef ION_BACKENDS_DMA_HEAP_NAMES_H_
#define ION_BACKENDS_DMA_HEAP_NAMES_H_

#include <algorithm>
#include <iterator>
#include <span>
#include <string_view>

#include "ion/base/known.h"
#include "ion/heap_id.h"

namespace ion {

// The properties that a heap's name promises.
struct DmaHeapTraits {
  HeapType type = HeapType::kCustom;
  Known cached = {};
  std::span<const std::string_view> aliases = {};  // the names of this memory, its own among them
};

// The region of which each kernel has one: it was called `reserved`, `linux,cma` or `default-pool`
// before Linux 6.17 and is `default_cma_region` since (which may list an old name beside it);
// `cma` is Rockchip's name.
inline constexpr std::string_view kDefaultCmaNames[] = {"default_cma_region", "reserved",
                                                        "linux,cma", "default-pool", "cma"};
// Returns true for the two names that Linux 6.17 and later give one region, with a device number
// each, if CONFIG_DMABUF_HEAPS_CMA_LEGACY is set.
constexpr bool AreTwinDmaHeaps(std::string_view a, std::string_view b) noexcept {
  const auto is_old = [](std::string_view name) {
    return name == "reserved" || name == "linux,cma" || name == "default-pool";
  };
  constexpr std::string_view kNew = kDefaultCmaNames[0];
  return (a == kNew && is_old(b)) || (b == kNew && is_old(a));
}
// The vendors' heaps over the same region.
inline constexpr std::string_view kUncachedDefaultCmaNames[] = {
    "default_cma_region-uncached", "reserved-uncached", "linux,cma-uncached",
    "default-pool-uncached", "cma-uncached"};

// `system` is the kernel's; `vidbuf_cached` is Raspberry Pi's contiguous heap, `system-dma32` is
// Rockchip's. `-uncached` after a name is the vendors' common suffix.
constexpr DmaHeapTraits DmaHeapNameTraits(std::string_view name) noexcept {
  constexpr std::string_view kUncached = "-uncached";
  constexpr std::string_view kSystem[] = {"system", "system-dma32", "system-uncached-dma32"};
  DmaHeapTraits traits;
  const bool uncached = name.ends_with(kUncached) || name == "system-uncached-dma32";
  if (name.ends_with(kUncached)) name.remove_suffix(kUncached.size());
  if (std::ranges::find(kSystem, name) != std::end(kSystem)) traits.type = HeapType::kSystem;
  if (name == "vidbuf_cached") traits.type = HeapType::kDma;
  if (std::ranges::find(kDefaultCmaNames, name) != std::end(kDefaultCmaNames)) {
    traits.type = HeapType::kDma;
    traits.aliases = uncached ? std::span(kUncachedDefaultCmaNames) : kDefaultCmaNames;
  }
  if (traits.type != HeapType::kCustom) traits.cached = !uncached;
  return traits;
}

}  // namespace ion

#endif  // ION_BACKENDS_DMA_HEAP_NAMES_H_
