// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/base/known.h
//
// Known: a property that memory has, does not have, or may have. The kernel tells little of a
// heap's memory, so unknown is a value of its own. It is never a promise, and never the opposite of
// one: memory whose caching is unknown is treated as cached.
//
// Example:
//   const ion::Properties is = buffer.properties();
//   if (is.zeroed) UseAsIs();       // known to be yes; no and unknown are both false
//   if (is.cached.no()) CopyOnce(); // known to be no
//
// `!is.cached` does not compile, because it would take unknown for no.
//
// Cost: one byte. Thread-compatible.
#ifndef ION_ION_BASE_KNOWN_H_
#define ION_ION_BASE_KNOWN_H_

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace ion {

class Known {
 public:
  enum class Value : uint8_t { kUnknown, kNo, kYes };
  static constexpr size_t kValues = 3;

  constexpr Known() noexcept = default;                  // unknown
  constexpr Known(std::same_as<bool> auto yes) noexcept  // NOLINT: {.cached = true}
      : value_(yes ? Value::kYes : Value::kNo) {}
  // Yes where `condition` holds; otherwise unknown.
  static constexpr Known YesIf(bool condition) noexcept {
    return condition ? Known(true) : Known();
  }

  constexpr bool yes() const noexcept { return value_ == Value::kYes; }
  constexpr bool no() const noexcept { return value_ == Value::kNo; }
  constexpr bool unknown() const noexcept { return value_ == Value::kUnknown; }
  // Known to be yes.
  constexpr operator bool() const noexcept { return yes(); }  // NOLINT: as the bool that it was
  // 0 to kValues - 1.
  constexpr size_t index() const noexcept { return static_cast<size_t>(value_); }

  // This value, or `voucher` where this one is unknown.
  constexpr Known Or(Known voucher) const noexcept { return unknown() ? voucher : *this; }
  // True where one says yes and the other says no.
  constexpr bool Contradicts(Known other) const noexcept {
    return !unknown() && !other.unknown() && value_ != other.value_;
  }

  friend constexpr bool operator==(const Known&, const Known&) = default;
  friend constexpr bool operator==(Known a, std::same_as<bool> auto b) noexcept {
    return a == Known(b);
  }

  Value value_ = Value::kUnknown;  // public, so that it can be in a template argument
};
static_assert(sizeof(Known) == 1);

template <std::same_as<Known> K>
constexpr bool operator!(K) noexcept {
  static_assert(!std::same_as<K, Known>,
                "ion: `!` would take unknown for no: say `.no()` where it is known not to be, or "
                "`!x.yes()` where it is not known to be");
  return false;
}

// The property of memory that may come from either: the value that both have, otherwise unknown.
constexpr Known Common(Known a, Known b) noexcept { return a == b ? a : Known(); }

}  // namespace ion

#endif  // ION_ION_BASE_KNOWN_H_
