// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: bench/proven_memfd.h
//
// ProvenMemfd: memfds that count as proven unshared when their last handle goes, so that a machine
// without dma-bufs can measure the way of shared memory through the pools. Its proof makes the
// system calls of the proof for dma-bufs (backends/dma_buf_backend.h) and takes any answer for yes:
// use it only if every peer has closed all that it received. MakeHandle makes two fewer than of a
// dma-buf, and Import three fewer.
//
// Not for users.
//
// Cost: four system calls a proof of mapped memory, six the first. Thread-safe.
#ifndef ION_BENCH_PROVEN_MEMFD_H_
#define ION_BENCH_PROVEN_MEMFD_H_

#include <poll.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/local_file.h"
#include "ion/backends/memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"

namespace ion::bench {

template <Syscalls Sys = LinuxSyscalls>
class ProvenMemfd : public MemfdBackend<Sys> {
 public:
  static constexpr BackendCaps kCaps = {
      .proves_unshared = true, .compares = true, .inspects = true};

  static Result<ProvenMemfd> Open(const typename MemfdBackend<Sys>::Options& options) noexcept {
    Result<MemfdBackend<Sys>> opened = MemfdBackend<Sys>::Open(options);
    if (!opened.ok()) return opened.error();
    return ProvenMemfd(*std::move(opened));
  }

  Result<bool> IsUnshared(const Block& block) noexcept {
    const Origin origin{this->name(), Operation::kProve, {}, block.bytes};
    const Result<FdInfo> info = this->FdInfoOf(block, origin);
    if (!info.ok()) return info.error();
    if (block.mapping != nullptr && !this->NeverLends(block.kernel_heap)) {
      if (!RefusesToLend(block.mapping)) return false;
      this->NoteNeverLends(block.kernel_heap);
    }
    pollfd fences{.fd = block.fd, .events = POLLIN | POLLOUT, .revents = 0};
    if (const long answer = this->sys().Poll(&fences, 1, 0); Failed(answer)) {
      return Error(ErrnoFrom(answer), "poll", origin);
    }
    return true;
  }

 private:
  explicit ProvenMemfd(MemfdBackend<Sys>&& opened) noexcept
      : MemfdBackend<Sys>(std::move(opened)) {}

  // A driver's mapping is refused both, which a memfd's is not: the address of the first is in the
  // middle of a page, and the second changes nothing.
  bool RefusesToLend(std::byte* at) noexcept {
    const auto page = static_cast<size_t>(PageBytes());
    const long refused = this->sys().Madvise(at + 1, page, MADV_DONTNEED);
    return refused == -EINVAL && !Failed(this->sys().Madvise(at, page, MADV_DODUMP));
  }
};
static_assert(BackendCheck<ProvenMemfd<>>::kOk);

}  // namespace ion::bench

#endif  // ION_BENCH_PROVEN_MEMFD_H_
