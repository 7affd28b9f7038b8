// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/claim.h
//
// ClaimKernelHeap: which of the kernel's heaps a HeapSpec means. One rule for every policy that
// takes its memory from the kernel, and for the report of heaps that no spec claims.
//
// Example:
//   ion::Result<uint32_t> index = ion::ClaimKernelHeap(backend.heaps(), spec, B::kName);
//
// Cost: a walk over the list. Thread-safe.
#ifndef ION_POLICIES_CLAIM_H_
#define ION_POLICIES_CLAIM_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>

#include "ion/backend.h"
#include "ion/error.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"

namespace ion {

// The number of the kernel heap in `heaps`, which is the list of the backend named `backend`.
//
// With a name: the heap of exactly this name, or else one that has it among its aliases. Where the
// backend does not know what the heap's memory is (HeapType::kCustom), the spec's type is believed:
// who wrote it knows the board. Without a name: the first of the type. What a heap of type
// kSystemContig may claim besides, policies/system_contig_heap.h says.
//
// ENODEV: there is none. EINVAL: it is of another type, or promises less alignment. Where all that
// are meant cannot be used: the first one's reason.
inline Result<uint32_t> ClaimKernelHeap(std::span<const KernelHeap> heaps, const HeapSpec& spec,
                                        const char* backend) noexcept {
  std::optional<uint32_t> found;
  const auto look_for = [&](auto is_meant) {
    for (uint32_t i = 0; i < heaps.size(); ++i) {
      if (!is_meant(heaps[i])) continue;
      if (!found.has_value() || (!heaps[*found].unusable.ok() && heaps[i].unusable.ok())) found = i;
    }
  };
  if (spec.name.empty()) {
    look_for([&](const KernelHeap& heap) { return heap.type == spec.type; });
    if (!found.has_value() && spec.type == HeapType::kSystemContig) {
      look_for([](const KernelHeap& heap) { return heap.type == HeapType::kSystem; });
    }
    if (!found.has_value()) {
      return Error(
          ENODEV, "the backend has no heap of this type",
          {backend, Operation::kOpen, HeapTypeName(spec.type)},
          spec.type == HeapType::kDma
              ? "contiguous memory comes from dma_heap, with CONFIG_DMABUF_HEAPS_CMA=y and "
                "a CMA region (cma=64M on the kernel's command line); or take the name "
                "of a heap that is there"
              : "take another backend, or the name of a heap that is there");
    }
  } else {
    const std::string_view name = spec.name.view();
    look_for([&](const KernelHeap& heap) { return heap.name == name; });
    if (!found.has_value()) {
      look_for([&](const KernelHeap& heap) {
        return std::ranges::find(heap.aliases, name) != heap.aliases.end();
      });
    }
    if (!found.has_value()) {
      return Error(ENODEV, "the backend has no heap of this name",
                   {backend, Operation::kOpen, name},
                   "the backend's heaps() has the names; without one, the first heap of the type "
                   "is taken");
    }
  }

  const KernelHeap& heap = heaps[*found];
  const Origin origin{backend, Operation::kOpen, heap.name};
  if (!heap.unusable.ok()) return heap.unusable;
  const bool serves_contig = heap.type == HeapType::kSystem || heap.type == HeapType::kDma;
  if (heap.type != spec.type && heap.type != HeapType::kCustom &&
      !(spec.type == HeapType::kSystemContig && serves_contig)) {
    return Error(EINVAL, "the heap of this name is of another type", origin,
                 "give the spec the heap's type, or another name");
  }
  if (heap.properties.alignment < spec.alignment) {
    return Error(EINVAL, "the heap promises less alignment than its spec wants", origin,
                 "a kernel heap aligns to pages; larger alignments need a carveout");
  }
  return *found;
}

}  // namespace ion

#endif  // ION_POLICIES_CLAIM_H_
