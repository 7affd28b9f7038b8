// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/constraint_text.h
//
// Constraints as text and back: for logs, files and other processes. The text is one line of fields
// in the order of Constraints, each with its value and source:
//
//   held=4@kernel segments_max=1@probed:1048576 stride_multiple=64 formats=0x3231564e:0x0
//
// A value without a source is declared. Numbers are decimal, or hexadecimal after 0x; the text of a
// choice is one of the words in WordsOf, and services are joined with a +. Fields may stand in any
// order and be divided by spaces or line breaks.
//
// Example:
//   const std::string text = ion::ToText(ion::Constraints{.held = 4});
//   const absl::StatusOr<ion::Constraints> read = ion::ConstraintsFromText(text);
//   if (!read.ok()) return read.status();  // says the field and the byte
//
// Cost: cold; allocates the text. Thread-safe.
#ifndef ION_ION_CONSTRAINT_TEXT_H_
#define ION_ION_CONSTRAINT_TEXT_H_

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/printable.h"
#include "ion/base/status.h"
#include "ion/constraints.h"
#include "ion/merge.h"

namespace ion {

// A word of a field that is a choice, or that is a set of services.
struct FieldWord {
  std::string_view text;
  uint64_t word;
};

namespace internal {

inline constexpr FieldWord kTruthWords[] = {{"no", 0}, {"yes", 1}};
inline constexpr FieldWord kCpuWords[] = {{"none", 0}, {"rare", 1}, {"often", 2}};
inline constexpr FieldWord kCoherencyWords[] = {
    {"snoops", 7}, {"needs_sync", 3}, {"must_be_uncached", 6}, {"must_be_cached", 5}};
inline constexpr FieldWord kProtectionWords[] = {{"forbidden", 1}, {"required", 2}, {"allowed", 3}};
inline constexpr FieldWord kServiceWords[] = {
    {"none", 0}, {"pages", 1}, {"vmap", 2}, {"mmap", 4}, {"export_by_us", 8}};
inline constexpr FieldWord kPlaneWords[] = {{"one", 1}, {"separate", 2}, {"any", 3}};
inline constexpr FieldWord kFenceWords[] = {{"none", 0}, {"implicit", 1}, {"sync_file", 2}};

// 0x and the digits.
inline std::string HexText(uint64_t number) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof(digits), number, 16).ptr;
  return "0x" + std::string(digits, end);
}

}  // namespace internal

// The words of a field; none if it is a number, a mask of heaps or the formats.
constexpr std::span<const FieldWord> WordsOf(Field field) noexcept {
  switch (field) {
    case Field::kKernelCpuWrites:
    case Field::kCcShared:
    case Field::kTranslated:
      return internal::kTruthWords;
    case Field::kCpuRead:
    case Field::kCpuWrite:
      return internal::kCpuWords;
    case Field::kCoherency:
      return internal::kCoherencyWords;
    case Field::kProtection:
      return internal::kProtectionWords;
    case Field::kExporterNeeds:
      return internal::kServiceWords;
    case Field::kPlanes:
      return internal::kPlaneWords;
    case Field::kFences:
    case Field::kFencesNeeded:
      return internal::kFenceWords;
    default:
      return {};
  }
}

// The text of a field's value. A merged value that no party can have is told by its parts.
[[nodiscard]] inline std::string ValueText(Field field, uint64_t word) {
  for (const FieldWord& known : WordsOf(field)) {
    if (known.word == word) return std::string(known.text);
  }
  switch (field) {
    case Field::kExporterNeeds: {
      std::string text;
      for (const FieldWord& known : internal::kServiceWords) {
        if ((known.word & word) == 0) continue;
        if (!text.empty()) text += '+';
        text += known.text;
      }
      return text;
    }
    case Field::kCoherency:
      return word == 1   ? "must_be_cached with syncs"
             : word == 2 ? "must_be_uncached with syncs"
                         : "no memory";
    case Field::kAddressLimit:
    case Field::kHeapsAllowed:
    case Field::kHeapsDenied:
      return internal::HexText(word);
    default:
      return std::to_string(word);
  }
}

