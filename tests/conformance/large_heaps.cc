// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// The heap suite over a heap that serves large sizes only.

#include <cerrno>
#include <cstdint>
#include <utility>

#include "ion/archetypes.h"
#include "ion/backend.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/block.h"
#include "ion/heap.h"
#include "ion/policies/system_heap.h"
#include "ion/request.h"
#include "tests/conformance/heap_conformance.h"

namespace {

using namespace ion::literals;  // NOLINT(google-build-using-namespace): made for it

// A heap for frames: a request of less than 64 KiB is EINVAL.
template <ion::Backend B>
class LargeHeap : public ion::SystemHeap<B> {
  using Pages = ion::SystemHeap<B>;

 public:
  static ion::Result<LargeHeap> Bind(B& backend) noexcept {
    ion::Result<Pages> pages = Pages::Bind(backend);
    if (!pages.ok()) return pages.error();
    return LargeHeap(*std::move(pages));
  }
  ion::Error Allocate(const ion::Request& request, ion::Block& block) noexcept {
    if (request.bytes >= 64_KiB) return Pages::Allocate(request, block);
    return ion::Error(EINVAL, "less than 64 KiB",
                      {B::kName, ion::Operation::kAllocate, this->name(), request.bytes},
                      "ask another heap for small memory");
  }

 private:
  explicit LargeHeap(Pages&& pages) noexcept : Pages(std::move(pages)) {}
};
static_assert(ion::HeapCheck<LargeHeap<ion::BackendArchetype>, ion::BackendArchetype>::kOk);

struct LargeUnderTest {
  using Backend = ion::MemfdBackend<>;
  using Heap = LargeHeap<Backend>;
  static constexpr uint64_t kSmallest = 64_KiB;
  static constexpr uint64_t kLargest = 2_MiB;
};

}  // namespace

TYPE_TO_STRING_AS("large sizes over memfd", LargeUnderTest);
ION_HEAP_CONFORMANCE(LargeUnderTest);
