// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/status.h
//
// From an Error to the absl::Status that a user sees, once, at the public edge:
//
//   dma_heap /dev/dma_heap/system: open (open): EACCES: only its owner may open the node: …
//
// The errno stays with the Status: ion::ErrnoOf(status).
//
// Cost: cold; allocates the message. Thread-safe.
#ifndef ION_ION_STATUS_H_
#define ION_ION_STATUS_H_

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ion/error.h"

namespace ion {
namespace internal {

inline constexpr const char* kErrnoPayload = "ion.errno";

// Debian's Abseil has a string_view of its own, upstream's is the standard one.
inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// What to do about an errno, where the place that met it had nothing better to say.
constexpr const char* GeneralHint(int code) noexcept {
  switch (code) {
    case EMFILE:
      return "this process has no descriptor left: raise `ulimit -n`, or keep fewer buffers";
    case ENFILE:
      return "the system has no descriptor left: raise fs.file-max";
    case ENOMEM:
      return "free some buffers, ask for less, or name another heap";
    case EBADF:
      return "the descriptor is not open";
    default:
      return nullptr;
  }
}

}  // namespace internal

// EACCES for 13; "errno 13" where the C library cannot tell (glibc before 2.32, bionic).
inline std::string ErrnoName(int code) {
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 32)
  if (const char* name = ::strerrorname_np(code); name != nullptr) return name;
#endif
  return absl::StrCat("errno ", code);
}

// `<backend> <node>: <operation> <bytes> bytes (<what>): <errno>: <figures>: <hint>`.
[[nodiscard]] inline std::string Describe(const Error& error) {
  std::string text = error.backend();
  if (!error.node().empty()) absl::StrAppend(&text, " ", internal::View(error.node()));
  absl::StrAppend(&text, ": ", internal::View(OperationName(error.operation())));
  if (error.bytes() != 0) absl::StrAppend(&text, " ", error.bytes(), " bytes");
  if (*error.what() != '\0') absl::StrAppend(&text, " (", error.what(), ")");
  absl::StrAppend(&text, ": ", ErrnoName(error.code()));
  if (error.room().has_value()) {
    absl::StrAppend(&text, ": ", error.room()->free, " bytes are free, ",
                    error.room()->largest_hole, " of them in one piece");
  }
  const char* hint = error.hint() != nullptr ? error.hint() : internal::GeneralHint(error.code());
  if (hint != nullptr) absl::StrAppend(&text, ": ", hint);
  return text;
}

// A Status of `code`'s kind with this errno and text.
[[nodiscard]] inline absl::Status MakeStatus(int code, std::string_view text) {
  absl::Status status(absl::ErrnoToStatusCode(code), internal::View(text));
  status.SetPayload(internal::kErrnoPayload, absl::Cord(absl::StrCat(code)));
  return status;
}

[[nodiscard]] inline absl::Status ToStatus(const Error& error) {
  return error.ok() ? absl::OkStatus() : MakeStatus(error.code(), Describe(error));
}

template <class T>
[[nodiscard]] absl::Status ToStatus(const Result<T>& result) {
  return ToStatus(result.error());
}

// The errno that a Status of ours carries; 0 where it is ok, or not of ours.
[[nodiscard]] inline int ErrnoOf(const absl::Status& status) {
  const auto payload = status.GetPayload(internal::kErrnoPayload);
  int code = 0;
  if (payload.has_value() && !absl::SimpleAtoi(std::string(*payload), &code)) code = 0;
  return code;
}

}  // namespace ion

#endif  // ION_ION_STATUS_H_
