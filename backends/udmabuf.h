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
// Limits are the module's (64 MiB and 1024 ranges per dma-buf where nobody changed them), read
// once: what passes them is refused with a sentence, where the kernel would say EINVAL.
//
// Example:
//   ion::Result<ion::UdmabufBackend<>> backend = ion::UdmabufBackend<>::Open({});
//
// Cost: five system calls an allocation, one more for a name. Thread-safe but for Open.
#ifndef ION_BACKENDS_UDMABUF_H_
#define ION_BACKENDS_UDMABUF_H_

#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/stat.h>

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

#include "backends/dma_buf_backend.h"
#include "backends/sealed_memfd.h"
#include "ion/backend.h"
#include "ion/syscalls.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class UdmabufBackend : public DmaBufBackend<Sys> {
 public:
  static constexpr const char* kName = "udmabuf";
  static constexpr BackendCaps kCaps = {.composes = true, .proves_unshared = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of RAM where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/udmabuf";
    std::string parameters = "/sys/module/udmabuf/parameters";
  };

  static Result<UdmabufBackend> Open(const Options& options) noexcept {
    auto shared = DmaBufBackend<Sys>::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    const Origin origin{kName, Operation::kOpen, options.node};
    const long opened = OpenRetrying(options.sys, options.node.c_str(), O_RDWR);
    if (Failed(opened)) return Error(ErrnoFrom(opened), "open", origin, NodeHint(opened));
    ScopedFd<Sys> node(static_cast<int>(opened), options.sys, *(*shared)->errors, kName);
    struct stat status {};
    if (const long answer = options.sys.Fstat(node.get(), &status); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", origin);
    }
    if (!S_ISCHR(status.st_mode)) return Error(ENODEV, "fstat: not a character device", origin);
    UdmabufBackend backend(options.sys, std::move(*shared), std::move(node));
    uint64_t mebibytes = 64, ranges = 1024;  // the kernel's own, as they were before it told them
    for (const auto& [file, value] :
         {std::pair{"/size_limit_mb", &mebibytes}, {"/list_limit", &ranges}}) {
      if (Error error = backend.ReadParameter(options.parameters + file, *value); !error.ok()) {
        return error;
      }
    }
    backend.bytes_limit_ = mebibytes << 20;
    backend.ranges_limit_ = ranges;
    return backend;
  }

  // Not of what Compose made: whose memfds those are, nobody counts.
  Result<bool> IsUnshared(const Block& block) noexcept { return this->ProveUnshared(block); }

  uint64_t bytes_limit() const noexcept { return bytes_limit_; }    // of one dma-buf
  uint64_t ranges_limit() const noexcept { return ranges_limit_; }  // of one Compose

  // EINVAL: 0 bytes, past the module's limit, or a heap-private flag. ENOMEM: past the bound.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    if (HeapPrivateBits(flags) != 0) return Error(EINVAL, "udmabuf has no private flags", origin);
    if (Error error = CheckLimit(bytes, origin); !error.ok()) return error;
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const Result<ScopedFd<Sys>> memfd =
        MakeSealedMemfd(this->sys(), this->errors(), origin, name, charge->bytes());
    if (!memfd.ok()) return memfd.error();
    udmabuf_create create{.memfd = static_cast<uint32_t>(memfd->get()),
                          .flags = UDMABUF_FLAGS_CLOEXEC,
                          .offset = 0,
                          .size = charge->bytes()};
    const long fd = IoctlRetrying(this->sys(), node_.get(), UDMABUF_CREATE, &create);
    if (Failed(fd)) return Error(ErrnoFrom(fd), "UDMABUF_CREATE", origin);
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
    if (ranges.empty() || ranges.size() > ranges_limit_) {
      return Error(EINVAL, "no range, or more than the module's list_limit", origin,
                   "merge ranges that lie side by side, or raise "
                   "/sys/module/udmabuf/parameters/list_limit");
    }
    if (Error error = CheckLimit(bytes, origin); !error.ok()) return error;
    // Kernels differ: 5.10 takes an empty range, and calls an offset past all files EFBIG.
    if (!whole) return Error(EINVAL, "a range is not whole pages of a file", origin);
    Result<Charge> charge = this->Admit(0, bytes);
    if (!charge.ok()) return charge.error();
    // udmabuf_create_list ends in a flexible array: header and items are laid out by hand.
    static_assert(sizeof(udmabuf_create_list) == 8 && sizeof(udmabuf_create_item) == 24);
    const size_t words = 1 + 3 * ranges.size();
    const std::unique_ptr<uint64_t[]> list(new (std::nothrow) uint64_t[words]());
    if (list == nullptr) return Error(ENOMEM, "operator new: the list of ranges", origin);
    auto* header = reinterpret_cast<udmabuf_create_list*>(list.get());
    header->flags = UDMABUF_FLAGS_CLOEXEC;
    header->count = static_cast<uint32_t>(ranges.size());
    auto* item = reinterpret_cast<udmabuf_create_item*>(list.get() + 1);
    for (const PageRange& range : ranges) {
      *item++ = {.memfd = static_cast<uint32_t>(range.memfd.get()),
                 .__pad = 0,
                 .offset = range.offset,
                 .size = range.bytes};
    }
    const long fd = IoctlRetrying(this->sys(), node_.get(), UDMABUF_CREATE_LIST, list.get());
    if (Failed(fd)) return Error(ErrnoFrom(fd), "UDMABUF_CREATE_LIST", origin);
    Properties composed = this->heaps()[0].properties;
    composed.zeroed = false;
    this->Fill(block, this->Own(fd), charge->bytes(), 0, composed);
    charge->Keep();
    return {};
  }

 private:
  UdmabufBackend(const Sys& sys, std::unique_ptr<typename DmaBufBackend<Sys>::Shared> shared,
                 ScopedFd<Sys> node) noexcept
      : DmaBufBackend<Sys>(kName, sys, std::move(shared)), node_(std::move(node)) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true,
                                  .cached = true,
                                  .zeroed = true,
                                  .alignment = PageBytes()},
                   .unusable = {}});
  }

  // Leaves `value` alone where there is no such parameter (before Linux 5.14 they were constants).
  Error ReadParameter(const std::string& path, uint64_t& value) noexcept {
    const Origin origin{kName, Operation::kOpen, path};
    const long opened = OpenRetrying(this->sys(), path.c_str(), O_RDONLY);
    if (opened == -ENOENT) return {};
    if (Failed(opened)) return Error(ErrnoFrom(opened), "open", origin);
    const ScopedFd<Sys> file = this->Own(opened);
    char text[32];
    const long got = this->sys().Read(file.get(), text, sizeof(text));
    if (Failed(got)) return Error(ErrnoFrom(got), "read", origin);
    uint64_t number = 0;
    if (std::from_chars(text, text + got, number).ec != std::errc{} || number > UINT32_MAX) {
      return Error(EINVAL, "read: not a number", origin);
    }
    value = number;
    return {};
  }

  Error CheckLimit(uint64_t bytes, const Origin& origin) const noexcept {
    if (bytes <= bytes_limit_) return {};
    return Error(EINVAL, "past the module's size_limit_mb", origin,
                 "raise /sys/module/udmabuf/parameters/size_limit_mb, or take several buffers");
  }

  static const char* NodeHint(long answer) noexcept {
    switch (-answer) {
      case ENOENT:
        return "the kernel has no udmabuf: it needs CONFIG_UDMABUF=y (Linux 4.20)";
      case EACCES:
      case EPERM:
        return "join the node's group, or add a udev rule: KERNEL==\"udmabuf\", GROUP=\"video\", "
               "MODE=\"0660\"";
      default:
        return nullptr;
    }
  }

  ScopedFd<Sys> node_;
  uint64_t bytes_limit_ = 0;
  uint64_t ranges_limit_ = 0;
};
static_assert(BackendCheck<UdmabufBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_UDMABUF_H_
