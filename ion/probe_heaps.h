// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/probe_heaps.h
//
// ProbeHeaps: which heaps of a Manager have memory that a device takes, at one size and format.
// HeapMemory: a heap as a source of contiguous memory for a probe (ion/probe.h).
//
// A heap's yes says nothing of another size, and nothing of the heap's next buffer: scattered
// memory is in one piece by luck. Probe tells that.
//
// Example:
//   const ion::HeapOffers offers = ion::OffersOf(*manager);
//   const ion::HeapAnswers answers =
//       ion::ProbeHeaps(device, {.bytes = 8_MiB}, *client, offers.span());
//   for (const ion::HeapAnswer& each : answers.span()) {
//     std::printf("%u %s\n", each.heap.value(), ion::AnswerName(each.answer.kind).data());
//   }
//   ion::AddProbed(answers, needs);  // heaps_denied: those that were refused
//
// Cost: an allocation and a question for each heap, one buffer at a time. Thread-compatible.
#ifndef ION_ION_PROBE_HEAPS_H_
#define ION_ION_PROBE_HEAPS_H_

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "absl/status/statusor.h"
#include "ion/base/error.h"
#include "ion/base/status.h"
#include "ion/buffer.h"
#include "ion/client_ref.h"
#include "ion/constraints.h"
#include "ion/device.h"
#include "ion/guarantees.h"
#include "ion/heap_id.h"
#include "ion/heap_spec.h"
#include "ion/probe.h"

namespace ion {

namespace internal {

// Lends a buffer of a heap. The errno of an error is the client's.
template <class Use>
Error LendBuffer(ClientRef client, HeapId heap, uint64_t bytes, bool contiguous,
                 const Use& use) noexcept {
  const Origin origin{"heap", Operation::kAllocate, {}, bytes};
  const absl::StatusOr<Buffer> buffer =
      client.Allocate({.bytes = bytes, .heaps = heap, .name = "probe"});
  if (!buffer.ok()) {
    const int code = ErrnoOf(buffer.status());
    return Error(code != 0 ? code : EIO, "Client::Allocate", origin);
  }
  if (contiguous && buffer->properties().contiguous.no()) {
    return Error(ENOTSUP, "the heap's memory is not contiguous", origin,
                 "name a heap whose guarantees say that its memory is in one piece");
  }
  use(LentMemory{.range = buffer->range()});
  return {};
}

}  // namespace internal

// Requires: the memory of the heap is contiguous: its offer says that it is in one piece
// (ion/guarantees.h). Memory that is known not to be is refused.
class HeapMemory {
 public:
  static constexpr Sample kSamples[1] = {Sample::kContiguous};

  HeapMemory(ClientRef client, HeapId heap) noexcept : client_(client), heap_(heap) {}

  // Errors: as Client::Allocate. EINVAL: another sample. ENOTSUP: the memory is not contiguous.
  template <class Use>
  Error Lend(Sample which, uint64_t bytes, Use use) noexcept {
    if (which != Sample::kContiguous) {
      return Error(EINVAL, "only contiguous memory", {"heap", Operation::kAllocate, {}, bytes});
    }
    return internal::LendBuffer(client_, heap_, bytes, /*contiguous=*/true, use);
  }

 private:
  ClientRef client_;
  HeapId heap_;
};
static_assert(ProbeSource<HeapMemory>);

// The device's answer to a buffer of a heap.
struct HeapAnswer {
  HeapId heap{0};
  HeapName name = {};
  ProbeAnswer answer = {};

  friend constexpr bool operator==(const HeapAnswer&, const HeapAnswer&) = default;
};

// The answers for the heaps of a Manager, in the order of their offers.
class HeapAnswers {
 public:
  explicit constexpr HeapAnswers(uint64_t bytes) noexcept : bytes_(bytes) {}

  // Adds one. More than HeapId::kCount are left out.
  constexpr void Add(const HeapAnswer& answer) noexcept {
    if (count_ < all_.size()) all_[count_++] = answer;
  }
  constexpr std::span<const HeapAnswer> span() const noexcept { return {all_.data(), count_}; }
  // The size of each buffer.
  constexpr uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::array<HeapAnswer, HeapId::kCount> all_{};
  size_t count_ = 0;
  uint64_t bytes_;
};

// Asks a callable about a buffer of each heap. A heap that has no memory is kNoMemory; after
// kCannotAsk the others are not asked about.
template <class F>
  requires AcceptFn<F>
HeapAnswers ProbeHeaps(F&& ask, const ProbeTarget& target, ClientRef client,
                       std::span<const HeapOffer> heaps) noexcept {
  HeapAnswers answers(internal::SampleBytes(target).value_or(0));
  bool gone = false;
  for (const HeapOffer& heap : heaps) {
    HeapAnswer is{heap.id, heap.name, {}};
    if (!gone) {
      std::optional<ProbeAnswer> said;
      const Error error = internal::LendBuffer(
          client, heap.id, answers.bytes(), /*contiguous=*/false,
          [&](const LentMemory& memory) noexcept {
            said = internal::AnswerOf(ask(DeviceMemory{memory.range, target.image}));
          });
      is.answer =
          said.value_or(ProbeAnswer{ProbeAnswer::Kind::kNoMemory, error.code(), error.what()});
      gone = is.answer.kind == ProbeAnswer::Kind::kCannotAsk;
    }
    answers.Add(is);
  }
  return answers;
}
// Asks a device about a buffer of each heap.
inline HeapAnswers ProbeHeaps(DeviceRef device, const ProbeTarget& target, ClientRef client,
                              std::span<const HeapOffer> heaps) noexcept {
  return ProbeHeaps(
      [&](const DeviceMemory& memory) noexcept { return internal::AskDevice(device, memory); },
      target, client, heaps);
}

// Denies the heaps whose memory was refused, with the source. Returns true if it added some.
constexpr bool AddProbed(const HeapAnswers& answers, Constraints& to) noexcept {
  HeapMask denied = to.heaps_denied.stated() ? to.heaps_denied.value() : HeapMask();
  const HeapMask before = denied;
  for (const HeapAnswer& each : answers.span()) {
    if (each.answer.refuses()) denied = denied | each.heap;
  }
  if (denied == before) return false;
  to.heaps_denied = Probed(denied, answers.bytes());
  return true;
}

}  // namespace ion

#endif  // ION_ION_PROBE_HEAPS_H_
