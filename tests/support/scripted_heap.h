// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/scripted_heap.h
//
// ScriptedHeap: a heap that fails, or promises, what a test says; what it gives is memory of the
// backend's first kernel heap.
//
// Example:
//   ion::Manager<B, ScriptedHeap<B, HeapScript{.id = 3, .allocate_errno = ENOMEM}>, …>

#ifndef ION_TESTS_SUPPORT_SCRIPTED_HEAP_H_
#define ION_TESTS_SUPPORT_SCRIPTED_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ion/backend.h"
#include "ion/heap.h"
#include "ion/heap_id.h"
#include "ion/request.h"

namespace ion::testing {

struct HeapScript {
  uint8_t id = 0;
  int bind_errno = 0;      // 0: it binds
  int allocate_errno = 0;  // 0: it allocates
  Properties properties = {.cpu_mappable = true, .cached = true, .zeroed = true, .alignment = 4096};
};

template <Backend B, HeapScript kScript>
class ScriptedHeap {
 public:
  static constexpr HeapId kId{kScript.id};
  static constexpr HeapType kType = HeapType::kCustom;
  static constexpr HeapCaps kCaps = {};

  static Result<ScriptedHeap> Bind(B& backend) noexcept {
    if constexpr (kScript.bind_errno != 0) {
      return Error(kScript.bind_errno, "the script refuses", {B::kName, Operation::kOpen});
    }
    return ScriptedHeap(backend);
  }
  std::string_view name() const noexcept { return "scripted"; }
  const Properties& properties() const noexcept { return kProperties; }

  Error Allocate(const Request& request, Block& block) noexcept {
    if constexpr (kScript.allocate_errno != 0) {
      return Error(kScript.allocate_errno, "the script has none",
                   {B::kName, Operation::kAllocate, name(), request.bytes});
    }
    return backend_->Allocate(0, request.bytes, request.flags, request.name, block);
  }
  Error Free(Block& block) noexcept { return backend_->Release(block); }
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    return backend_->Map(block, offset, bytes, mode);
  }
  Error Unmap(std::byte* at, uint64_t bytes) noexcept { return backend_->Unmap(at, bytes); }

 private:
  static constexpr Properties kProperties = kScript.properties;
  explicit ScriptedHeap(B& backend) noexcept : backend_(&backend) {}

  B* backend_;
};

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_SCRIPTED_HEAP_H_
