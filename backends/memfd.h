// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/memfd.h
//
// MemfdBackend: buffers without any device, from memfd_create (Linux 3.17). For tests, for
// desktops, and for the CPU side of a stack where no dma-heap exists. No driver takes such a
// descriptor as a dma-buf: use UdmabufBackend where one must.
//
// A memfd has one owner's seals to trust: it is sealed against shrinking (or its owner could cut it
// under a reader's mapping: SIGBUS), and an import without that seal is refused. It knows no CPU
// sync: begin and end are counted and nothing is sent (the kernel would answer ENOTTY).
//
// Example:
//   ion::Result<ion::MemfdBackend<>> backend = ion::MemfdBackend<>::Open({});
//
// Under strict overcommit (vm.overcommit_memory=2 when it was opened) pages are put in place at
// once, so that there is an ENOMEM in the place of a SIGBUS at the first touch.
//
// Cost: three system calls an allocation, and page faults on first touch; two more to bear
// RLIMIT_FSIZE. Thread-safe but for Open.
#ifndef ION_BACKENDS_MEMFD_H_
#define ION_BACKENDS_MEMFD_H_

#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/backend_base.h"
#include "ion/backends/scoped_fd.h"
#include "ion/backends/sealed_memfd.h"
#include "ion/base/bytes.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class MemfdBackend : public BackendBase<Sys> {
  using Base = BackendBase<Sys>;

 public:
  static constexpr const char* kName = "memfd";
  static constexpr BackendCaps kCaps = {.compares = true, .inspects = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
  };

  // ENOSYS, EPERM, EACCES: the kernel has no memfds, or a sandbox allows none.
  static Result<MemfdBackend> Open(const Options& options) noexcept {
    return MemfdBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<MemfdBackend> OpenOrThrow(const Options& options) {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    const auto probe =
        NewSealableMemfd(options.sys, *(*shared)->errors, {kName, Operation::kOpen}, kName);
    if (!probe.ok()) return probe.error();
    struct stat ordinary {};
    if (const long answer = options.sys.Fstat(probe->get(), &ordinary); Failed(answer)) {
      return Error(ErrnoFrom(answer), "fstat", {kName, Operation::kOpen});
    }
    return MemfdBackend(options.sys, std::move(*shared), ordinary.st_dev);
  }

  // EINVAL: 0 bytes, or a heap-private flag. ENOMEM: past the bound, or past what the kernel
  // commits to. EFBIG: past the process's limit of file sizes.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    if (HeapPrivateBits(flags) != 0) return Error(EINVAL, "a memfd has no private flags", origin);
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    Result<ScopedFd<Sys>> memfd =
        MakeSealedMemfd(this->sys(), this->errors(), origin, name, charge->bytes(), commit_);
    if (!memfd.ok()) return memfd.error();
    this->Fill(block, *std::move(memfd), charge->bytes(), 0, this->heaps()[0].properties);
    block.Mark(Block::kNoSync);
    charge->Keep();
    return {};
  }

  // As BackendBase. Before Linux 6.7 a memfd that is sealed against writing has no shared mappings;
  // a private one shows the same bytes, as they can never change.
  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    const Result<std::byte*> at = Base::Map(block, offset, bytes, mode);
    if (at.ok()) return at;
    if (at.error().code() == EACCES && mode == MapMode::kWritable && !block.writable) {
      return at.error().Advised(
          "whoever sent the memfd must open it O_RDWR, and must not seal it against writing");
    }
    if (at.error().code() != EPERM || mode != MapMode::kReadOnly ||
        !NeverChanges(this->sys(), block.fd)) {
      return at;
    }
    const long fixed = this->sys().MmapPrivate(AddressableBytes(bytes), block.fd,
                                               static_cast<off_t>(block.offset + offset));
    if (!Failed(fixed)) return reinterpret_cast<std::byte*>(fixed);
    return Error(ErrnoFrom(fixed), "mmap", {kName, Operation::kMap, {}, bytes});
  }

  // No device has its memory: the kernel need not be told.
  Error BeginCpuAccess(const Block&, Direction) noexcept { return {}; }
  Error EndCpuAccess(const Block&, Direction) noexcept { return {}; }

  // A memfd keeps the name it was made with.
  Error SetName(const Block& block, std::string_view) noexcept {
    return Error(ENOTSUP, "a memfd is named when it is made",
                 {kName, Operation::kName, {}, block.bytes});
  }

  // EINVAL: not a memfd. EBADF: not open.
  Result<BufferIdentity> Identify(FdRef fd, Operation operation) noexcept {
    if (Error error = CheckIsMemfd(this->sys(), fd.get(), {kName, operation}); !error.ok()) {
      return error;
    }
    return Base::Identify(fd, operation);
  }
  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }

  // EINVAL: not a memfd, empty, or not sealed against shrinking. EBADF: not open.
  Error Import(FdRef fd, Block& block) noexcept {
    // Before there is a copy, which would have to be closed.
    if (Error error = CheckIsMemfd(this->sys(), fd.get(), kImporting); !error.ok()) return error;
    return ImportKnown(fd, block).error();
  }
  Result<BufferIdentity> ImportKnown(FdRef fd, Block& block) noexcept {
    Result<ScopedFd<Sys>> copy = this->Duplicate(fd, kImporting);
    if (!copy.ok()) return copy.error();
    const Result<Inspected> seen = Inspect(FdRef(copy->get()));
    if (!seen.ok()) return seen.error();
    TakeOver(UniqueFd(copy->release()), *seen, block);
    return seen->identity;
  }
  // As Import.
  Result<Inspected> Inspect(FdRef fd) noexcept {
    const Result<SealedMemfd> facts = InspectMemfd(this->sys(), fd.get(), kImporting, ordinary_);
    if (!facts.ok()) return facts.error();
    return Inspected{facts->identity, facts->bytes, facts->writable};
  }
  void TakeOver(UniqueFd fd, const Inspected& seen, Block& block) noexcept {
    this->FillForeign(block, this->Own(fd.release()), seen.bytes, seen.writable, /*cached=*/true);
    block.Mark(Block::kNoSync);
  }

 private:
  static constexpr Origin kImporting{kName, Operation::kImport};

  MemfdBackend(const Sys& sys, std::unique_ptr<typename Base::Shared> shared, uint64_t ordinary)
      : Base(kName, sys, std::move(shared)), commit_(CommitsStrictly(sys)), ordinary_(ordinary) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true,
                                  .cached = true,
                                  .contiguous = false,
                                  .zeroed = true,
                                  .alignment = PageBytes()},
                   .unusable = {}});
  }

  const bool commit_;
  const uint64_t ordinary_;  // the device of memfds of ordinary pages
};
static_assert(BackendCheck<MemfdBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_MEMFD_H_
