// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/named.h
//
// Platforms with a name, side by side: each one's table of heaps, and its Manager. Take one, or
// write a table like these (platforms/heap_table.h).
//
//   Desktop<B>   any Linux, over the backend that its kernel offers
//   Android      a phone since Android 12: dma-heaps, vendors' CMA heaps among them
//   Board        an embedded board: frame buffers and rings have memory of their own
//
// Example:
//   absl::StatusOr<ion::platforms::Android> manager = ion::platforms::Android::Open();
#ifndef ION_PLATFORMS_NAMED_H_
#define ION_PLATFORMS_NAMED_H_

#include <array>

#include "ion/backend.h"
#include "ion/backends/dma_heap.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/platforms/heap_table.h"

namespace ion::platforms {

// Ids are ION's type numbers.
inline constexpr HeapSpec kDesktopHeaps[] = {
    {.type = HeapType::kSystem, .id = 0},
    {.type = HeapType::kSystemContig, .id = 1},
    {.type = HeapType::kDma, .id = 4},
};
template <Backend B>
using Desktop = TableManager<B, kDesktopHeaps>;

// Of scattered memory the cached kind is tried first.
inline constexpr std::array kAndroidSystemHeaps = {
    HeapSpec{.type = HeapType::kSystem, .id = 9, .name = "system-uncached"},
    HeapSpec{.type = HeapType::kSystem, .id = 10, .name = "system"}};
// Contiguous heaps have ids 1 to 8, as in libion; their number differs from phone to phone. They
// are those of which the kernel documents that they are contiguous.
inline constexpr auto kAndroidHeaps =
    Join(HeapArray<8>({.type = HeapType::kDma, .id = 1}), kAndroidSystemHeaps);
using Android = TableManager<DmaHeapBackend<>, kAndroidHeaps>;

// A phone whose vendor documents heaps of its own: `kVendorHeaps` is an array of HeapSpecs with ids
// 0 to 8, by name or by pattern. Its type says that such a heap is contiguous, its .cached and
// .zeroed what else is known of it; of memory that the CPU must not touch, .cpu_mappable = false.
//
//   constexpr std::array kVendorHeaps = {
//       ion::HeapSpec{.type = ion::HeapType::kDma, .id = 1, .name = "qcom,display",
//                     .cached = true},
//       ion::HeapSpec{.type = ion::HeapType::kDma, .id = 2, .name = "linux,cma"}};
//   using Phone = ion::platforms::AndroidWith<kVendorHeaps>;
template <const auto& kVendorHeaps>
inline constexpr auto kAndroidHeapsWith = Join(kVendorHeaps, kAndroidSystemHeaps);
template <const auto& kVendorHeaps, Backend B = DmaHeapBackend<>>
using AndroidWith = TableManager<B, kAndroidHeapsWith<kVendorHeaps>>;

// A carveout of the CMA region, taken at the start, so that frames never wait for CMA to move pages
// away, and never fail because others were first. Single pages for descriptor rings.
inline constexpr HeapSpec kBoardHeaps[] = {
    {.type = HeapType::kSystem, .id = 0, .name = "system"},
    {.type = HeapType::kSystemContig, .id = 1},
    {.type = HeapType::kCarveout, .id = 2, .name = "linux,cma", .bytes = 16 << 20},
    {.type = HeapType::kDma, .id = 4, .name = "linux,cma"},
};
using Board = TableManager<DmaHeapBackend<>, kBoardHeaps>;

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_NAMED_H_
