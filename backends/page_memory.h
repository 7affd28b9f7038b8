// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/page_memory.h
//
// PageMemory: dma-bufs of single pages in an order that the caller chooses, by /dev/udmabuf (Linux
// 4.20): the pages of a sealed memfd from the first to the last, or from the last to the first. For
// probes (ion/probe.h): both orders are of the same pages, so at most one of them is in one piece.
//
// A dma-buf has at most 1,024 items; of more pages, pieces of several pages are put in order: of
// 8 KiB for 8 MiB. (Linux 7.2 joins items that lie side by side in memory, which an order does not
// bring about by itself.)
//
// Not for memory that is used: a heap's is cheaper.
//
// Example:
//   ion::Result<ion::PageMemory<>> pages = ion::PageMemory<>::Open({});
//   const ion::Error error = pages->Lend(
//       ion::Sample::kReversed, 1 << 20,
//       [](const auto& lent) noexcept { std::printf("descriptor %d\n", lent.range.fd.get()); });
//
// Cost: seven system calls for the first buffer, two for the next ones of that size or less; the
// pages are kept between them. Thread-compatible.
#ifndef ION_BACKENDS_PAGE_MEMORY_H_
#define ION_BACKENDS_PAGE_MEMORY_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/scoped_fd.h"
#include "ion/backends/sealed_memfd.h"
#include "ion/backends/udmabuf.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"
#include "ion/probe.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class PageMemory {
 public:
  static constexpr Sample kSamples[2] = {Sample::kForward, Sample::kReversed};

  using Options = typename UdmabufBackend<Sys>::Options;

  // Errors: as UdmabufBackend::Open.
  static Result<PageMemory> Open(const Options& options = {}) noexcept {
    Result<UdmabufBackend<Sys>> opened = UdmabufBackend<Sys>::Open(options);
    if (!opened.ok()) return opened.error();
    return PageMemory(options.sys, *std::move(opened));
  }

  // Lends a dma-buf of `bytes` bytes, in whole pages, whose items are in the order of the sample.
  // EINVAL: no order, no byte, or more than the module allows in one dma-buf. ENOMEM: past the
  // bound, or no memory.
  template <class Use>
  Error Lend(Sample which, uint64_t bytes, Use use) noexcept {
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    const std::optional<uint64_t> rounded = RoundUpToPages(bytes);
    if ((which != Sample::kForward && which != Sample::kReversed) || bytes == 0 ||
        !rounded.has_value() || *rounded > INT64_MAX) {
      return Error(EINVAL, "no order of pages, or no size of a file", origin);
    }
    if (Error error = MakePages(*rounded, origin); !error.ok()) return error;
    const uint64_t most = std::clamp<uint64_t>(backend_.ranges_limit(), 1, kMostItems);
    const uint64_t pages = *rounded / PageBytes();
    const uint64_t piece = (pages + most - 1) / most * PageBytes();
    const auto count = static_cast<size_t>((*rounded + piece - 1) / piece);
    const std::unique_ptr<PageRange[]> ranges(new (std::nothrow) PageRange[count]);
    if (ranges == nullptr) return Error(ENOMEM, "operator new: the list of pages", origin);
    for (size_t i = 0; i < count; ++i) {
      const uint64_t at = i * piece;
      ranges[which == Sample::kForward ? i : count - 1 - i] = {
          .memfd = FdRef(memfd_->get()), .offset = at, .bytes = std::min(piece, *rounded - at)};
    }
    Block block;
    if (Error error = backend_.Compose(std::span(ranges.get(), count), block); !error.ok()) {
      return error;
    }
    use(LentMemory{.range = block.range()});
    backend_.errors().Report(backend_.Release(block));
    return {};
  }

 private:
  static constexpr const char* kName = "pages";
  static constexpr uint64_t kMostItems = 1024;  // the module's list_limit, by default

  PageMemory(const Sys& sys, UdmabufBackend<Sys> backend) noexcept
      : sys_(sys), backend_(std::move(backend)) {}

  // A memfd of at least these bytes. That of a smaller size goes first.
  Error MakePages(uint64_t bytes, const Origin& origin) noexcept {
    if (memfd_.has_value() && held_ >= bytes) return {};
    memfd_.reset();
    Result<ScopedFd<Sys>> made =
        MakeSealedMemfd(sys_, backend_.errors(), origin, "probe", bytes, /*commit=*/false);
    if (!made.ok()) return made.error();
    memfd_.emplace(*std::move(made));
    held_ = bytes;
    return {};
  }

  [[no_unique_address]] Sys sys_;
  UdmabufBackend<Sys> backend_;
  std::optional<ScopedFd<Sys>> memfd_;
  uint64_t held_ = 0;
};
static_assert(ProbeSource<PageMemory<>>);

}  // namespace ion

#endif  // ION_BACKENDS_PAGE_MEMORY_H_
