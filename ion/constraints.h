// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/constraints.h
//
// Constraints: the demands of one party (a device, the CPU, a kernel driver whose own CPU writes,
// the caller) on memory that it will share with others, each with its source. A field that is not
// stated demands nothing. ion/merge.h has the rules by which those of all parties become one set,
// ion/choice.h finds the heap.
//
// Not for the layout of one image: ion/layout.h computes it from the merged limits.
//
// Example:
//   constexpr ion::Constraints kCamera{.held = 4,  // by hand: declared
//                                      .address_limit = ion::AddressOfBits(32),
//                                      .segments_max = ion::Probed(1, 1 << 20),
//                                      .stride_multiple = ion::FromKernel(32)};
//   constexpr ion::Constraints kCpu{.cpu_read = ion::CpuUse::kOften};
//   constexpr ion::Party kParties[] = {{"camera", kCamera}, {"cpu", kCpu}};
//
// Cost: plain data, about 1.7 KiB, without heap memory. Thread-compatible.
#ifndef ION_ION_CONSTRAINTS_H_
#define ION_ION_CONSTRAINTS_H_

#include <algorithm>
#include <array>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>

#include "ion/heap_id.h"

namespace ion {

// How a value is known.
enum class How : uint8_t {
  kUnstated,  // it is not
  kDeclared,  // in a table, or by the caller
  kKernel,    // read from the kernel
  kProbed,    // tried on the device, with a buffer of some size
};

namespace internal {

inline constexpr std::string_view kHowNames[] = {"unstated", "declared", "kernel", "probed"};

}  // namespace internal

// A word for it: "declared", "kernel", "probed".
constexpr std::string_view HowName(How how) noexcept {
  return internal::kHowNames[static_cast<size_t>(how)];
}

// The source of a value. A probed value holds for the size that was tried.
struct Source {
  How how = How::kUnstated;
  uint64_t bytes = 0;  // kProbed: the size of the tried buffer
  friend constexpr bool operator==(const Source&, const Source&) = default;
};

// The use that the CPU makes of the memory, for each direction.
enum class CpuUse : uint8_t { kNone, kRare, kOften };

// The memory types that a device works with. Bit 0: cached memory, bit 1: uncached memory, bit 2:
// no cache maintenance is needed. A merge keeps the bits that all have.
enum class Coherency : uint8_t {
  kSnoops = 7,          // reads the CPU's caches
  kNeedsSync = 3,       // each CPU access needs begin and end
  kMustBeUncached = 6,  // works with uncached memory only
  kMustBeCached = 5,    // works with cached memory only
};

// Bit 0: memory that is not protected will do, bit 1: protected memory will do. A device that
// cannot use protected memory has to say so: not stated is allowed.
enum class Protection : uint8_t { kForbidden = 1, kRequired = 2, kAllowed = 3 };

// The services of the exporter that an importer uses.
enum class ExporterNeeds : uint8_t {
  kNone = 0,
  kPages = 1,       // a scatter list of pages, not of bare addresses
  kVmap = 2,        // a mapping for the kernel's CPU
  kMmap = 4,        // a mapping for the program's CPU
  kExportByUs = 8,  // a descriptor that this library can make
};
constexpr ExporterNeeds operator|(ExporterNeeds a, ExporterNeeds b) noexcept {
  return static_cast<ExporterNeeds>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr ExporterNeeds operator&(ExporterNeeds a, ExporterNeeds b) noexcept {
  return static_cast<ExporterNeeds>(static_cast<uint8_t>(a) & static_cast<uint8_t>(b));
}

// Bit 0: all planes of an image in one buffer, bit 1: each plane in its own.
enum class PlaneFds : uint8_t { kOne = 1, kSeparate = 2, kAny = 3 };

// The best fence that a device takes and gives; each includes those before it.
enum class Fences : uint8_t { kNone, kImplicit, kSyncFile };

// A merge's rules. Each is commutative and associative.
enum class MergeRule : uint8_t {
  kMax,
  kMin,
  kLcm,        // the least common multiple; 64 bits, an overflow is a conflict
  kOr,         // of bits
  kAnd,        // of bits; a conflict if no useful bit is left
  kSum,        // an overflow is a conflict
  kEqual,      // two different values are a conflict
  kPerDevice,  // is applied to one party's values before the merge
};

// Each number and choice of a party: name, enumerator, type, rule, the value that demands nothing,
// and the sentence for a conflict. Sizes, alignments and addresses are in bytes.
#define ION_CONSTRAINT_FIELDS(FIELD)                                                               \
  /* The buffer's size. */                                                                         \
  FIELD(size_min, kSizeMin, uint64_t, kMax, 0,                                                     \
        "size_min: one party needs a larger buffer than another one takes")                        \
  FIELD(size_max, kSizeMax, uint64_t, kMin, UINT64_MAX,                                            \
        "size_max: one party takes no buffer of the size that another one needs")                  \
  FIELD(size_multiple, kSizeMultiple, uint64_t, kLcm, 1,                                           \
        "size_multiple: the least common multiple of two sizes does not fit into 64 bits")         \
  /* Bytes and rows that have to be there behind the image. */                                     \
  FIELD(tail_bytes, kTailBytes, uint64_t, kMax, 0,                                                 \
        "tail_bytes: the tail that one party needs does not fit")                                  \
  FIELD(tail_rows, kTailRows, uint64_t, kMax, 0,                                                   \
        "tail_rows: the tail that one party needs does not fit")                                   \
  /* Numbers of buffers: held at one time, spare ones of its own, spare ones for all, the most. */ \
  FIELD(held, kHeld, uint64_t, kSum, 0,                                                            \
        "held: the parties hold more buffers together than can be counted")                        \
  FIELD(slack, kSlack, uint64_t, kSum, 0,                                                          \
        "slack: the parties want more spare buffers together than can be counted")                 \
  FIELD(shared_slack, kSharedSlack, uint64_t, kMax, 0,                                             \
        "shared_slack: one party wants more spare buffers than another one allows")                \
  FIELD(buffers_max, kBuffersMax, uint64_t, kMin, UINT64_MAX,                                      \
        "buffers_max: the parties need more buffers together than one of them can have")           \
  /* The highest address that the device reaches: 0xffffffff for a DMA mask of 32 bits. */         \
  FIELD(address_limit, kAddressLimit, uint64_t, kMin, UINT64_MAX,                                  \
        "address_limit: no memory lies below the highest address that the device reaches")         \
  /* Pieces of the buffer in the device's addresses; 1: it must be contiguous. */                  \
  FIELD(segments_max, kSegmentsMax, uint64_t, kMin, UINT64_MAX,                                    \
        "segments_max: the memory is in more pieces than the device can follow")                   \
  FIELD(segment_size_max, kSegmentSizeMax, uint64_t, kMin, UINT64_MAX,                             \
        "segment_size_max: one device takes no piece as large as another one needs")               \
  /* No piece may cross a multiple of it; a power of two. */                                       \
  FIELD(segment_boundary, kSegmentBoundary, uint64_t, kMin, UINT64_MAX,                            \
        "segment_boundary: one device takes no piece as large as another one needs")               \
  /* Begin and length of each piece are a multiple of it; a power of two. Above a page, a heap */  \
  /* fits only if size_multiple is a multiple of it too. */                                        \
  FIELD(segment_multiple, kSegmentMultiple, uint64_t, kMax, 1,                                     \
        "segment_multiple: the pieces of the memory do not begin where the device needs them to")  \
  FIELD(base_align, kBaseAlign, uint64_t, kLcm, 1,                                                 \
        "base_align: no memory begins at a multiple of the alignments of all devices")             \
  FIELD(cpu_read, kCpuRead, CpuUse, kMax, 0,                                                       \
        "cpu_read: one party reads by the CPU, which memory that suits another one prevents")      \
  FIELD(cpu_write, kCpuWrite, CpuUse, kMax, 0,                                                     \
        "cpu_write: one party writes by the CPU, which memory that suits another one prevents")    \
  /* The driver's own CPU writes: a queue of vmalloc memory, a UVC camera. */                      \
  FIELD(kernel_cpu_writes, kKernelCpuWrites, bool, kOr, 0,                                         \
        "kernel_cpu_writes: a driver writes by the CPU, which memory that suits another party "    \
        "prevents")                                                                                \
  FIELD(coherency, kCoherency, Coherency, kAnd, 7,                                                 \
        "coherency: one device needs cached memory and another one uncached memory")               \
  FIELD(protection, kProtection, Protection, kAnd, 3,                                              \
        "protection: one party needs protected memory and another one cannot use it")              \
  FIELD(exporter_needs, kExporterNeeds, ExporterNeeds, kOr, 0,                                     \
        "exporter_needs: one party needs a service that memory for another one does not have")     \
  FIELD(heaps_allowed, kHeapsAllowed, HeapMask, kAnd, 0xffffffff,                                  \
        "heaps_allowed: the parties have no heap in common")                                       \
  FIELD(heaps_denied, kHeapsDenied, HeapMask, kOr, 0,                                              \
        "heaps_denied: one party denies each heap that another one allows")                        \
  /* Memory that a confidential guest shares with devices in the clear. */                         \
  FIELD(cc_shared, kCcShared, bool, kOr, 0,                                                        \
        "cc_shared: one party needs memory that is shared in the clear, and no heap has it")       \
  FIELD(stride_multiple, kStrideMultiple, uint64_t, kLcm, 1,                                       \
        "stride_multiple: no stride is a multiple of those that two parties need")                 \
  FIELD(stride_min, kStrideMin, uint64_t, kMax, 0,                                                 \
        "stride_min: one party needs a larger stride than another one takes")                      \
  FIELD(stride_max, kStrideMax, uint64_t, kMin, UINT64_MAX,                                        \
        "stride_max: one party takes no stride as large as another one needs")                     \
  FIELD(stride_exact, kStrideExact, uint64_t, kEqual, 0,                                           \
        "stride_exact: one party has a fixed stride that another one does not take")               \
  FIELD(width_multiple, kWidthMultiple, uint64_t, kLcm, 1,                                         \
        "width_multiple: the least common multiple of two widths does not fit into 64 bits")       \
  FIELD(height_multiple, kHeightMultiple, uint64_t, kLcm, 1,                                       \
        "height_multiple: the least common multiple of two heights does not fit into 64 bits")     \
  FIELD(plane_offset_multiple, kPlaneOffsetMultiple, uint64_t, kLcm, 1,                            \
        "plane_offset_multiple: the least common multiple of two offsets does not fit into 64 "    \
        "bits")                                                                                    \
  FIELD(planes, kPlanes, PlaneFds, kAnd, 3,                                                        \
        "planes: one party needs all planes in one buffer and another one needs them apart")       \
  FIELD(fences, kFences, Fences, kMin, 2,                                                          \
        "fences: one party lacks the fences that another one demands")                             \
  FIELD(fences_needed, kFencesNeeded, Fences, kMax, 0,                                             \
        "fences_needed: one party demands fences that another one lacks")                          \
  /* An IOMMU of its own translates the device's addresses. */                                     \
  FIELD(translated, kTranslated, bool, kPerDevice, 0,                                              \
        "translated: the addresses of one device are translated and those of another one are not")

// A field of Constraints.
enum class Field : uint8_t {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) enumerator,
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
      kFormats,  // the pairs of a format and a modifier
};
inline constexpr size_t kFieldCount = static_cast<size_t>(Field::kFormats) + 1;

namespace internal {

// By field. Not inside the functions, which would copy them to the stack.
inline constexpr std::string_view kFieldNames[] = {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) #name,
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
        "formats"};
inline constexpr MergeRule kFieldRules[] = {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) MergeRule::rule,
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
        MergeRule::kAnd};
