// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/probe_table.h
//
// ProbeTable: the results of probes (ion/probe.h), each with its key: the device, its driver, the
// kernel's release, the format, the image's size and the buffer's. As text it is a line that says
// so, and a line for each result:
//
//   ion-probe-table 1
//   device=/dev/video1 driver=vivid kernel=6.12.38 format=0x34325258 width=1920 height=1080
//   bytes=8294400 verdict=contiguous_only vmap=unknown forward=refuses:14 …
//
// (the second line is one line). The text of a table is read only as this library writes it. In a
// name each byte that is no letter, digit or one of ._/:+- is \xNN, so that no name makes a line or
// a field.
//
// Example:
//   const absl::StatusOr<ion::ProbeKey> key = ion::ProbeKeyOf("/dev/video1", "vivid", target);
//   absl::StatusOr<ion::ProbeTable> table = ion::ProbeTableFromText(text);
//   const ion::ProbeResult* known = table->Find(*key);  // nullptr: not of this kernel, or not probed
//   if (known == nullptr) (void)table->Put({*key, ion::Probe(device, target, *pages)});
//   const std::string saved = ion::ToText(*table);
//
// Cost: 380 bytes a result; a search is a walk over all. Thread-compatible.
#ifndef ION_ION_PROBE_TABLE_H_
#define ION_ION_PROBE_TABLE_H_

#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/base/status.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/image_layout.h"
#include "ion/pixel_format.h"
#include "ion/probe.h"

namespace ion {

// A name in a key: 64 bytes at most, of any value. (The kernel's release has as many.)
class ProbeName {
 public:
  static constexpr size_t kMostBytes = 64;

  constexpr ProbeName() = default;
  // Nothing if the text is longer.
  static constexpr std::optional<ProbeName> From(std::string_view text) noexcept {
    if (text.size() > kMostBytes) return std::nullopt;
    ProbeName name;
    std::copy(text.begin(), text.end(), name.text_.begin());
    name.bytes_ = static_cast<uint8_t>(text.size());
    return name;
  }
  // The name, as long as this object lives.
  constexpr std::string_view view() const noexcept { return {text_.data(), bytes_}; }
  friend constexpr bool operator==(const ProbeName& a, const ProbeName& b) noexcept {
    return a.view() == b.view();
  }

 private:
  std::array<char, kMostBytes> text_ = {};
  uint8_t bytes_ = 0;
};

// A result holds for its key and no other: a driver, or a kernel, of another version may answer
// otherwise.
struct ProbeKey {
  ProbeName device;
  ProbeName driver;
  ProbeName kernel;     // uname's release
  uint32_t format = 0;  // DRM's fourcc code; 0: bytes
  uint64_t width = 0;   // pixels
  uint64_t height = 0;  // rows
  uint64_t bytes = 0;   // of the samples

  friend constexpr bool operator==(const ProbeKey&, const ProbeKey&) = default;
};

struct ProbeEntry {
  ProbeKey key;
  ProbeResult result;

  friend constexpr bool operator==(const ProbeEntry&, const ProbeEntry&) = default;
};

// The key of a probe on the running kernel. EINVAL: a name of more than 64 bytes, or a size that no
// memory has. Else an errno of uname.
template <Syscalls Sys = LinuxSyscalls>
absl::StatusOr<ProbeKey> ProbeKeyOf(std::string_view device, std::string_view driver,
                                    const ProbeTarget& target, const Sys& sys = {}) noexcept {
  const Origin origin{"probe table", Operation::kAttach, device, target.bytes};
  struct utsname name {};
  if (const long answer = sys.Uname(&name); Failed(answer)) {
    return ToStatus(Error(ErrnoFrom(answer), "uname", origin));
  }
  const auto device_name = ProbeName::From(device), driver_name = ProbeName::From(driver);
  const auto kernel = ProbeName::From({name.release, strnlen(name.release, sizeof(name.release))});
  if (!device_name || !driver_name || !kernel) {
    return ToStatus(Error(EINVAL, "a name has more than 64 bytes", origin));
  }
  const std::optional<uint64_t> bytes = internal::SampleBytes(target);
  if (!bytes.has_value()) return ToStatus(Error(EINVAL, "no memory has that size", origin));
  ProbeKey key{*device_name, *driver_name, *kernel, 0, 0, 0, *bytes};
  if (target.image != nullptr) {
    key.format = DrmCodeOf(target.image->spec.format);
    key.width = target.image->spec.width;
    key.height = target.image->spec.height;
  }
  return key;
}

class ProbeTable {
 public:
  // Bounds the table, and the text that is read (arbitrary).
  static constexpr size_t kMostEntries = 1024;

