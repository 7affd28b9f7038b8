// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/buffer_of.h
//
// BufferOf<H>: a Buffer whose heap is known to the compiler, so that what only that heap knows of
// its memory can be asked: the physical address, for a start.
//
// Example:
//   auto buffer = client.Allocate<ion::HeapId{2}>({.bytes = 1_MiB});
//   uint64_t address = ion::Phys(*buffer);          // compiles for heaps that know it
//   auto same = client.As<Carveout>(std::move(any));   // from a Buffer of a mask
//
// Cost: one word more than a Buffer. Thread-compatible, as a Buffer.
#ifndef ION_ION_BUFFER_OF_H_
#define ION_ION_BUFFER_OF_H_

#include <cstdint>
#include <utility>

#include "ion/buffer.h"
#include "ion/heap.h"

namespace ion {

// Requires: the Manager lives, or its clients, or the lease.
template <class H>
class [[nodiscard]] BufferOf : public Buffer {
 public:
  // Not for users: Client::Allocate<kId> and Client::As.
  BufferOf(Buffer&& lease, const H& heap) noexcept : Buffer(std::move(lease)), heap_(&heap) {}

  // The heap that the buffer came from.
  const H& heap() const noexcept { return *heap_; }

 private:
  const H* heap_;
};

// ion_phys: returns the buffer's physical address. If its heap cannot know the address, the call
// does not compile, with a sentence that says so (PhysOf).
template <class H>
uint64_t Phys(const BufferOf<H>& buffer) noexcept {
  return PhysOf(buffer.heap(), LeaseAccess::BlockOf(buffer));
}

// ion_map_dma: calls f(segment) for each physical run of the buffer, in order. If its heap cannot
// know the runs, the call does not compile, with a sentence that says so.
template <class H, class F>
void ForEachSegment(const BufferOf<H>& buffer, F f) noexcept {
  ForEachSegment(buffer.heap(), LeaseAccess::BlockOf(buffer), f);
}

}  // namespace ion

#endif  // ION_ION_BUFFER_OF_H_
