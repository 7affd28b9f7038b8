// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: platforms/first_that_opens.h
//
// Tries compositions in the order given and runs a function on the first whose Manager opens: one
// program for machines that differ in what their kernels offer.
//
// Example:
//   absl::Status status = ion::platforms::WithFirstThatOpens<DmaHeaps, Udmabuf, Memfd>(
//       [](auto& manager, std::string_view refusals) { return Run(manager); });
//
// Cost: that of opening each. The function is compiled once for each composition.
#ifndef ION_PLATFORMS_FIRST_THAT_OPENS_H_
#define ION_PLATFORMS_FIRST_THAT_OPENS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/status.h"

namespace ion::platforms {

// Calls `f(manager, refusals)` once and returns what it returns (an absl::Status). `refusals` has a
// line for each composition that was tried before. Where none opens: all the reasons, with the
// errno of the last.
template <class... Managers, class F>
absl::Status WithFirstThatOpens(F f) {
  std::string refusals;
  absl::Status last = absl::NotFoundError("ion: no composition was named");
  const auto try_one = [&]<class M>() {
    absl::StatusOr<M> manager = M::Open();
    if (!manager.ok()) {
      absl::StrAppend(&refusals, refusals.empty() ? "" : "\n", manager.status().message());
      last = absl::Status(manager.status().code(), refusals);
      if (const int code = ErrnoOf(manager.status()); code != 0) last = MakeStatus(code, refusals);
      return false;
    }
    last = f(*manager, std::string_view(refusals));
    return true;
  };
  (try_one.template operator()<Managers>() || ...);
  return last;
}

}  // namespace ion::platforms

#endif  // ION_PLATFORMS_FIRST_THAT_OPENS_H_
