// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/heap_table.h
//
// A platform's heaps as a table of HeapSpecs, checked by the compiler, and the Manager that the
// table stands for: one heap policy for each entry. The same rules for a table that is known only
// at run time.
//
// Example:
//   inline constexpr ion::HeapSpec kHeaps[] = {
//       {.type = ion::HeapType::kSystem, .id = 0, .name = "system"},
//       {.type = ion::HeapType::kSystem, .id = 1, .name = "system-uncached"},
//       {.type = ion::HeapType::kDma, .id = 4}};
//   using Board = ion::platforms::TableManager<ion::DmaHeapBackend<>, kHeaps>;
//
// If the number of heaps of a type, or of a vendor's names, is known only when the program runs,
// HeapArray declares as many as there may be; those for which the kernel has no heap are not bound:
//
//   ion::platforms::HeapArray<4>({.type = ion::HeapType::kDma, .id = 1, .name = "qcom,*"})
//
// A kernel heap that no entry claims is never allocated from: UnclaimedKernelHeaps lists it.
//
// Cost: none at run time, but CheckHeapTable and UnclaimedKernelHeaps, which are cold. Thread-safe.
#ifndef ION_PLATFORMS_HEAP_TABLE_H_
#define ION_PLATFORMS_HEAP_TABLE_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "ion/backend.h"
#include "ion/backends/dma_heap_names.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/manager.h"
#include "ion/policies/carveout/carveout_heap.h"
#include "ion/policies/carveout/phys_region.h"
#include "ion/policies/carveout/segregated_fit.h"
#include "ion/policies/claim.h"
#include "ion/policies/dma_heap.h"
#include "ion/policies/kernel_heap.h"
#include "ion/policies/system_contig_heap.h"
#include "ion/policies/system_heap.h"

