// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: examples/composition.h
//
// The memory that both processes of the demo take: over the backend that was named, or over the
// first that opens.
#ifndef ION_EXAMPLES_COMPOSITION_H_
#define ION_EXAMPLES_COMPOSITION_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "ion/platforms/any_backend.h"
#include "ion/platforms/linux.h"

namespace ion::demo {

using Composition = platforms::Any;

// Every name that --backend may have.
inline std::vector<std::string> BackendNames() {
  const auto names = AnyBackend<>::Options().order;
  return {names.begin(), names.end()};
}

// EINVAL: no backend has this name.
inline absl::StatusOr<Composition> OpenComposition(std::string_view backend) {
  AnyBackend<>::Options options;
  if (!backend.empty()) options.order = {backend};
  return Composition::Open(options);
}

}  // namespace ion::demo

#endif  // ION_EXAMPLES_COMPOSITION_H_
