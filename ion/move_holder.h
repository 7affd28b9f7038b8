// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/move_holder.h
//
// The contract of a move holder: somebody who got the descriptors of a stream's buffers and has
// agreed that the memory may move (Stream::ShareWith). ion/move_socket.h has one for another
// process.
//
// A move has two phases. The stream asks each holder to be quiet; if all are, it copies the content
// and hands the new descriptors over. If one is not quiet in time, the stream cancels the move for
// all that it asked, and the memory stays.
//
// Example, a sentence for each broken rule:
//   static_assert(ion::MoveHolderCheck<MyHolder>::kOk);
//
// Rules that a compiler cannot see:
//   Ensures: each function returns by its deadline; Cancel, and a deadline in the past, at once.
//   Ensures: after AskQuiet returned no error, the holder does not touch any of its buffers until
//     HandOver or Cancel.
//   Ensures: HandOver gives all buffers or none. After an error the holder does not touch the new
//     memory, and the stream does not call it again.
//   Requires: the holder lives, and stays in its place, until Stream::DropHolder or the stream's
//     end. It calls no function of the stream.
//
// Cost: a MoveHolderRef is two words, and one indirect call for each of its functions.
// Thread-compatible.
#ifndef ION_ION_MOVE_HOLDER_H_
#define ION_ION_MOVE_HOLDER_H_

#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>

#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/poll_until.h"
#include "ion/image_layout.h"

namespace ion {

// A buffer on its way to a holder. The descriptor is borrowed for the call.
struct HandedBuffer {
  uint32_t buffer = 0;  // its number in the stream
  FdRef fd = {};
  uint64_t bytes = 0;  // whole pages, from the descriptor's start
};

// All that goes to a holder in one call. Borrowed for the call.
struct HandedMemory {
  std::span<const HandedBuffer> buffers;
  uint64_t generation = 0;             // of the stream
  const ImageLayout* image = nullptr;  // of the image in each buffer; nullptr: bytes
};

// Its name, for sentences.
template <class H>
concept MoveHolderName = requires(const H& h) {
  { h.name() } noexcept -> std::same_as<std::string_view>;
};

// The first phase. `generation` is the one that the memory would have after the move. Cancel: the
// holder stays on its memory; it is called after each AskQuiet that no HandOver follows, also if
// that returned an error.
template <class H>
concept MoveHolderQuiet = requires(H& h, uint64_t generation, Deadline deadline) {
  { h.AskQuiet(generation, deadline) } noexcept -> std::same_as<Error>;
  { h.Cancel(generation) } noexcept -> std::same_as<void>;
};

// The second phase, and the first time that the holder gets the memory.
template <class H>
concept MoveHolderTakes = requires(H& h, const HandedMemory& memory, Deadline deadline) {
  { h.HandOver(memory, deadline) } noexcept -> std::same_as<Error>;
};

template <class H>
concept MoveHolder = MoveHolderName<H> && MoveHolderQuiet<H> && MoveHolderTakes<H>;

// One sentence per rule. Put `static_assert(MoveHolderCheck<H>::kOk);` under a holder.
template <class H>
struct MoveHolderCheck {
  static_assert(MoveHolderName<H>,
                "ion: a move holder needs `std::string_view name() const noexcept`");
  static_assert(MoveHolderQuiet<H>,
                "ion: a move holder needs `Error AskQuiet(uint64_t generation, Deadline) noexcept` "
                "and `void Cancel(uint64_t generation) noexcept`");
  static_assert(MoveHolderTakes<H>,
                "ion: a move holder needs `Error HandOver(const HandedMemory&, Deadline) "
                "noexcept`");
  static constexpr bool kOk = MoveHolder<H>;
};

// A reference to a holder of any type. Two are equal if they refer to one holder.
class MoveHolderRef {
 public:
  // A MoveHolderRef has a holder's functions, and is none.
  template <MoveHolder H>
    requires(!std::same_as<H, MoveHolderRef>)
  MoveHolderRef(H& holder) noexcept  // NOLINT: ShareWith(holder)
      : holder_(&holder), ops_(&kOps<H>) {}
  template <class H>
    requires(!std::same_as<H, MoveHolderRef>)
  MoveHolderRef(const H&&) = delete;

  std::string_view name() const noexcept { return ops_->name(holder_); }
  Error AskQuiet(uint64_t generation, Deadline deadline) const noexcept {
    return ops_->ask_quiet(holder_, generation, deadline);
  }
  void Cancel(uint64_t generation) const noexcept { ops_->cancel(holder_, generation); }
  Error HandOver(const HandedMemory& memory, Deadline deadline) const noexcept {
    return ops_->hand_over(holder_, memory, deadline);
  }

  friend bool operator==(const MoveHolderRef& a, const MoveHolderRef& b) noexcept {
    return a.holder_ == b.holder_;
  }

 private:
  struct Ops {
    std::string_view (*name)(void*) noexcept;
    Error (*ask_quiet)(void*, uint64_t, Deadline) noexcept;
    void (*cancel)(void*, uint64_t) noexcept;
    Error (*hand_over)(void*, const HandedMemory&, Deadline) noexcept;
  };
  template <class H>
  static constexpr Ops kOps = {
      [](void* h) noexcept { return static_cast<const H*>(h)->name(); },
      [](void* h, uint64_t generation, Deadline deadline) noexcept {
        return static_cast<H*>(h)->AskQuiet(generation, deadline);
      },
      [](void* h, uint64_t generation) noexcept { static_cast<H*>(h)->Cancel(generation); },
      [](void* h, const HandedMemory& memory, Deadline deadline) noexcept {
        return static_cast<H*>(h)->HandOver(memory, deadline);
      }};

  void* holder_;
  const Ops* ops_;
};

}  // namespace ion

#endif  // ION_ION_MOVE_HOLDER_H_
