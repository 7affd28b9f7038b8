// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/lacks_pages.h
//
// LacksPages: returns true if an error says that memory has a descriptor, and no pages behind it. A
// touch of such memory is a SIGBUS, so it is not given out.
//
// Not for users.
//
// Cost: a comparison of texts. Thread-safe.
#ifndef ION_ION_BASE_LACKS_PAGES_H_
#define ION_ION_BASE_LACKS_PAGES_H_

#include <cerrno>
#include <string_view>

#include "ion/base/error.h"

namespace ion::internal {

// Error::what() of the call that puts pages in place.
inline constexpr const char* kPutsPages = "MADV_POPULATE_WRITE";

// True for the errors by which that call tells that there is no memory. EFAULT: strict overcommit
// has no page left for a memfd, or a driver has none. EHWPOISON: the memory is broken.
constexpr bool IsOfPages(int code) noexcept {
  return code == ENOMEM || code == EFAULT || code == EHWPOISON;
}

constexpr bool LacksPages(const Error& error) noexcept {
  return IsOfPages(error.code()) && std::string_view(error.what()) == kPutsPages;
}

}  // namespace ion::internal

#endif  // ION_ION_BASE_LACKS_PAGES_H_
