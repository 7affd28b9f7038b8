// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// Platform data that must not compile, and the sentence with which it does not.

#include <type_traits>

#include "ion/archetypes.h"
#include "ion/heap_spec.h"
#include "ion/platforms/heap_table.h"

namespace ion::platforms {

using enum HeapType;

template <const auto& kTable>
constexpr bool kStands = std::is_class_v<TableManager<BackendArchetype, kTable>> &&
                         std::is_move_constructible_v<TableManager<BackendArchetype, kTable>>;

// EXPECT type: ion: the type of a heap is one of HeapType
#if defined(CASE_type)
constexpr HeapSpec kTable[] = {{.type = static_cast<HeapType>(9)}};
static_assert(kStands<kTable>);
#endif

// EXPECT id: AHeapIdIs0To31
#if defined(CASE_id)
constexpr HeapSpec kTable[] = {{.id = 32}};
static_assert(kStands<kTable>);
#endif

// EXPECT twice_an_id: ion: two heaps have the same id
#if defined(CASE_twice_an_id)
constexpr HeapSpec kTable[] = {{.id = 3}, {.type = kDma, .id = 3}};
static_assert(kStands<kTable>);
#endif

// EXPECT alignment: ion: the alignment of a heap is a power of two
#if defined(CASE_alignment)
constexpr HeapSpec kTable[] = {{.alignment = 3}};
static_assert(kStands<kTable>);
#endif

// EXPECT no_size: ion: a carveout needs its size: .bytes
#if defined(CASE_no_size)
constexpr HeapSpec kTable[] = {{.type = kCarveout, .base = 4096}};
static_assert(kStands<kTable>);
#endif

// EXPECT pages: ion: base and size of a carveout are multiples of 4096 bytes
#if defined(CASE_pages)
constexpr HeapSpec kTable[] = {{.type = kCarveout, .bytes = 1}};
static_assert(kStands<kTable>);
#endif

// EXPECT unaligned: ion: the base of a heap is a multiple of its alignment
#if defined(CASE_unaligned)
constexpr HeapSpec kTable[] = {{.type = kCarveout, .base = 4096, .bytes = 4096, .alignment = 8192}};
static_assert(kStands<kTable>);
#endif

// EXPECT end: ion: the end of a heap, base + bytes, is past 64 bits
#if defined(CASE_end)
constexpr HeapSpec kTable[] = {{.type = kCarveout, .base = 4096, .bytes = UINT64_MAX - 4095}};
static_assert(kStands<kTable>);
#endif

// EXPECT overlap: ion: two heaps overlap in physical memory
#if defined(CASE_overlap)
constexpr HeapSpec kTable[] = {{.type = kCarveout, .base = 4096, .bytes = 8192},
                               {.type = kCarveout, .id = 1, .base = 8192, .bytes = 4096}};
static_assert(kStands<kTable>);
#endif

// EXPECT one_kernel_heap: ion: two heaps of one type may mean the same kernel heap
#if defined(CASE_one_kernel_heap)
constexpr HeapSpec kTable[] = {{.id = 0}, {.id = 1}};
static_assert(kStands<kTable>);
#endif

// EXPECT chunk: ion: no policy serves heaps of this type
#if defined(CASE_chunk)
constexpr HeapSpec kTable[] = {{.type = kChunk, .bytes = 4096}};
static_assert(kStands<kTable>);
#endif

}  // namespace ion::platforms
