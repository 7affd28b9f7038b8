// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/start_mapped_backend.h
//
// StartMappedBackend: the common part of backends whose drivers may ignore the offset of mmap, and
// map a buffer from its start. Drivers of DRM over shmem do so (vgem, vkms, virtio-gpu), and a V4L2
// queue of vmalloc memory (vivid, uvcvideo); Linux 6.12. A part is mapped together with all that lies
// before it.
//
// Not for drivers that follow the offset: DmaBufBackend maps no more than the part.
//
// Cost: address space down to the buffer's start, and a mutex for each part. Thread-safe.
#ifndef ION_BACKENDS_START_MAPPED_BACKEND_H_
#define ION_BACKENDS_START_MAPPED_BACKEND_H_

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

#include "ion/backends/dma_buf_backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"

namespace ion {

template <Syscalls Sys>
class StartMappedBackend : public DmaBufBackend<Sys> {
  using Base = DmaBufBackend<Sys>;

 public:
  // As DmaBufBackend.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    if (block.offset + offset == 0) return Base::Map(block, offset, bytes, mode);
    if (Error error = this->CheckMap(block, offset, bytes, mode); !error.ok()) return error;
    Block whole;  // never released: its memory is `block`'s
    whole.TakeMemoryOf(block);
    whole.offset = 0;
    whole.bytes = block.offset + offset + bytes;
    return this->MapPart(whole, block.offset + offset, mode);
  }
  // As BackendBase.
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    const Result<std::byte*> at = Map(block, 0, block.bytes, this->WidestMode(block));
    if (at.ok() && block.offset != 0) {
      // All of the mapping: a mark of a part would split it, and the second piece would show the
      // buffer's start.
      const long answer =
          this->sys().Madvise(*at - AddressableBytes(block.offset),
                              AddressableBytes(block.offset + block.bytes), MADV_DONTFORK);
      if (Failed(answer)) {
        this->errors().Report(this->Unmap(*at, block.bytes));
        return Error(ErrnoFrom(answer), "MADV_DONTFORK",
                     {this->name(), Operation::kMap, {}, block.bytes});
      }
    }
    return this->MakeKept(block, at);
  }

 protected:
  using Base::Base;
};

}  // namespace ion

#endif  // ION_BACKENDS_START_MAPPED_BACKEND_H_