  // Keeps a result, in place of one with the same key. ENOSPC: the table is full. ENOMEM: no memory.
  absl::Status Put(const ProbeEntry& entry) noexcept {
    const Origin origin{"probe table", Operation::kKeep, entry.key.device.view()};
    if (ProbeEntry* const same = At(entry.key); same != nullptr) {
      same->result = entry.result;
      return absl::OkStatus();
    }
    if (entries_.size() == kMostEntries) {
      return ToStatus(Error(ENOSPC, "the table has its most results", origin,
                            "DropOthers forgets the results of other kernels"));
    }
    if (internal::TryWithMemory([&] { entries_.push_back(entry); })) return absl::OkStatus();
    return ToStatus(Error(ENOMEM, "operator new: a result", origin));
  }
  // The result for the key, until the table changes; nullptr: there is none. The key has the kernel's
  // release, so a result of another kernel is never found.
  const ProbeResult* Find(const ProbeKey& key) const noexcept {
    const ProbeEntry* const entry = const_cast<ProbeTable*>(this)->At(key);
    return entry == nullptr ? nullptr : &entry->result;
  }
  // Forgets the results of all kernels but this one.
  void DropOthers(std::string_view kernel) noexcept {
    std::erase_if(entries_,
                  [&](const ProbeEntry& each) { return each.key.kernel.view() != kernel; });
  }
  // All results, in the order in which they came.
  std::span<const ProbeEntry> entries() const noexcept { return entries_; }

  friend bool operator==(const ProbeTable&, const ProbeTable&) = default;

 private:
  ProbeEntry* At(const ProbeKey& key) noexcept {
    const auto at =
        std::ranges::find_if(entries_, [&](const ProbeEntry& each) { return each.key == key; });
    return at == entries_.end() ? nullptr : &*at;
  }

