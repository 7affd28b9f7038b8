// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/probe.h
//
// Probe: does a device take memory of this kind, at this size and format? The kernel's errno does
// not tell why it refuses a buffer, so the device is asked several times, and the answers are
// compared: the same pages in two orders, contiguous memory, a larger buffer, its own buffer.
//
// One yes proves little: ordinary memory is in one piece by luck (Linux 6.12's system heap makes
// 1 MiB of one block). The pages of one memfd cannot be in one piece both forward and reversed.
//
// Example:
//   auto pages = ion::PageMemory<>::Open();      // ion/backends/page_memory.h
//   ion::HeapMemory contiguous(*client, kCma);   // ion/probe_heaps.h
//   const ion::ProbeResult result = ion::Probe(device, {.bytes = 8_MiB}, *pages, contiguous);
//   ion::Constraints needs;
//   ion::AddProbed(result, needs);  // segments_max = 1, probed with 8 MiB
//
// A yes holds for the size that was asked about, and for no other one. A no is final for this
// device, format, size and kernel. The pixels are not looked at: a driver that copies memory which
// the device cannot reach says yes (swiotlb).
//
// Cost: three to eleven questions; memory of the size, and of 5/4 of it if all is refused, one buffer
// at a time. Thread-compatible.
#ifndef ION_ION_PROBE_H_
#define ION_ION_PROBE_H_

#include <algorithm>
#include <array>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/known.h"
#include "ion/block.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/image_layout.h"

namespace ion {

// The memory that a device is asked about.
struct ProbeTarget {
  uint64_t bytes = 0;                  // at least; 0: those of the image
  const ImageLayout* image = nullptr;  // nullptr: bytes
};

// A kind of memory that a source makes.
enum class Sample : uint8_t {
  kForward,     // pages that were taken one by one, in their order
  kReversed,    // the same pages, the last one first
  kContiguous,  // one piece
  kOwn,         // memory of the device's own, exported
};

// Memory that a source lends. Borrowed for the call.
struct LentMemory {
  BlockRange range;
  std::string_view exporter = {};  // of kOwn, as the kernel names it; empty: not known
};

namespace internal {

struct UsesNothing {
  void operator()(const LentMemory&) const noexcept {}
};

}  // namespace internal

// A source of memory for a probe. Lend makes memory of at least `bytes` bytes, calls `use` with it
// once, and takes it back; an error says that there was none, and `use` was not called.
template <class S>
concept ProbeSource = requires(S& s, Sample which, uint64_t bytes, internal::UsesNothing use) {
  { std::span<const Sample>(S::kSamples) };
  { s.Lend(which, bytes, use) } noexcept -> std::same_as<Error>;
};

// A callable that is asked in place of a device. Its kTakes says that the memory was mapped.
template <class F>
concept AcceptFn = std::is_nothrow_invocable_r_v<Acceptance, F&, const DeviceMemory&>;

// A question of a probe, in the order in which they are asked.
enum class Question : uint8_t {
  kForward,
  kReversed,
  kContiguous,
  kForwardLarger,     // with a quarter more bytes
  kContiguousLarger,  // with a quarter more bytes
  kOwn,
};
inline constexpr size_t kQuestions = 6;

constexpr std::string_view QuestionName(Question question) noexcept {
  constexpr std::string_view kNames[kQuestions] = {
      "forward", "reversed", "contiguous", "forward_larger", "contiguous_larger", "own"};
  return kNames[static_cast<size_t>(question)];
}

// The answer to a question, as plain data.
struct ProbeAnswer {
  enum class Kind : uint8_t {
    kNotAsked,    // no source has such memory, or it was not needed
    kNoMemory,    // the source had none: `code` says why
    kTakes,       // as Acceptance::Verdict
    kRefuses,     // as Acceptance::Verdict; `code` says how
    kNoEvidence,  // as Acceptance::Verdict
    kCannotAsk,   // as Acceptance::Verdict; `code` says why
  };
  Kind kind = Kind::kNotAsked;
  int code = 0;           // errno
  const char* what = "";  // the call that said so: static text