namespace internal {

// No text of ours is longer: 36 fields and 64 formats, each with a source.
inline constexpr size_t kMostConstraintText = 16384;

inline void AppendSource(std::string& text, Source source) {
  if (source.how == How::kKernel) text += "@kernel";
  if (source.how == How::kProbed) text += "@probed:" + std::to_string(source.bytes);
}

// A number of 64 bits that is all of `text`.
inline std::optional<uint64_t> AnyNumber(std::string_view text) noexcept {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, hex ? 16 : 10);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// Takes the part before `end` off `rest`, and `end` itself.
inline std::string_view TakeBefore(std::string_view& rest, char end) noexcept {
  const size_t at = rest.find(end);
  const std::string_view taken = rest.substr(0, at);
  rest.remove_prefix(at == std::string_view::npos ? rest.size() : at + 1);
  return taken;
}

inline std::optional<Source> SourceFrom(std::string_view text) noexcept {
  constexpr std::string_view kProbed = "probed:";
  if (text == "declared") return Source{How::kDeclared, 0};
  if (text == "kernel") return Source{How::kKernel, 0};
  if (!text.starts_with(kProbed)) return std::nullopt;
  const std::optional<uint64_t> bytes = AnyNumber(text.substr(kProbed.size()));
  if (!bytes.has_value() || *bytes > StatedWord::kMostProbed) return std::nullopt;
  return Source{How::kProbed, *bytes};
}

inline std::optional<uint64_t> WordFrom(Field field, std::string_view text) noexcept {
  const std::span<const FieldWord> words = WordsOf(field);
  if (words.empty()) return AnyNumber(text);
  if (field != Field::kExporterNeeds) {
    for (const FieldWord& known : words) {
      if (known.text == text) return known.word;
    }
    return std::nullopt;
  }
  uint64_t all = 0;
  bool more = true;
  while (more) {
    more = text.find('+') != std::string_view::npos;
    const std::string_view one = TakeBefore(text, '+');
    const FieldWord* found = nullptr;
    for (const FieldWord& known : words) {
      if (known.text == one) found = &known;
    }
    if (found == nullptr) return std::nullopt;
    all |= found->word;
  }
  return all;
}

inline std::optional<Field> FieldFrom(std::string_view name) noexcept {
  for (size_t i = 0; i < kFieldCount; ++i) {
    if (FieldName(static_cast<Field>(i)) == name) return static_cast<Field>(i);
  }
  return std::nullopt;
}

// The rule that the text of a value breaks; nullptr: it was set.
inline const char* SetFromText(Field field, std::string_view value, Source source,
                               Constraints& to) noexcept {
  if (field != Field::kFormats) {
    const std::optional<uint64_t> word = WordFrom(field, value);
    if (!word.has_value()) {
      return WordsOf(field).empty() ? "is no number of 64 bits" : "is none of the field's words";
    }
    if (const char* rule = BrokenRule(field, *word); rule != nullptr) return rule;
    to.Set(field, StatedWord(*word, source));
    return nullptr;
  }
  std::array<FormatModifier, FormatSet::kMost> formats{};
  size_t count = 0;
  bool more = true;
  while (more) {
    more = value.find(',') != std::string_view::npos;
    std::string_view one = TakeBefore(value, ',');
    if (one.find(':') == std::string_view::npos) return "has no modifier after its format: 0x1:0x0";
    const std::optional<uint64_t> id = AnyNumber(TakeBefore(one, ':'));
    const std::optional<uint64_t> modifier = AnyNumber(one);
    if (!id.has_value() || *id > UINT32_MAX) return "has a format that is no number of 32 bits";
    if (*id == 0) return "has the format 0, which is none";
    if (!modifier.has_value()) return "has a modifier that is no number of 64 bits";
    if (count == formats.size()) return "has more than 64 formats";
    formats[count++] = {static_cast<uint32_t>(*id), *modifier};
  }
  to.formats = FormatSet(std::span(formats).first(count), source);
  return nullptr;
}

}  // namespace internal