  std::vector<ProbeEntry> entries_;
};

namespace internal {

inline constexpr std::string_view kProbeTableHead = "ion-probe-table 1";
// No line of ours is longer: three names of escaped bytes, and the other fields.
inline constexpr size_t kMostProbeLine = 1536;

inline void AppendEscaped(std::string& text, std::string_view name) {
  constexpr std::string_view kPlain = "._/:+-";
  constexpr char kDigits[] = "0123456789abcdef";
  for (const char c : name) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       kPlain.find(c) != kPlain.npos;
    if (plain) {
      text += c;
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    text += "\\x";
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
}

// The line of a result, without its end.
inline std::string ProbeLine(const ProbeEntry& entry) {
  const auto& [key, result] = entry;
  std::string text = "device=";
  AppendEscaped(text, key.device.view());
  text += " driver=";
  AppendEscaped(text, key.driver.view());
  text += " kernel=";
  AppendEscaped(text, key.kernel.view());
  char hex[16];
  text += " format=0x";
  text.append(hex, std::to_chars(hex, hex + sizeof(hex), key.format, 16).ptr);
  text += " width=" + std::to_string(key.width) + " height=" + std::to_string(key.height) +
          " bytes=" + std::to_string(key.bytes) + " verdict=";
  text += VerdictName(result.verdict);
  text += result.needs_vmap.yes() ? " vmap=yes" : " vmap=unknown";
  for (size_t i = 0; i < kQuestions; ++i) {
    text += ' ';
    text += QuestionName(static_cast<Question>(i));
    text += '=';
    text += AnswerName(result.answers[i].kind);
    if (result.answers[i].code != 0) text += ":" + std::to_string(result.answers[i].code);
  }
  return text;
}

// Reads a line that ProbeLine has written.
class ProbeLineReader {
 public:
  explicit ProbeLineReader(std::string_view line) noexcept : rest_(line) {}

  // Nothing: the line is none, and wrong() tells the field.
  std::optional<ProbeEntry> Read() noexcept {
    ProbeEntry entry;
    ProbeKey& key = entry.key;
    uint64_t format = 0;
    bool good = Name("device", key.device) && Name("driver", key.driver) &&
                Name("kernel", key.kernel) && Number("format", 16, UINT32_MAX, format) &&
                Number("width", 10, UINT64_MAX, key.width) &&
                Number("height", 10, UINT64_MAX, key.height) &&
                Number("bytes", 10, UINT64_MAX, key.bytes) &&
                Word("verdict", kProbeVerdicts, entry.result.verdict) && Vmap(entry.result);
    for (size_t i = 0; good && i < kQuestions; ++i) {
      good = Answer(QuestionName(static_cast<Question>(i)), entry.result.answers[i]);
    }
    if (good && !rest_.empty()) {
      wrong_ = "the end";
      good = false;
    }
    if (!good) return std::nullopt;
    key.format = static_cast<uint32_t>(format);
    entry.result.bytes = key.bytes;
    return entry;
  }
  std::string_view wrong() const noexcept { return wrong_; }

 private:
  // The value of the next field.
  bool Value(std::string_view name, std::string_view& value) noexcept {
    wrong_ = name;
    const size_t end = std::min(rest_.find(' '), rest_.size());
    std::string_view field = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (!field.starts_with(name)) return false;
    field.remove_prefix(name.size());
    if (!field.starts_with('=')) return false;
    value = field.substr(1);
    return true;
  }
  bool Name(std::string_view name, ProbeName& to) noexcept {
    std::string_view text;
    if (!Value(name, text)) return false;
    std::array<char, ProbeName::kMostBytes> bytes;
    size_t count = 0;
    while (!text.empty()) {
      if (count == bytes.size()) return false;
      char& byte = bytes[count++];
      if (text[0] != '\\') {
        byte = text[0];
        text.remove_prefix(1);
        continue;
      }
      if (text.size() < 4 || text[1] != 'x') return false;
      unsigned number = 0;
      const auto [end, error] = std::from_chars(text.data() + 2, text.data() + 4, number, 16);
      if (error != std::errc() || end != text.data() + 4) return false;
      byte = static_cast<char>(number);
      text.remove_prefix(4);
    }
    to = *ProbeName::From({bytes.data(), count});
    return true;
  }
  static bool Whole(std::string_view text, int base, uint64_t most, uint64_t& to) noexcept {
    const char* const end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data(), end, to, base);
    return error == std::errc() && stopped == end && to <= most;
  }
  bool Number(std::string_view name, int base, uint64_t most, uint64_t& to) noexcept {
    std::string_view text;
    if (!Value(name, text)) return false;
    if (base == 16) {
      if (!text.starts_with("0x")) return false;
      text.remove_prefix(2);
    }
    return Whole(text, base, most, to);
  }
  // One of the names of an enum's values.
  template <class E, std::string_view (*kNameOf)(E) noexcept>
  static bool Named(std::string_view text, size_t count, E& to) noexcept {
    for (size_t i = 0; i < count; ++i) {
      if (kNameOf(static_cast<E>(i)) != text) continue;
      to = static_cast<E>(i);
      return true;
    }
    return false;
  }
  bool Word(std::string_view name, size_t count, ProbeVerdict& to) noexcept {
    std::string_view text;
    return Value(name, text) && Named<ProbeVerdict, VerdictName>(text, count, to);
  }
  bool Vmap(ProbeResult& to) noexcept {
    std::string_view text;
    if (!Value("vmap", text)) return false;
    to.needs_vmap = Known::YesIf(text == "yes");
    return text == "yes" || text == "unknown";
  }
  bool Answer(std::string_view name, ProbeAnswer& to) noexcept {
    constexpr uint64_t kMostErrno = 4095;
    std::string_view text;
    if (!Value(name, text)) return false;
    const size_t colon = text.find(':');
    if (!Named<ProbeAnswer::Kind, AnswerName>(text.substr(0, colon), kAnswerKinds, to.kind)) {
      return false;
    }
    if (colon == text.npos) return true;
    uint64_t code = 0;
    if (!Whole(text.substr(colon + 1), 10, kMostErrno, code)) return false;
    to.code = static_cast<int>(code);
    return true;
  }

  std::string_view rest_;
  std::string_view wrong_;
};

}  // namespace internal

// The text of a table, for ProbeTableFromText. The calls of the answers are left out.
[[nodiscard]] inline std::string ToText(const ProbeTable& table) {
  std::string text(internal::kProbeTableHead);
  text += '\n';
  for (const ProbeEntry& entry : table.entries()) text += internal::ProbeLine(entry) + '\n';
  return text;
}

// The table of a text. INVALID_ARGUMENT (EINVAL): a line is not as ToText writes it, is cut, or has
// the key of another one, or there are too many; the message has its number. ENOMEM: no memory.
[[nodiscard]] inline absl::StatusOr<ProbeTable> ProbeTableFromText(std::string_view text) noexcept {
  const auto read = [&]() -> absl::StatusOr<ProbeTable> {
    size_t number = 0;
    const auto refuse = [&](std::string_view rule) {
      return MakeStatus(EINVAL,
                        "probe table, line " + std::to_string(number) + ": " + std::string(rule));
    };
    ProbeTable table;
    do {
      ++number;
      const size_t end = text.find('\n');
      if (end == text.npos) return refuse("has no end");
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(end + 1);
      if (number == 1) {
        if (line != internal::kProbeTableHead) return refuse("is not 'ion-probe-table 1'");
        continue;
      }
      if (line.size() > internal::kMostProbeLine) return refuse("is too long");
      internal::ProbeLineReader reader(line);
      const std::optional<ProbeEntry> entry = reader.Read();
      if (!entry.has_value()) {
        return refuse("its field '" + std::string(reader.wrong()) + "' is missing or bad");
      }
      // A number or a name that is written in another way: a key would have two texts.
      if (internal::ProbeLine(*entry) != line) return refuse("is not written as ToText writes it");
      if (table.Find(entry->key) != nullptr) return refuse("has the key of another line");
      if (absl::Status put = table.Put(*entry); !put.ok()) {
        return ErrnoOf(put) == ENOSPC ? refuse("is one more than a table has") : put;
      }
    } while (!text.empty());
    return table;
  };
  return internal::WithMemory(
      read, []() -> absl::StatusOr<ProbeTable> { return internal::CodeAlone(ENOMEM); });
}

}  // namespace ion

#endif  // ION_ION_PROBE_TABLE_H_