  constexpr bool takes() const noexcept { return kind == Kind::kTakes; }
  constexpr bool refuses() const noexcept { return kind == Kind::kRefuses; }
  // The same answer, from whatever call.
  friend constexpr bool operator==(const ProbeAnswer& a, const ProbeAnswer& b) noexcept {
    return a.kind == b.kind && a.code == b.code;
  }
};
inline constexpr size_t kAnswerKinds = 6;

constexpr std::string_view AnswerName(ProbeAnswer::Kind kind) noexcept {
  constexpr std::string_view kNames[kAnswerKinds] = {"not_asked", "no_memory",   "takes",
                                                     "refuses",   "no_evidence", "cannot_ask"};
  return kNames[static_cast<size_t>(kind)];
}

// The proof that the answers give.
enum class ProbeVerdict : uint8_t {
  kUnknown,         // too little
  kScatteredOk,     // it takes memory in any pieces
  kContiguousOnly,  // it takes contiguous memory, and not pages: contiguity, or an address mask
  kSizeOrFormat,    // it refuses all at this size, and takes some that is larger
  kOwnOnly,         // it refuses all of these, and takes its own memory of such a size
  kCannotImport,    // it refuses even its own memory
  kNoEvidence,      // it takes descriptors without mapping them: a yes says nothing
  kCannotAsk,       // it is busy, gone, or has no way to be asked
  kUnsteady,        // it gave two answers to one question
};
inline constexpr size_t kProbeVerdicts = 9;

constexpr std::string_view VerdictName(ProbeVerdict verdict) noexcept {
  constexpr std::string_view kNames[kProbeVerdicts] = {
      "unknown",       "scattered_ok", "contiguous_only", "size_or_format", "own_only",
      "cannot_import", "no_evidence",  "cannot_ask",      "unsteady"};
  return kNames[static_cast<size_t>(verdict)];
}

// The result of a probe: plain data.
struct ProbeResult {
  ProbeVerdict verdict = ProbeVerdict::kUnknown;
  // The kernel's CPU uses the memory, through the exporter's vmap, and no device does: a queue of
  // V4L2's vmalloc memory. Needs no order of the pages. Yes or unknown.
  Known needs_vmap = {};
  uint64_t bytes = 0;  // of the samples: whole pages, two at least
  std::array<ProbeAnswer, kQuestions> answers = {};

  constexpr const ProbeAnswer& At(Question question) const noexcept {
    return answers[static_cast<size_t>(question)];
  }
  friend constexpr bool operator==(const ProbeResult&, const ProbeResult&) = default;
};

namespace internal {

// The name by which Linux's fdinfo calls the exporter of a V4L2 queue's vmalloc memory. Such a
// queue also imports by vmap alone (videobuf2-vmalloc; Linux 5.10 and 6.12).
inline constexpr std::string_view kVmallocExporter = "videobuf2_vmalloc";

constexpr ProbeAnswer AnswerOf(const Acceptance& acceptance) noexcept {
  using enum ProbeAnswer::Kind;
  const auto with = [&](ProbeAnswer::Kind kind) {
    return ProbeAnswer{kind, acceptance.error.code(), acceptance.error.what()};
  };
  switch (acceptance.verdict) {
    case Acceptance::Verdict::kTakes:
      return {kTakes};
    case Acceptance::Verdict::kRefuses:
      return with(kRefuses);
    case Acceptance::Verdict::kNoEvidence:
      return {kNoEvidence};
    case Acceptance::Verdict::kCannotAsk:
      break;
  }
  return with(kCannotAsk);
}

// The bytes of a sample: whole pages, and two of them, because one page is always in one piece.
inline std::optional<uint64_t> SampleBytes(const ProbeTarget& target) noexcept {
  const uint64_t image = target.image == nullptr ? 0 : target.image->total_bytes;
  return RoundUpToPages(std::max({target.bytes, image, 2 * PageBytes()}));
}
// A quarter more. Of a size that no memory has, the same.
inline uint64_t LargerBytes(uint64_t bytes) noexcept {
  return bytes > INT64_MAX ? bytes : RoundUpToPages(bytes + bytes / 4).value_or(bytes);
}

// The device's answer: its yes is evidence only if its traits say so.
inline Acceptance AskDevice(DeviceRef device, const DeviceMemory& memory) noexcept {
  Acceptance acceptance = device.Accepts(memory);
  if (acceptance.verdict == Acceptance::Verdict::kTakes && !device.traits().maps_at_import.yes()) {
    acceptance.verdict = Acceptance::Verdict::kNoEvidence;
  }
  return acceptance;
}

// One probe. Ask: AcceptFn. Lend: (Sample, bytes, use) → the source's answer, or nothing if no
// source has such memory.
template <class Ask, class Lend>
class Prober {
 public:
  Prober(const ProbeTarget& target, Ask& ask, Lend& lend) noexcept
      : image_(target.image), ask_(ask), lend_(lend) {
    bytes_ = SampleBytes(target).value_or(0);
  }

