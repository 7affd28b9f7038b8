// SPDX-License-Identifier: Apache-2.0
// Copyright the ion authors
//
// File: backends/ion.h
//
// IonBackend: dma-bufs from the heaps of /dev/ion of Linux 4.12 to 5.10, whose allocation answers
// with a descriptor. For older kernels see backends/ion_legacy.h.
//
// Memory is uncached where a request says nothing; each request chooses (Flags::kCached). The
// kernel drops heap-private flags that its heaps do not know, so a platform declares which ones
// they do: any other is refused. A vendor's type of heap is HeapType::kCustom, and nothing is
// promised of it.
//
// Example:
//   ion::Result<ion::IonBackend<>> backend = ion::IonBackend<>::Open({});
//
// Cost: one ioctl an allocation, one more for a name; one descriptor in all. Thread-safe but for
// Open.
#ifndef ION_BACKENDS_ION_H_
#define ION_BACKENDS_ION_H_

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ion/backend.h"
#include "ion/backends/dma_buf_backend.h"
#include "ion/backends/ion_node.h"
#include "ion/base/poll_until.h"
#include "ion/base/syscalls.h"
#include "ion/base/with_memory.h"
#include "ion/uapi/ion.h"

namespace ion {

template <Syscalls Sys = LinuxSyscalls>
class IonBackend : public DmaBufBackend<Sys> {
 public:
  static constexpr const char* kName = "ion";
  static constexpr BackendCaps kCaps = {
      .proves_unshared = true, .fences = true, .compares = true, .relists = true, .inspects = true};

  struct Options {
    Sys sys = {};
    std::shared_ptr<Budget> budget = nullptr;     // half of a MemoryLimit where none is given
    std::shared_ptr<ErrorSink> errors = nullptr;  // one that only counts
    std::string node = "/dev/ion";
    uint16_t private_flags = 0;  // HeapPrivate bits that this board's heaps know
  };

  // Opens the node. ENOENT: the kernel has no ION. ENODEV: the node is no device of ION's kind, or
  // has no heap. EINVAL: it speaks the other ABI. If no heap can be used: the first one's error.
  static Result<IonBackend> Open(const Options& options) noexcept {
    return IonBackend::OpenWithMemory(kName, [&] { return OpenOrThrow(options); });
  }
  // Not for users: Open, which may throw bad_alloc.
  static Result<IonBackend> OpenOrThrow(const Options& options) {
    auto shared = DmaBufBackend<Sys>::MakeShared(kName, options);
    if (!shared.ok()) return shared.error();
    Result<ScopedFd<Sys>> node =
        OpenIonNode(kName, options.sys, *(*shared)->errors, options.node, IonAbi::kDescriptors);
    if (!node.ok()) return node.error();
    IonBackend backend(options.sys, std::move(*shared), *std::move(node), options);
    if (Error error = backend.List(); !error.ok()) return error;
    backend.KeepHeapsInPlace();
    backend.ids_.reserve(backend.kMaxHeaps);
    return backend;
  }

  // Appends the heaps that have come since, with their modules: two system calls.
  bool LookAgain() noexcept {
    std::lock_guard lock(this->list_mutex());
    const size_t before = this->heaps().size();
    // Without memory for it the list stays as it is.
    (void)internal::TryWithMemory([&] { AppendNew(); });
    return this->heaps().size() != before;
  }

  Result<bool> IsUnshared(const Block& block) noexcept { return this->ProveUnshared(block); }
  bool SameBuffer(FdRef a, FdRef b) const noexcept { return this->SameFile(a, b); }
  Result<bool> IsIdle(const Block& block) noexcept { return this->PollFences(block); }
  Error AwaitFences(const Block& block, Direction direction, Deadline deadline) noexcept {
    return this->PollFencesUntil(block, direction, deadline);
  }

  // 2: the heaps are modules (Android's 4.19 and later). 0: the kernel does not tell.
  uint32_t abi_version() const noexcept { return abi_version_; }

