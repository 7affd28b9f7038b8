// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap_spec.h
//
// HeapSpec: what a platform says of one of its heaps, as ION's struct ion_platform_heap did. Plain
// data: written as a constant, read from a device tree, or made at run time; a heap policy takes it
// as a template argument.
//
// Example:
//   constexpr ion::HeapSpec kCamera{.type = ion::HeapType::kDma, .id = 4, .name = "linux,cma"};
//   template <ion::Backend B>
//   using Camera = ion::Manager<B, ion::SystemHeap<B>, ion::DmaHeap<B, kCamera>>;
//
// Nothing is checked here but the length of a literal name: platforms/heap_table.h checks a table.
//
// Cost: plain data, 112 bytes. Thread-compatible.
#ifndef ION_ION_HEAP_SPEC_H_
#define ION_ION_HEAP_SPEC_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ion/heap_id.h"

namespace ion {

// A text that can stand in a template argument.
class HeapName {
 public:
  // A device tree's node has up to 31 characters, and its address after an @.
  static constexpr size_t kMaxLength = 63;

  constexpr HeapName() = default;
  template <size_t kBytes>
  constexpr HeapName(const char (&text)[kBytes])  // NOLINT: {.name = "system"}
      : HeapName(Unchecked{}, text) {
    static_assert(kBytes <= kMaxLength + 1, "ion: the name of a heap has at most 63 characters");
  }
  // Nothing where the text is too long, or has a character 0 in it.
  static constexpr std::optional<HeapName> From(std::string_view text) noexcept {
    if (text.size() > kMaxLength || text.find('\0') != text.npos) return std::nullopt;
    return HeapName(Unchecked{}, text);
  }

  constexpr std::string_view view() const noexcept { return text_; }
  constexpr bool empty() const noexcept { return text_[0] == '\0'; }
  friend constexpr bool operator==(const HeapName&, const HeapName&) = default;

  char text_[kMaxLength + 1] = {};  // public, so that a name can be a template argument

 private:
  struct Unchecked {};
  constexpr HeapName(Unchecked, std::string_view text) noexcept {
    std::copy(text.begin(), text.end(), text_);
  }
};

struct HeapSpec {
  HeapType type = HeapType::kSystem;
  unsigned id = 0;  // 0 to 31, unique in a platform
  // The kernel heap that it claims, under any of its names.
  HeapName name = {};
  // Without a name: which of the kernel heaps of this type that can be used, in the backend's
  // order.
  unsigned ordinal = 0;
  uint64_t base = 0;  // of a carveout: where it starts in physical memory; 0: nowhere in particular
  uint64_t bytes = 0;         // of a carveout: how much there is of it
  uint64_t alignment = 1;     // bytes, wanted of each buffer's start in physical memory
  uint64_t private_word = 0;  // for the heap policy alone

  friend constexpr bool operator==(const HeapSpec&, const HeapSpec&) = default;
};

}  // namespace ion

#endif  // ION_ION_HEAP_SPEC_H_
