// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/udmabuf.h
//
// UdmabufBackend: dma-bufs over the pages of sealed memfds, by /dev/udmabuf (Linux 4.20). Scattered
// memory that drivers accept as any dma-buf, on a desktop without dma-heaps; and, by Compose, one
// dma-buf out of pages that the caller has in memfds of its own.
//
// The memfd behind a buffer is closed as soon as the dma-buf holds its pages: nobody else can have
// had it, and a buffer costs one descriptor.
//
// Limits are the module's (by default 64 MiB and 1024 ranges per dma-buf). A request that exceeds
// them is refused with a sentence, in place of the kernel's EINVAL; they are read again for such a
// request, and for one that the kernel refuses, as both can be changed at any time.
//
// Example:
//   ion::Result<ion::UdmabufBackend<>> backend = ion::UdmabufBackend<>::Open({});
//
// Cost: five system calls an allocation, one more for a name. Thread-safe but for Open.
#ifndef ION_BACKENDS_UDMABUF_H_
#define ION_BACKENDS_UDMABUF_H_

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/sealed_memfd.h"
#include "ion/base/linux_release.h"
#include "ion/base/node_hint.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/uapi/dma_buf.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class UdmabufBackend : public DmaBufBackend<Sys> {
 public:
  static constexpr const char* kName = "udmabuf";
  static constexpr BackendCaps kCaps = {.composes = true,
                                        .proves_unshared = true,
                                        .fences = true,
                                        .compares = true,
                                        .inspects = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/udmabuf";
    std::string parameters = "/sys/module/udmabuf/parameters";
  };

  static Result<UdmabufBackend> Open(const Options& options) noexcept {
    return UdmabufBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<UdmabufBackend> OpenOrThrow(const Options& options) {
    auto shared = DmaBufBackend<Sys>::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    const Origin origin{kName, Operation::kOpen, options.node};
    const long opened = OpenRetrying(options.sys, options.node.c_str(), O_RDWR);
    if (Failed(opened)) {
      return Error(ErrnoFrom(opened), "open", origin,
                   NodeHint(options.sys, options.node.c_str(), opened, O_RDWR, kAdvice));
    }
    ScopedFd<Sys> node(static_cast<int>(opened), options.sys, *(*shared)->errors, kName);
    struct stat status {};
    if (const long answer = options.sys.Fstat(node.get(), &status); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", origin);
    }
    if (!S_ISCHR(status.st_mode)) return Error(ENODEV, "fstat: not a character device", origin);
    // Its buffers are of memfds, which a sandbox may refuse.
    if (const auto probe = NewSealableMemfd(options.sys, *(*shared)->errors, origin, kName);
        !probe.ok()) {
      return probe.error();
    }
    UdmabufBackend backend(options.sys, std::move(*shared), std::move(node));
    backend.limits_.reset(new (std::nothrow) Limits);
    if (backend.limits_ == nullptr) return Error(ENOMEM, "operator new: the limits", origin);
    backend.limits_->bytes_path = options.parameters + "/size_limit_mb";
    backend.limits_->ranges_path = options.parameters + "/list_limit";
    if (Error error = backend.ReadLimits(); !error.ok()) return error;
    return backend;
  }

  // Returns true if only this process holds the block. Not valid for buffers made by Compose: their
  // pages also belong to the caller's memfds, which the count does not include.
  Result<bool> IsUnshared(const Block& block) noexcept { return this->ProveUnshared(block); }
  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }
  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }

  // Of one dma-buf, and of one Compose, when they were read last.
  uint64_t bytes_limit() const noexcept { return limits_->bytes.load(std::memory_order_relaxed); }
  uint64_t ranges_limit() const noexcept { return limits_->ranges.load(std::memory_order_relaxed); }

  // EINVAL: 0 bytes, past the module's limit, or a heap-private flag. ENOMEM: past the bound.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    if (HeapPrivateBits(flags) != 0) return Error(EINVAL, "udmabuf has no private flags", origin);
    if (Error error = CheckLimits(bytes, 0, origin); !error.ok()) return error;
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const Result<ScopedFd<Sys>> memfd =
        MakeSealedMemfd(this->sys(), this->errors(), origin, name, charge->bytes(), commit_);
    if (!memfd.ok()) return memfd.error();
    ion_uapi::udmabuf_create create{.memfd = static_cast<uint32_t>(memfd->get()),
                                    .flags = ion_uapi::kUdmabufCloexec,
                                    .offset = 0,
                                    .size = charge->bytes()};
    const long fd = IoctlRetrying(this->sys(), node_.get(), ion_uapi::kUdmabufCreate, &create);
    if (Failed(fd)) return Refused(fd, "UDMABUF_CREATE", charge->bytes(), 0, origin);
    this->Fill(block, this->Own(fd), charge->bytes(), 0, this->heaps()[0].properties);
    charge->Keep();
    this->NameOrReport(block, name);
    return {};
  }

  // One dma-buf from `ranges`, in their order; a range may stand in it twice. The memory stays the
  // memfds' as well, so who holds one of them sees the same bytes. EINVAL: no range, too many, not
  // whole pages, past a memfd's end, or a memfd that may shrink or is sealed against writing. On
  // Linux 5.10 unmap the dma-buf before its memfd loses the pages, by a hole or with its last
  // descriptor: the kernel would not know that they are mapped ("BUG: Bad page cache").
  Error Compose(std::span<const PageRange> ranges, Block& block) noexcept {
    uint64_t bytes = 0, end = 0;
    bool whole = true;
    for (const PageRange& range : ranges) {
      if (__builtin_add_overflow(bytes, range.bytes, &bytes)) bytes = UINT64_MAX;
      whole &= range.bytes != 0 && IsPageAligned(range.offset | range.bytes) &&
               !__builtin_add_overflow(range.offset, range.bytes, &end) && end <= INT64_MAX;
    }
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    if (ranges.empty()) return Error(EINVAL, "no range", origin);
    if (Error error = CheckLimits(bytes, ranges.size(), origin); !error.ok()) return error;
    // Kernels differ: 5.10 takes an empty range, and calls an offset past all files EFBIG.
    if (!whole) return Error(EINVAL, "a range is not whole pages of a file", origin);
    Result<Charge> charge = this->Admit(0, bytes);
    if (!charge.ok()) return charge.error();
    // udmabuf_create_list ends in a flexible array: header and items are laid out by hand.
    const size_t words = 1 + 3 * ranges.size();
    const std::unique_ptr<uint64_t[]> list(new (std::nothrow) uint64_t[words]());
    if (list == nullptr) return Error(ENOMEM, "operator new: the list of ranges", origin);
    auto* header = reinterpret_cast<ion_uapi::udmabuf_create_list*>(list.get());
    header->flags = ion_uapi::kUdmabufCloexec;
    header->count = static_cast<uint32_t>(ranges.size());
    auto* item = reinterpret_cast<ion_uapi::udmabuf_create_item*>(list.get() + 1);
    for (const PageRange& range : ranges) {
      *item++ = {.memfd = static_cast<uint32_t>(range.memfd.get()),
                 .unused = 0,
                 .offset = range.offset,
                 .size = range.bytes};
    }
    const long fd =
        IoctlRetrying(this->sys(), node_.get(), ion_uapi::kUdmabufCreateList, list.get());
    if (Failed(fd)) {
      return Refused(fd, "UDMABUF_CREATE_LIST", charge->bytes(), ranges.size(), origin);
    }
    Properties composed = this->heaps()[0].properties;
    composed.zeroed = false;
    this->Fill(block, this->Own(fd), charge->bytes(), 0, composed);
    charge->Keep();
    return {};
  }

 private:
  UdmabufBackend(const Sys& sys, std::unique_ptr<typename DmaBufBackend<Sys>::Shared> shared,
                 ScopedFd<Sys> node)
      : DmaBufBackend<Sys>(kName, sys, std::move(shared)),
        node_(std::move(node)),
        commit_(CommitsStrictly(sys)) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true,
                                  .cached = true,
                                  .contiguous = false,
                                  .zeroed = true,
                                  .alignment = PageBytes()},
                   .unusable = {}});
  }

  struct Limits {
    std::atomic<uint64_t> bytes{uint64_t{64} << 20};  // the kernel's, before it told them
    std::atomic<uint64_t> ranges{1024};
    std::atomic<bool> adjustable{false};
    // Of the module's parameters. Made once: to read them again needs no memory.
    std::string bytes_path = {}, ranges_path = {};
  };

  // Reads the limits. They stay as they are if the kernel has no such parameters: before Linux 5.14
  // they were constants.
  Error ReadLimits() noexcept {
    const Result<uint64_t> mebibytes = ReadParameter(limits_->bytes_path);
    if (!mebibytes.ok() && mebibytes.error().code() != ENOENT) return mebibytes.error();
    const Result<uint64_t> ranges = ReadParameter(limits_->ranges_path);
    if (!ranges.ok() && ranges.error().code() != ENOENT) return ranges.error();
    if (mebibytes.ok()) {
      limits_->bytes.store(*mebibytes == UINT64_MAX ? UINT64_MAX : *mebibytes << 20,
                           std::memory_order_relaxed);
    }
    if (ranges.ok()) limits_->ranges.store(*ranges, std::memory_order_relaxed);
    limits_->adjustable.store(mebibytes.ok() && ranges.ok(), std::memory_order_relaxed);
    return {};
  }
  // UINT64_MAX: a negative number, by which the module sets no limit of its own.
  Result<uint64_t> ReadParameter(const std::string& path) noexcept {
    const Origin origin{kName, Operation::kOpen, path};
    const long opened = OpenRetrying(this->sys(), path.c_str(), O_RDONLY);
    if (Failed(opened)) return Error(ErrnoFrom(opened), "open", origin);
    const ScopedFd<Sys> file = this->Own(opened);
    char text[32];
    const long got = this->sys().Read(file.get(), text, sizeof(text));
    if (Failed(got)) return Error(ErrnoFrom(got), "read", origin);
    int64_t number = 0;
    if (std::from_chars(text, text + got, number).ec != std::errc{} || number > UINT32_MAX) {
      return Error(EINVAL, "read: not a number", origin);
    }
    return number < 0 ? UINT64_MAX : static_cast<uint64_t>(number);
  }

  bool Passes(uint64_t bytes, uint64_t ranges) const noexcept {
    return bytes <= bytes_limit() && ranges <= ranges_limit();
  }
  // No error where the limits, as they are now, allow it.
  Error CheckLimits(uint64_t bytes, uint64_t ranges, const Origin& origin) noexcept {
    // A limit that cannot be read now is as it was.
    if (Passes(bytes, ranges) || (ReadLimits().ok() && Passes(bytes, ranges))) return {};
    const bool adjustable = limits_->adjustable.load(std::memory_order_relaxed);
    if (bytes > bytes_limit()) {
      return Error(EINVAL, "past the module's size_limit_mb", origin,
                   adjustable ? "raise /sys/module/udmabuf/parameters/size_limit_mb, or take "
                                "several buffers"
                              : "this kernel cannot raise it: take several buffers")
          .With(Limit{bytes_limit()});
    }
    return Error(EINVAL, "more ranges than the module's list_limit", origin,
                 adjustable ? "merge ranges that lie side by side, or raise "
                              "/sys/module/udmabuf/parameters/list_limit"
                            : "merge ranges that lie side by side: this kernel cannot raise it");
  }
  // Why the kernel refused: the limits may have been lowered.
  Error Refused(long answer, const char* call, uint64_t bytes, uint64_t ranges,
                const Origin& origin) noexcept {
    if (answer == -EINVAL && ReadLimits().ok() && !Passes(bytes, ranges)) {
      return CheckLimits(bytes, ranges, origin);
    }
    return Error(ErrnoFrom(answer), call, origin);
  }

  static constexpr NodeAdvice kAdvice = {
      .absent = [](const LinuxRelease& running) -> const char* {
        return running.IsBefore(4, 20)
                   ? "this kernel is older than Linux 4.20, which has CONFIG_UDMABUF: take the "
                     "ion, "
                     "ion_legacy or memfd backend"
                   : "the kernel has no udmabuf: it needs CONFIG_UDMABUF=y (Linux 4.20)";
      },
      .rule =
          "join the node's group, or add a udev rule: KERNEL==\"udmabuf\", GROUP=\"video\", "
          "MODE=\"0660\"",
      .sysfs = "/sys/class/misc/udmabuf"};

  ScopedFd<Sys> node_;
  const bool commit_;
  std::unique_ptr<Limits> limits_;
};
static_assert(BackendCheck<UdmabufBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_UDMABUF_H_
