// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/core/stream_holders.h
//
// StreamHolders: the holders that a stream's buffers are shared with (ion/move_holder.h), and the
// two phases of a move as they see it. Not for users.
//
// Cost: cold; no heap memory but in Make and Reserve. Not thread-safe.
#ifndef ION_ION_CORE_STREAM_HOLDERS_H_
#define ION_ION_CORE_STREAM_HOLDERS_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ion/base/error.h"
#include "ion/base/poll_until.h"
#include "ion/base/status.h"
#include "ion/base/with_memory.h"
#include "ion/image_layout.h"
#include "ion/move_holder.h"

namespace ion::internal {

class StreamHolders {
 public:
  // The holders of one stream (arbitrary).
  static constexpr size_t kMost = 64;

  struct Holder {
    MoveHolderRef holder;
    std::vector<HandedBuffer> buffers;  // the descriptors are of the last hand-over
    bool asked = false;
  };

  bool empty() const noexcept { return all_.empty(); }

  // A holder of these buffers, or of all if there are none, with room for it in the list. EEXIST,
  // E2BIG, EINVAL, ENOMEM.
  Result<Holder> Make(MoveHolderRef holder, std::span<const uint32_t> numbers,
                      uint32_t buffers) noexcept {
    const Origin origin{"stream", Operation::kShare, holder.name()};
    if (Find(holder) != all_.end()) {
      return Error(EEXIST, "the stream is shared with the holder", origin, "drop it first");
    }
    if (all_.size() == kMost) {
      return Error(E2BIG, "the stream has 64 holders, and takes no more", origin);
    }
    const auto make = [&]() -> Result<Holder> {
      Holder made{holder, {}};
      std::vector<bool> seen(buffers);
      made.buffers.reserve(numbers.empty() ? buffers : std::min<size_t>(numbers.size(), buffers));
      for (uint32_t i = 0; i < buffers && numbers.empty(); ++i) made.buffers.push_back({i});
      for (const uint32_t number : numbers) {
        if (number >= buffers || seen[number]) {
          return Error(EINVAL, "the stream has no buffer of that number, or it is named twice",
                       origin, "they count from 0");
        }
        seen[number] = true;
        made.buffers.push_back({number});
      }
      all_.reserve(all_.size() + 1);
      return made;
    };
    return WithMemory(make, [&] { return Result<Holder>(Error(ENOMEM, "operator new", origin)); });
  }
  // Requires: Make made it, and nothing was added since.
  void Add(Holder&& made) noexcept { all_.push_back(std::move(made)); }
  // False: it is none of ours.
  bool Drop(MoveHolderRef holder) noexcept {
    const auto at = Find(holder);
    if (at == all_.end()) return false;
    all_.erase(at);
    return true;
  }
  void Clear() noexcept { all_.clear(); }
  // True if a holder has the buffer.
  bool Have(uint32_t buffer) const noexcept {
    return std::ranges::any_of(all_, [&](const Holder& one) {
      return std::ranges::find(one.buffers, buffer, &HandedBuffer::buffer) != one.buffers.end();
    });
  }

  // The first phase. FAILED_PRECONDITION (EBUSY) names the holder that is not quiet. Whatever this
  // returns, Cancel or HandOver follows.
  absl::Status Ask(uint64_t generation, Deadline deadline, uint64_t bytes) noexcept {
    for (Holder& one : all_) {
      one.asked = true;
      const Error why = one.holder.AskQuiet(generation, deadline);
      if (why.ok()) continue;
      const Error error(EBUSY, "a holder of the memory is not quiet",
                        {"stream", Operation::kMove, one.holder.name(), bytes},
                        why.code() == ETIMEDOUT
                            ? "it did not answer in time: try again, or drop it if it has gone"
                            : "try again, or drop it if it has gone");
      const Error both[] = {why, error};
      return ToStatus(both);
    }
    return absl::OkStatus();
  }
  void Cancel(uint64_t generation) noexcept {
    for (Holder& one : all_) {
      if (std::exchange(one.asked, false)) one.holder.Cancel(generation);
    }
  }
  // The second phase: `fill` fills in each buffer, and each holder has until its own `deadline`, so
  // that none takes the time of the others. A holder that fails is dropped, and `report`
  // gets an error that names it. Returns the number of those.
  template <class DeadlineFn, class Fill, class Report>
  uint64_t HandOver(uint64_t generation, const ImageLayout* image, DeadlineFn deadline, Fill fill,
                    Report report) noexcept {
    uint64_t dropped = 0;
    for (auto one = all_.begin(); one != all_.end();) {
      one->asked = false;
      for (HandedBuffer& buffer : one->buffers) fill(buffer);
      const Error why = one->holder.HandOver({one->buffers, generation, image}, deadline());
      if (why.ok()) {
        ++one;
        continue;
      }
      report(Error(why.code(), "a holder did not take the new memory, and was dropped",
                   {"stream", Operation::kMove, one->holder.name()},
                   why.hint() != nullptr ? why.hint() : "it stays on its old memory"));
      one = all_.erase(one);
      ++dropped;
    }
    return dropped;
  }

 private:
  std::vector<Holder>::iterator Find(MoveHolderRef holder) noexcept {
    return std::ranges::find(all_, holder, &Holder::holder);
  }

  std::vector<Holder> all_;
};

// Cancels a move for all that were asked, unless it is done.
class AskedHolders {
 public:
  AskedHolders(StreamHolders& holders, uint64_t generation) noexcept
      : holders_(holders), generation_(generation) {}
  AskedHolders(const AskedHolders&) = delete;
  AskedHolders& operator=(const AskedHolders&) = delete;
  ~AskedHolders() {
    if (!done_) holders_.Cancel(generation_);
  }
  void Done() noexcept { done_ = true; }

 private:
  StreamHolders& holders_;
  uint64_t generation_;
  bool done_ = false;
};

}  // namespace ion::internal

#endif  // ION_ION_CORE_STREAM_HOLDERS_H_
