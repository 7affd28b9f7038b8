// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: ion/dma_buf_holders.h
//
// The kernel's answers about the holders of a dma-buf: the number of references, and the
// possibility of holders that the number does not include. Together they prove that only this
// process holds the memory.
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

#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/syscalls.h"

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

// Returns advice about a count's file that does not open; nullptr for errors of any file.
constexpr const char* HiddenHoldersHint(int code) noexcept {
  switch (code) {
    case ENOENT:
      return "without /proc memory that was shared is never recycled: mount it here";
    case EACCES:
    case EPERM:
      return "memory that was shared is never recycled: make the process dumpable "
             "(PR_SET_DUMPABLE), or let it read its own /proc";
    default:
      return nullptr;
  }
}

// The error of a proof if MayLendPages is true.
constexpr Error LentPagesError(const Origin& origin) noexcept {
  return Error(ENOTSUP, "madvise: a pipe may hold pages of it, which nobody counts", origin,
               "memory that was shared is never recycled here: a newer kernel maps its dma-bufs so "
               "that no page can be lent (Linux 6.12 does)");
}

// Returns true if a process that maps the memory can lend its pages to the kernel (vmsplice,
// io_uring): they stay lent when the mapping and the descriptor have gone. False if a driver maps
// addresses, and no pages (VM_PFNMAP): madvise refuses both of these then. The first alone it also
// refuses if memory is locked, the second for other special mappings, which are never locked.
// Neither does anything to a mapping of shared memory. `at`: a mapping of it, page-aligned.
template <Syscalls Sys>
Result<bool> MayLendPages(const Sys& sys, std::byte* at, const Origin& origin) noexcept {
  for (const auto& [advice, name] :
       {std::pair{MADV_DONTNEED, "MADV_DONTNEED"}, {MADV_DODUMP, "MADV_DODUMP"}}) {
    const long answer = sys.Madvise(at, static_cast<size_t>(PageBytes()), advice);
    if (!Failed(answer)) return true;
    if (answer != -EINVAL) return Error(ErrnoFrom(answer), name, origin);
  }
  return false;
}

}  // namespace ion

#endif  // ION_ION_DMA_BUF_HOLDERS_H_