inline constexpr uint64_t kFieldNeutrals[] = {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) neutral,
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
        0};
inline constexpr const char* kFieldSentences[] = {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) sentence,
    ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)  // NOLINT: some sentences are two literals
#undef ION_CONSTRAINT_FIELD
    "formats: the parties have no format and modifier in common"};

}  // namespace internal

// A field's name, as in Constraints.
constexpr std::string_view FieldName(Field field) noexcept {
  return internal::kFieldNames[static_cast<size_t>(field)];
}
// A field's rule. Formats are a set: kAnd.
constexpr MergeRule RuleOf(Field field) noexcept {
  return internal::kFieldRules[static_cast<size_t>(field)];
}
// The value of a field that demands nothing, as a word.
constexpr uint64_t NeutralOf(Field field) noexcept {
  return internal::kFieldNeutrals[static_cast<size_t>(field)];
}
// The sentence for a conflict at the field.
constexpr const char* ConflictSentence(Field field) noexcept {
  return internal::kFieldSentences[static_cast<size_t>(field)];
}

// A value as a 64-bit word, with its source; unstated by default.
struct StatedWord {
  static constexpr uint64_t kMostProbed = (uint64_t{1} << 56) - 1;

  uint64_t word = 0;
  uint64_t how_bits : 8 = 0;       // a How
  uint64_t probed_bytes : 56 = 0;  // 0 but for How::kProbed