  ProbeResult Run() noexcept {
    result_.bytes = bytes_;
    if (bytes_ != 0) result_.verdict = Judge();
    return result_;
  }

 private:
  using enum Question;
  using Verdict = ProbeVerdict;

  Verdict Judge() noexcept {
    for (const Question question : {kForward, kReversed, kContiguous}) {
      if (!Put(question)) return Verdict::kCannotAsk;
    }
    const ProbeAnswer &forward = Said(kForward), &reversed = Said(kReversed);
    const bool takes_pages = forward.takes() || reversed.takes();
    const bool refuses_pages = forward.refuses() || reversed.refuses();
    const bool contiguous = Said(kContiguous).takes();
    if (!takes_pages && !contiguous) {
      for (const Question question : {kForward, kReversed, kContiguous}) {
        if (Said(question).kind == ProbeAnswer::Kind::kNoEvidence) return Verdict::kNoEvidence;
      }
      return refuses_pages || Said(kContiguous).refuses() ? JudgeRefusal() : Verdict::kUnknown;
    }
    // An import by vmap takes memory in any order, if the exporter has a vmap.
    (void)Put(kOwn);
    if (forward.takes() && reversed.takes()) return Verdict::kScatteredOk;
    if (!refuses_pages) return Verdict::kUnknown;
    if (!takes_pages && result_.needs_vmap.yes()) return Verdict::kScatteredOk;
    return Confirm(Verdict::kContiguousOnly);
  }
  // All that there was of this size is refused.
  Verdict JudgeRefusal() noexcept {
    for (const Question question : {kForwardLarger, kContiguousLarger}) {
      if (!Put(question)) return Verdict::kCannotAsk;
      if (Said(question).takes()) return Confirm(Verdict::kSizeOrFormat);
    }
    if (!Put(kOwn)) return Verdict::kCannotAsk;
    if (Said(kOwn).refuses()) return Verdict::kCannotImport;
    // More bytes than were asked about: its size may be the reason.
    if (Said(kOwn).takes() && own_bytes_ > LargerBytes(bytes_)) return Verdict::kSizeOrFormat;
    const bool all = Said(kForward).refuses() && Said(kContiguous).refuses();
    return Said(kOwn).takes() && all ? Verdict::kOwnOnly : Verdict::kUnknown;
  }
  // Asks once more what the verdict stands on: a device that has lost something in between (memory,
  // its state) answers otherwise.
  Verdict Confirm(Verdict verdict) noexcept {
    for (size_t i = 0; i < kQuestions; ++i) {
      const auto question = static_cast<Question>(i);
      const ProbeAnswer first = Said(question);
      if (question == kOwn || (!first.takes() && !first.refuses())) continue;
      const ProbeAnswer again = Answer(question);
      if (again.kind == ProbeAnswer::Kind::kCannotAsk) {
        result_.answers[i] = again;
        return Verdict::kCannotAsk;
      }
      if (again.kind != first.kind) return Verdict::kUnsteady;
    }
    return verdict;
  }

