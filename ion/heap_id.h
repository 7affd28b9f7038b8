// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap_id.h
//
// The names of a heap: its type (ION's numbers), its id (0 to 31, unique in a Manager), and a mask
// of ids, by which a request names the heaps that may serve it.
//
// Example:
//   constexpr ion::HeapId kCamera{4};
//   auto one = manager.Allocate({.bytes = n, .heaps = kCamera | ion::HeapId{0}});
//   auto other = manager.Allocate({.bytes = n, .heaps = manager.heaps() - kCamera});
//
// Cost: one word each. Thread-compatible.
#ifndef ION_ION_HEAP_ID_H_
#define ION_ION_HEAP_ID_H_

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace ion {

// Kinds of memory, numbered as in ION's user interface (enum ion_heap_type).
enum class HeapType : uint8_t {
  kSystem = 0,        // scattered pages
  kSystemContig = 1,  // physically contiguous pages of the ordinary allocator
  kCarveout = 2,      // a region reserved at boot
  kChunk = 3,         // a region in pieces of one size
  kDma = 4,           // contiguous memory of the DMA allocator (CMA)
  kCustom = 5,        // a vendor's
};

constexpr std::string_view HeapTypeName(HeapType type) noexcept {
  switch (type) {
    case HeapType::kSystem:
      return "system";
    case HeapType::kSystemContig:
      return "system-contig";
    case HeapType::kCarveout:
      return "carveout";
    case HeapType::kChunk:
      return "chunk";
    case HeapType::kDma:
      return "dma";
    case HeapType::kCustom:
      return "custom";
  }
  return "?";
}

// A heap's number. `HeapId{40}` does not compile; a number known only at run time goes through
// From.
class HeapId {
  // The number is checked here, and not in HeapId's own constructor: clang 14 crashes on an
  // expression with two objects of a class whose constructor is consteval.
  struct Checked {
    consteval Checked(unsigned id)  // NOLINT: HeapId{4}
        : value(static_cast<uint8_t>(id < kCount ? id : AHeapIdIs0To31())) {}
    uint8_t value;
  };

 public:
  static constexpr unsigned kCount = 32;  // a mask is one 32-bit word, as in ION

  constexpr explicit HeapId(Checked id) : value_(id.value) {}
  // Returns the id of this number; none if it is 32 or more.
  static constexpr std::optional<HeapId> From(unsigned id) noexcept {
    if (id >= kCount) return std::nullopt;
    return HeapId(Unchecked{}, id);
  }
  // The number, 0 to 31.
  constexpr unsigned value() const noexcept { return value_; }
  friend constexpr auto operator<=>(HeapId, HeapId) = default;

  uint8_t value_;  // public, so that an id can be a template argument; read it by value()

 private:
  struct Unchecked {};
  constexpr HeapId(Unchecked, unsigned id) : value_(static_cast<uint8_t>(id)) {}
  // Not constexpr: a consteval constructor that comes here does not compile, and names it. It has a
  // body, because clang 14 calls the constructor of an element of a list when the program runs.
  [[noreturn]] static unsigned AHeapIdIs0To31() { std::abort(); }
};

// A set of ids.
class HeapMask {
 public:
  constexpr HeapMask() = default;
  constexpr HeapMask(HeapId id) : bits_(1u << id.value()) {}  // NOLINT: an id is a mask of one
  // Returns the mask with id N for each set bit N.
  static constexpr HeapMask FromBits(uint32_t bits) noexcept {
    HeapMask mask;
    mask.bits_ = bits;
    return mask;
  }
  // Returns the mask of all 32 ids.
  static constexpr HeapMask All() noexcept { return FromBits(~0u); }

  // The mask as a word: bit N is set for id N.
  constexpr uint32_t bits() const noexcept { return bits_; }
  // True if the mask has no id.
  constexpr bool empty() const noexcept { return bits_ == 0; }
  // True if the mask has `id`.
  constexpr bool contains(HeapId id) const noexcept { return (bits_ >> id.value() & 1u) != 0; }
  friend constexpr HeapMask operator|(HeapMask a, HeapMask b) noexcept {
    return FromBits(a.bits_ | b.bits_);
  }
  friend constexpr HeapMask operator&(HeapMask a, HeapMask b) noexcept {
    return FromBits(a.bits_ & b.bits_);
  }
  // The ids of `a` that are not in `b`.
  friend constexpr HeapMask operator-(HeapMask a, HeapMask b) noexcept {
    return FromBits(a.bits_ & ~b.bits_);
  }
  // All ids that are not in `a`.
  friend constexpr HeapMask operator~(HeapMask a) noexcept { return FromBits(~a.bits_); }
  friend constexpr bool operator==(HeapMask, HeapMask) = default;

 private:
  uint32_t bits_ = 0;
};
constexpr HeapMask operator|(HeapId a, HeapId b) noexcept { return HeapMask(a) | HeapMask(b); }
constexpr HeapMask operator~(HeapId id) noexcept { return ~HeapMask(id); }

}  // namespace ion

#endif  // ION_ION_HEAP_ID_H_
