// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: policies/carveout/composed_region.h
//
// ComposedRegion: a region of memfd pages, over a backend that composes dma-bufs of such (udmabuf).
// Blocks are ranges of one dma-buf over all of it; a share is a dma-buf of its own over exactly the
// block's pages, so it shows no neighbour.
//
// The memfd comes from a backend of memfds, which the region opens for itself.
//
// Example:
//   using Frames = ion::Carveout<kFrames, ion::Composed<ion::MemfdBackend<>>>;
//
// On Linux 5.10 nobody may have a share mapped when the region ends; its memfd ends with it, and
// udmabuf does not tell the kernel that the pages are mapped.
//
// The kernel counts the holders of a share (Linux 5.3, /proc), so the region knows when its pages
// may be allocated again. On Linux 5.10 a process that maps a share can splice its pages into a
// pipe, which the count does not include; there a shared range is never reused.
//
// Cost: two allocations from the kernel; a share is one ioctl and a duplicated descriptor. The
// composing backend's limit on a dma-buf's size (64 MiB where nobody changed udmabuf's) bounds the
// region. Thread-safe.
#ifndef ION_POLICIES_CARVEOUT_COMPOSED_REGION_H_
#define ION_POLICIES_CARVEOUT_COMPOSED_REGION_H_

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/base/told_once.h"
#include "ion/block.h"
#include "ion/dma_buf_holders.h"
#include "ion/heap_spec.h"
#include "ion/policies/carveout/region.h"
#include "ion/request.h"

namespace ion {

template <Backend B, Backend Memfds, Syscalls Sys = LinuxSyscalls>
class ComposedRegion {
  static_assert(B::kCaps.composes,
                "ion: a ComposedRegion needs a backend that declares kCaps.composes, such as "
                "UdmabufBackend; take a BufferRegion over others");

 public:
  static constexpr RegionCaps kCaps = {.shares = true};

  static Result<ComposedRegion> Open(B& backend, const HeapSpec& spec) noexcept {
    Result<Memfds> opened = Memfds::Open({});
    if (!opened.ok()) return opened.error();
    std::unique_ptr<Memfds> memfds(new (std::nothrow) Memfds(*std::move(opened)));
    if (memfds == nullptr) return Error(ENOMEM, "operator new", {B::kName, Operation::kOpen});
    ComposedRegion region(backend, std::move(memfds));
    Block& pages = region.pages_.block;
    if (Error error =
            region.memfds_->Allocate(0, spec.bytes, Flags::kNone, spec.name.view(), pages);
        !error.ok()) {
      return error;
    }
    const PageRange all{FdRef(pages.fd), 0, pages.bytes};
    if (Error error = backend.Compose(std::span(&all, 1), region.whole_.block); !error.ok()) {
      return error;
    }
    const Result<bool> lends = LendsPages(backend, region.whole_.block);
    if (!lends.ok()) return lends.error();
    region.lends_pages_ = *lends;
    return region;
  }

  const Block& whole() const noexcept { return whole_.block; }
  void Scrub(std::byte* at, uint64_t bytes) const noexcept {
    std::memset(at, 0, static_cast<size_t>(bytes));
  }

  // The budget has the pages already: it is charged for the share only while that is made.
  Result<UniqueFd> Share(uint64_t offset, uint64_t bytes) noexcept {
    const PageRange range{FdRef(pages_.block.fd), offset, bytes};
    OwnedBlock<B> share(*backend_);
    if (Error error = backend_->Compose(std::span(&range, 1), share.block); !error.ok()) {
      return error;
    }
    return backend_->Share(share.block);
  }

  // Every descriptor, mapping and attached device is in the dma-buf's count. Our pages have no
  // other way out: the memfd never leaves, and pages are not lent. If the count cannot be read, the
  // reason goes to the error sink, once, and the answer is true.
  bool HeldByOthers(FdRef share) const noexcept {
    const Result<uint64_t> count = Count(share);
    if (count.ok()) {
      told_.End();
    } else {
      told_.Report(backend_->errors(), count.error());
    }
    return !count.ok() || *count != 1;
  }

 private:
  ComposedRegion(B& backend, std::unique_ptr<Memfds> memfds) noexcept
      : backend_(&backend), memfds_(std::move(memfds)), pages_(*memfds_), whole_(backend) {}

  Result<uint64_t> Count(FdRef share) const noexcept {
    const Origin origin{backend_->name(), Operation::kProve};
    if (lends_pages_) return LentPagesError(origin);
    char path[40];
    std::snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", share.get());
    const long opened = OpenRetrying(Sys(), path, O_RDONLY);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open: fdinfo", origin, HiddenHoldersHint(ErrnoFrom(opened)));
    }
    const UniqueFd file(static_cast<int>(opened));
    char text[256];
    const long got = Sys().Read(file.get(), text, sizeof(text));
    if (Failed(got)) return Error(ErrnoFrom(got), "read: fdinfo", origin);
    return DmaBufCountIn({text, static_cast<size_t>(got)}, origin);
  }
  static Result<bool> LendsPages(B& backend, const Block& whole) noexcept {
    const Result<std::byte*> at = backend.Map(whole, 0, PageBytes(), MapMode::kReadOnly);
    if (!at.ok()) return at.error();
    const Result<bool> lends = MayLendPages(Sys(), *at, {B::kName, Operation::kOpen});
    if (Error error = backend.Unmap(*at, PageBytes()); !error.ok()) return error;
    return lends;
  }

  B* backend_;
  bool lends_pages_ = false;
  mutable internal::ToldOnce told_;  // why holders cannot be told
  std::unique_ptr<Memfds> memfds_;
  OwnedBlock<Memfds> pages_;
  OwnedBlock<B> whole_;
};

// ComposedRegion, described without the backend that composes.
template <Backend Memfds>
struct Composed {
  template <Backend B>
  using On = ComposedRegion<B, Memfds>;
};

}  // namespace ion

#endif  // ION_POLICIES_CARVEOUT_COMPOSED_REGION_H_