namespace ion::platforms {

using HeapTable = std::span<const HeapSpec>;

// The rules of a table's entry, given those before it.
namespace heap_table_rules {

constexpr bool HasIonsType(HeapTable, const HeapSpec& spec) {
  return spec.type <= HeapType::kCustom;
}
constexpr bool HasIdOfItsOwn(HeapTable before, const HeapSpec& spec) {
  return std::ranges::find(before, spec.id, &HeapSpec::id) == before.end();
}
constexpr bool HasPowerOfTwo(HeapTable, const HeapSpec& spec) {
  return std::has_single_bit(spec.alignment);
}
constexpr bool IsRegion(const HeapSpec& spec) {
  return spec.type == HeapType::kCarveout || spec.type == HeapType::kChunk;
}
constexpr bool HasBytesOfRegion(HeapTable, const HeapSpec& spec) {
  return !IsRegion(spec) || spec.bytes != 0;
}
constexpr bool HasWholePages(HeapTable, const HeapSpec& spec) {
  return !IsRegion(spec) || (spec.base % 4096 == 0 && spec.bytes % 4096 == 0);
}
constexpr bool HasAlignedBase(HeapTable, const HeapSpec& spec) {
  return spec.alignment == 0 || spec.base % spec.alignment == 0;
}
constexpr bool EndsInAddresses(HeapTable, const HeapSpec& spec) {
  return spec.bytes <= UINT64_MAX - spec.base;
}
constexpr bool LiesApart(HeapTable before, const HeapSpec& spec) {
  return std::ranges::none_of(before, [&](const HeapSpec& other) {
    return spec.base != 0 && other.base != 0 && spec.base < other.base + other.bytes &&
           other.base < spec.base + spec.bytes;
  });
}
constexpr bool HasOneStar(HeapTable, const HeapSpec& spec) {
  return std::ranges::count(spec.name.view(), '*') <= 1;
}
// True where a heap may have both names.
constexpr bool MayMeet(const HeapName& name, const HeapName& other) {
  return name.MayMeet(other) ||
         std::ranges::any_of(DmaHeapNameTraits(name.view()).aliases,
                             [&](std::string_view alias) { return other.Matches(alias); });
}
constexpr bool MeansOneKernelHeap(HeapTable before, const HeapSpec& spec) {
  return std::ranges::none_of(before, [&](const HeapSpec& other) {
    if (IsRegion(spec) || other.type != spec.type) return false;
    const bool of_one = spec.interface == other.interface;
    if (!of_one && !spec.interface.empty() && !other.interface.empty()) return false;
    if (of_one && spec.name == other.name && (spec.name.empty() || spec.name.is_pattern())) {
      return spec.ordinal == other.ordinal;
    }
    if (spec.name.empty() || other.name.empty()) return true;
    return MayMeet(spec.name, other.name) || MayMeet(other.name, spec.name);
  });
}

}  // namespace heap_table_rules

// Each rule with its sentence: for the compiler, and for run-time data.
#define ION_HEAP_TABLE_RULES(RULE)                                                        \
  RULE(HasIonsType, "the type of a heap is one of HeapType")                              \
  RULE(HasIdOfItsOwn, "two heaps have the same id: give one of them another")             \
  RULE(HasPowerOfTwo, "the alignment of a heap is a power of two, in bytes: 1 for none")  \
  RULE(HasBytesOfRegion, "a carveout needs its size: .bytes")                             \
  RULE(HasWholePages, "base and size of a carveout are multiples of 4096 bytes")          \
  RULE(HasAlignedBase, "the base of a heap is a multiple of its alignment")               \
  RULE(EndsInAddresses, "the end of a heap, base + bytes, is past 64 bits")               \
  RULE(LiesApart, "two heaps overlap in physical memory: look at their base and bytes")   \
  RULE(HasOneStar, "the name of a heap has one * at most")                                \
  RULE(MeansOneKernelHeap,                                                                \
       "two heaps of one type may mean the same kernel heap: give each its .name or its " \
       ".interface, or all of the type no name, or one pattern, and each its .ordinal")

// Entry kEntry of a table, by the compiler.
template <const auto& kTable, size_t kEntry>
struct HeapEntryCheck {
#define ION_HEAP_TABLE_RULE(holds, sentence)                                              \
  static_assert(heap_table_rules::holds(HeapTable(kTable).first(kEntry), kTable[kEntry]), \
                "ion: " sentence);
  ION_HEAP_TABLE_RULES(ION_HEAP_TABLE_RULE)
#undef ION_HEAP_TABLE_RULE
  static constexpr bool kOk = true;
};

// A table that is known only at run time. INVALID_ARGUMENT (EINVAL): the first entry that breaks a
// rule, and the rule.
inline absl::Status CheckHeapTable(HeapTable table) {
  for (size_t i = 0; i < table.size(); ++i) {
#define ION_HEAP_TABLE_RULE(holds, sentence)                                                  \
  if (!heap_table_rules::holds(table.first(i), table[i])) {                                   \
    return MakeStatus(EINVAL,                                                                 \
                      absl::StrCat("platform data, entry ", i, " (",                          \
                                   ::ion::Printable(table[i].name.view()), "): ", sentence)); \
  }
    ION_HEAP_TABLE_RULES(ION_HEAP_TABLE_RULE)
#undef ION_HEAP_TABLE_RULE
  }
  return absl::OkStatus();
}
#undef ION_HEAP_TABLE_RULES

// `kCount` entries like `first`, which has no name, or a pattern: with ids and ordinals that count
// up from its. Requires: none of the ids is past 31 (a constant that breaks this does not compile).
template <size_t kCount>
constexpr std::array<HeapSpec, kCount> HeapArray(const HeapSpec& first) {
  std::array<HeapSpec, kCount> table{};
  for (unsigned i = 0; i < kCount; ++i) {
    table[i] = first;
    table[i].id = HeapId::From(first.id.value() + i).value();
    table[i].ordinal += i;
  }
  return table;
}

// Two tables as one.
template <size_t kOne, size_t kOther>
constexpr std::array<HeapSpec, kOne + kOther> Join(const std::array<HeapSpec, kOne>& one,
                                                   const std::array<HeapSpec, kOther>& other) {
  std::array<HeapSpec, kOne + kOther> table{};
  std::ranges::copy(other, std::ranges::copy(one, table.begin()).out);
  return table;
}

// Which policy serves an entry. A carveout with a base lies there, in physical memory; without one
// it is one large buffer of the kernel heap that it names. A platform that wants others (size
// classes, a pool) writes a struct like this one and gives it to TableManager.
struct DefaultPolicies {
  template <Backend B, HeapSpec kSpec>
  static constexpr auto Choose() {
    if constexpr (kSpec.type == HeapType::kSystem) {
      return std::type_identity<SystemOf<kSpec>>();
    } else if constexpr (kSpec.type == HeapType::kSystemContig) {
      return std::type_identity<SystemContigOf<kSpec>>();
    } else if constexpr (kSpec.type == HeapType::kDma) {
      return std::type_identity<DmaOf<kSpec>>();
    } else if constexpr (kSpec.type == HeapType::kCarveout && kSpec.base != 0) {
      return std::type_identity<Carveout<kSpec, Physical>>();
    } else if constexpr (kSpec.type == HeapType::kCarveout) {
      return std::type_identity<Carveout<kSpec>>();
    } else {
      static_assert(kSpec.type == HeapType::kCustom,
                    "ion: no policy serves heaps of this type: give TableManager Policies that "
                    "have one");
      return std::type_identity<KernelHeapPolicy<B, kSpec, HeapType::kCustom>>();
    }
  }
};

namespace internal {

template <Backend B, const auto& kTable, class Policies, class Entries>
struct FoldOfTable;
template <Backend B, const auto& kTable, class Policies, size_t... kEntries>
struct FoldOfTable<B, kTable, Policies, std::index_sequence<kEntries...>> {
  static_assert((HeapEntryCheck<kTable, kEntries>::kOk && ...));
  using type =
      Manager<B, typename decltype(Policies::template Choose<B, kTable[kEntries]>())::type...>;
};

}  // namespace internal

// The Manager of a table, which is a constant of static storage duration.
template <Backend B, const auto& kTable, class Policies = DefaultPolicies>
using TableManager =
    typename internal::FoldOfTable<B, kTable, Policies,
                                   std::make_index_sequence<std::size(kTable)>>::type;

// The kernel's heaps that no entry means.
inline std::vector<const KernelHeap*> UnclaimedKernelHeaps(std::span<const KernelHeap> heaps,
                                                           HeapTable table) {
  std::vector<const KernelHeap*> unclaimed;
  for (const KernelHeap& heap : heaps) unclaimed.push_back(&heap);
  for (const HeapSpec& spec : table) {
    if (heap_table_rules::IsRegion(spec)) continue;
    const std::optional<uint32_t> index = FindKernelHeap(heaps, spec);
    if (index.has_value()) std::erase(unclaimed, &heaps[*index]);
  }
  return unclaimed;
}

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_HEAP_TABLE_H_
