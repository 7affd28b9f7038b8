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

// The number of the kernel heap in `heaps` that `spec` means, whether it can be used or not.
//
// With a name: the heap of exactly this name, or else one that has it among its aliases. Without:
// of its type the one that its ordinal counts; a heap of type kSystemContig takes scattered memory
// where the kernel has none of its own (policies/system_contig_heap.h). Where what is meant cannot
// be used: the first that is like it.
inline std::optional<uint32_t> FindKernelHeap(std::span<const KernelHeap> heaps,
                                              const HeapSpec& spec) noexcept {
  const auto find = [&](auto is_meant) {
    std::optional<uint32_t> unusable;
    unsigned ordinal = spec.ordinal;
    for (uint32_t i = 0; i < heaps.size(); ++i) {
      if (!is_meant(heaps[i])) continue;
      if (heaps[i].unusable.ok() && ordinal-- == 0) return std::optional(i);
      if (!heaps[i].unusable.ok() && !unusable.has_value()) unusable = i;
    }
    return unusable;
  };
  std::optional<uint32_t> found;
  if (spec.name.empty()) {
    found = find([&](const KernelHeap& heap) { return heap.type == spec.type; });
    if (found.has_value() || spec.type != HeapType::kSystemContig) return found;
    return find([](const KernelHeap& heap) { return heap.type == HeapType::kSystem; });
  }
  const std::string_view name = spec.name.view();
  found = find([&](const KernelHeap& heap) { return heap.name == name; });
  if (found.has_value()) return found;
  return find([&](const KernelHeap& heap) {
    return std::ranges::find(heap.aliases, name) != heap.aliases.end();
  });
}

// The same, of the backend named `backend`, or why it cannot serve the spec. A kernel heap of which
// the backend does not know what its memory is (HeapType::kCustom) is what the spec says: who wrote
// it knows the board.
//
// ENODEV: there is none. EINVAL: it is of another type, or promises less alignment. Otherwise the
// reason for which it cannot be used.
inline Result<uint32_t> ClaimKernelHeap(std::span<const KernelHeap> heaps, const HeapSpec& spec,
                                        const char* backend) noexcept {
  const std::optional<uint32_t> found = FindKernelHeap(heaps, spec);
  if (!found.has_value() && !spec.name.empty()) {
    return Error(ENODEV, "the backend has no heap of this name",
                 {backend, Operation::kOpen, spec.name.view()},
                 "the backend's heaps() has the names; without one, the first heap of the type is "
                 "taken");
  }
  if (!found.has_value()) {
    return Error(ENODEV,
                 spec.ordinal == 0 ? "the backend has no heap of this type"
                                   : "the backend has not so many heaps of this type",
                 {backend, Operation::kOpen, HeapTypeName(spec.type)},
                 spec.type == HeapType::kDma
                     ? "contiguous memory comes from dma_heap, with CONFIG_DMABUF_HEAPS_CMA=y and "
                       "a CMA region (cma=64M on the kernel's command line); or take the name "
                       "of a heap that is there"
                     : "take another backend, or the name of a heap that is there");
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