  // EINVAL: 0 bytes, or a flag that the heap cannot honour. ENOMEM: past the bound, or the
  // kernel's. ENODEV: the kernel's, after a heap's module was removed.
  Error Allocate(uint32_t kernel_heap, uint64_t bytes, Flags flags, std::string_view name,
                 Block& block) noexcept {
    Result<Charge> charge = this->Admit(kernel_heap, bytes);
    if (!charge.ok()) return charge.error();
    const KernelHeap& heap = this->heaps()[kernel_heap];
    const Origin origin{kName, Operation::kAllocate, heap.name, bytes};
    if (Error error = CheckIonFlags(heap, flags, private_flags_, origin); !error.ok()) return error;
    ion_uapi::ion_allocation_data data{.len = charge->bytes(),
                                       .heap_id_mask = 1u << ids_[kernel_heap],
                                       .flags = IonFlags(flags),
                                       .fd = 0,
                                       .unused = 0};
    const long answer = IoctlRetrying(this->sys(), node_.get(), ion_uapi::kIocAlloc, &data);
    if (Failed(answer)) {
      return Error(ErrnoFrom(answer), "ION_IOC_ALLOC", origin,
                   IonAllocationHint(answer, heap.type, charge->bytes()));
    }
    this->Fill(block, this->Own(static_cast<int>(data.fd)), charge->bytes(), kernel_heap,
               heap.properties);
    block.cached = IonCaching(heap, flags);
    charge->Keep();
    this->NameOrReport(block, name);
    return {};
  }

 private:
  IonBackend(const Sys& sys, std::unique_ptr<typename DmaBufBackend<Sys>::Shared> shared,
             ScopedFd<Sys> node, const Options& options)
      : DmaBufBackend<Sys>(kName, sys, std::move(shared)),
        path_(options.node),
        node_(std::move(node)),
        private_flags_(options.private_flags) {}

  Result<std::vector<IonHeap>> Query() {
    return QueryIonHeaps(kName, this->sys(), node_.get(), path_, /*cached_cma=*/true);
  }
  void Append(IonHeap& heap) {
    if (ids_.size() == this->kMaxHeaps) return;
    // First: once the heap is listed, others may ask for it.
    ids_.push_back(heap.id);
    this->AddHeap(std::move(heap.heap));
  }
  void AppendNew() {
    Result<std::vector<IonHeap>> listed = Query();
    if (!listed.ok()) return;
    for (IonHeap& heap : *listed) {
      const bool is_listed = std::ranges::find(ids_, heap.id) != ids_.end();
      if (!is_listed && heap.heap.unusable.ok()) Append(heap);
    }
  }
  Error List() {
    const Origin origin{kName, Operation::kOpen, path_};
    Result<std::vector<IonHeap>> listed = Query();
    if (!listed.ok()) return listed.error();
    for (IonHeap& heap : *listed) Append(heap);
    const Error none(ENODEV, "ION_IOC_HEAP_QUERY: no heap", origin,
                     "the kernel needs CONFIG_ION_SYSTEM_HEAP=y or CONFIG_ION_CMA_HEAP=y");
    if (Error error = this->CheckHeaps(none); !error.ok()) return error;
    const long answer =
        IoctlRetrying(this->sys(), node_.get(), ion_uapi::kIocAbiVersion, &abi_version_);
    if (!Failed(answer)) return {};
    abi_version_ = 0;
    if (answer == -ENOTTY) return {};
    return Error(ErrnoFrom(answer), "ION_IOC_ABI_VERSION", origin);
  }

  std::string path_;
  ScopedFd<Sys> node_;
  uint16_t private_flags_;
  uint32_t abi_version_ = 0;
  std::vector<unsigned> ids_;  // of heaps(), in the same order
};
static_assert(BackendCheck<IonBackend<>>::kOk);

}  // namespace ion

#endif  // ION_BACKENDS_ION_H_
