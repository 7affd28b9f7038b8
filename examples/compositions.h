// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/compositions.h
//
// The compositions that the demo knows, in the order in which it tries them: real dma-bufs of the
// kernel's heaps, dma-bufs of ordinary pages, and memory that only the CPU can use.
#ifndef ION_EXAMPLES_COMPOSITIONS_H_
#define ION_EXAMPLES_COMPOSITIONS_H_

#include <array>
#include <string_view>

#include "absl/status/status.h"
#include "platforms/first_that_opens.h"
#include "platforms/linux.h"

namespace ion::demo {

inline constexpr std::array<std::string_view, 3> kBackends = {
    platforms::DmaHeaps::kBackendName,
    platforms::Udmabuf::kBackendName,
    platforms::Memfd::kBackendName,
};

// Runs f(manager, refusals) on the composition over `backend`, or, where that is empty, on the
// first that opens.
template <class F>
absl::Status WithComposition(std::string_view backend, F f) {
  using platforms::DmaHeaps, platforms::Memfd, platforms::Udmabuf;
  if (backend.empty()) return platforms::WithFirstThatOpens<DmaHeaps, Udmabuf, Memfd>(f);
  if (backend == DmaHeaps::kBackendName) return platforms::WithFirstThatOpens<DmaHeaps>(f);
  if (backend == Udmabuf::kBackendName) return platforms::WithFirstThatOpens<Udmabuf>(f);
  if (backend == Memfd::kBackendName) return platforms::WithFirstThatOpens<Memfd>(f);
  return absl::InvalidArgumentError("no composition has this backend");
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_COMPOSITIONS_H_
