// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/claim.h
//
// ClaimKernelHeap: which of the kernel's heaps a HeapSpec means. One rule for every policy that
// takes its memory from the kernel, and for the report of heaps that no spec claims.
//
// Example:
//   ion::Result<uint32_t> index = ion::ClaimKernelHeap(backend.heaps(), spec, backend.name());
//
// Cost: a walk over the list. Thread-safe.
#ifndef ION_POLICIES_CLAIM_H_
#define ION_POLICIES_CLAIM_H_

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "ion/backend.h"
#include "ion/base/error.h"
#include "ion/base/linux_release.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"

namespace ion {

// Returns the number of the kernel heap in `heaps` that `spec` names, even if it cannot be used.
//
// With a name: the heap of exactly this name, or else one that has it among its aliases. With a
// pattern: of the heaps that match and are of its type, or of no type that the backend knows, the
// one that its ordinal counts. Without: of its type the one that its ordinal counts; a heap of type
// kSystemContig takes scattered memory if the kernel has no heap of that type
// (policies/system_contig_heap.h). Heaps that cannot be used are not counted; if the rule finds no
// other, it names the first of them. A spec with an interface means heaps of that one only.
inline std::optional<uint32_t> FindKernelHeap(std::span<const KernelHeap> heaps,
                                              const HeapSpec& spec) noexcept {
  const auto find = [&](auto is_meant) {
    std::optional<uint32_t> unusable;
    unsigned ordinal = spec.ordinal;
    for (uint32_t i = 0; i < heaps.size(); ++i) {
      if (!spec.interface.empty() && heaps[i].interface != spec.interface.view()) continue;
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
  if (spec.name.is_pattern()) {
    return find([&](const KernelHeap& heap) {
      return (heap.type == spec.type || heap.type == HeapType::kCustom) &&
             spec.name.Matches(heap.name);
    });
  }
  const std::string_view name = spec.name.view();
  found = find([&](const KernelHeap& heap) { return heap.name == name; });
  if (found.has_value()) return found;
  return find([&](const KernelHeap& heap) {
    return std::ranges::find(heap.aliases, name) != heap.aliases.end();
  });
}

// Sets the unknown properties of `is`, a Block or Properties, to those that the platform vouches
// for.
template <class T>
constexpr void VouchFor(T& is, const HeapSpec& spec) noexcept {
  is.cached = is.cached.Or(spec.cached);
  is.zeroed = is.zeroed.Or(spec.zeroed);
  is.cpu_mappable = is.cpu_mappable.Or(spec.cpu_mappable);
}
inline constexpr char kHowToVouch[] =
    "declare it in the heap's spec if the board's documentation tells it: .cached = true or "
    "false";

// The same, of the backend named `backend`, or why it cannot serve the spec. If the backend does
// not know the memory of a kernel heap (HeapType::kCustom), the spec decides: its author knows the
// board.
//
// ENODEV: there is none. EINVAL: it is of another type, promises less alignment, or is known to
// differ from a property that the spec vouches for. Otherwise the reason for which it cannot be
// used. `release` limits the advice to that kernel's interfaces.
inline Result<uint32_t> ClaimKernelHeap(std::span<const KernelHeap> heaps, const HeapSpec& spec,
                                        const char* backend, LinuxRelease release = {}) noexcept {
  const std::optional<uint32_t> found = FindKernelHeap(heaps, spec);
  // The same for each of several specs that want one more than there is.
  const auto there_is_one = [&] {
    HeapSpec first = spec;
    first.ordinal = 0;
    return FindKernelHeap(heaps, first).has_value();
  };
  if (!found.has_value() && spec.name.is_pattern()) {
    return Error(ENODEV,
                 there_is_one() ? "the backend has not so many heaps of such a name"
                                : "the backend has no heap of such a name",
                 {backend, Operation::kOpen, spec.name.view()},
                 "correct the pattern, or name a heap that is there");
  }
  if (!found.has_value() && !spec.name.empty()) {
    return Error(ENODEV, "the backend has no heap of this name",
                 {backend, Operation::kOpen, spec.name.view()},
                 "the backend's heaps() has the names; without one, the first heap of the type is "
                 "taken");
  }
  if (!found.has_value()) {
    return Error(
        ENODEV,
        there_is_one() ? "the backend has not so many heaps of this type"
                       : "the backend has no heap of this type",
        {backend, Operation::kOpen, HeapTypeName(spec.type)},
        spec.type != HeapType::kDma ? "take another backend, or the name of a heap that is there"
        : release.IsBefore(5, 6)
            ? "contiguous memory comes from ION's heaps of CMA, with a CMA region (cma=64M "
              "on the kernel's command line); or take the name of a heap that is there"
            : "contiguous memory comes from dma_heap, with CONFIG_DMABUF_HEAPS_CMA=y and "
              "a CMA region (cma=64M on the kernel's command line); or take the name "
              "of a heap that is there");
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
                 "a kernel heap aligns to pages; larger alignments need a carveout")
        .With(Limit{heap.properties.alignment});
  }
  const Properties& is = heap.properties;
  if (heap.either_caching && !spec.cached.unknown()) {
    return Error(EINVAL, "the spec vouches for its caching, which each request selects", origin,
                 "leave .cached out, and give requests Flags::kCached or Flags::kUncached");
  }
  if (is.cached.Contradicts(spec.cached) || is.zeroed.Contradicts(spec.zeroed) ||
      is.cpu_mappable.Contradicts(spec.cpu_mappable)) {
    return Error(EINVAL, "its memory is known not to be what the spec vouches for", origin,
                 "correct .cached, .zeroed or .cpu_mappable, or leave it out");
  }
  return *found;
}

// The same, of an open backend, whose kernel is asked for its version only where the advice
// differs. If the spec names an interface that did not open: that one's reason.
template <Backend B>
Result<uint32_t> ClaimKernelHeapOf(const B& backend, const HeapSpec& spec) noexcept {
  const Result<uint32_t> index = ClaimKernelHeap(backend.heaps(), spec, backend.name());
  if constexpr (requires { backend.OpenErrorOf(spec.interface.view()); }) {
    if (index.error().code() == ENODEV && !spec.interface.empty()) {
      const Error closed = backend.OpenErrorOf(spec.interface.view());
      if (!closed.ok()) return closed;
    }
  }
  if constexpr (requires { backend.linux_release(); }) {
    if (index.error().code() == ENODEV && spec.type == HeapType::kDma) {
      return ClaimKernelHeap(backend.heaps(), spec, backend.name(), backend.linux_release());
    }
  }
  return index;
}

}  // namespace ion

#endif  // ION_POLICIES_CLAIM_H_
