// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/heap_spec.h
//
// HeapSpec: a platform's description of one of its heaps, as ION's struct ion_platform_heap. Plain
// data: written as a constant, read from a device tree, or made at run time; a heap policy takes it
// as a template argument.
//
// Example:
//   constexpr ion::HeapSpec kCamera{.type = ion::HeapType::kDma, .id = 4, .name = "linux,cma"};
//   using Camera = ion::Manager<ion::DmaHeapBackend<>, ion::System, ion::DmaOf<kCamera>>;
//
// Nothing is checked here but the length of a literal name: platforms/heap_table.h checks a table.
//
// Cost: plain data, 184 bytes. Thread-compatible.
#ifndef ION_ION_HEAP_SPEC_H_
#define ION_ION_HEAP_SPEC_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ion/base/known.h"
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

  // The name as text, as long as this object lives.
  constexpr std::string_view view() const noexcept { return text_; }
  // True if no name was given.
  constexpr bool empty() const noexcept { return text_[0] == '\0'; }
  // A `*` in it stands for any text, also for none; there is one at most.
  constexpr bool is_pattern() const noexcept { return view().find('*') != std::string_view::npos; }
  // True if `name` is this name, or fits the pattern.
  constexpr bool Matches(std::string_view name) const noexcept {
    if (!is_pattern()) return view() == name;
    return name.size() >= front().size() + back().size() && name.starts_with(front()) &&
           name.ends_with(back());
  }
  // True where a name may match both.
  constexpr bool MayMeet(const HeapName& other) const noexcept {
    if (!other.is_pattern()) return Matches(other.view());
    if (!is_pattern()) return other.Matches(view());
    return (front().starts_with(other.front()) || other.front().starts_with(front())) &&
           (back().ends_with(other.back()) || other.back().ends_with(back()));
  }
  friend constexpr bool operator==(const HeapName&, const HeapName&) = default;

  char text_[kMaxLength + 1] = {};  // public, so that a name can be a template argument

 private:
  // The parts of the name before and after its `*`.
  constexpr std::string_view front() const noexcept { return view().substr(0, view().find('*')); }
  constexpr std::string_view back() const noexcept { return view().substr(view().find('*') + 1); }

  struct Unchecked {};
  constexpr HeapName(Unchecked, std::string_view text) noexcept {
    std::copy(text.begin(), text.end(), text_);
  }
};

// The id in a HeapSpec: a HeapId that a constant converts to, so that a table reads `.id = 4`. A
// constant past 31 does not compile.
struct HeapSpecId : HeapId {
  constexpr HeapSpecId(HeapId id) noexcept : HeapId(id) {}    // NOLINT: it is one
  consteval HeapSpecId(unsigned id) noexcept : HeapId(id) {}  // NOLINT: {.id = 4}
};

struct HeapSpec {
  HeapType type = HeapType::kSystem;
  HeapSpecId id = HeapId{0};  // unique in a platform
  // The kernel heap that it claims, under any of its names. A pattern, "qcom,*", claims one of
  // those that match and are of this type, or of none that the backend knows.
  HeapName name = {};
  // The interface that the kernel heap must be of, by its backend's kName ("udmabuf"): for a backend
  // with several of them (backends/all_of.h). Empty: any, in the backend's order.
  HeapName interface = {};
  // Without a name, or with a pattern: which of the kernel heaps that can be used, in the backend's
  // order.
  unsigned ordinal = 0;
  uint64_t base = 0;          // of a carveout: its physical address; 0: any
  uint64_t bytes = 0;         // of a carveout: how much there is of it
  uint64_t alignment = 1;     // bytes, wanted of each buffer's start in physical memory
  uint64_t private_word = 0;  // for the heap policy alone
  // What the platform vouches for, of a kernel heap of which the backend does not know it. A value
  // that contradicts what the backend knows is refused.
  Known cached = {};        // mapped through the CPU's caches
  Known zeroed = {};        // reads as zero when it comes from the kernel
  Known cpu_mappable = {};  // the CPU may map, read and write it

  friend constexpr bool operator==(const HeapSpec&, const HeapSpec&) = default;
};

// `spec` for a heap of type `type`, which the spec itself need not say.
constexpr HeapSpec WithType(HeapSpec spec, HeapType type) {
  if (spec.type == HeapType::kSystem) spec.type = type;
  return spec;
}

}  // namespace ion

#endif  // ION_ION_HEAP_SPEC_H_
