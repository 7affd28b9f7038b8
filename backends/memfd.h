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
// Cost: three system calls an allocation, and page faults on first touch. Thread-safe but for Open.
#ifndef ION_BACKENDS_MEMFD_H_
#define ION_BACKENDS_MEMFD_H_

#include <linux/memfd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "backends/backend_base.h"
#include "backends/sealed_memfd.h"
#include "ion/backend.h"
#include "ion/syscalls.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class MemfdBackend : public BackendBase<Sys> {
  using Base = BackendBase<Sys>;

 public:
  static constexpr const char* kName = "memfd";
  static constexpr BackendCaps kCaps = {};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of RAM where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
  };

  // ENOSYS: the kernel has no memfds.
  static Result<MemfdBackend> Open(const Options& options) noexcept {
    auto shared = Base::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    const long probe = options.sys.MemfdCreate(kName, MFD_CLOEXEC);
    if (Failed(probe)) {
      return Error(ErrnoFrom(probe), "memfd_create", {kName, Operation::kOpen},
                   probe == -ENOSYS ? "the kernel has no memfds: they need Linux 3.17" : nullptr);
    }
    const ScopedFd<Sys> closed(static_cast<int>(probe), options.sys, *(*shared)->errors, kName);
    return MemfdBackend(options.sys, std::move(*shared));
  }

  // EINVAL: 0 bytes, or a heap-private flag. ENOMEM: past the bound.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{kName, Operation::kAllocate, {}, bytes};
    if (HeapPrivateBits(flags) != 0) return Error(EINVAL, "a memfd has no private flags", origin);
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    Result<ScopedFd<Sys>> memfd =
        MakeSealedMemfd(this->sys(), this->errors(), origin, name, charge->bytes());
    if (!memfd.ok()) return memfd.error();
    this->Fill(block, *std::move(memfd), charge->bytes(), 0, this->heaps()[0].properties);
    charge->Keep();
    return {};
  }

  Error BeginCpuAccess(const Block&, Direction) noexcept { return CountSync(); }
  Error EndCpuAccess(const Block&, Direction) noexcept { return CountSync(); }
  // Begins and ends that were asked for, and not sent.
  uint64_t syncs() const noexcept { return syncs_->load(std::memory_order_relaxed); }

  // A memfd keeps the name it was made with.
  Error SetName(const Block& block, std::string_view) noexcept {
    return Error(ENOTSUP, "a memfd is named when it is made",
                 {kName, Operation::kName, {}, block.bytes});
  }

  // EINVAL: not a memfd, empty, or not sealed against shrinking. EBADF: not open.
  Error Import(FdRef fd, Block& block) noexcept {
    const Origin origin{kName, Operation::kImport};
    Result<ScopedFd<Sys>> copy = this->Duplicate(fd, origin);
    if (!copy.ok()) return copy.error();
    const Result<SealedMemfd> facts = InspectMemfd(this->sys(), copy->get(), origin);
    if (!facts.ok()) return facts.error();
    this->FillForeign(block, *std::move(copy), facts->bytes, facts->writable);
    return {};
  }

 private:
  MemfdBackend(const Sys& sys, std::unique_ptr<typename Base::Shared> shared) noexcept
      : Base(kName, sys, std::move(shared)), syncs_(std::make_unique<std::atomic<uint64_t>>(0)) {
    this->AddHeap({.name = kName,
                   .type = HeapType::kSystem,
                   .properties = {.cpu_mappable = true,
                                  .cached = true,
                                  .zeroed = true,
                                  .alignment = PageBytes()},
                   .unusable = {}});
  }

  Error CountSync() noexcept {
    syncs_->fetch_add(1, std::memory_order_relaxed);
    return {};
  }

  std::unique_ptr<std::atomic<uint64_t>> syncs_;
};
static_assert(BackendCheck<MemfdBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_MEMFD_H_
