// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/guarantees.h
//
// Guarantees: the properties that all memory of a heap has, for the match with the demands of its
// users (ion/choice.h). Each is yes, no or unknown, or a number that may be missing. Unknown is
// never taken for yes: a device that needs contiguous memory gets none from a heap of which nobody
// says that it is contiguous. Contiguity and the address range are independent: memory of CMA may
// lie above 4 GiB.
//
// Example:
//   constexpr ion::HeapSpec kSpec{.type = ion::HeapType::kDma, .id = 4, .name = "linux,cma"};
//   constexpr ion::HeapOffer kCma = ion::OfferOf(kSpec, {.top = 0x3fffffff, .vmap = true});
//   static_assert(kCma.guarantees.segments == 1);  // by its type
//   static_assert(kCma.guarantees.cached.unknown());
//
// Cost: plain data, some 100 bytes. Thread-compatible.
#ifndef ION_ION_GUARANTEES_H_
#define ION_ION_GUARANTEES_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "ion/base/known.h"
#include "ion/constraints.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/request.h"

namespace ion {

struct Guarantees {
  static constexpr uint32_t kAnySize = UINT32_MAX;

  std::optional<uint64_t> segments = {};   // the most pieces of one buffer; 1: contiguous
  std::optional<uint64_t> top = {};        // the highest address that its memory can have
  std::optional<uint64_t> bytes_min = {};  // the smallest buffer
  std::optional<uint64_t> bytes_max = {};  // the largest buffer
  std::optional<uint64_t> buffers = {};    // the most buffers at one time
  Known ram = {};                          // memory of the zones that /proc/zoneinfo counts
  Known cached = {};                       // mapped through the CPU's caches
  Known protected_memory = {};             // no CPU reaches it
  Known cc_shared = {};     // shared in the clear with devices of a confidential guest
  Known mappable = {};      // the program's CPU can map it
  Known vmap = {};          // the kernel's CPU can map it
  Known pages = {};         // the exporter gives pages, not bare addresses
  Known exportable = {};    // it has a descriptor that others can import
  uint64_t alignment = 1;   // bytes, of each buffer's start in physical memory; a power of two
  uint64_t granule = 4096;  // bytes; each piece is a whole number of them; a power of two
  // The largest memory of a buffer, in percent of the whole granules of its request, more than 100
  // of a heap with size classes; kAnySize: not known.
  uint32_t most_percent = 100;
  Source source = {How::kDeclared, 0};  // of all of them

  // These, with each unknown one taken from `voucher`. The alignment and the granule are the larger
  // ones: both are guaranteed. So is most_percent, which nobody can make smaller. The source of
  // values from two sources is that they are declared.
  constexpr Guarantees Or(const Guarantees& voucher) const noexcept {
    const auto number = [](const std::optional<uint64_t>& own,
                           const std::optional<uint64_t>& other) {
      return own.has_value() ? own : other;
    };
    return {.segments = number(segments, voucher.segments),
            .top = number(top, voucher.top),
            .bytes_min = number(bytes_min, voucher.bytes_min),
            .bytes_max = number(bytes_max, voucher.bytes_max),
            .buffers = number(buffers, voucher.buffers),
            .ram = ram.Or(voucher.ram),
            .cached = cached.Or(voucher.cached),
            .protected_memory = protected_memory.Or(voucher.protected_memory),
            .cc_shared = cc_shared.Or(voucher.cc_shared),
            .mappable = mappable.Or(voucher.mappable),
            .vmap = vmap.Or(voucher.vmap),
            .pages = pages.Or(voucher.pages),
            .exportable = exportable.Or(voucher.exportable),
            .alignment = std::max(alignment, voucher.alignment),
            .granule = std::max(granule, voucher.granule),
            .most_percent = std::max(most_percent, voucher.most_percent),
            .source = source == voucher.source ? source : Source{How::kDeclared, 0}};
  }
  friend constexpr bool operator==(const Guarantees&, const Guarantees&) = default;
};

// The guarantees of a buffer's, or of a backend's, properties. Memory that a CPU can map is not
// protected.
constexpr Guarantees GuaranteesOf(const Properties& is) noexcept {
  Guarantees guarantees{.cached = is.cached,
                        .mappable = is.cpu_mappable,
                        .alignment = is.alignment,
                        .source = {How::kKernel, 0}};
  if (is.contiguous) guarantees.segments = 1;
  if (is.cpu_mappable) guarantees.protected_memory = false;
  return guarantees;
}

// The guarantees that follow from a platform's description of a heap. Heaps of CMA and of
// contiguous pages are contiguous, because their policies refuse other memory (policies/dma_heap.h,
// policies/system_contig_heap.h). Whole buffers of a kernel's heap have a descriptor that others can
// import; a Manager over memfds says otherwise (ion/heap_offers.h). A carveout with a base ends where it says; it need not be among
// the kernel's zones.
constexpr Guarantees GuaranteesOf(const HeapSpec& spec) noexcept {
  Guarantees guarantees{
      .cached = spec.cached, .mappable = spec.cpu_mappable, .alignment = spec.alignment};
  if (spec.cpu_mappable) guarantees.protected_memory = false;
  switch (spec.type) {
    case HeapType::kSystem:
      guarantees.ram = true;
      guarantees.exportable = true;
      break;
    case HeapType::kSystemContig:
    case HeapType::kDma:
      guarantees.ram = true;
      guarantees.segments = 1;
      guarantees.exportable = true;
      break;
    case HeapType::kCarveout:
      if (spec.bytes != 0) guarantees.bytes_max = spec.bytes;
      if (spec.base != 0 && spec.bytes != 0 && spec.bytes - 1 <= UINT64_MAX - spec.base) {
        guarantees.segments = 1;
        guarantees.top = spec.base + (spec.bytes - 1);
      }
      break;
    case HeapType::kChunk:
    case HeapType::kCustom:
      break;
  }
  return guarantees;
}

// A heap among which a choice is made.
struct HeapOffer {
  HeapId id{0};
  HeapName name = {};
  Guarantees guarantees = {};

  friend constexpr bool operator==(const HeapOffer&, const HeapOffer&) = default;
};

// The heap of a platform's description. `known` has the guarantees that the description has no
// field for; a value of `known` goes before the description's.
constexpr HeapOffer OfferOf(const HeapSpec& spec, const Guarantees& known = {}) noexcept {
  return {spec.id, spec.name, known.Or(GuaranteesOf(spec))};
}

}  // namespace ion

#endif  // ION_ION_GUARANTEES_H_
