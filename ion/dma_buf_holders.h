// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/dma_buf_holders.h
//
// What the kernel can tell of who holds a dma-buf: how many references there are, and whether its
// pages may be held by somebody whom it does not count. Together they prove that memory is ours
// alone again.
//
// Not for users.
//
// Cost: the count, a search; the pages, at most two system calls.
#ifndef ION_ION_DMA_BUF_HOLDERS_H_
#define ION_ION_DMA_BUF_HOLDERS_H_

#include <sys/mman.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <utility>

#include "ion/bytes.h"
#include "ion/error.h"
#include "ion/syscalls.h"

namespace ion {

// Every descriptor, mapping and attached device, as /proc/self/fdinfo counts them. ENOTSUP: the
// kernel counts nothing there (before Linux 5.3).
inline Result<uint64_t> DmaBufCountIn(std::string_view facts, const Origin& origin) noexcept {
  // The first: a holder's name for it comes later, and may have lines of its own.
  constexpr std::string_view kCount = "\ncount:\t";
  const size_t at = facts.find(kCount);
  if (at == facts.npos) {
    return Error(ENOTSUP, "read: fdinfo has no count of references", origin);
  }
  uint64_t count = 0;
  const char* const last = facts.data() + facts.size();
  const auto [end, error] = std::from_chars(facts.data() + at + kCount.size(), last, count);
  // A number that the text ends in may be half a number.
  if (error != std::errc{} || end == last) {
    return Error(EPROTO, "read: fdinfo is cut within its count", origin);
  }
  return count;
}

// Whether who maps the memory can lend its pages to the kernel (vmsplice, io_uring): they stay lent
// when the mapping and the descriptor have gone. Not where a driver maps addresses, and no pages
// (VM_PFNMAP): madvise refuses both of these then. The first alone it also refuses where memory is
// locked, the second for other special mappings, which are never locked. Neither does anything to a
// mapping of shared memory. `at`: a mapping of it, page-aligned.
template <Syscalls Sys>
Result<bool> MayLendPages(const Sys& sys, std::byte* at, const Origin& origin) noexcept {
  for (const auto& [advice, name] :
       {std::pair{MADV_DONTNEED, "MADV_DONTNEED"}, {MADV_DODUMP, "MADV_DODUMP"}}) {
    const long answer = sys.Madvise(at, PageBytes(), advice);
    if (!Failed(answer)) return true;
    if (answer != -EINVAL) return Error(ErrnoFrom(answer), name, origin);
  }
  return false;
}

}  // namespace ion

#endif  // ION_ION_DMA_BUF_HOLDERS_H_
