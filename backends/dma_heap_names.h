// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/dma_heap_names.h
//
// What the name of a dma-heap says of its memory, as the kernel says no more: for the backend, and
// for a platform's table of heaps, whose build need not have that backend.
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

#include "ion/heap_id.h"

namespace ion {

// What a heap's name says of its memory.
struct DmaHeapTraits {
  HeapType type = HeapType::kCustom;
  bool cached = true;
  std::span<const std::string_view> aliases = {};  // the names of this memory, its own among them
};

// The region of which each kernel has one: it was called `reserved`, `linux,cma` or `default-pool`
// before Linux 6.17 and is `default_cma_region` since (which may list an old name beside it);
// `cma` is Rockchip's name.
inline constexpr std::string_view kDefaultCmaNames[] = {"default_cma_region", "reserved",
                                                        "linux,cma", "default-pool", "cma"};
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
  if (name.ends_with(kUncached)) {
    traits.cached = false;
    name.remove_suffix(kUncached.size());
  } else if (name == "system-uncached-dma32") {
    traits.cached = false;
  }
  if (std::ranges::find(kSystem, name) != std::end(kSystem)) traits.type = HeapType::kSystem;
  if (name == "vidbuf_cached") traits.type = HeapType::kDma;
  if (std::ranges::find(kDefaultCmaNames, name) != std::end(kDefaultCmaNames)) {
    traits.type = HeapType::kDma;
    traits.aliases = traits.cached ? std::span(kDefaultCmaNames) : kUncachedDefaultCmaNames;
  }
  return traits;
}

}  // namespace ion

#endif  // ION_BACKENDS_DMA_HEAP_NAMES_H_
