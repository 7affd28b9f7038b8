// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/status.h
//
// From an Error to the absl::Status that a user sees, once, at the public edge:
//
//   dma_heap /dev/dma_heap/system: open (open): EACCES: only its owner may open the node: …
//
// The errno stays with the Status: ion::ErrnoOf(status).
//
// If operator new has no memory for the text, the Status is its code alone, which needs no heap
// memory.
//
// Cost: cold; allocates the message. Thread-safe.
#ifndef ION_ION_BASE_STATUS_H_
#define ION_ION_BASE_STATUS_H_

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "ion/base/error.h"
#include "ion/base/printable.h"
#include "ion/base/with_memory.h"

namespace ion {
namespace internal {

inline constexpr const char* kErrnoPayload = "ion.errno";

// Debian's Abseil has a string_view of its own, upstream's is the standard one.
inline absl::string_view View(std::string_view text) { return {text.data(), text.size()}; }

// Advice for an error, used if the function that met it had none of its own.
constexpr const char* GeneralHint(const Error& error) noexcept {
  switch (error.code()) {
    case EMFILE:
      return "this process has no descriptor left: raise `ulimit -n`, or keep fewer buffers";
    case ENFILE:
      return "the system has no descriptor left: raise fs.file-max";
    case ENOMEM:
      return "free some buffers, ask for less, or name another heap";
    case EBADF:
      return "the descriptor is not open";
    case EPERM:
      // Elsewhere it may be a rule of ours, or a driver's.
      if (error.operation() != Operation::kOpen) return nullptr;
      [[fallthrough]];
    case ENOSYS:
      return "a sandbox (seccomp) or a security module refuses this system call: allow it there";
    default:
      return nullptr;
  }
}

}  // namespace internal

// EACCES for 13; "errno 13" where the C library cannot tell (glibc before 2.32, bionic, musl).
inline std::string ErrnoName(int code) {
// Nested: if __GLIBC_PREREQ is not a macro, the line that calls it must not be read at all.
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 32)
  if (const char* name = ::strerrorname_np(code); name != nullptr) return name;
#endif
#endif
  return absl::StrCat("errno ", code);
}

// `<backend> <node>: <operation> <bytes> bytes (<what>): <errno>: <figures>: <hint>`.
[[nodiscard]] inline std::string Describe(const Error& error) {
  std::string text = error.backend();
  if (!error.node().empty()) absl::StrAppend(&text, " ", Printable(error.node()));
  absl::StrAppend(&text, ": ", internal::View(OperationName(error.operation())));
  if (error.bytes() != 0) absl::StrAppend(&text, " ", error.bytes(), " bytes");
  if (*error.what() != '\0') absl::StrAppend(&text, " (", error.what(), ")");
  absl::StrAppend(&text, ": ", ErrnoName(error.code()));
  if (error.room().has_value()) {
    const Room room = *error.room();
    absl::StrAppend(&text, ": ", room.free, " bytes are free");
    if (room.total != 0) absl::StrAppend(&text, " of the region's ", room.total);
    if (room.total == 0 || room.largest_hole != 0) {
      absl::StrAppend(&text, ", ", room.largest_hole, " of them in one piece");
    }
  }
  if (error.limit().has_value()) {
    absl::StrAppend(&text, ": at most ", error.limit()->bytes, " bytes here");
  }
  const char* hint = error.hint() != nullptr ? error.hint() : internal::GeneralHint(error);
  if (hint != nullptr) absl::StrAppend(&text, ": ", hint);
  if (error.room().has_value() && error.room()->enough != 0) {
    absl::StrAppend(&text, ", or enlarge the region: cma=", error.room()->enough >> 20,
                    "M on the kernel's command line, or its size in the device tree");
  }
  return text;
}

namespace internal {

// A Status without a text, which takes no heap memory.
inline absl::Status CodeAlone(int code) noexcept {
  return absl::Status(absl::ErrnoToStatusCode(code), absl::string_view());
}
// An errno of a code's kind, for a Status that is its code alone; 0 of another's.
inline int ErrnoOfKind(const absl::Status& status) noexcept {
  if (!status.message().empty()) return 0;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return ENOMEM;
    case absl::StatusCode::kInvalidArgument:
      return EINVAL;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kPermissionDenied:
      return EACCES;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kFailedPrecondition:
      return EBUSY;
    case absl::StatusCode::kUnimplemented:
      return ENOTSUP;
    case absl::StatusCode::kUnavailable:
      return EAGAIN;
    case absl::StatusCode::kOutOfRange:
      return ERANGE;
    case absl::StatusCode::kDeadlineExceeded:
      return ETIMEDOUT;
    case absl::StatusCode::kCancelled:
      return ECANCELED;
    default:
      return 0;
  }
}

}  // namespace internal

// A Status of `code`'s kind with this errno and text.
[[nodiscard]] inline absl::Status MakeStatus(int code, std::string_view text) noexcept {
  return internal::WithMemory(
      [&] {
        absl::Status status(absl::ErrnoToStatusCode(code), internal::View(text));
        // A Cord of a view: the constructor that takes a string is a template, whose symbol clang
        // 18 and newer name in another way than the g++ that may have built Abseil.
        const std::string digits = absl::StrCat(code);
        status.SetPayload(internal::kErrnoPayload, absl::Cord(absl::string_view(digits)));
        return status;
      },
      [&] { return internal::CodeAlone(code); });
}

[[nodiscard]] inline absl::Status ToStatus(const Error& error) noexcept {
  if (error.ok()) return absl::OkStatus();
  return internal::WithMemory([&] { return MakeStatus(error.code(), Describe(error)); },
                              [&] { return internal::CodeAlone(error.code()); });
}

// A line for each error, and the errno of the last. Requires: there is one.
[[nodiscard]] inline std::string DescribeEach(std::span<const Error> errors) {
  std::string lines;
  for (const Error& error : errors) {
    absl::StrAppend(&lines, lines.empty() ? "" : "\n", Describe(error));
  }
  return lines;
}
[[nodiscard]] inline absl::Status ToStatus(std::span<const Error> errors) noexcept {
  const int code = errors.back().code();
  return internal::WithMemory([&] { return MakeStatus(code, DescribeEach(errors)); },
                              [&] { return internal::CodeAlone(code); });
}

template <class T>
[[nodiscard]] absl::Status ToStatus(const Result<T>& result) noexcept {
  return ToStatus(result.error());
}

// The errno that a Status of ours carries; 0 where it is ok, or not of ours. Of one that is its
// code alone, an errno of the same kind: ENOMEM of RESOURCE_EXHAUSTED.
[[nodiscard]] inline int ErrnoOf(const absl::Status& status) noexcept {
  const auto payload = status.GetPayload(internal::kErrnoPayload);
  if (!payload.has_value()) return internal::ErrnoOfKind(status);
  int code = 0;
  return absl::SimpleAtoi(std::string(*payload), &code) ? code : 0;
}

}  // namespace ion

#endif  // ION_ION_BASE_STATUS_H_