  const ProbeAnswer& Said(Question question) const noexcept { return result_.At(question); }
  // Asks, and keeps the answer. False: the device cannot be asked.
  bool Put(Question question) noexcept {
    ProbeAnswer& answer = result_.answers[static_cast<size_t>(question)];
    answer = Answer(question);
    return answer.kind != ProbeAnswer::Kind::kCannotAsk;
  }
  ProbeAnswer Answer(Question question) noexcept {
    const bool larger = question == kForwardLarger || question == kContiguousLarger;
    std::optional<Acceptance> acceptance;
    const std::optional<Error> error =
        lend_(SampleOf(question), larger ? LargerBytes(bytes_) : bytes_,
              [&](const LentMemory& memory) noexcept {
                acceptance = ask_(DeviceMemory{memory.range, image_});
                const bool vmap = memory.exporter == kVmallocExporter &&
                                  acceptance->verdict == Acceptance::Verdict::kTakes;
                if (question != kOwn) return;
                result_.needs_vmap = Known::YesIf(vmap);
                own_bytes_ = memory.range.bytes;
              });
    if (!error.has_value()) return {};
    if (acceptance.has_value()) return AnswerOf(*acceptance);
    return {ProbeAnswer::Kind::kNoMemory, error->code(), error->what()};
  }
  static constexpr Sample SampleOf(Question question) noexcept {
    switch (question) {
      case kForward:
      case kForwardLarger:
        return Sample::kForward;
      case kReversed:
        return Sample::kReversed;
      case kContiguous:
      case kContiguousLarger:
        return Sample::kContiguous;
      case kOwn:
        break;
    }
    return Sample::kOwn;
  }

  const ImageLayout* image_;
  Ask& ask_;
  Lend& lend_;
  uint64_t bytes_ = 0;
  uint64_t own_bytes_ = 0;
  ProbeResult result_;
};

// Asks the first source that has such memory; nothing: none has.
template <class Use, class... Sources>
std::optional<Error> LendFrom(Sample which, uint64_t bytes, const Use& use,
                              Sources&... sources) noexcept {
  std::optional<Error> answer;
  [[maybe_unused]] const auto ask = [&]<class S>(S& source) noexcept {
    const std::span<const Sample> has(S::kSamples);
    if (answer.has_value() || std::ranges::find(has, which) == has.end()) return;
    answer = source.Lend(which, bytes, use);
  };
  (ask(sources), ...);
  return answer;
}

template <class Ask, class... Sources>
ProbeResult ProbeWith(const ProbeTarget& target, Ask& ask, Sources&... sources) noexcept {
  auto lend = [&](Sample which, uint64_t bytes, const auto& use) noexcept {
    return LendFrom(which, bytes, use, sources...);
  };
  return Prober<Ask, decltype(lend)>(target, ask, lend).Run();
}

}  // namespace internal

// Asks a callable about memory of the sources. It has no traits, so its kTakes is evidence.
template <class F, ProbeSource... Sources>
  requires AcceptFn<F>
ProbeResult Probe(F&& ask, const ProbeTarget& target, Sources&... sources) noexcept {
  return internal::ProbeWith(target, ask, sources...);
}
// Asks a device about memory of the sources; a kind of memory that no source has is not asked
// about. Nothing stays imported, queued or open.
template <ProbeSource... Sources>
ProbeResult Probe(DeviceRef device, const ProbeTarget& target, Sources&... sources) noexcept {
  auto ask = [&](const DeviceMemory& memory) noexcept {
    return internal::AskDevice(device, memory);
  };
  return internal::ProbeWith(target, ask, sources...);
}

// Adds to a party's demands what a probe has proven, with its source. Returns true if it added
// something. A demand of the party that is as strict stays.
constexpr bool AddProbed(const ProbeResult& result, Constraints& to) noexcept {
  bool added = false;
  if (result.verdict == ProbeVerdict::kContiguousOnly &&
      (!to.segments_max.stated() || to.segments_max.value() > 1)) {
    to.segments_max = Probed(1, result.bytes);
    added = true;
  }
  const ExporterNeeds needs =
      to.exporter_needs.stated() ? to.exporter_needs.value() : ExporterNeeds::kNone;
  if (result.needs_vmap.yes() && (needs & ExporterNeeds::kVmap) == ExporterNeeds::kNone) {
    to.exporter_needs = Probed(needs | ExporterNeeds::kVmap, result.bytes);
    added = true;
  }
  return added;
}

}  // namespace ion

#endif  // ION_ION_PROBE_H_
