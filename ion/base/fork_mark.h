// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/fork_mark.h
//
// ForkMark: tells a child made by fork from the process that made the mark. It asks the kernel for
// nothing but its page. Without memory for one, and before Linux 4.14, a child is not told.
//
// Not for users.
//
// Cost: two system calls, and a load for InChild. Thread-safe.
#ifndef ION_ION_BASE_FORK_MARK_H_
#define ION_ION_BASE_FORK_MARK_H_

#include <cstdint>

#include "ion/base/wiped_pages.h"

namespace ion::internal {

class ForkMark {
 public:
  ForkMark() noexcept {
    if (mark_ != nullptr) *mark_ = 1;
  }
  ForkMark(const ForkMark&) = delete;
  ForkMark& operator=(const ForkMark&) = delete;
  ~ForkMark() {
    if (mark_ != nullptr) UnmapWiped(mark_, sizeof(*mark_));
  }

  bool InChild() const noexcept { return mark_ != nullptr && *mark_ == 0; }

 private:
  uint32_t* const mark_ = static_cast<uint32_t*>(MapWiped(sizeof(uint32_t)));
};

}  // namespace ion::internal

#endif  // ION_ION_BASE_FORK_MARK_H_
