// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: tests/support/coarse_backend.h
//
// CoarseBackend: a backend over a driver that rounds each size up to 64 KiB by itself, and that maps
// its memory by calls of its own. Its memory is a memfd.

#ifndef ION_TESTS_SUPPORT_COARSE_BACKEND_H_
#define ION_TESTS_SUPPORT_COARSE_BACKEND_H_

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "ion/backend.h"
#include "ion/backends/memfd.h"
#include "ion/backends/scoped_fd.h"
#include "ion/backends/sealed_memfd.h"
#include "ion/base/budget.h"
#include "ion/base/error.h"
#include "ion/base/fd.h"
#include "ion/base/syscalls.h"
#include "ion/block.h"

namespace ion::testing {

template <Syscalls Sys = LinuxSyscalls>
class CoarseBackend : public MemfdBackend<Sys> {
  using Base = MemfdBackend<Sys>;

 public:
  static constexpr uint64_t kGranule = 64 << 10;  // bytes

  static Result<CoarseBackend> Open(const typename Base::Options& options) noexcept {
    Result<Base> opened = Base::Open(options);
    if (!opened.ok()) return opened.error();
    return CoarseBackend(*std::move(opened));
  }

  // As MemfdBackend, of whole granules.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    const Origin origin{Base::kName, Operation::kAllocate, {}, bytes};
    if (HeapPrivateBits(flags) != 0) return Error(EINVAL, "no private flags", origin);
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    Result<ScopedFd<Sys>> memory = AskDriver(charge->bytes(), name, origin);
    if (!memory.ok()) return memory.error();
    const long came = this->sys().Lseek(memory->get(), 0, SEEK_END);
    if (Failed(came)) return Error(ErrnoFrom(came), "lseek", origin);
    const auto came_bytes = static_cast<uint64_t>(came);
    if (Error error = this->AdmitMore(*charge, came_bytes, origin); !error.ok()) return error;
    this->Fill(block, *std::move(memory), came_bytes, 0, this->heaps()[0].properties);
    charge->Keep();
    return {};
  }

  Result<std::byte*> Map(const Block& block, uint64_t offset, uint64_t bytes,
                         MapMode mode) noexcept {
    if (Error error = this->CheckMap(block, offset, bytes, mode); !error.ok()) return error;
    return this->MapDescriptor(FdRef(block.fd), block.offset + offset, bytes, mode);
  }
  Result<std::byte*> MapToKeep(const Block& block) noexcept {
    return this->MakeKept(block, Map(block, 0, block.bytes, this->WidestMode(block)));
  }

 private:
  explicit CoarseBackend(Base&& opened) noexcept : Base(std::move(opened)) {}

  Result<ScopedFd<Sys>> AskDriver(uint64_t bytes, std::string_view name,
                                  const Origin& origin) noexcept {
    const uint64_t rounded = (bytes + kGranule - 1) / kGranule * kGranule;
    return MakeSealedMemfd(this->sys(), this->errors(), origin, name, rounded, /*commit=*/false);
  }
};
static_assert(BackendCheck<CoarseBackend<>>::kOk);

}  // namespace ion::testing

#endif  // ION_TESTS_SUPPORT_COARSE_BACKEND_H_