  constexpr StatedWord() = default;
  constexpr StatedWord(uint64_t value, Source source) noexcept
      : word(value),
        how_bits(static_cast<uint64_t>(source.how) & 0xff),
        probed_bytes(std::min(source.bytes, kMostProbed) & kMostProbed) {}

  constexpr bool stated() const noexcept { return how_bits != 0; }
  constexpr Source source() const noexcept { return {static_cast<How>(how_bits), probed_bytes}; }
  friend constexpr bool operator==(const StatedWord&, const StatedWord&) = default;
};

// A value of any type with its source, until it meets its field.
template <class T>
struct Sourced {
  T value;
  Source source;
};
// A value that the kernel told.
template <class T>
constexpr Sourced<T> FromKernel(T value) noexcept {
  return {value, {How::kKernel, 0}};
}
// A value that was tried on the device with a buffer of `bytes` bytes (2^56 - 1 at most).
template <class T>
constexpr Sourced<T> Probed(T value, uint64_t bytes) noexcept {
  return {value, {How::kProbed, bytes}};
}

namespace internal {

constexpr uint64_t ToWord(HeapMask mask) noexcept { return mask.bits(); }
template <class T>
  requires std::is_enum_v<T> || std::integral<T>
constexpr uint64_t ToWord(T value) noexcept {
  return static_cast<uint64_t>(value);
}
// A value that a field of type T takes. No number of a field has a fraction, or is less than 0: a
// negative one becomes 0, which is no limit and no multiple that a party may have.
template <class U, class T>
concept StatedAs = std::convertible_to<U, T> &&
                   (!std::is_floating_point_v<U>)&&(!std::same_as<T, uint64_t> || std::integral<U>);
template <class T, class U>
constexpr T AsField(const U& value) noexcept {
  if constexpr (std::same_as<T, uint64_t> && std::signed_integral<U>) {
    return value < 0 ? 0 : static_cast<T>(value);
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
constexpr T FromWord(uint64_t word) noexcept {
  if constexpr (std::same_as<T, HeapMask>) {
    return HeapMask::FromBits(static_cast<uint32_t>(word));
  } else {
    return static_cast<T>(word);
  }
}

}  // namespace internal

// A value of a field, or none. A bare value is declared.
template <class T>
struct Stated : StatedWord {
  constexpr Stated() = default;
  template <internal::StatedAs<T> U>
  constexpr Stated(const U& value) noexcept  // NOLINT: {.stride_multiple = 64}
      : StatedWord(internal::ToWord(internal::AsField<T>(value)), {How::kDeclared, 0}) {}
  template <internal::StatedAs<T> U>
  constexpr Stated(const Sourced<U>& from) noexcept  // NOLINT: {.held = FromKernel(4)}
      : StatedWord(internal::ToWord(internal::AsField<T>(from.value)), from.source) {}
  // Requires: stated().
  constexpr T value() const noexcept { return internal::FromWord<T>(word); }
};

// A pixel format and its modifier. Both are passed on as they are; 0 is no format.
struct FormatModifier {
  uint32_t id = 0;
  uint64_t modifier = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 sees a 0 in a defaulted operator
  friend constexpr auto operator<=>(const FormatModifier&, const FormatModifier&) = default;
};

// A set of formats, in the order of their numbers. Not stated: any format will do.
class FormatSet {
 public:
  // Enough for the formats of one stream, with the modifiers of a display (arbitrary).
  static constexpr size_t kMost = 64;

  // Not stated.
  constexpr FormatSet() = default;
  constexpr FormatSet(std::initializer_list<FormatModifier> formats,
                      Source source = {How::kDeclared, 0}) noexcept
      : FormatSet(std::span(formats.begin(), formats.size()), source) {}
  // Drops equal ones. More than kMost different ones: overflowed(), which is an error of the party.
  constexpr explicit FormatSet(std::span<const FormatModifier> formats,
                               Source source = {How::kDeclared, 0}) noexcept
      : source_(source) {
    for (const FormatModifier& format : formats) Insert(format);
  }

  constexpr bool stated() const noexcept { return source_.how != How::kUnstated; }
  constexpr Source source() const noexcept { return source_; }
  // True if some were left out for lack of room.
  constexpr bool overflowed() const noexcept { return overflowed_; }
  constexpr std::span<const FormatModifier> formats() const noexcept {
    return {formats_.data(), count_};
  }
  // True if the set has `format`, or is not stated.
  constexpr bool Takes(const FormatModifier& format) const noexcept {
    return !stated() || std::ranges::binary_search(formats(), format);
  }
  // Keeps the formats that both have. Requires: `other` is stated.
  constexpr void Intersect(const FormatSet& other) noexcept {
    if (!stated()) {
      std::copy_n(other.formats_.begin(), other.count_, formats_.begin());
      count_ = other.count_;
      source_ = other.source_;
      return;
    }
    // The begin of many sets is the same.
    const size_t least = std::min(count_, other.count_);
    size_t kept = 0;
    while (kept < least && formats_[kept] == other.formats_[kept]) ++kept;
    for (size_t i = kept, j = kept; i < count_ && j < other.count_;) {
      if (formats_[i] == other.formats_[j]) {
        formats_[kept++] = formats_[i++];
        ++j;
      } else {
        (formats_[i] < other.formats_[j] ? i : j) += 1;
      }
    }
    count_ = static_cast<uint8_t>(kept);
  }
  friend constexpr bool operator==(const FormatSet& a, const FormatSet& b) noexcept {
    return a.source_ == b.source_ && a.overflowed_ == b.overflowed_ &&
           std::ranges::equal(a.formats(), b.formats());
  }

 private:
  constexpr void Insert(const FormatModifier& format) noexcept {
    FormatModifier* const end = formats_.data() + count_;
    FormatModifier* const at = std::lower_bound(formats_.data(), end, format);
    if (at != end && *at == format) return;
    if (count_ == kMost) {
      overflowed_ = true;
      return;
    }
    std::copy_backward(at, end, end + 1);
    *at = format;
    ++count_;
  }

  Source source_;
  uint8_t count_ = 0;
  bool overflowed_ = false;
  std::array<FormatModifier, kMost> formats_{};
};

// One set of a party's demands. A designated initialiser names the fields in this order:
// ION_CONSTRAINT_FIELDS has their meaning.
struct Constraints {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  Stated<type> name = {};
  ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
  FormatSet formats = {};

  // A field's value and source. Formats: only the source, and the number of formats as the word.
  constexpr StatedWord At(Field field) const noexcept {
    switch (field) {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  case Field::enumerator:                                                     \
    return name;
      ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
      case Field::kFormats:
        break;
    }
    return {formats.formats().size(), formats.source()};
  }
  // Sets a field that is no set of formats. The word is checked when the party is.
  constexpr void Set(Field field, const StatedWord& value) noexcept {
    switch (field) {
#define ION_CONSTRAINT_FIELD(name, enumerator, type, rule, neutral, sentence) \
  case Field::enumerator:                                                     \
    static_cast<StatedWord&>(name) = value;                                   \
    return;
      ION_CONSTRAINT_FIELDS(ION_CONSTRAINT_FIELD)
#undef ION_CONSTRAINT_FIELD
      case Field::kFormats:
        return;
    }
  }

  friend constexpr bool operator==(const Constraints&, const Constraints&) = default;
};

// The highest address of a device whose addresses have `bits` bits, as its DMA mask: 1 to 64.
constexpr uint64_t AddressOfBits(unsigned bits) noexcept {
  return bits >= 64 ? UINT64_MAX : (uint64_t{1} << bits) - 1;
}

// A party's name, for sentences: 31 bytes at most.
class PartyName {
 public:
  static constexpr size_t kMostBytes = 31;

  constexpr PartyName() = default;
  template <size_t kBytes>
  constexpr PartyName(const char (&text)[kBytes]) noexcept {  // NOLINT: {"camera", kCamera}
    static_assert(kBytes <= kMostBytes + 1, "ion: the name of a party has at most 31 bytes");
    std::copy_n(text, kBytes, text_);
  }
  // The begin of a text that is known only at run time.
  static constexpr PartyName From(std::string_view text) noexcept {
    PartyName name;
    std::copy_n(text.begin(), std::min(text.size(), kMostBytes), name.text_);
    return name;
  }
  // The name, as long as this object lives.
  constexpr std::string_view view() const noexcept { return text_; }
  friend constexpr bool operator==(const PartyName&, const PartyName&) = default;

 private:
  char text_[kMostBytes + 1] = {};
};

// Bounds of a choice, so that it needs no heap memory (arbitrary).
inline constexpr size_t kMostParties = 16;
inline constexpr size_t kMostAlternatives = 8;
inline constexpr size_t kMostCombinations = 256;

// A party, with the sets of demands that it offers, in its order of preference. The sets are
// borrowed. A party that may be dispensed with is left out if there is no other way.
struct Party {
  enum class Kind : uint8_t { kNeeded, kDispensable };

  constexpr Party() = default;
  constexpr Party(const PartyName& of, const Constraints& only, Kind need = Kind::kNeeded) noexcept
      : Party(of, std::span<const Constraints>(&only, 1), need) {}
  constexpr Party(const PartyName&, const Constraints&&, Kind = Kind::kNeeded) = delete;
  constexpr Party(const PartyName& of, std::span<const Constraints> ordered,
                  Kind need = Kind::kNeeded) noexcept
      : name(of), alternatives(ordered), kind(need) {}

  PartyName name;
  std::span<const Constraints> alternatives;
  Kind kind = Kind::kNeeded;
};

}  // namespace ion

#endif  // ION_ION_CONSTRAINTS_H_
