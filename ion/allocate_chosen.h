// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/allocate_chosen.h
//
// AllocateChosen: memory from the best heap of a choice (ion/choice.h) that has some. A heap that
// fails is followed by the next one that satisfies everybody; the reason of each is kept.
//
// Example:
//   absl::StatusOr<ion::Buffer> frame =
//       ion::AllocateChosen(client, choice, ion::FrameRequest(layout));
//
// Cost: an allocation of each heap that is tried; a pool's hit of the first is as fast as a request
// that names it. Thread-safe.
#ifndef ION_ION_ALLOCATE_CHOSEN_H_
#define ION_ION_ALLOCATE_CHOSEN_H_

#include <algorithm>
#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "ion/base/error.h"
#include "ion/base/multiple.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/buffer.h"
#include "ion/choice.h"
#include "ion/client_ref.h"
#include "ion/heap_id.h"
#include "ion/request.h"
#include "ion/slab.h"

namespace ion {

namespace internal {

// AllocateChosen, from heaps whose memory `take` takes: it returns a Status.
template <class Take>
absl::StatusOr<Buffer> AllocateEach(ClientRef client, const Choice& choice, Request request,
                                    CallSite where, Take take) noexcept {
  const Origin origin{"choice", Operation::kAllocate, {}, request.bytes};
  if (!choice.ok()) {
    return ToStatus(Error(EINVAL, "no heap satisfies all parties", origin,
                          "ToStatus of the choice (ion/choice_text.h) names them"));
  }
  const HeapMask mask = request.heaps.value_or(HeapMask::All());
  const Merged& all = choice.merged;
  request.bytes = std::max(request.bytes, all.size_min());
  if (!internal::RoundUpInPlace(request.bytes, all.size_multiple()) ||
      request.bytes > all.size_max()) {
    return ToStatus(Error(EINVAL, "a party of the choice takes no buffer as large", origin,
                          "DescribeOrigin of size_max (ion/choice_text.h) names it"));
  }
  request.alignment = std::max(request.alignment, all.base_align());
  absl::Status last;
  std::string reasons;
  for (const HeapId id : choice.heaps()) {
    if (!mask.contains(id)) continue;
    request.heaps = id;
    absl::StatusOr<Buffer> buffer = client.Allocate(request, where);
    last = buffer.ok() ? take(*buffer) : buffer.status();
    if (last.ok()) return buffer;
    (void)internal::TryWithMemory(
        [&] { absl::StrAppend(&reasons, reasons.empty() ? "" : "; ", last.message()); });
  }
  if (last.ok()) {
    return ToStatus(Error(ENODEV, "no heap of the choice is in the request's mask", origin,
                          "leave the mask out, or name one of Choice::heaps()"));
  }
  const int code = ErrnoOf(last);
  return internal::WithMemory([&] { return MakeStatus(code, reasons); }, [&] { return last; });
}

}  // namespace internal

// Allocates `request` for the client. The size is raised to the parties' least one and to a whole
// number of their size_multiple, the alignment to their base_align; the request's mask, if it has one, leaves only those of the choice's heaps that are in
// it. Errors: as Client::Allocate, with the errno of the last heap and the reasons of all that were
// tried. EINVAL: the choice has no heap, which ToStatus(choice, …) (ion/choice_text.h) explains.
// EINVAL also: a party takes no buffer as large as that (size_max). ENODEV: none of its heaps is in
// the mask.
inline absl::StatusOr<Buffer> AllocateChosen(ClientRef client, const Choice& choice,
                                             Request request,
                                             CallSite where = CallSite::Here()) noexcept {
  return internal::AllocateEach(client, choice, request, where,
                                [](const Buffer&) noexcept { return absl::OkStatus(); });
}

}  // namespace ion

#endif  // ION_ION_ALLOCATE_CHOSEN_H_