// The text of a party's demands; empty if it states none. Requires: CheckAlone finds no problem.
[[nodiscard]] inline std::string ToText(const Constraints& set) {
  std::string text;
  for (size_t i = 0; i < kFieldCount; ++i) {
    const auto field = static_cast<Field>(i);
    const StatedWord is = set.At(field);
    if (!is.stated()) continue;
    if (!text.empty()) text += ' ';
    text += FieldName(field);
    text += '=';
    if (field != Field::kFormats) {
      text += ValueText(field, is.word);
    } else {
      for (const FormatModifier& format : set.formats.formats()) {
        if (&format != set.formats.formats().data()) text += ',';
        text += internal::HexText(format.id) + ":" + internal::HexText(format.modifier);
      }
    }
    internal::AppendSource(text, is.source());
  }
  return text;
}

// The demands of a text. INVALID_ARGUMENT (EINVAL): the text is longer than 16 KiB, or the field at
// the byte that the message tells is unknown, occurs twice, or has a value or a source that is
// refused; or two values of the text exclude each other.
[[nodiscard]] inline absl::StatusOr<Constraints> ConstraintsFromText(std::string_view text) {
  constexpr std::string_view kBlank = " \n\t\r";
  const auto refuse = [](size_t byte, std::string_view name, std::string_view rule) {
    return MakeStatus(EINVAL, "constraints, byte " + std::to_string(byte) + ", field '" +
                                  Printable(name) + "': " + std::string(rule));
  };
  if (text.size() > internal::kMostConstraintText) {
    return MakeStatus(EINVAL, "constraints, byte " + std::to_string(internal::kMostConstraintText) +
                                  ": the text is longer than that");
  }
  Constraints set;
  std::array<size_t, kFieldCount> bytes{};  // of each field
  for (size_t at = text.find_first_not_of(kBlank); at != std::string_view::npos;
       at = text.find_first_not_of(kBlank, at)) {
    const size_t end = std::min(text.find_first_of(kBlank, at), text.size());
    std::string_view value = text.substr(at, end - at);
    const size_t byte = at;
    at = end;
    const bool has_value = value.find('=') != std::string_view::npos;
    const std::string_view name = internal::TakeBefore(value, '=');
    const std::optional<Field> field = internal::FieldFrom(name);
    if (!field.has_value()) return refuse(byte, name, "there is no such field");
    if (!has_value) return refuse(byte, name, "has no value: write name=value");
    if (set.At(*field).stated()) return refuse(byte, name, "occurs twice");
    const bool has_source = value.find('@') != std::string_view::npos;
    const std::string_view word = internal::TakeBefore(value, '@');
    const std::optional<Source> source =
        has_source ? internal::SourceFrom(value) : Source{How::kDeclared, 0};
    if (!source.has_value()) {
      return refuse(byte, name,
                    "its source is none of declared, kernel and probed:BYTES (below 2^56)");
    }
    const char* const rule = internal::SetFromText(*field, word, *source, set);
    if (rule != nullptr) return refuse(byte, name, rule);
    bytes[static_cast<size_t>(*field)] = byte;
  }
  const Problem problem = CheckAlone(set);
  if (problem.kind != Problem::Kind::kNone) {
    const size_t byte = bytes[static_cast<size_t>(problem.field)];
    if (problem.kind == Problem::Kind::kValue) {
      return refuse(byte, FieldName(problem.field), problem.rule);
    }
    return refuse(byte, FieldName(problem.field),
                  "excludes " + std::string(FieldName(problem.other)) + " of the same text");
  }
  return set;
}

}  // namespace ion

#endif  // ION_ION_CONSTRAINT_TEXT_H_
